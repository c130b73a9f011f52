//! What keeps a server from starting or running.

use pythia_task::ErrorKind;
use pythia_text::{Escaper, quoted};
use std::fmt::{self, Display, Write};
use std::io;

/// Why a server could not start, or ended. One line.
#[derive(Debug)]
pub enum Error {
    /// A setting is out of its range.
    Setting {
        /// Its name on the command line.
        name: &'static str,
        /// What was found and what was wanted.
        problem: String,
    },
    /// Two models have one name.
    SameName(String),
    /// Two models that cannot be served side by side.
    OtherTokenizer {
        /// The first model.
        first: String,
        /// The one whose tokenizer differs.
        other: String,
    },
    /// The address cannot be listened at.
    Listen {
        /// Host and port.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system refused threads.
    Threads(io::Error),
    /// An engine could not start.
    Engine {
        /// The model's name.
        model: String,
        /// Why.
        source: Box<pythia_runtime::Error>,
    },
    /// There can be no drafts.
    Draft(pythia_runtime::Error),
}

impl Error {
    /// What is wrong with a model.
    pub(crate) fn of_model(model: &str, source: impl Into<pythia_runtime::Error>) -> Self {
        Self::Engine { model: model.to_owned(), source: Box::new(source.into()) }
    }

    /// Its kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Setting { .. } | Self::SameName(_) | Self::OtherTokenizer { .. } => ErrorKind::Usage,
            Self::Listen { .. } | Self::Threads(_) => ErrorKind::Io,
            Self::Engine { source, .. } => source.kind(),
            Self::Draft(source) => source.kind(),
        }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = Escaper::line(f);
        let name = |name: &str| quoted(name, '\'', 100).to_string();
        match self {
            Self::Setting { name, problem } => write!(f, "{name}: {problem}"),
            Self::SameName(model) => {
                write!(f, "two models are named {}; -m NAME=FILE gives a file another name", name(model))
            }
            Self::OtherTokenizer { first, other } => write!(
                f,
                "{} has another tokenizer than {}: a server is for files of one model, or of models that share their \
                 tokenizer",
                name(other),
                name(first)
            ),
            Self::Listen { address, source } => write!(f, "cannot listen at {address}: {source}"),
            Self::Threads(source) => write!(f, "no threads: {source}"),
            Self::Engine { model, source } => write!(f, "{}: {source}", name(model)),
            Self::Draft(source) => write!(f, "{source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen { source, .. } | Self::Threads(source) => Some(source),
            Self::Engine { source, .. } => Some(&**source),
            Self::Draft(source) => Some(source),
            Self::Setting { .. } | Self::SameName(_) | Self::OtherTokenizer { .. } => None,
        }
    }
}
