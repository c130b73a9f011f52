//! Documents of a task, and what each asks of a model.

use serde_json::{Map, Value};

/// A row of a dataset, or what a task made of it. Columns keep their order, because the hash of a document depends on
/// it.
pub type Row = Map<String, Value>;

/// Tokens that are generated if a task states no limit, as in lm-evaluation-harness.
pub const DEFAULT_MAX_TOKENS: usize = 256;

/// A document of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Doc {
    /// Its number in the split, from 0.
    pub id: usize,
    /// The document as lm-evaluation-harness logs it: after the task's own preparation, columns in its order.
    pub row: Row,
    /// The target as Python's `str` writes it: the index of the right choice, a list of indices, or a text.
    pub target: String,
    /// What is asked.
    pub asks: Asks,
}

/// What a document asks of a model. A continuation begins with its delimiter, usually a space.
#[derive(Clone, Debug, PartialEq)]
pub enum Asks {
    /// Which of several continuations is the likeliest.
    Choices {
        /// Context and continuation of each choice.
        pairs: Vec<(String, String)>,
        /// The choices without delimiter. Their lengths normalise the likelihoods.
        choices: Vec<String>,
        /// Indices of the right choices, ascending. Usually one; one that is not an index of a choice is never right.
        gold: Vec<usize>,
    },
    /// How likely a continuation is, and whether it is what the model would write.
    LogLikelihood {
        /// What comes before.
        context: String,
        /// What is scored.
        continuation: String,
    },
    /// How likely a whole text is.
    Rolling {
        /// The text.
        text: String,
        /// Words, by which the perplexity per word is computed. They may be those of another form of the text.
        words: usize,
        /// Bytes, likewise.
        bytes: usize,
    },
    /// What a model writes, choosing the likeliest token each time.
    Generate {
        /// What comes before.
        context: String,
        /// Texts at which it stops. They are not part of the answer.
        until: Vec<String>,
        /// It stops after so many tokens; `None` for [`DEFAULT_MAX_TOKENS`].
        max_tokens: Option<usize>,
        /// Right answers: any of them is right, and each consists of one or more spans.
        answers: Vec<Vec<String>>,
    },
}
