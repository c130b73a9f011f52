//! A weight file of any format. Its tensors are listed and checked; rows are read by position.

mod checksum;
mod view;

pub(crate) use checksum::Checksum;
pub(crate) use view::View;

use crate::checkpoint::{SourceTensor, source_tensor};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::positioned::PositionedFile;
use crate::{safetensors_file, torch};
use pythia_text::{SNIFFED_BYTES, open_regular, placeholder};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Maximum number of tensors in a file, and in all files of a checkpoint. 12b has 544 with its buffers.
pub(crate) const LIMIT_TENSORS: usize = 1 << 16;
/// Maximum number of dimensions of a tensor. The causal mask has four.
pub(crate) const LIMIT_DIMS: usize = 8;

/// An open weight file: safetensors, or a file of `torch.save`.
///
/// Opening it reads and checks everything except the data of the tensors. That is then read by position, from any
/// number of threads. A `.bin` file is a pickle with the storages of its tensors. A small interpreter reads the pickle.
/// It can only build a state dict, executes no code, and refuses what it does not know.
///
/// ```no_run
/// use pythia_checkpoint::{WeightFile, to_f32};
///
/// let file = WeightFile::open("pytorch_model.bin".as_ref())?;
/// let (mut bytes, mut values) = (Vec::new(), Vec::new());
/// for tensor in file.tensors() {
///     let tensor = tensor?; // of a type that is read
///     file.read_rows(&tensor, 0, tensor.n_rows(), &mut bytes)?;
///     to_f32(tensor.dtype, &bytes, &mut values);
///     println!("{} {:?}: {:?} ...", tensor.name, tensor.shape, values.first());
/// }
/// # Ok::<(), pythia_checkpoint::Error>(())
/// ```
// Every view in `tensors` lies within it.
#[derive(Debug)]
pub struct WeightFile {
    pub(crate) path: PathBuf,
    /// In the order of their data.
    pub(crate) tensors: Vec<ListedTensor>,
    /// Checksums of its bytes, if the file has any. [`View`]s refer to them.
    pub(crate) checksums: Vec<Checksum>,
    pub(crate) file: PositionedFile,
}

/// A tensor in a weight file.
#[derive(Clone, Debug)]
pub(crate) struct ListedTensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// The type and position of its elements, or the reason why they cannot be read, which only matters if they are
    /// needed. Elements of 8 bytes are f64 and are rounded to f32.
    pub(crate) place: Result<(Dtype, View), String>,
}

/// An open file of which only the first bytes are known.
pub(crate) struct Opened<'a> {
    pub(crate) path: &'a Path,
    pub(crate) file: PositionedFile,
    pub(crate) n_bytes: u64,
    /// Enough to recognise a format.
    pub(crate) start: Vec<u8>,
}

impl Opened<'_> {
    /// Reads `range`. The caller has compared it with the size of the file, so memory is bounded.
    pub(crate) fn read(&self, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let n_bytes = (range.end - range.start) as usize;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(n_bytes).map_err(|_| Error::io(self.path, io::ErrorKind::OutOfMemory.into()))?;
        bytes.resize(n_bytes, 0);
        self.file.read_exact_at(&mut bytes, range.start).map_err(|e| Error::io(self.path, e))?;
        Ok(bytes)
    }
}

impl WeightFile {
    /// Opens `path` and checks everything except the data. The extension decides: `.safetensors`, otherwise PyTorch's.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or holds something that is not supported.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (file, n_bytes) = open_regular(path).map_err(Error::read(path))?;
        let mut opened = Opened { path, file: PositionedFile::new(file), n_bytes, start: Vec::new() };
        opened.start = opened.read(0..n_bytes.min(SNIFFED_BYTES))?;
        if let Some(reason) = placeholder(&opened.start) {
            return Err(Error::layout(path, reason));
        }
        let file = match path.extension() {
            Some(extension) if extension == "safetensors" => safetensors_file::open(opened),
            _ => torch::open(opened),
        }?;
        check_names(&file)?;
        Ok(file)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors in the order of their data, with their names in the file. Elements of 64 bits are read as f32.
    ///
    /// # Errors
    /// An item is an error if its elements are not floats, or have an unsupported layout.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = Result<SourceTensor, Error>> {
        let bad = |(name, reason): (String, String)| Error::tensor(&self.path, &name, reason);
        self.tensors.iter().map(move |tensor| source_tensor(tensor.clone(), 0).map_err(bad))
    }

    /// Replaces `out` by `n_rows` rows of `tensor`, one of [`tensors`](Self::tensors), from `first_row` on:
    /// little-endian elements of its [`dtype`](SourceTensor::dtype).
    ///
    /// # Errors
    /// If it is a tensor of another file or was changed, rows are missing, the file cannot be read, or its checksum does
    /// not match. The checksum is complete when all of a tensor has been read.
    pub fn read_rows(
        &self,
        tensor: &SourceTensor,
        first_row: usize,
        n_rows: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if !self.tensors.iter().any(|listed| tensor.is(listed)) {
            return Err(Error::tensor(&self.path, &tensor.name, "is not a tensor of this file"));
        }
        tensor.read_rows(self, first_row, n_rows, out)
    }

    /// Fills `out` with rows of the tensor `name` at `view`, from `first_row` on.
    pub(crate) fn read_view(&self, name: &str, view: &View, first_row: usize, out: &mut [u8]) -> Result<(), Error> {
        let io = |e| Error::io(&self.path, e);
        let damaged = |reason| Error::tensor(&self.path, name, reason);
        let checksum = view.checksum.map(|number| &self.checksums[number]);
        // If the checksum covers other bytes than the tensor, it is checked first.
        let piecewise = checksum.filter(|checksum| view.fills(checksum.range()));
        if let Some(checksum) = checksum.filter(|_| piecewise.is_none()) {
            checksum.check_all(&self.file).map_err(io)?.map_err(damaged)?;
        }
        view.read(&self.file, first_row, out).map_err(io)?;
        match piecewise {
            Some(checksum) => checksum.check(view.row_offset(first_row), out).map_err(damaged),
            None => Ok(()),
        }
    }
}

/// Refuses names that are not plain ASCII. No tensor of a GPT-NeoX model has one, and two names could look alike, such
/// as the composed and the decomposed form of a text.
fn check_names(file: &WeightFile) -> Result<(), Error> {
    let plain = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    match file.tensors.iter().find(|tensor| !plain(&tensor.name)) {
        Some(tensor) => Err(Error::tensor(&file.path, &tensor.name, "its name is not plain ASCII without spaces")),
        None => Ok(()),
    }
}

/// The message for more than [`LIMIT_TENSORS`] tensors.
pub(crate) fn too_many_tensors() -> String {
    format!("more than {LIMIT_TENSORS} tensors")
}
