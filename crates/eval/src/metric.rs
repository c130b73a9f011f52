//! What is measured.

/// Kinds of requests, by the names of lm-evaluation-harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `multiple_choice`
    MultipleChoice,
    /// `loglikelihood`
    LogLikelihood,
    /// `loglikelihood_rolling`
    Rolling,
    /// `generate_until`
    Generate,
}

impl Kind {
    /// Its name in lm-evaluation-harness.
    pub fn name(self) -> &'static str {
        match self {
            Self::MultipleChoice => "multiple_choice",
            Self::LogLikelihood => "loglikelihood",
            Self::Rolling => "loglikelihood_rolling",
            Self::Generate => "generate_until",
        }
    }
}

/// A metric of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Of choices: the likeliest is right. Of a continuation: every token of it is the model's first choice.
    Acc,
    /// The choice that is likeliest per code point is right.
    AccNorm,
    /// The choice that is likeliest per byte is right.
    AccBytes,
    /// The share of the right choices in the probability of all: `acc` of truthfulqa_mc2.
    Mass,
    /// `exp` of the mean negative log-likelihood of a continuation.
    Perplexity,
    /// `exp` of the negative log-likelihood per word.
    WordPerplexity,
    /// `exp` of the negative log-likelihood per byte.
    BytePerplexity,
    /// Negative log-likelihood per byte, in bits.
    BitsPerByte,
    /// The answer is a right one.
    ExactMatch,
    /// The same without commas, dollar signs, what precedes `#### `, a final period, and case: `exact_match` of gsm8k.
    NumberMatch,
    /// Exact match of DROP: the same normalised spans.
    Em,
    /// F1 of DROP: words in common, spans aligned.
    F1,
}

impl Metric {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acc | Self::Mass => "acc",
            Self::AccNorm => "acc_norm",
            Self::AccBytes => "acc_bytes",
            Self::Perplexity => "perplexity",
            Self::WordPerplexity => "word_perplexity",
            Self::BytePerplexity => "byte_perplexity",
            Self::BitsPerByte => "bits_per_byte",
            Self::ExactMatch | Self::NumberMatch => "exact_match",
            Self::Em => "em",
            Self::F1 => "f1",
        }
    }

    /// Whether a document is either right or wrong.
    pub fn is_binary(self) -> bool {
        match self {
            Self::Acc | Self::AccNorm | Self::AccBytes | Self::ExactMatch | Self::NumberMatch | Self::Em => true,
            Self::Mass | Self::F1 => false,
            Self::Perplexity | Self::WordPerplexity | Self::BytePerplexity | Self::BitsPerByte => false,
        }
    }

    /// Whether more is better.
    pub fn higher_is_better(self) -> bool {
        !matches!(self, Self::Perplexity | Self::WordPerplexity | Self::BytePerplexity | Self::BitsPerByte)
    }
}

/// What a task takes of a generated text before it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its name in results, such as `strict-match`; `none` if there is nothing to choose from.
    pub name: String,
    /// What is taken; `None` for the whole text.
    pub extract: Option<Extract>,
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extract {
    /// Regular expression. Of several groups, the first that is not empty counts.
    pub pattern: String,
    /// The last match instead of the first.
    pub last: bool,
}

impl Filter {
    /// The whole text.
    pub fn none() -> Self {
        Self { name: "none".to_owned(), extract: None }
    }
}
