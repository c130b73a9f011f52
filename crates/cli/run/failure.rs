//! Which exit code an error of the model or of the runtime has.

use crate::exit::Failure;
use std::fmt::Display;
use std::path::Path;

impl From<pythia_model::Error> for Failure {
    fn from(error: pythia_model::Error) -> Self {
        use pythia_model::Error;
        match error {
            Error::Io { .. } => Self::io(error),
            Error::Isa(_) | Error::Request(_) => Self::usage(error),
            // What else there is concerns the file.
            _ => Self::data(error),
        }
    }
}

impl From<pythia_runtime::Error> for Failure {
    fn from(error: pythia_runtime::Error) -> Self {
        use pythia_runtime::Error;
        match error {
            Error::Model(error) => error.into(),
            Error::Setting { .. } | Error::EmptyPrompt => Self::usage(error),
            Error::Interrupted => Self::interrupted(),
            Error::Gguf(_)
            | Error::Tokenizer { .. }
            | Error::PromptTooLong { .. }
            | Error::TextTooShort { .. }
            | Error::TokenOutOfRange { .. }
            | Error::VocabularyMismatch { .. }
            | Error::NotFinite { .. } => Self::data(error),
        }
    }
}

/// As [`Failure::from`], with the file or text at fault before the message.
pub(super) fn locate(error: pythia_runtime::Error, model: &Path, text: impl Display) -> Failure {
    use pythia_runtime::Error;
    match error {
        Error::Gguf(_) | Error::Tokenizer { .. } | Error::NotFinite { .. } => {
            Failure::data(format_args!("{}: {error}", model.display()))
        }
        Error::PromptTooLong { .. } | Error::TextTooShort { .. } => Failure::data(format_args!("{text}: {error}")),
        _ => error.into(),
    }
}
