//! The files of a report.

use super::{Report, csv, html, markdown};
use crate::Error;
use pythia_convert::output::{AtomicFile, MadeFolders, Naming, check_target};
use pythia_task::Progress;
use std::path::{Path, PathBuf};

/// The files of a report to come: `report.json`, `.csv`, `.md` and `.html`, each of which appears whole or not at all.
pub struct Files {
    files: Vec<AtomicFile>,
    /// After the files, which lie in them: an unused folder goes when it is empty.
    made: MadeFolders,
}

impl Files {
    /// Whether they can be put into `dir`: found out before hours of work, not after.
    ///
    /// # Errors
    /// If one of them is one of `inputs`, no regular file, or exists while `force` is off.
    pub fn check(dir: &Path, inputs: &[PathBuf], force: bool) -> Result<(), Error> {
        Ok(paths(dir).iter().try_for_each(|path| check_target(path, inputs, force))?)
    }

    /// Starts them in `dir`, which is made if it is not there. Leftovers of killed runs are removed, each with a note.
    ///
    /// # Errors
    /// If a folder or file cannot be made.
    pub fn create(dir: &Path, progress: &dyn Progress) -> Result<Self, Error> {
        let made = MadeFolders::create(dir)?;
        let files =
            paths(dir).iter().map(|path| AtomicFile::create(path, 0, progress)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { files, made })
    }

    /// Fills them and gives them their names; returns those.
    ///
    /// # Errors
    /// If a file cannot be written, or exists while `force` is off.
    pub fn write(self, report: &Report, force: bool) -> Result<Vec<PathBuf>, Error> {
        let contents = [report.to_json()?, csv::render(report), markdown::render(report), html::render(report)];
        for (file, content) in self.files.iter().zip(&contents) {
            file.write_at(content.as_bytes(), 0)?;
        }
        let paths = self.files.iter().map(|file| file.target().to_owned()).collect();
        // Last, when there is no more room to be found for anything.
        let _naming = Naming::begin();
        self.files.into_iter().try_for_each(|file| file.commit(force))?;
        self.made.keep()?;
        Ok(paths)
    }
}

/// What [`Files`] are called in `dir`; in the order of their contents.
fn paths(dir: &Path) -> [PathBuf; 4] {
    ["json", "csv", "md", "html"].map(|extension| dir.join("report").with_extension(extension))
}

#[cfg(test)]
mod tests {
    use super::super::{FORMAT, sample};
    use super::*;

    #[test]
    fn writes_four_files_and_replaces_them() {
        let dir = tempfile::tempdir().unwrap();
        let report = sample::report(7);
        let write = |dir: &Path, force| Files::create(dir, &())?.write(&report, force);
        write(dir.path(), true).unwrap();
        let paths = write(&dir.path().join("deeper/still"), false).unwrap();
        assert_eq!(paths.len(), 4);
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&paths[0]).unwrap()).unwrap();
        assert_eq!(json["format"], FORMAT);
        assert_eq!(json["levels"].as_array().unwrap().len(), 7);
        assert!(json["levels"][0]["against_base"].is_null());
        assert!(json["levels"][1]["against_base"]["kld_mean"]["se"].is_f64());
        write(dir.path(), true).unwrap();
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 5, "four files and a folder, no temporary file left");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Files::create(&file, &()).err().unwrap();
        assert!(error.to_string().contains("file"), "{error}");
    }
}
