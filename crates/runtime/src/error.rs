//! What can go wrong between a text and its continuation.

use pythia_task::ErrorKind;
use pythia_text::Escaper;
use std::fmt::{self, Display, Write};
use std::io;
use std::path::Path;

/// Why a text could not be tokenized, continued or scored. One line each.
#[derive(Debug)]
pub enum Error {
    /// A metadata value is missing or malformed.
    Gguf(pythia_gguf::Error),
    /// The model refused a call.
    Model(pythia_model::Error),
    /// The tokenizer that the file holds cannot be used.
    Tokenizer(pythia_tokenizer::Error),
    /// A setting is out of its range.
    Setting {
        /// Its name.
        name: &'static str,
        /// What was found and what was wanted.
        problem: String,
    },
    /// The text cannot be read.
    Read(io::Error),
    /// The text is not UTF-8.
    NotUtf8 {
        /// Bytes before the first that is not.
        at: u64,
    },
    /// The text's file got shorter while it was read.
    TextCut {
        /// Bytes that were read.
        read: u64,
        /// Its length at the start.
        wanted: u64,
    },
    /// A stretch of the text can only be tokenized at once, and is too long for the memory that would take.
    NoCut {
        /// Bytes before it.
        at: u64,
    },
    /// The text is longer than it may be.
    TextTooLong {
        /// What was allowed.
        max_bytes: usize,
    },
    /// The prompt has no tokens.
    EmptyPrompt,
    /// The prompt does not fit the context.
    PromptTooLong {
        /// Its length.
        tokens: usize,
        /// Positions of the context.
        n_ctx: usize,
    },
    /// The text is shorter than the protocol needs.
    TextTooShort {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens that the protocol needs at least.
        wanted: usize,
        /// Name of the protocol.
        protocol: &'static str,
    },
    /// A token id that is no row of the model's vocabulary.
    TokenOutOfRange {
        /// The id.
        token: u32,
        /// Rows of the vocabulary.
        n_vocab: usize,
    },
    /// Two models that cannot be compared.
    VocabularyMismatch {
        /// Vocabulary rows of the base.
        base: usize,
        /// Vocabulary rows of the level.
        level: usize,
    },
    /// The model's output holds NaN, or no finite value at all.
    NotFinite {
        /// Position in the text of the token that was to be predicted.
        position: usize,
    },
    /// The thread that runs a model for many jobs failed, and this job with it.
    Engine(String),
    /// The caller asked to stop.
    Cancelled,
    /// An error of a file or text with a name.
    At {
        /// The name.
        place: String,
        /// The error.
        source: Box<Error>,
    },
}

impl Error {
    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Model(error) => error.kind(),
            Self::At { source, .. } => source.kind(),
            Self::Setting { .. } | Self::EmptyPrompt => ErrorKind::Usage,
            Self::Read(_) | Self::Engine(_) => ErrorKind::Io,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Gguf(_)
            | Self::Tokenizer(_)
            | Self::PromptTooLong { .. }
            | Self::TextTooShort { .. }
            | Self::TextTooLong { .. }
            | Self::NotUtf8 { .. }
            | Self::TextCut { .. }
            | Self::NoCut { .. }
            | Self::TokenOutOfRange { .. }
            | Self::VocabularyMismatch { .. }
            | Self::NotFinite { .. } => ErrorKind::Data,
        }
    }

    /// The error with the name of the faulty file or text before it.
    #[must_use]
    pub fn at(self, place: impl Display) -> Self {
        Self::At { place: place.to_string(), source: Box::new(self) }
    }

    /// The error with the name of the model or the text before it, if one of them is at fault.
    #[must_use]
    pub fn located(self, model: &Path, text: impl Display) -> Self {
        match self {
            Self::Gguf(_) | Self::Tokenizer(_) | Self::TokenOutOfRange { .. } | Self::NotFinite { .. } => {
                self.at(pythia_text::path(model))
            }
            Self::PromptTooLong { .. }
            | Self::TextTooShort { .. }
            | Self::TextTooLong { .. }
            | Self::NotUtf8 { .. }
            | Self::TextCut { .. }
            | Self::NoCut { .. }
            | Self::Read(_) => self.at(text),
            _ => self,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Escaper::line(f);
        match self {
            Self::Gguf(e) => write!(f, "{e}"),
            Self::Model(e) => write!(f, "{e}"),
            Self::Tokenizer(e) => write!(f, "{e}"),
            Self::Setting { name, problem } => write!(f, "{name}: {problem}"),
            Self::Read(e) => write!(f, "{e}"),
            Self::TextCut { read, wanted } => {
                write!(f, "ended after {read} of its {wanted} bytes: it was cut while it was read")
            }
            Self::NotUtf8 { at } => write!(f, "not UTF-8 at byte {at}"),
            Self::NoCut { at } => write!(f, "{}", pythia_tokenizer::Error::NoCut { at: *at }),
            Self::TextTooLong { max_bytes } => write!(f, "the text is longer than {max_bytes} bytes"),
            Self::EmptyPrompt => f.write_str("the prompt is empty, wanted at least one token"),
            Self::PromptTooLong { tokens, n_ctx } => {
                write!(f, "the prompt has {tokens} tokens, but the context has space for only {n_ctx}")
            }
            Self::TextTooShort { tokens, wanted, protocol } => {
                write!(f, "the text has {tokens} tokens, protocol {protocol} needs at least {wanted}")
            }
            Self::TokenOutOfRange { token, n_vocab } => {
                write!(f, "token id {token} is out of range, the model's vocabulary has {n_vocab} rows")
            }
            Self::VocabularyMismatch { base, level } => {
                write!(f, "vocabulary of {level} rows, the base has {base}: the two cannot be compared")
            }
            Self::NotFinite { position } => {
                write!(f, "logits for token {position} of the text are not finite: the weights are damaged or overflow")
            }
            Self::Engine(problem) => write!(f, "the engine failed: {problem}"),
            Self::Cancelled => f.write_str("interrupted"),
            Self::At { place, source } => write!(f, "{place}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Gguf(e) => Some(e),
            Self::Tokenizer(e) => Some(e),
            Self::Model(e) => Some(e),
            Self::Read(e) => Some(e),
            Self::At { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<pythia_gguf::Error> for Error {
    fn from(e: pythia_gguf::Error) -> Self {
        Self::Gguf(e)
    }
}

impl From<pythia_tokenizer::Error> for Error {
    fn from(e: pythia_tokenizer::Error) -> Self {
        match e {
            pythia_tokenizer::Error::NoCut { at } => Self::NoCut { at },
            e => Self::Tokenizer(e),
        }
    }
}

impl From<pythia_model::Error> for Error {
    fn from(e: pythia_model::Error) -> Self {
        match e {
            pythia_model::Error::Cancelled => Self::Cancelled,
            e => Self::Model(e),
        }
    }
}
