//! The error of a program: an exit code and one line. The errors of all libraries are converted to it here.

use std::fmt::{self, Display};
use std::io;
use std::path::Path;

/// Why a program failed, and its exit code (`sysexits.h`).
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The command line is wrong: exit code 2.
    pub fn usage(message: impl Display) -> Self {
        Self::new(2, message)
    }

    /// A file has wrong contents: exit code 65.
    pub fn data(message: impl Display) -> Self {
        Self::new(65, message)
    }

    /// The operating system refused: exit code 74.
    pub fn io(message: impl Display) -> Self {
        Self::new(74, message)
    }

    /// The operating system refused `path`: exit code 74.
    pub fn at(path: &Path, error: &io::Error) -> Self {
        Self::io(format_args!("{}: {error}", pythia_text::path(path)))
    }

    /// Ctrl-C or SIGTERM: exit code 130.
    pub fn interrupted() -> Self {
        Self::interrupted_with("interrupted")
    }

    /// Ctrl-C or SIGTERM, with a `message` about the state of the work: exit code 130.
    pub(crate) fn interrupted_with(message: impl Display) -> Self {
        Self::new(super::signal::INTERRUPTED_CODE, message)
    }

    /// The message and exit code of a child process.
    pub(crate) fn of_child(code: u8, message: impl Display) -> Self {
        Self::new(code, message)
    }

    fn new(code: u8, message: impl Display) -> Self {
        Self { code, message: message.to_string() }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<pythia_convert::Error> for Failure {
    fn from(error: pythia_convert::Error) -> Self {
        match error.kind() {
            pythia_convert::ErrorKind::Usage => Self::usage(error),
            pythia_convert::ErrorKind::Data => Self::data(error),
            pythia_convert::ErrorKind::Io => Self::io(error),
            pythia_convert::ErrorKind::Cancelled => Self::interrupted(),
        }
    }
}

impl From<pythia_checkpoint::Error> for Failure {
    fn from(error: pythia_checkpoint::Error) -> Self {
        pythia_convert::Error::from(error).into()
    }
}

impl From<pythia_model::Error> for Failure {
    fn from(error: pythia_model::Error) -> Self {
        use pythia_model::Error;
        match error {
            Error::Io { .. } | Error::Device(_) => Self::io(error),
            Error::Isa(_) | Error::Request(_) => Self::usage(error),
            Error::Cancelled => Self::interrupted(),
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
            Error::Read(_) => Self::io(error),
            Error::Interrupted => Self::interrupted(),
            Error::Gguf(_)
            | Error::Tokenizer { .. }
            | Error::PromptTooLong { .. }
            | Error::TextTooShort { .. }
            | Error::TextTooLong { .. }
            | Error::NotUtf8 { .. }
            | Error::NoCut { .. }
            | Error::TokenOutOfRange { .. }
            | Error::VocabularyMismatch { .. }
            | Error::NotFinite { .. } => Self::data(error),
        }
    }
}

/// As [`Failure::from`], with the name of the file or text at fault before the message.
pub(crate) fn locate(error: pythia_runtime::Error, model: &Path, text: impl Display) -> Failure {
    use pythia_runtime::Error;
    match error {
        Error::Gguf(_) | Error::Tokenizer { .. } | Error::TokenOutOfRange { .. } | Error::NotFinite { .. } => {
            Failure::data(format_args!("{}: {error}", pythia_text::path(model)))
        }
        Error::PromptTooLong { .. }
        | Error::TextTooShort { .. }
        | Error::TextTooLong { .. }
        | Error::NotUtf8 { .. }
        | Error::NoCut { .. } => Failure::data(format_args!("{text}: {error}")),
        Error::Read(_) => Failure::io(format_args!("{text}: {error}")),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_errors_keep_their_kind() {
        let missing = pythia_checkpoint::Checkpoint::open(Path::new("no such folder")).unwrap_err();
        assert_eq!(Failure::from(missing).code(), 74);
        assert_eq!(Failure::from(pythia_convert::Error::Cancelled).code(), 130);
        assert_eq!(Failure::from("Q9".parse::<pythia_convert::Level>().unwrap_err()).code(), 2);
    }
}
