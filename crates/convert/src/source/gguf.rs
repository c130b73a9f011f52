//! A GGUF file of this project or of llama.cpp as a source, in any type that can be decoded.

use super::{Source, SourceTensor};
use crate::{Error, GgufFile, Provenance};
use pythia_gguf::{FileType, Metadata, keys, shard_prefix};
use pythia_schema::{Hparams, TensorSpec};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A GGUF model of architecture `gptneox`, in one or several files, with a checked header.
#[derive(Debug)]
pub struct GgufSource {
    file: GgufFile,
    hparams: Hparams,
}

impl GgufSource {
    /// Opens the file at `path`, or a split model by its first file.
    ///
    /// # Errors
    /// If it cannot be read, is damaged or truncated, or is not a complete model of this architecture.
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

    /// Metadata from the file itself, not from its name or folder.
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

/// The name of a file without its ending and its type: `pythia-70m` of `pythia-70m-F16.gguf`; and without its number, if
/// it is one of several.
pub fn model_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = match shard_prefix(&name) {
        Some(prefix) => prefix.into(),
        None => path.file_stem().unwrap_or_default().to_string_lossy(),
    };
    let is_type = |end: &str| FileType::ALL.iter().any(|ty| ty.name().eq_ignore_ascii_case(end));
    match stem.rsplit_once(['-', '.']) {
        Some((name, end)) if !name.is_empty() && is_type(end) => name.to_owned(),
        _ => stem.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_type() {
        for (path, name) in [
            ("a/pythia-70m-F16.gguf", "pythia-70m"),
            ("pythia-70m.bf16.gguf", "pythia-70m"),
            ("pythia-70m.gguf", "pythia-70m"),
            ("F16.gguf", "F16"),
            ("-F16.gguf", "-F16"),
            ("pythia-1.4b-Q4_K_M.gguf", "pythia-1.4b"),
            ("a/pythia-12b-F16-00001-of-00003.gguf", "pythia-12b"),
        ] {
            assert_eq!(model_name(Path::new(path)), name);
        }
    }
}
