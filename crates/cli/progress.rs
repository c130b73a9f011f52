//! Progress bars on stderr, only at a terminal. Elsewhere [`Log`] writes a line per step of long commands.

mod log;

pub use log::Log;

use crate::exit;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pythia_task::Progress;
use pythia_text::Line;
use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};

/// A bar with an ETA. Hidden unless stderr is a terminal.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    quiet: bool,
    /// The stage of an operation that has several.
    stage: Mutex<String>,
}

/// What a bar counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, with a rate.
    Bytes,
    /// Things of this name, in the plural: `chunks`.
    Items(&'static str),
    /// Shares of the whole, because the thing counted means nothing to people.
    Share,
}

impl Bar {
    /// A bar up to `total`. Hidden if `quiet`, or if stderr is not a terminal.
    pub fn new(total: u64, unit: Unit, quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        if !quiet && io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        bar.set_style(style(unit));
        Self { bar, quiet, stage: Mutex::default() }
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

fn style(unit: Unit) -> ProgressStyle {
    // A test checks that our templates are valid.
    ProgressStyle::with_template(&template(unit)).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn template(unit: Unit) -> String {
    let counts = match unit {
        Unit::Bytes => "{decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}".to_owned(),
        Unit::Items(name) => format!("{{pos}}/{{len}} {name}"),
        Unit::Share => "{percent} %".to_owned(),
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

    /// Starts again at 0, with the stage before each item. Stages count different things, so shares are shown.
    fn stage(&self, name: &str) {
        name.clone_into(&mut self.stage.lock().unwrap_or_else(PoisonError::into_inner));
        self.bar.set_style(style(Unit::Share));
        self.bar.unset_length();
        self.bar.reset();
        self.message(name);
    }

    fn advance(&self, item: &str, units: i64) {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        match stage.as_str() {
            "" => self.message(item),
            stage => self.message(format_args!("{stage}: {item}")),
        }
        drop(stage);
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
        for unit in [Unit::Bytes, Unit::Items("chunks"), Unit::Share] {
            ProgressStyle::with_template(&template(unit)).unwrap();
        }
    }

    #[test]
    fn a_stage_starts_at_nothing_and_names_its_items() {
        let bar = Bar::new(10, Unit::Bytes, true);
        let progress: &dyn Progress = &bar;
        progress.advance("a", 7);
        assert_eq!((bar.bar.position(), bar.bar.message().as_str()), (7, "a"));
        progress.stage("quantizing Q4_0");
        assert_eq!((bar.bar.position(), bar.bar.length(), bar.bar.message().as_str()), (0, None, "quantizing Q4_0"));
        progress.expect(Some(6));
        progress.advance("layer 1 of 6", 1);
        assert_eq!(bar.bar.message(), "quantizing Q4_0: layer 1 of 6");
        assert_eq!((bar.bar.position(), bar.bar.length()), (1, Some(6)));
    }
}
