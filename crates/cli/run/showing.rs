//! How commands that look into a model show what they found.

use crate::exit::Failure;
use crate::outputs;
use std::path::{Path, PathBuf};

/// What `lens` and `attention` have in common.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// A table for people, or rows for programs
    #[arg(long, value_enum, default_value = "table")]
    pub(super) format: Format,
    /// Write a page with heat maps to FILE
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Replace existing files
    #[arg(long)]
    pub(super) force: bool,
    /// No progress
    #[arg(short, long)]
    pub(super) quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Table,
    Jsonl,
    Csv,
}

impl ShowArgs {
    /// Writes the page, if it is wanted.
    pub(super) fn write_page(&self, page: impl FnOnce() -> String) -> Result<(), Failure> {
        self.html.as_ref().map_or(Ok(()), |path| self.write(path, page().as_bytes()))
    }

    /// Writes a file; it appears whole or not at all.
    pub(super) fn write(&self, path: &Path, content: &[u8]) -> Result<(), Failure> {
        outputs::write(path, content, self.force, self.quiet)
    }
}
