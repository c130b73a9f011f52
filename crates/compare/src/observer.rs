//! How a comparison tells how it goes.

use pythia_task::Progress;

/// Hears how a comparison goes, from any of its threads. Every method may be left out.
pub trait Observer: Send + Sync {
    /// Something may make the result other than expected.
    fn warn(&self, line: &str) {
        let _ = line;
    }

    /// Something worth knowing.
    fn note(&self, line: &str) {
        let _ = line;
    }

    /// What begins now, in words.
    fn step(&self, line: &str) {
        let _ = line;
    }

    /// A stage that takes long begins. What is returned hears how far it is, and is dropped at its end.
    fn begin(&self, stage: Stage) -> Box<dyn Progress + '_> {
        let _ = stage;
        Box::new(())
    }
}

/// Hears nothing.
impl Observer for () {}

/// A stage of a comparison, and what its progress counts.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Stage {
    /// Levels are made. Units are bytes of the source, items are tensors.
    Convert,
    /// Speed and memory are measured. Units are files, items their names.
    Measure,
    /// Files are scored, as many as fit into memory side by side. Units are chunks of the text; the item says what the
    /// perplexity of the base is by now.
    Score {
        /// Number of the group of files, from 0 on.
        group: usize,
        /// How many groups there are.
        n_groups: usize,
    },
}
