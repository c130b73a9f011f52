//! Which files a conversion writes.

use crate::{Error, Level};
use std::path::{Path, PathBuf};

/// The file of each type.
#[derive(Debug)]
pub struct Targets {
    /// By level.
    pub files: Vec<(Level, PathBuf)>,
    /// The folder that holds them, if a folder was named. Created if it does not exist.
    pub folder: Option<PathBuf>,
}

impl Targets {
    /// `output` is a folder if it exists as one, ends in a separator, or has to hold several files; otherwise a file.
    /// In a folder, files are named `NAME-TYPE.gguf`. Without `output` it is the current folder.
    ///
    /// # Errors
    /// If a folder is needed, and `output` cannot be one.
    pub fn new(output: Option<&Path>, name: &str, levels: &[Level]) -> Result<Self, Error> {
        let is_folder = |output: &Path| {
            let written_as_folder = output.as_os_str().to_string_lossy().ends_with(std::path::is_separator);
            levels.len() > 1 || output.is_dir() || written_as_folder
        };
        let file = |level: &Level| match output {
            None => format!("{name}-{level}.gguf").into(),
            Some(output) if is_folder(output) => output.join(format!("{name}-{level}.gguf")),
            Some(output) => output.to_owned(),
        };
        let files = levels.iter().map(|level| (*level, file(level))).collect();
        let folder = output.filter(|output| is_folder(output)).map(Path::to_owned);
        match &folder {
            Some(path) if !path.is_dir() && (path.exists() || path.extension().is_some_and(|e| e == "gguf")) => {
                let path = path.display();
                Err(Error::Request(format!("{path}: not a folder; several types need a folder")))
            }
            _ => Ok(Self { files, folder }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_told_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let files = |output: Option<&Path>, levels: &[Level]| {
            Targets::new(output, "m", levels).map(|targets| (targets.files, targets.folder)).map_err(|e| e.to_string())
        };
        let (one, two) = ([Level::Q8_0], [Level::Q8_0, Level::Q4_0]);
        assert_eq!(files(None, &one), Ok((vec![(Level::Q8_0, "m-Q8_0.gguf".into())], None)));
        assert_eq!(files(Some(&at("x.gguf")), &one), Ok((vec![(Level::Q8_0, at("x.gguf"))], None)));
        assert_eq!(
            files(Some(dir.path()), &one),
            Ok((vec![(Level::Q8_0, at("m-Q8_0.gguf"))], Some(dir.path().to_owned())))
        );
        assert_eq!(files(Some(&at("new/")), &one).unwrap().0[0].1, at("new/m-Q8_0.gguf"));
        assert_eq!(files(Some(&at("new")), &two).unwrap().0[1].1, at("new/m-Q4_0.gguf"));
        assert!(files(Some(&at("x.gguf")), &two).unwrap_err().ends_with("several types need a folder"));
    }
}
