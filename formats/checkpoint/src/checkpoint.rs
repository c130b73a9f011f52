//! An opened checkpoint: its config, and its tensors by name.

use crate::config::Config;
use crate::dtype::Dtype;
use crate::error::{Error, Shown, excerpt};
use crate::folder::{Folder, Index};
use crate::names::Renaming;
use crate::other;
use crate::weights::{LIMIT_TENSORS, ListedTensor, View, WeightFile, too_many_tensors};
use pythia_schema::{Kind, TensorId, TensorSpec, hf};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const EMBEDDING: TensorId = TensorId::weight(Kind::TokenEmbd, None);
const HEAD: TensorId = TensorId::weight(Kind::Output, None);

/// An opened Hugging Face checkpoint: a folder, or a single weight file beside its `config.json`.
///
/// Only headers are in memory. Tensor data is read by position, from any number of threads.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    folder: PathBuf,
    config: Config,
    files: Vec<WeightFile>,
    paths: Vec<PathBuf>,
    tensors: Vec<SourceTensor>,
    by_name: HashMap<String, usize>,
    dropped: Vec<String>,
    notes: Vec<String>,
    index: Option<PathBuf>,
}

/// A tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceTensor {
    /// Its name in `GPTNeoXForCausalLM`, without prefixes of wrappers.
    pub name: String,
    /// The type of its elements as read: the stored type, except that f64 is rounded to f32.
    pub dtype: Dtype,
    /// `[rows, cols]` or `[n]`.
    pub shape: Vec<usize>,
    /// Index into [`Checkpoint::files`]; 0 for a separate [`WeightFile`].
    pub file: usize,
    /// Position of its data in that file; `None` for zeros that no file contains.
    view: Option<View>,
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

    /// Whether it is this tensor of a file, unchanged.
    pub(crate) fn is(&self, listed: &ListedTensor) -> bool {
        let is_place = |(dtype, view): &(Dtype, View)| *dtype == self.dtype && Some(view) == self.view.as_ref();
        listed.name == self.name && listed.shape == self.shape && listed.place.as_ref().is_ok_and(is_place)
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
        let n_bytes = n_rows * self.row_bytes();
        let Some(view) = &self.view else {
            out.clear();
            out.resize(n_bytes, 0);
            return Ok(());
        };
        if view.elem_bytes == self.dtype.size() {
            // At most the tensor's size, which is at most the file's. No `clear`: only growth is zeroed.
            out.resize(n_bytes, 0);
            return file.read_view(&self.name, view, first_row, out);
        }
        let mut wide = vec![0; 2 * n_bytes];
        file.read_view(&self.name, view, first_row, &mut wide)?;
        round_f64(&wide, out);
        Ok(())
    }
}

