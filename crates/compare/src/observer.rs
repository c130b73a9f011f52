//! Progress of a comparison.

use pythia_task::Progress;

/// Receives the progress of a comparison, from any of its threads. Every method has a default that does nothing.
pub trait Observer: Send + Sync {
    /// A warning: something may change the result.
    fn warn(&self, line: &str) {
        let _ = line;
    }

    /// A note for the user.
    fn note(&self, line: &str) {
        let _ = line;
    }

    /// A note about the cache folder.
    fn cache(&self, line: &str) {
        self.note(line);
    }

    /// A step begins, described in words.
    fn step(&self, line: &str) {
        let _ = line;
    }

    /// A long stage begins. The returned value receives its progress and is dropped at its end.
    fn begin(&self, stage: Stage) -> Box<dyn Progress + '_> {
        let _ = stage;
        Box::new(())
    }
}

/// Ignores progress.
impl Observer for () {}

/// A stage of a comparison, and the units of its progress.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Stage {
    /// Levels are converted. Units are bytes of the source, items are tensors.
    Convert,
    /// Importances or a calibration are collected. Units are chunks or tokens.
    Calibrate,
    /// Speed and memory are measured. Units are files, items their names.
    Measure,
    /// Tasks are evaluated on every file. Units are a measure of work, items are tasks.
    Tasks,
    /// A group of files that fits into memory is scored. Units are chunks of the text; the item is the perplexity of
    /// the base so far.
    Score {
        /// Index of the group, from 0.
        group: usize,
        /// How many groups there are.
        n_groups: usize,
    },
}
