//! Progress bars on stderr, only at a terminal. Elsewhere [`Log`] writes a line per step of long commands.

mod log;

pub use log::Log;

use crate::exit;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pythia_task::Progress;
use pythia_text::Line;
use std::fmt::Display;
use std::io::{self, IsTerminal};

/// A bar with an ETA. Hidden unless stderr is a terminal.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    quiet: bool,
}

/// What a bar counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, with a rate.
    Bytes,
    /// Things of this name, in the plural: `chunks`.
    Items(&'static str),
}

impl Bar {
    /// A bar up to `total`. Hidden if `quiet`, or if stderr is not a terminal.
    pub fn new(total: u64, unit: Unit, quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        if !quiet && io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        // A test checks that our templates are valid.
        bar.set_style(ProgressStyle::with_template(&template(unit)).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, quiet }
    }

    /// Sets the total, if it is known.
    pub fn expect(&self, total: Option<u64>) {
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
    }

    /// `n` more are done.
    pub fn advance(&self, n: u64) {
        self.bar.inc(n);
    }

    /// Hides the bar while `write` writes lines to the terminal.
    pub fn suspend(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    /// Shows what is being done, after the bar.
    pub fn message(&self, text: impl Display) {
        self.bar.set_message(Line(text).to_string());
    }

    /// Removes the bar, so that results can be printed.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn template(unit: Unit) -> String {
    let counts = match unit {
        Unit::Bytes => "{decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}".to_owned(),
        Unit::Items(name) => format!("{{pos}}/{{len}} {name}"),
    };
    format!("{{bar:30}} {counts} eta {{eta}} {{wide_msg}}")
}

impl Drop for Bar {
    /// Removes the bar, so that an error message is not written into it.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn expect(&self, total: Option<u64>) {
        Bar::expect(self, total);
    }

    fn advance(&self, item: &str, units: i64) {
        self.message(item);
        if units < 0 {
            self.bar.dec(units.unsigned_abs());
        } else {
            self.bar.inc(units.unsigned_abs());
        }
    }

    fn note(&self, line: &str) {
        if !self.quiet {
            self.bar.suspend(|| exit::note(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_valid() {
        for unit in [Unit::Bytes, Unit::Items("chunks")] {
            ProgressStyle::with_template(&template(unit)).unwrap();
        }
    }
}
