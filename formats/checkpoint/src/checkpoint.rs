//! A checkpoint opened: its config, its tokenizer, its tensors by name.

use crate::config::Config;
use crate::dtype::Dtype;
use crate::error::{Error, Shown, excerpt};
use crate::folder::{Folder, Index};
use crate::tokenizer::TokenizerFile;
use crate::weights::{LIMIT_TENSORS, ListedTensor, View, WeightFile, too_many_tensors};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The embedding: `[n_vocab, n_embd]`.
pub(crate) const EMBEDDING: &str = "gpt_neox.embed_in.weight";
/// The output matrix, as Transformers 4 and 5 name it.
pub(crate) const HEADS: [&str; 2] = ["embed_out.weight", "lm_head.weight"];
/// Ends of the names of constant buffers that older versions of Transformers saved along: the causal mask, its fill
/// value, the rotary frequencies. All follow from the config.
pub(crate) const BUFFERS: [&str; 3] = [".attention.bias", ".attention.masked_bias", "rotary_emb.inv_freq"];

/// An opened Hugging Face checkpoint: a folder, or a single weight file beside its `config.json`.
///
/// Only headers are in memory. Tensor data is read by position, from any number of threads.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    config: Config,
    tokenizer: Option<TokenizerFile>,
    files: Vec<WeightFile>,
    paths: Vec<PathBuf>,
    tensors: Vec<SourceTensor>,
    by_name: HashMap<String, usize>,
    dropped: Vec<String>,
}

/// A tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTensor {
    /// Its name in the file.
    pub name: String,
    /// How its elements are stored.
    pub dtype: Dtype,
    /// `[rows, cols]` or `[n]`.
    pub shape: Vec<usize>,
    /// Which of [`Checkpoint::files`] holds it.
    pub file: usize,
    /// Where its data lies in that file.
    view: View,
}

impl SourceTensor {
    /// Elements of one row: the last dimension. A vector is one row.
    pub fn row_elems(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows: the product of all dimensions but the last.
    pub fn n_rows(&self) -> usize {
        // Opening the file has checked that the product of all dimensions fits, unless one of them is 0.
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().fold(1, |n, &dim| n.saturating_mul(dim)))
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.row_elems().saturating_mul(self.dtype.size())
    }

    /// Bytes of the whole tensor.
    pub fn n_bytes(&self) -> u64 {
        self.n_rows() as u64 * self.row_bytes() as u64
    }

    /// Replaces `out` by rows of it, from the file it is in.
    pub(crate) fn read_rows(
        &self,
        file: &WeightFile,
        first_row: usize,
        n_rows: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if first_row.checked_add(n_rows).is_none_or(|end| end > self.n_rows()) {
            let reason = format!("rows {first_row} + {n_rows} of {}", self.n_rows());
            return Err(Error::tensor(&file.path, &self.name, reason));
        }
        // Both products are at most the tensor's size, which is at most the file's. No `clear`: only growth is zeroed.
        out.resize(n_rows * self.row_bytes(), 0);
        file.read_rows(&self.name, &self.view, first_row, out)
    }
}

/// A tensor that a model needs, for [`Checkpoint::resolve`].
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The names it may have, the usual one first. Only one of them may be present.
    pub names: &'a [String],
    /// The shape the config gives it: `[rows, cols]` or `[n]`.
    pub shape: &'a [usize],
}

impl Checkpoint {
    /// Opens the checkpoint at `path`, a folder or one `.safetensors` or `.bin` file. Reads and checks everything but the
    /// tensor data; [`resolve`](Self::resolve) then compares the tensors with what the model needs.
    ///
    /// # Errors
    /// If a file cannot be read, is damaged, or holds something that is not supported: see [`Error`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let folder = Folder::find(path)?;
        let config = Config::open(&folder.config)?;
        let files = open_files(&folder.weights)?;
        let mut checkpoint = Self {
            path: path.to_owned(),
            config,
            tokenizer: None,
            files,
            paths: folder.weights,
            tensors: Vec::new(),
            by_name: HashMap::new(),
            dropped: Vec::new(),
        };
        checkpoint.list_tensors(folder.index.as_ref())?;
        // Before the tokenizer is padded to it: the file then bounds the size of the vocabulary.
        checkpoint.check_vocab(&folder.config)?;
        if folder.tokenizer.exists() {
            let tokenizer = TokenizerFile::open(&folder.tokenizer, &folder.tokenizer_config, &checkpoint.config)?;
            checkpoint.tokenizer = Some(tokenizer);
        }
        Ok(checkpoint)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its `config.json`.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its `tokenizer.json`, if it has one.
    pub fn tokenizer(&self) -> Option<&TokenizerFile> {
        self.tokenizer.as_ref()
    }

