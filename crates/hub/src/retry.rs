//! Retries: which errors, when, and how often.

use crate::Error;
use std::time::Duration;

/// Failures in a row before giving up.
const MAX_FAILURES: u32 = 5;
/// The longest pause that this crate chooses.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause that is accepted from a server. The Hub counts requests over five minutes.
const MAX_ASKED: Duration = Duration::from_secs(300);

/// A failed attempt.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Another attempt may succeed, after the pause that the server asks for, if any.
    Passing { error: Error, pause: Option<Duration> },
    /// Another attempt would fail in the same way.
    Lasting(Error),
}

impl Fault {
    pub(crate) fn passing(error: Error) -> Self {
        Self::Passing { error, pause: None }
    }

    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Passing { error, .. } | Self::Lasting(error) => error,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Lasting(error)
    }
}

/// Counts failures in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration) -> Self {
        Self { first, failures: 0 }
    }

    /// There was progress: the next failure counts as the first.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after `fault`, and a message about it.
    ///
    /// # Errors
    /// If there were too many failures.
    pub(crate) fn after(&mut self, fault: Fault) -> Result<(Duration, String), Error> {
        let Fault::Passing { error, pause } = fault else { return Err(fault.into_error()) };
        self.failures += 1;
        if self.failures >= MAX_FAILURES || pause.is_some_and(|pause| pause > MAX_ASKED) {
            return Err(match (error, pause) {
                (Error::Network { what, reason }, Some(pause)) if pause > MAX_ASKED => {
                    Error::network(what, format!("{reason}; the server wants a pause of {} s", pause.as_secs()))
                }
                (Error::Network { what, reason }, _) => {
                    Error::network(what, format!("{reason} (given up after {} tries)", self.failures))
                }
                (error, _) => error,
            });
        }
        let pause = pause.unwrap_or_else(|| (self.first * (1 << (self.failures - 1))).min(MAX_PAUSE));
        let line = format!("{error}; again in {:.1} s ({} of {MAX_FAILURES})", pause.as_secs_f64(), self.failures + 1);
        Ok((pause, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(pause: Option<u64>) -> Fault {
        Fault::Passing { error: Error::network("x", "dropped"), pause: pause.map(Duration::from_secs) }
    }

    #[test]
    fn pauses_double_and_end() {
        let mut backoff = Backoff::new(Duration::from_secs(8));
        let mut pauses = Vec::new();
        let error = loop {
            match backoff.after(fault(None)) {
                Ok((pause, _)) => pauses.push(pause.as_secs()),
                Err(error) => break error,
            }
        };
        assert_eq!(pauses, [8, 16, 30, 30]);
        assert_eq!(error.to_string(), "x: dropped (given up after 5 tries)");
        backoff.reset();
        assert_eq!(backoff.after(fault(Some(77))).unwrap().0.as_secs(), 77, "the server's wish");
        let error = backoff.after(fault(Some(301))).unwrap_err();
        assert!(error.to_string().contains("a pause of 301 s"), "{error}");
    }

    #[test]
    fn what_lasts_is_not_tried_again() {
        let error = Backoff::new(Duration::ZERO).after(Error::Cancelled.into()).unwrap_err();
        assert!(matches!(error, Error::Cancelled));
    }
}
