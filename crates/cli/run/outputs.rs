//! Small files that a command writes beside what it prints.

use super::writing::Writing;
use crate::exit::Failure;
use crate::input;
use pythia_convert::output::check_target;
use pythia_model::Model;
use std::path::{Path, PathBuf};

/// Whether they can be written, before the work.
pub(super) fn check<'p>(
    outputs: impl IntoIterator<Item = &'p Option<PathBuf>>,
    model: &Model,
    text: Option<&Path>,
    force: bool,
) -> Result<(), Failure> {
    let inputs = input::files(model.paths().iter().map(PathBuf::as_path).chain(text));
    Ok(outputs.into_iter().flatten().try_for_each(|path| check_target(path, &inputs, force))?)
}

/// Writes one; it appears whole or not at all.
pub(super) fn write(path: &Path, content: &str, force: bool, quiet: bool) -> Result<(), Failure> {
    let mut file = Writing::create(path, quiet)?;
    file.write(content).map_err(|e| Failure::at(path, &e))?;
    file.finish(force)
}

/// The name of a file, for a title.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
