//! A GGUF model of any architecture, opened for reading its tensors.

use crate::Error;
use pythia_checkpoint::PositionedFile;
use pythia_gguf::{Gguf, TensorInfo};
use pythia_tensor::TensorType;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A GGUF model in one or several files, with its header. The rest is read by position and not mapped, because touched
/// pages of a map count as memory of the process, and a truncated file would raise a signal instead of an error.
#[derive(Debug)]
pub struct GgufFile {
    gguf: Gguf,
    /// In the order of the tensors' file numbers; never empty.
    parts: Vec<Part>,
}

/// One file of it.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    file: PositionedFile,
    n_bytes: u64,
    pub(crate) alignment: u64,
    /// Start of its tensors.
    pub(crate) data_offset: u64,
}

impl Part {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
}

impl GgufFile {
    /// Opens `path` and reads its header, and those of the other files if it is the first of a split model.
    ///
    /// # Errors
    /// If a file cannot be read or is not GGUF, or the files do not fit each other.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (gguf, files) = pythia_gguf::open(path)?;
        let part = |file: pythia_gguf::ModelFile| {
            let opened = File::open(&file.path).map_err(Error::io(&file.path, "open"))?;
            Ok(Part {
                file: PositionedFile::new(opened),
                n_bytes: file.map.len() as u64,
                alignment: file.alignment,
                data_offset: file.data_offset,
                path: file.path,
            })
        };
        Ok(Self { gguf, parts: files.into_iter().map(part).collect::<Result<_, Error>>()? })
    }

    /// The path that it was opened with.
    pub fn path(&self) -> &Path {
        &self.parts[0].path
    }

    /// Its files. Tensors refer to them by number.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.parts.iter().map(|part| part.path.clone()).collect()
    }

    /// Its header.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The size of all files.
    pub fn n_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.n_bytes).sum()
    }

    /// Bytes of all tensors.
    pub fn tensor_bytes(&self) -> u64 {
        self.gguf.tensors().iter().map(|tensor| tensor.n_bytes).sum()
    }

    /// Replaces `out` by the bytes `range` of the file that `tensor` is in.
    pub(crate) fn read(&self, tensor: &TensorInfo, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), Error> {
        let part = &self.parts[tensor.file];
        // Without `clear`: only growth is zeroed.
        out.resize((range.end - range.start) as usize, 0);
        part.file.read_exact_at(out, range.start).map_err(Error::io(&part.path, "read"))
    }
}

/// Byte range, in its file, of elements of `tensor` that begin and end at block boundaries.
pub(crate) fn byte_range(tensor: &TensorInfo, elems: &Range<u64>) -> Range<u64> {
    let (block_elems, block_bytes) = (tensor.ty.block_elems() as u64, tensor.ty.block_bytes() as u64);
    let at = |elem: u64| tensor.offset + elem / block_elems * block_bytes;
    at(elems.start)..at(elems.end)
}

/// The largest magnitude in `values`. Not finite if any of them is not.
pub(crate) fn largest_magnitude(values: &[f32]) -> f32 {
    // The bits of magnitudes are ordered like integers, with infinities and NaN on top, so one vector maximum is
    // enough.
    f32::from_bits(values.iter().fold(0, |max: u32, value| max.max(value.to_bits() & 0x7fff_ffff)))
}

/// Some elements of a tensor, stored and decoded. Reused from chunk to chunk.
#[derive(Debug, Default)]
pub(crate) struct Elems {
    pub(crate) bytes: Vec<u8>,
    pub(crate) values: Vec<f32>,
}

impl Elems {
    /// Reads and decodes elements of `tensor`, which is of type `ty`, that begin and end with a block.
    pub(crate) fn read(
        &mut self,
        file: &GgufFile,
        tensor: &TensorInfo,
        ty: TensorType,
        elems: &Range<u64>,
    ) -> Result<(), Error> {
        file.read(tensor, byte_range(tensor, elems), &mut self.bytes)?;
        self.decode(ty, (elems.end - elems.start) as usize);
        Ok(())
    }

    /// Decodes the bytes, which are `n_elems` of type `ty`.
    pub(crate) fn decode(&mut self, ty: TensorType, n_elems: usize) {
        self.values.resize(n_elems, 0.0);
        ty.decode(&self.bytes, &mut self.values);
    }
}
