//! An importance matrix file, and its importances for the tensors of a model.

use crate::Error;
use crate::provenance::base_name;
use pythia_gguf::Imatrix;
use pythia_schema::{Kind, TensorSpec};
use pythia_tensor::{FileMap, TensorType};
use pythia_text::hex;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Number of tensors that a warning names. The others are counted.
const LISTED: usize = 3;

/// An importance matrix with its file: for every column of the weight matrices, the mean squared input while the model
/// read a text.
#[derive(Clone, Debug)]
pub struct ImatrixFile {
    path: PathBuf,
    sha256: String,
    imatrix: Imatrix,
}

impl ImatrixFile {
    /// Reads the file at `path`, in either form of llama.cpp.
    ///
    /// # Errors
    /// If it cannot be read, is damaged or is not an importance matrix.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = FileMap::open(path).map_err(Error::io(path, "open"))?;
        let imatrix = Imatrix::parse(&bytes).map_err(|e| Error::Input { path: path.to_owned(), source: e })?;
        Ok(Self { path: path.to_owned(), sha256: hex(&Sha256::digest(&*bytes)), imatrix })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its base name, because the rest of the path means nothing on other machines.
    pub fn file_name(&self) -> String {
        base_name(&self.path)
    }

    /// SHA-256 of the file, hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Base name of the first text that it was collected on, if stated.
    pub fn dataset(&self) -> Option<&str> {
        // The file may come from any system, so both separators count.
        self.imatrix.datasets.first().and_then(|path| path.rsplit(['/', '\\']).next()).filter(|name| !name.is_empty())
    }

    /// Its content.
    pub fn imatrix(&self) -> &Imatrix {
        &self.imatrix
    }

    /// The importance of the columns of each of `specs`; `None` for a vector, and for a matrix without an entry.
    ///
    /// # Errors
    /// If an entry has another number of values than the matrix has columns.
    pub(crate) fn importance(&self, specs: &[TensorSpec]) -> Result<Vec<Option<Vec<f32>>>, Error> {
        let of_tensor = |spec: &TensorSpec| match spec.shape[..] {
            [_, cols] => self.imatrix.importance(&spec.gguf, cols),
            _ => Ok(None),
        };
        let all = specs.iter().map(of_tensor).collect::<Result<_, _>>();
        all.map_err(|e| Error::Input { path: self.path.clone(), source: e })
    }

    /// Warnings about mismatches with the matrices in `specs`. `needed` says for each whether it is encoded in a type
    /// that uses importances.
    pub(crate) fn warnings(&self, specs: &[TensorSpec], needed: &[bool]) -> Vec<String> {
        let has_entry = |spec: &TensorSpec| self.imatrix.entry(&spec.gguf).is_some();
        // The embedding is looked up and not multiplied, so no file has an entry for it.
        let without = specs.iter().zip(needed).filter(|(spec, needed)| {
            **needed && spec.id.kind != Kind::TokenEmbd && spec.id.is_matrix() && !has_entry(spec)
        });
        let without: Vec<&str> = without.map(|(spec, _)| spec.gguf.as_str()).collect();
        let names = self.imatrix.entries.iter().map(|entry| entry.name());
        // A file may have any number of entries.
        let matrices = specs.iter().filter(|spec| spec.id.is_matrix());
        let known: HashSet<&str> = matrices.map(|spec| spec.gguf.as_str()).collect();
        let unknown: Vec<&str> = names.filter(|name| !known.contains(name)).collect();

        let mut lines = self.imatrix.warnings();
        if !without.is_empty() {
            lines.push(format!("no importance for {}, encoded without it", listed(&without)));
        }
        if !unknown.is_empty() {
            lines.push(format!("ignoring entries for tensors that the model does not have: {}", listed(&unknown)));
        }
        let path = self.path.display();
        lines.into_iter().map(|line| format!("{path}: {line}")).collect()
    }
}

/// The first names and how many more there are.
fn listed(names: &[&str]) -> String {
    // Names come from a file: Debug keeps control characters out of the terminal.
    let first = names.iter().take(LISTED).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Whether encoders of this type use importances. Floats and Q8_0 do not.
pub(crate) fn is_used_by(ty: TensorType) -> bool {
    ty.is_quantized() && ty != TensorType::Q8_0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_counted() {
        assert_eq!(listed(&["a", "b\n", "c"]), r#""a", "b\n", "c""#);
        assert_eq!(listed(&["a", "b", "c", "d", "e"]), r#""a", "b", "c" and 2 more"#);
    }
}
