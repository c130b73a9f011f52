//! A file that is written piece by piece, and appears whole or not at all.

use crate::exit::{Failure, Notes};
use pythia_convert::output::AtomicFile;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// A file that has no name yet.
pub(super) struct Writing {
    file: AtomicFile,
    writer: BufWriter<File>,
}

impl Writing {
    /// Begins it, so that a folder that cannot be written is noticed before the work.
    pub(super) fn create(path: &Path, quiet: bool) -> Result<Self, Failure> {
        let file = AtomicFile::create(path, 0, &Notes { quiet })?;
        let writer = BufWriter::new(file.file().try_clone().map_err(|e| Failure::at(path, &e))?);
        Ok(Self { file, writer })
    }

    /// The name that it will get.
    pub(super) fn path(&self) -> &Path {
        self.file.target()
    }

    pub(super) fn write(&mut self, text: impl Display) -> io::Result<()> {
        write!(self.writer, "{text}")
    }

    /// Gives it its name; `force` replaces what has it.
    pub(super) fn finish(mut self, force: bool) -> Result<(), Failure> {
        self.writer.flush().map_err(|e| Failure::at(self.path(), &e))?;
        Ok(self.file.commit(force)?)
    }
}