    /// The tensors, in the order of [`files`](Self::files) and of their data, without the dropped buffers.
    pub fn tensors(&self) -> impl Iterator<Item = &SourceTensor> {
        self.tensors.iter()
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&SourceTensor> {
        self.by_name.get(name).map(|&index| &self.tensors[index])
    }

    /// Names of the mask and rotary buffers that were left out.
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// The weight files, in order of name.
    pub fn files(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Whether the output matrix is the embedding: the config allows it and there is no matrix of its own.
    pub fn tied_head(&self) -> bool {
        self.config.tie_word_embeddings && HEADS.iter().all(|name| self.tensor(name).is_none())
    }

    /// Finds every wanted tensor, in the order wanted. A tied output matrix resolves to the embedding.
    ///
    /// # Errors
    /// [`Error::Mismatch`] that names each tensor which is missing, has another shape, is there under two names, or
    /// is not wanted at all.
    pub fn resolve<'a>(&self, wanted: impl IntoIterator<Item = Wanted<'a>>) -> Result<Vec<&SourceTensor>, Error> {
        let mut found = Vec::new();
        let mut problems = Vec::new();
        let mut used = vec![false; self.tensors.len()];
        for wanted in wanted {
            for name in wanted.names {
                if let Some(&index) = self.by_name.get(name) {
                    used[index] = true;
                }
            }
            match self.resolve_one(wanted) {
                Ok(tensor) => found.push(tensor),
                Err(problem) => problems.push(problem),
            }
        }
        let unexpected = self.tensors.iter().zip(used).filter(|(_, used)| !used);
        problems.extend(unexpected.map(|(tensor, _)| format!("{} is not expected", excerpt(&tensor.name))));
        if problems.is_empty() { Ok(found) } else { Err(Error::Mismatch { path: self.path.clone(), problems }) }
    }

    fn resolve_one(&self, wanted: Wanted<'_>) -> Result<&SourceTensor, String> {
        let mut present = wanted.names.iter().filter_map(|name| self.tensor(name));
        let tensor = match (present.next(), present.next()) {
            (Some(tensor), None) => tensor,
            (Some(first), Some(second)) => return Err(format!("{} and {} are both present", first.name, second.name)),
            (None, _) => {
                let is_head = wanted.names.iter().any(|name| HEADS.contains(&name.as_str()));
                let tied = (is_head && self.tied_head()).then(|| self.tensor(EMBEDDING)).flatten();
                tied.ok_or_else(|| format!("{} is missing", wanted.names.join(" or ")))?
            }
        };
        if tensor.shape != wanted.shape {
            return Err(format!("{} has shape {:?}, wanted {:?}", tensor.name, Shown(&tensor.shape), wanted.shape));
        }
        Ok(tensor)
    }

    /// Replaces `out` by `n_rows` rows of `tensor` from `first_row` on, little-endian elements of its
    /// [`dtype`](SourceTensor::dtype). Safe to call from many threads.
    ///
    /// # Errors
    /// If the rows are not all there, the file cannot be read (any more), or it has a checksum that the bytes do not
    /// fit. That is known once all of a tensor has been read, so the last rows to be read bring that error.
    pub fn read_rows(
        &self,
        tensor: &SourceTensor,
        first_row: usize,
        n_rows: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let Some(file) = self.files.get(tensor.file) else {
            return Err(Error::tensor(&self.path, &tensor.name, format!("no weight file {}", tensor.file)));
        };
        tensor.read_rows(file, first_row, n_rows, out)
    }

    /// Enters the tensors of all files, and compares them with the index.
    fn list_tensors(&mut self, index: Option<&Index>) -> Result<(), Error> {
        let mut located: HashMap<String, usize> = HashMap::new();
        for (number, file) in self.files.iter_mut().enumerate() {
            for tensor in std::mem::take(&mut file.tensors) {
                if let Some(earlier) = located.insert(tensor.name.clone(), number) {
                    let reason = format!("also in {}", self.paths[earlier].display());
                    return Err(Error::tensor(&file.path, &tensor.name, reason));
                }
                if let Some(index) = index {
                    index.check_place(&tensor.name, &file.path)?;
                }
                if BUFFERS.iter().any(|end| tensor.name.ends_with(end)) {
                    self.dropped.push(tensor.name);
                    continue;
                }
                let source =
                    source_tensor(tensor, number).map_err(|(name, reason)| Error::tensor(&file.path, &name, reason))?;
                self.by_name.insert(source.name.clone(), self.tensors.len());
                self.tensors.push(source);
            }
        }
        match index.and_then(|index| index.weight_map.iter().find(|(name, _)| !located.contains_key(*name))) {
            None => Ok(()),
            Some((name, file)) => {
                let path = self.paths.iter().find(|path| path.file_name().is_some_and(|f| f == file.as_str()));
                Err(Error::tensor(path.unwrap_or(&self.path), name, "not in this file, where the index says it is"))
            }
        }
    }

    fn check_vocab(&self, config_path: &Path) -> Result<(), Error> {
        let n_vocab = self.config.n_vocab;
        match self.tensor(EMBEDDING) {
            Some(embedding) if embedding.shape == [n_vocab, self.config.n_embd] => Ok(()),
            Some(embedding) => {
                let shape = Shown(&embedding.shape);
                let reason = format!(
                    "{n_vocab}, but {EMBEDDING} has shape {shape:?}, wanted {:?}",
                    [n_vocab, self.config.n_embd]
                );
                Err(Error::json(config_path, "vocab_size", reason))
            }
            None => Err(Error::Mismatch { path: self.path.clone(), problems: vec![format!("{EMBEDDING} is missing")] }),
        }
    }
}

/// Opens weight files, as long as they do not list too many tensors together.
fn open_files(paths: &[PathBuf]) -> Result<Vec<WeightFile>, Error> {
    let mut files: Vec<WeightFile> = Vec::new();
    let mut n_tensors = 0;
    for path in paths {
        let file = WeightFile::open(path)?;
        n_tensors += file.tensors.len();
        if n_tensors > LIMIT_TENSORS {
            return Err(Error::layout(path, format!("with the files before, {}", too_many_tensors())));
        }
        files.push(file);
    }
    Ok(files)
}

/// A listed tensor as a source, or its name and why not.
pub(crate) fn source_tensor(tensor: ListedTensor, file: usize) -> Result<SourceTensor, (String, String)> {
    let ListedTensor { name, shape, place } = tensor;
    match place {
        Ok((dtype, view)) => Ok(SourceTensor { name, dtype, shape, file, view }),
        Err(reason) => Err((name, reason)),
    }
}

#[cfg(test)]
mod tests;