impl Checkpoint {
    /// Opens the checkpoint at `path`, a folder or one `.safetensors` or `.bin` file. Reads and checks everything but
    /// the tensor data; [`resolve`](Self::resolve) then compares the tensors with what the model needs.
    ///
    /// # Errors
    /// If a file cannot be read, is damaged, or holds something that is not supported: see [`Error`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_variant(path, None)
    }

    /// As [`open`](Self::open), with the weights of `variant`: for `fp16` those in `model.fp16.safetensors`, in
    /// `pytorch_model.fp16.bin`, or in the shards of such an index.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_variant(path: &Path, variant: Option<&str>) -> Result<Self, Error> {
        let folder = Folder::find(path, variant)?;
        let config = Config::open(&folder.config)?;
        let files = open_files(&folder.weights)?;
        let mut checkpoint = Self {
            path: path.to_owned(),
            folder: folder.path,
            config,
            files,
            paths: folder.weights,
            tensors: Vec::new(),
            by_name: HashMap::new(),
            dropped: Vec::new(),
            notes: Vec::new(),
            index: folder.index.as_ref().map(|index| index.path.clone()),
        };
        checkpoint.list_tensors(folder.index.as_ref())?;
        checkpoint.add_zero_biases()?;
        if folder.has_adapter {
            let adapter = other::ADAPTER_CONFIG;
            checkpoint
                .notes
                .push(format!("{adapter}: a LoRA adapter lies beside the weights, which are taken without it"));
        }
        // Checked before a tokenizer is padded to it, so that the file bounds the size of the vocabulary.
        checkpoint.check_vocab(&folder.config)?;
        Ok(checkpoint)
    }

    /// The path that it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its `config.json`.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The folder of its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The tensors, in the order of [`files`](Self::files) and of their data, without the dropped buffers.
    pub fn tensors(&self) -> impl Iterator<Item = &SourceTensor> {
        self.tensors.iter()
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&SourceTensor> {
        self.by_name.get(name).map(|&index| &self.tensors[index])
    }

    /// The tensor of the model, by any of its names.
    pub fn find(&self, id: TensorId) -> Option<&SourceTensor> {
        id.hf().iter().find_map(|name| self.tensor(name))
    }

    /// Names of the mask and rotary buffers that were left out.
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// Notes for the user about renamed or converted tensors, one line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The weight files, in order of name.
    pub fn files(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The index that says which of the files holds a tensor, if there is one.
    pub fn index(&self) -> Option<&Path> {
        self.index.as_deref()
    }

    /// Whether the output matrix is tied to the embedding: the config allows it, and there is no separate matrix.
    pub fn tied_head(&self) -> bool {
        self.config.tie_word_embeddings && self.find(HEAD).is_none()
    }

    /// Finds every tensor that a model needs, in the order of `wanted`. If a tensor has several possible names, only
    /// one may be present. A tied output matrix resolves to the embedding.
    ///
    /// # Errors
    /// [`Error::Mismatch`], which names each tensor that is missing, has another shape, exists under two names, or is
    /// additional.
    pub fn resolve(&self, wanted: &[TensorSpec]) -> Result<Vec<&SourceTensor>, Error> {
        let mut found = Vec::new();
        let mut problems = Vec::new();
        let mut used = vec![false; self.tensors.len()];
        for wanted in wanted {
            for name in &wanted.hf {
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

    fn resolve_one(&self, wanted: &TensorSpec) -> Result<&SourceTensor, String> {
        let mut present = wanted.hf.iter().filter_map(|name| self.tensor(name));
        let tensor = match (present.next(), present.next()) {
            (Some(tensor), None) => tensor,
            (Some(first), Some(second)) => return Err(format!("{} and {} are both present", first.name, second.name)),
            (None, _) => {
                let tied = (wanted.id == HEAD && self.tied_head()).then(|| self.find(EMBEDDING)).flatten();
                tied.ok_or_else(|| format!("{} is missing", wanted.hf.join(" or ")))?
            }
        };
        if tensor.shape != wanted.shape {
            return Err(format!("{} has shape {:?}, wanted {:?}", tensor.name, Shown(&tensor.shape), wanted.shape));
        }
        Ok(tensor)
    }

    /// Replaces `out` by `n_rows` rows of `tensor`, one of [`tensors`](Self::tensors), from `first_row` on:
    /// little-endian elements of its [`dtype`](SourceTensor::dtype). Can be called from several threads.
    ///
    /// # Errors
    /// If it is a tensor of another checkpoint or was changed, rows are missing, the file cannot be read, or a checksum
    /// of the file does not match. A checksum is complete
    /// when all of a tensor has been read, so the read of the last rows returns that error.
    pub fn read_rows(
        &self,
        tensor: &SourceTensor,
        first_row: usize,
        n_rows: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        match self.tensor(&tensor.name) {
            Some(own) if own == tensor => own.read_rows(&self.files[own.file], first_row, n_rows, out),
            _ => Err(Error::tensor(&self.path, &tensor.name, "is not a tensor of this checkpoint")),
        }
    }

    /// Collects the tensors of all files under their canonical names, and compares them with the index.
    fn list_tensors(&mut self, index: Option<&Index>) -> Result<(), Error> {
        let layout = |reason| Error::layout(&self.path, reason);
        let listed = self.files.iter().flat_map(|file| &file.tensors);
        let renaming = Renaming::new(listed.clone().map(|tensor| tensor.name.as_str())).map_err(layout)?;
        let canonical: Vec<String> = listed.map(|tensor| renaming.apply(&tensor.name)).collect();
        if let Some(sentence) = other::by_tensors(canonical.iter().map(String::as_str), &self.config) {
            return Err(layout(sentence));
        }
        self.notes.extend(renaming.note());
        let mut located: HashMap<String, usize> = HashMap::new();
        let mut canonical = canonical.into_iter();
        let mut n_rounded = 0;
        for (number, file) in self.files.iter_mut().enumerate() {
            for (tensor, name) in std::mem::take(&mut file.tensors).into_iter().zip(&mut canonical) {
                if let Some(earlier) = located.insert(tensor.name.clone(), number) {
                    let reason = format!("also in {}", self.paths[earlier].display());
                    return Err(Error::tensor(&file.path, &tensor.name, reason));
                }
                if let Some(index) = index {
                    index.check_place(&tensor.name, &file.path)?;
                }
                if hf::is_buffer(&name) {
                    self.dropped.push(name);
                    continue;
                }
                let source = source_tensor(ListedTensor { name, ..tensor }, number)
                    .map_err(|(name, reason)| Error::tensor(&file.path, &name, reason))?;
                n_rounded +=
                    usize::from(source.view.as_ref().is_some_and(|view| view.elem_bytes > source.dtype.size()));
                self.by_name.insert(source.name.clone(), self.tensors.len());
                self.tensors.push(source);
            }
        }
        if n_rounded > 0 {
            let tensors =
                if n_rounded == 1 { "1 tensor of f64 is" } else { &*format!("{n_rounded} tensors of f64 are") };
            self.notes.push(format!("{tensors} rounded to f32"));
        }
        if renaming.is_bare && !self.config.tie_word_embeddings && self.find(HEAD).is_none() {
            return Err(Error::layout(
                &self.path,
                "the weights of a bare GPTNeoXModel, without an output matrix, which Transformers would fill at random: \
                 save the GPTNeoXForCausalLM",
            ));
        }
        match index
            .and_then(|index| Some((index, index.weight_map.iter().find(|(name, _)| !located.contains_key(*name))?)))
        {
            None => Ok(()),
            Some((index, (name, file))) => {
                Err(Error::tensor(&index.place(file), name, "not in this file, where the index says it is"))
            }
        }
    }

    /// Adds zeros for the attention biases of a model without them. This is exact, and GGUF needs them.
    fn add_zero_biases(&mut self) -> Result<(), Error> {
        if self.config.attention_bias {
            return Ok(());
        }
        // Only for existing matrices, because the config alone could state any number.
        let zeros = |matrix: &SourceTensor| {
            let id = TensorId::from_hf(&matrix.name)?;
            let is_attention = matches!(id.kind, Kind::AttnQkv | Kind::AttnOutput) && id.is_matrix();
            is_attention.then(|| SourceTensor {
                name: id.bias().hf().swap_remove(0),
                dtype: Dtype::F32,
                shape: vec![matrix.n_rows()],
                file: matrix.file,
                view: None,
            })
        };
        let biases: Vec<SourceTensor> = self.tensors.iter().filter_map(zeros).collect();
        for bias in biases {
            if let Some(stored) = self.tensor(&bias.name) {
                let reason = "is there, but attention_bias is false in config.json";
                return Err(Error::tensor(&self.paths[stored.file], &bias.name, reason));
            }
            self.by_name.insert(bias.name.clone(), self.tensors.len());
            self.tensors.push(bias);
        }
        self.notes.push("attention_bias is false: the biases of attention are stored as zeros".to_owned());
        Ok(())
    }

    fn check_vocab(&self, config_path: &Path) -> Result<(), Error> {
        let (n_vocab, name) = (self.config.n_vocab, EMBEDDING.hf().swap_remove(0));
        match self.tensor(&name) {
            Some(embedding) if embedding.shape == [n_vocab, self.config.n_embd] => Ok(()),
            Some(embedding) => {
                let shape = Shown(&embedding.shape);
                let reason =
                    format!("{n_vocab}, but {name} has shape {shape:?}, wanted {:?}", [n_vocab, self.config.n_embd]);
                Err(Error::json(config_path, "vocab_size", reason))
            }
            None => Err(Error::Mismatch { path: self.path.clone(), problems: vec![format!("{name} is missing")] }),
        }
    }
}

/// Replaces `out` by little-endian f64 values rounded to f32, to the nearest as PyTorch does.
fn round_f64(wide: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend(wide.as_chunks::<8>().0.iter().flat_map(|bytes| (f64::from_le_bytes(*bytes) as f32).to_le_bytes()));
}

/// Opens weight files. They must not have too many tensors together.
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

/// A listed tensor as a source, or its name and the reason why it cannot be read.
pub(crate) fn source_tensor(tensor: ListedTensor, file: usize) -> Result<SourceTensor, (String, String)> {
    let ListedTensor { name, shape, place } = tensor;
    match place {
        Ok((dtype, view)) => Ok(SourceTensor { name, dtype, shape, file, view: Some(view) }),
        Err(reason) => Err((name, reason)),
    }
}

#[cfg(test)]
mod tests;
