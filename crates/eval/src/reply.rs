//! What a model replied to a request.

use pythia_runtime::score::Score;

/// A reply. A document has one per choice, or per window of a long text, and otherwise one.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Log-likelihood of a continuation.
    Score(Score),
    /// A text that the model wrote.
    Text(String),
}

impl Reply {
    /// The score, if it is one.
    pub fn score(&self) -> Option<Score> {
        match self {
            Self::Score(score) => Some(*score),
            Self::Text(_) => None,
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Score(_) => None,
            Self::Text(text) => Some(text),
        }
    }
}
