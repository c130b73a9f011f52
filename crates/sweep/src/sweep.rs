//! The folder of a sweep: where the manifest and the results are.
//!
//! ```text
//! SWEEP/manifest.jsonl         written once, by `plan`
//! SWEEP/results/CELL.json      one per cell
//! SWEEP/leases/GROUP.json      which runner works on a group
//! SWEEP/work/                  converted files and scores of groups that are not done, unless there is a scratch folder
//! ```

use crate::id::CellId;
use crate::manifest::Manifest;
use crate::result::{self, CellResult};
use crate::{Error, Missing};
use pythia_convert::output::{AtomicFile, check_target};
use pythia_task::Progress;
use rayon::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the manifest.
pub const MANIFEST: &str = "manifest.jsonl";
/// A larger file is not a result.
const MAX_RESULT_BYTES: u64 = 64 << 20;

/// A sweep on disk.
#[derive(Debug)]
pub struct Sweep {
    folder: PathBuf,
    manifest: Manifest,
}

impl Sweep {
    /// Opens the sweep in a folder, or of a manifest.
    ///
    /// # Errors
    /// If there is no manifest, or it is none.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = if path.is_dir() { path.join(MANIFEST) } else { path.to_owned() };
        let manifest = Manifest::read(&file)?;
        let folder = match file.parent() {
            Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
            Some(folder) => folder.to_owned(),
            None => PathBuf::from("."),
        };
        Ok(Self { folder, manifest })
    }

    /// Writes a manifest into `folder`, which is made if it is missing. With `force`, over another one: results of cells
    /// that are in both stay valid.
    ///
    /// # Errors
    /// If there is a manifest and not `force`, or the system refuses.
    pub fn create(folder: &Path, manifest: Manifest, force: bool, progress: &dyn Progress) -> Result<Self, Error> {
        let path = folder.join(MANIFEST);
        check_target(&path, &[], force)?;
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let mut text = Vec::new();
        manifest.write(&mut text).map_err(Error::io(&path))?;
        AtomicFile::write(&path, &text, force, progress)?;
        Ok(Self { folder: folder.to_owned(), manifest })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is in the sweep.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Checkpoints that were asked for and are not there.
    pub fn missing(&self) -> &[Missing] {
        &self.manifest.missing
    }

    /// Where a path of the manifest is: relative ones are from the folder of the sweep.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Where the result of a cell is.
    pub fn result_path(&self, cell: CellId) -> PathBuf {
        self.folder.join("results").join(format!("{cell}.json"))
    }

    /// Where leases are.
    pub(crate) fn lease_folder(&self) -> PathBuf {
        self.folder.join("leases")
    }

    /// Where the lease of a group is.
    pub(crate) fn lease_path(&self, group: usize) -> PathBuf {
        self.lease_folder().join(format!("{}.json", self.manifest.groups[group].group))
    }

    /// The result of a cell; `None` if there is none, or something else lies there.
    pub fn result(&self, cell: CellId) -> Option<CellResult> {
        let path = self.result_path(cell);
        let text = pythia_text::read_text(&path, MAX_RESULT_BYTES).ok()?;
        let found: CellResult = serde_json::from_str(&text).ok()?;
        let has_values = found.done().is_none_or(|done| done.text.is_some() || done.tasks.is_some());
        (found.format == result::FORMAT && found.cell == cell && has_values).then_some(found)
    }

    /// The results of all cells, in the order of the manifest.
    pub fn results(&self) -> Vec<Option<CellResult>> {
        self.manifest.cells.par_iter().map(|cell| self.result(cell.id)).collect()
    }

    /// Writes a result, whole or not at all, over what is there.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write_result(&self, result: &CellResult, progress: &dyn Progress) -> Result<(), Error> {
        let path = self.result_path(result.cell);
        let json = |e: serde_json::Error| Error::Data(format!("{}: {e}", path.display()));
        let text = pythia_text::json(&serde_json::to_string_pretty(result).map_err(json)?) + "\n";
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        Ok(AtomicFile::write(&path, text.as_bytes(), true, progress)?)
    }
}
