//! Checks that a body arrives fast enough. A limit for the time between two reads is not enough, because a server could
//! send single bytes for years.

use std::time::{Duration, Instant};

/// Counts the bytes of one body, window by window.
#[derive(Debug)]
pub(crate) struct Pace {
    min_rate: u64,
    window: Duration,
    start: Instant,
    n_bytes: u64,
}

impl Pace {
    /// Starts now. `min_rate` is in bytes per second.
    pub(crate) fn new(min_rate: u64, window: Duration) -> Self {
        Self { min_rate, window, start: Instant::now(), n_bytes: 0 }
    }

    /// Counts `n` more bytes.
    ///
    /// # Errors
    /// A message, if a window ended with too few bytes.
    pub(crate) fn advance(&mut self, n: u64) -> Result<(), String> {
        self.advance_at(n, self.start.elapsed())
    }

    fn advance_at(&mut self, n: u64, elapsed: Duration) -> Result<(), String> {
        self.n_bytes += n;
        if elapsed < self.window {
            return Ok(());
        }
        let seconds = elapsed.as_secs_f64();
        if (self.n_bytes as f64) < self.min_rate as f64 * seconds {
            let (n_bytes, min_rate) = (self.n_bytes, self.min_rate);
            return Err(format!("too slow, {n_bytes} bytes in {seconds:.0} s, wanted {min_rate} per second"));
        }
        (self.start, self.n_bytes) = (Instant::now(), 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_needs_its_bytes() {
        let pace = || Pace::new(1000, Duration::from_secs(20));
        let at = Duration::from_secs;
        assert_eq!(pace().advance_at(1, at(19)), Ok(()), "the window is not over");
        assert_eq!(pace().advance_at(20_000, at(20)), Ok(()));
        let slow = pace().advance_at(19_999, at(20)).unwrap_err();
        assert_eq!(slow, "too slow, 19999 bytes in 20 s, wanted 1000 per second");
        let mut pace = pace();
        pace.advance_at(1 << 30, at(20)).unwrap();
        pace.advance_at(1, at(20)).unwrap_err();
    }
}
