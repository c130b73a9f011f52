//! Log lines on stderr for long commands, where no bar can be shown.

use crate::exit;
use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Least time between two lines about the same step.
const INTERVAL: Duration = Duration::from_secs(10);

/// Writes lines that begin with the time since the start. Writes nothing at a terminal, which shows a bar.
#[derive(Debug)]
pub struct Log {
    start: Instant,
    is_shown: bool,
    last: Mutex<Instant>,
}

impl Log {
    /// A log that starts now. It is silent if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let start = Instant::now();
        Self { start, is_shown: !quiet && !io::stderr().is_terminal(), last: Mutex::new(start) }
    }

    /// Writes a line about a new step.
    pub fn line(&self, text: impl Display) {
        if self.is_shown {
            if let Ok(mut last) = self.last.lock() {
                *last = Instant::now();
            }
            exit::note(format_args!("[{}] {text}", elapsed(self.start.elapsed())));
        }
    }

    /// Writes a line about the progress of a step, if the last line is at least ten seconds old.
    pub fn tick(&self, text: impl FnOnce() -> String) {
        let is_due = self.is_shown && self.last.lock().is_ok_and(|last| last.elapsed() >= INTERVAL);
        if is_due {
            self.line(text());
        }
    }
}

/// Minutes and seconds, with hours if there are any.
fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match hours {
        0 => format!("{minutes:02}:{:02}", seconds % 60),
        _ => format!("{hours}:{:02}:{:02}", minutes % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_like_a_clock() {
        let times = [0, 59, 61, 3599, 3600, 36_061].map(|seconds| elapsed(Duration::from_secs(seconds)));
        assert_eq!(times, ["00:00", "00:59", "01:01", "59:59", "1:00:00", "10:01:01"]);
    }
}
