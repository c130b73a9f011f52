//! What a long command is doing, for a log: lines on stderr where no bar can be shown.

use crate::exit;
use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Time between two lines about the same thing.
const INTERVAL: Duration = Duration::from_secs(10);

/// Writes lines that begin with the time since it was made. Nothing at a terminal, which shows a bar.
#[derive(Debug)]
pub struct Log {
    start: Instant,
    is_shown: bool,
    last: Mutex<Instant>,
}

impl Log {
    /// A log that begins now; it says nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let start = Instant::now();
        Self { start, is_shown: !quiet && !io::stderr().is_terminal(), last: Mutex::new(start) }
    }

    /// A line about something new.
    pub fn line(&self, text: impl Display) {
        if self.is_shown {
            if let Ok(mut last) = self.last.lock() {
                *last = Instant::now();
            }
            exit::note(format_args!("[{}] {text}", elapsed(self.start.elapsed())));
        }
    }

    /// A line about how far something is, if the last line is some time ago.
    pub fn tick(&self, text: impl FnOnce() -> String) {
        let is_due = self.is_shown && self.last.lock().is_ok_and(|last| last.elapsed() >= INTERVAL);
        if is_due {
            self.line(text());
        }
    }
}

/// Minutes and seconds, and hours where there are any.
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
