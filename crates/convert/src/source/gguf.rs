//! A GGUF file as a source: of this project or of llama.cpp, in any type that can be decoded.

use super::{Source, SourceTensor};
use crate::{Error, GgufFile, Provenance};
use pythia_gguf::{Metadata, keys};
use pythia_schema::{Hparams, TensorSpec};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A GGUF model of architecture `gptneox`, in one file or several, its header read and checked.
#[derive(Debug)]
pub struct GgufSource {
    file: GgufFile,
    hparams: Hparams,
}

impl GgufSource {
    /// Opens the file at `path`, the first one of a split model.
    ///
    /// # Errors
    /// If it cannot be read, is damaged or cut off, or is not a whole model of this architecture.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = GgufFile::open(path)?;
        let malformed = |source| Error::Input { path: path.to_owned(), source };
        let hparams = Hparams::from_metadata(&file.gguf().metadata).map_err(malformed)?;
        pythia_schema::bind(&hparams, file.gguf()).map_err(malformed)?;
        Ok(Self { file, hparams })
    }
}

impl Source for GgufSource {
    fn hparams(&self) -> Hparams {
        self.hparams.clone()
    }

    fn resolve(&self, specs: &[TensorSpec]) -> Result<Vec<SourceTensor>, Error> {
        let tensor = |spec: &TensorSpec| {
            let known = self.file.gguf().tensor(&spec.gguf).and_then(|info| info.ty.known());
            let ty = known.ok_or_else(|| Error::tensor(&spec.gguf, "is not in the file"))?;
            // `bind` has compared the shapes, and the reader the rows with the blocks.
            Ok(SourceTensor { name: spec.gguf.clone(), ty, shape: spec.shape.clone(), order: None })
        };
        specs.iter().map(tensor).collect()
    }

    /// What the file says itself: it knows better than the name of its folder.
    fn metadata(&self, _provenance: &Provenance) -> Result<Metadata, Error> {
        Ok(self.file.gguf().metadata.clone())
    }

    fn inputs(&self) -> Vec<PathBuf> {
        self.file.paths()
    }

    fn warnings(&self) -> Vec<String> {
        let no_tokenizer = self.file.gguf().metadata.get(keys::TOKENS).is_none();
        let path = self.file.path().display();
        let warning = || format!("{path}: no tokenizer in the file, so llama.cpp cannot load files made from it");
        no_tokenizer.then(warning).into_iter().collect()
    }

    fn read_rows(&self, tensor: &SourceTensor, rows: Range<usize>, out: &mut Vec<u8>) -> Result<(), Error> {
        let info = self.file.gguf().tensor(&tensor.name).filter(|_| rows.end <= tensor.n_rows());
        let info = info.ok_or_else(|| Error::tensor(&tensor.name, format!("rows {rows:?} are not in the file")))?;
        let at = |row: usize| info.offset + row as u64 * tensor.row_bytes() as u64;
        self.file.read(info, at(rows.start)..at(rows.end), out)
    }
}
