//! What can go wrong with a look into a model.

use pythia_model::Hook;
use pythia_task::ErrorKind;
use pythia_text::{Escaper, path as shown, quoted};
use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};

/// Why a model's inside cannot be shown or changed. One line each.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A selector that names no hook of the model.
    NoHook {
        /// The selector.
        selector: String,
        /// The name that it resembles.
        nearest: Option<String>,
    },
    /// A setting is out of its range.
    Setting {
        /// Its name.
        name: &'static str,
        /// What was found and what was wanted.
        problem: String,
    },
    /// A file cannot be read.
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file with vectors or values that cannot be used.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Two models that are compared are not of one shape or vocabulary.
    Differ {
        /// In what.
        what: &'static str,
        /// What the first has.
        base: String,
        /// What the second has.
        level: String,
    },
    /// A pass gave values that are not finite.
    NotFinite {
        /// The hook where they were met.
        hook: Hook,
        /// Position of the token in its text.
        position: usize,
    },
    /// The request cannot be met.
    Request(String),
    /// A text has wrong contents.
    Input {
        /// Its name, with the place in it.
        place: String,
        /// What was found and what was wanted.
        problem: String,
    },
    /// A file cannot be written, or read back.
    Files(Box<pythia_convert::Error>),
    /// The text cannot be used, or the model refused a call.
    Runtime(pythia_runtime::Error),
}

impl Error {
    pub(crate) fn file(path: &Path, problem: String) -> Self {
        Self::File { path: path.to_owned(), problem }
    }

    /// Where its cause lies.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoHook { .. } | Self::Setting { .. } | Self::Request(_) => ErrorKind::Usage,
            Self::Io { .. } => ErrorKind::Io,
            Self::File { .. } | Self::NotFinite { .. } | Self::Differ { .. } | Self::Input { .. } => ErrorKind::Data,
            Self::Files(error) => error.kind(),
            Self::Runtime(error) => error.kind(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Escaper::line(f);
        match self {
            Self::NoHook { selector, nearest } => {
                write!(f, "hook {}: the model has none of this name", quoted(selector, '\'', 80))?;
                match nearest {
                    Some(name) => write!(f, "; did you mean '{name}'?"),
                    None => Ok(()),
                }
            }
            Self::Setting { name, problem } => write!(f, "{name}: {problem}"),
            Self::Io { path, source } => write!(f, "{}: {source}", shown(path)),
            Self::File { path, problem } => write!(f, "{}: {problem}", shown(path)),
            Self::Differ { what, base, level } => {
                write!(f, "{what}: {base} in the one model, {level} in the other: the two cannot be compared")
            }
            Self::NotFinite { hook, position } => {
                write!(f, "{hook} is not finite at token {position} of the text: the weights are damaged or overflow")
            }
            Self::Request(problem) => f.write_str(problem),
            Self::Input { place, problem } => write!(f, "{place}: {problem}"),
            Self::Files(error) => write!(f, "{error}"),
            Self::Runtime(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Runtime(error) => Some(error),
            Self::NoHook { .. }
            | Self::Setting { .. }
            | Self::File { .. }
            | Self::NotFinite { .. }
            | Self::Differ { .. }
            | Self::Request(_)
            | Self::Input { .. } => None,
            Self::Files(error) => Some(&**error),
        }
    }
}

impl From<pythia_convert::Error> for Error {
    fn from(error: pythia_convert::Error) -> Self {
        Self::Files(Box::new(error))
    }
}

impl From<pythia_runtime::Error> for Error {
    fn from(error: pythia_runtime::Error) -> Self {
        Self::Runtime(error)
    }
}

impl From<pythia_model::Error> for Error {
    fn from(error: pythia_model::Error) -> Self {
        Self::Runtime(error.into())
    }
}
