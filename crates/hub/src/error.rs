//! The error type.

use crate::secret;
use pythia_task::ErrorKind;
use pythia_text::Escaper;
use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};

/// Why no checkpoint could be taken from the Hub or its cache. Every message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An invalid request: a malformed id, a step that Pythia does not have, a malformed setting.
    Request(String),
    /// The server answered that it does not exist, or is not available to this user.
    Refused {
        /// Repository, revision or file.
        what: String,
        /// Why, and what can be done.
        reason: String,
    },
    /// It is not in the cache, and `--offline` or the environment forbids a connection.
    Offline {
        /// Repository and revision.
        what: String,
        /// What is missing.
        reason: String,
    },
    /// The server could not be reached or did not complete its answer, in several attempts.
    Network {
        /// Repository, revision or file.
        what: String,
        /// The last failure.
        reason: String,
    },
    /// The server's answer is wrong: a different digest or size, or an invalid list.
    Data {
        /// Repository, revision or file.
        what: String,
        /// What was found and what was wanted.
        reason: String,
    },
    /// The operating system refused a file of the cache.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
    /// The caller raised the cancel flag. Unfinished downloads are kept for the next run.
    Cancelled,
}

impl Error {
    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Request(_) => ErrorKind::Usage,
            Self::Refused { .. } | Self::Offline { .. } | Self::Network { .. } | Self::Io { .. } => ErrorKind::Io,
            Self::Data { .. } => ErrorKind::Data,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    pub(crate) fn refused(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), reason: reason.into() }
    }

    pub(crate) fn offline(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Offline { what: what.into(), reason: reason.into() }
    }

    pub(crate) fn network(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Network { what: what.into(), reason: reason.into() }
    }

    pub(crate) fn data(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Data { what: what.into(), reason: reason.into() }
    }

    /// For `map_err`: adds the path.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

impl Error {
    /// The message without what it is about, where the error has such a part. One line, escaped, without the token.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Refused { reason, .. }
            | Self::Offline { reason, .. }
            | Self::Network { reason, .. }
            | Self::Data { reason, .. } => pythia_text::Line(secret::redact(reason)).to_string(),
            _ => self.to_string(),
        }
    }
}

/// One line, escaped, without the token.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The whole message is built first, because any part of it may contain the token.
        let mut message = String::new();
        self.write(&mut message)?;
        Escaper::line(f).write_str(&secret::redact(&message))
    }
}

impl Error {
    fn write(&self, f: &mut String) -> fmt::Result {
        match self {
            Self::Request(message) => f.write_str(message),
            Self::Refused { what, reason }
            | Self::Offline { what, reason }
            | Self::Network { what, reason }
            | Self::Data { what, reason } => write!(f, "{what}: {reason}"),
            Self::Io { path, source } => write!(f, "{}: {source}", pythia_text::path(path)),
            Self::Cancelled => f.write_str("interrupted; what was downloaded is kept"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// `text` from a server for a message: in quotes, escaped, cut to 100 characters.
pub(crate) fn excerpt(text: &str) -> String {
    pythia_text::quoted(&secret::redact(text), '"', 100)
}
