//! A GGUF model of any architecture, opened for reading its tensors.

use crate::Error;
use pythia_checkpoint::PositionedFile;
use pythia_gguf::{Gguf, TensorInfo};
use pythia_tensor::TensorType;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A GGUF model in one file, or split over several, and its header. The rest is read by position rather than mapped: what
/// a map has touched counts as memory of the process, and a file cut off meanwhile is an error rather than a signal.
#[derive(Debug)]
pub struct GgufFile {
    gguf: Gguf,
    /// In the order that tensors count them in; never empty.
    parts: Vec<Part>,
}

/// One file of it.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    file: PositionedFile,
    n_bytes: u64,
    pub(crate) alignment: u64,
    /// Where its tensors start.
    pub(crate) data_offset: u64,
}

impl Part {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
}

impl GgufFile {
    /// Opens `path` and reads its header; those of the other files too, if it is the first of a split model.
    ///
    /// # Errors
    /// If a file cannot be read or is no GGUF file, or the files do not fit each other.
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

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.parts[0].path
    }

    /// The files it consists of: those that its tensors name by number.
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

    /// Its size: that of all files.
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

/// Where elements that begin and end with a block of `tensor` are stored, in bytes from the start of its file.
pub(crate) fn byte_range(tensor: &TensorInfo, elems: &Range<u64>) -> Range<u64> {
    let (block_elems, block_bytes) = (tensor.ty.block_elems() as u64, tensor.ty.block_bytes() as u64);
    let at = |elem: u64| tensor.offset + elem / block_elems * block_bytes;
    at(elems.start)..at(elems.end)
}

/// The largest magnitude among `values`; not finite if any of them is not.
pub(crate) fn largest_magnitude(values: &[f32]) -> f32 {
    // Bits of the magnitude order as integers do, with infinities and NaNs on top: one vector maximum answers both.
    f32::from_bits(values.iter().fold(0, |max: u32, value| max.max(value.to_bits() & 0x7fff_ffff)))
}

/// Some elements of a tensor, as they are stored and decoded. Reused from chunk to chunk.
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
