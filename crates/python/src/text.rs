//! Texts as callers give them: a `str` is the text itself, a path is a file.

use crate::error::Problem;
use pyo3::prelude::*;
use pythia_runtime::Text;
use std::path::PathBuf;

/// A text, or the file that has it.
#[derive(Debug, FromPyObject)]
pub(crate) enum TextArg {
    #[pyo3(annotation = "str")]
    Text(String),
    #[pyo3(annotation = "os.PathLike")]
    File(PathBuf),
}

/// The text, which can be read several times. A file is without the line end at its end, as for the commands.
pub(crate) fn text(given: TextArg) -> Result<Text, Problem> {
    match given {
        TextArg::Text(text) => Ok(Text::literal(&text, "the text")),
        TextArg::File(path) => Ok(Text::open(&path)?),
    }
}
