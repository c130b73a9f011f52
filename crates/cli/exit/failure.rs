//! The error of a program: an exit code and one line. The errors of all libraries are converted to it here.

use pythia_task::ErrorKind;
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
        Self::new(ErrorKind::Usage, message)
    }

    /// A file has wrong contents: exit code 65.
    pub fn data(message: impl Display) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// The operating system refused: exit code 74.
    pub fn io(message: impl Display) -> Self {
        Self::new(ErrorKind::Io, message)
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
        Self::new(ErrorKind::Cancelled, message)
    }

    fn new(kind: ErrorKind, message: impl Display) -> Self {
        Self { code: kind.exit_code(), message: message.to_string() }
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

macro_rules! from_libraries {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error.kind(), error)
            }
        })*
    };
}

from_libraries!(
    pythia_calibrate::Error,
    pythia_checkpoint::Error,
    pythia_compare::Error,
    pythia_convert::Error,
    pythia_eval::Error,
    pythia_inside::Error,
    pythia_model::Error,
    pythia_quantizer::Error,
    pythia_runtime::Error,
    pythia_sweep::Error
);
#[cfg(feature = "hub")]
from_libraries!(pythia_hub::Error);
#[cfg(feature = "server")]
from_libraries!(pythia_server::Error);

/// As [`Failure::from`], with the name of the file or text at fault before the message.
pub(crate) fn locate(error: pythia_runtime::Error, model: &Path, text: impl Display) -> Failure {
    error.located(model, text).into()
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
