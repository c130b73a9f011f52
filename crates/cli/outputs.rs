//! Small files that a command writes beside what it prints.

use crate::exit::{Failure, Notes};
use pythia_convert::output::{AtomicFile, check_target};
use std::path::{Path, PathBuf};

/// Whether they can be written, before the work.
pub(crate) fn check<'p>(
    outputs: impl IntoIterator<Item = &'p Option<PathBuf>>,
    inputs: &[PathBuf],
    force: bool,
) -> Result<(), Failure> {
    let outputs: Vec<&PathBuf> = outputs.into_iter().flatten().collect();
    for (i, path) in outputs.iter().enumerate() {
        if outputs[..i].contains(path) {
            return Err(Failure::usage(format_args!("{}: named for two outputs", pythia_text::path(path))));
        }
        check_target(path, inputs, force)?;
    }
    Ok(())
}

/// Writes one; it appears whole or not at all.
pub(crate) fn write(path: &Path, content: &[u8], force: bool, quiet: bool) -> Result<(), Failure> {
    let file = AtomicFile::create(path, 0, &Notes { quiet })?;
    file.write_at(content, 0)?;
    Ok(file.commit(force)?)
}

/// The name of a file, for a title.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
