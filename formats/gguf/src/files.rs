//! Opens the file or files of a model by the path of the first.

use crate::error::Error;
use crate::read::Gguf;
use crate::split::{Merge, missing};
use pythia_tensor::FileMap;
use std::io;
use std::path::{Path, PathBuf};

/// A file of a model. Its tensors are described in the header of the model.
#[derive(Debug)]
#[non_exhaustive]
pub struct ModelFile {
    /// Where it is.
    pub path: PathBuf,
    /// All of its bytes. Those beyond the header have not been touched.
    pub map: FileMap,
    /// Alignment of its tensors in bytes.
    pub alignment: u64,
    /// Where its tensors start; may lie past the end of a file without any.
    pub data_offset: u64,
}

/// Why a model cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The operating system refused a file.
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A file is not a GGUF file, or does not fit the others.
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Error,
    },
}

/// Opens the model whose first or only file is `path`. The other files of a [split](Merge) model are found beside it by
/// their names. Tensors have the number of their file.
///
/// # Errors
/// If a file cannot be read or is not GGUF, or the files do not fit each other.
pub fn open(path: &Path) -> Result<(Gguf, Vec<ModelFile>), OpenError> {
    let malformed = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Malformed { path, source }
    };
    let (file, header) = open_one(path)?;
    let mut files = vec![file];
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut merge = Merge::new(header, &name).map_err(malformed(path))?;
    while let Some(name) = merge.next_name() {
        let part = path.with_file_name(&name);
        let (file, header) = open_one(&part).map_err(|error| match error {
            // The model is incomplete, whichever part it is that the system does not find.
            OpenError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                OpenError::Malformed { path: path.to_owned(), source: missing(merge.n_files(), &name) }
            }
            error => error,
        })?;
        merge.add(header).map_err(malformed(&part))?;
        files.push(file);
    }
    Ok((merge.finish().map_err(malformed(path))?, files))
}

fn open_one(path: &Path) -> Result<(ModelFile, Gguf), OpenError> {
    let map = FileMap::open(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let header = Gguf::parse(&map).map_err(|source| OpenError::Malformed { path: path.to_owned(), source })?;
    let (alignment, data_offset) = (header.alignment, header.data_offset);
    Ok((ModelFile { path: path.to_owned(), map, alignment, data_offset }, header))
}
