//! The writer: a header and a plan of the data, for the caller to stream.

use crate::error::Error;
use crate::metadata::Metadata;
use crate::read::{Gguf, index_by_name};
use crate::rules::{self, MAGIC, VERSION};
use crate::tensor::{AnyType, TensorInfo};
use crate::value::{Array, Value, for_each_number};
use byteorder::{ByteOrder, LE};
use pythia_tensor::TensorType;

/// The layout of a file to write.
///
/// The file is [`header`](Self::header), then each of [`tensors`](Self::tensors) at its offset, with zeros between
/// and after them up to [`total_bytes`](Self::total_bytes).
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    header: Vec<u8>,
    tensors: Vec<TensorInfo>,
    total_bytes: u64,
    alignment: u64,
}

impl Layout {
    /// Plans a version 3 file. `tensors` are name, type and dimensions, the row length first, in file order.
    ///
    /// Data is aligned to 32 bytes, or to `general.alignment` if the metadata has it.
    ///
    /// # Errors
    /// If a key, a name, a shape or the alignment breaks a rule of the format: what this accepts,
    /// [`Gguf::parse`](crate::Gguf::parse) reads back.
    pub fn new(metadata: &Metadata, tensors: Vec<(String, TensorType, Vec<u64>)>) -> Result<Self, Error> {
        Self::of(metadata, tensors.into_iter().map(|(name, ty, dims)| (name, ty.into(), dims)))
    }

    /// As [`new`](Self::new), of any types.
    pub(crate) fn of(
        metadata: &Metadata,
        tensors: impl IntoIterator<Item = (String, AnyType, Vec<u64>)>,
    ) -> Result<Self, Error> {
        let layout = Self::unchecked(metadata, tensors)?;
        // Checked by reading the header, so that the limits are only in the reader. This takes some milliseconds.
        Gguf::parse_header(&layout.header, layout.total_bytes)?;
        Ok(layout)
    }

    fn unchecked(
        metadata: &Metadata,
        tensors: impl IntoIterator<Item = (String, AnyType, Vec<u64>)>,
    ) -> Result<Self, Error> {
        let alignment = rules::alignment(metadata)?;
        let (mut tensors, data_bytes) = plan(tensors, alignment)?;
        index_by_name(&tensors)?;

        let mut header = preamble(metadata, tensors.len())?;
        for t in &tensors {
            put_tensor(&mut header, t);
        }
        header.resize(header.len().next_multiple_of(alignment as usize), 0);

        let data_offset = header.len() as u64;
        let total_bytes = data_offset.checked_add(data_bytes);
        let total_bytes = total_bytes.ok_or_else(|| Error::header("2^64 bytes of tensors", "a smaller file"))?;
        for t in &mut tensors {
            t.offset += data_offset;
        }
        Ok(Self { header, tensors, total_bytes, alignment })
    }

    /// The first bytes of the file, from the magic to the padding before the data.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// The tensors in file order, with offsets from the start of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Every tensor begins at a multiple of this many bytes.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Length of the whole file, padding after the last tensor included.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }
}

/// The header up to the table of tensors. Its length does not depend on their number.
pub(crate) fn preamble(metadata: &Metadata, n_tensors: usize) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    put_u32(&mut out, VERSION);
    put_u64(&mut out, n_tensors as u64);
    put_u64(&mut out, metadata.len() as u64);
    for (key, value) in metadata.iter() {
        rules::check_key(key)?;
        put_string(&mut out, key);
        put_u32(&mut out, value.type_id());
        put_value(&mut out, value);
    }
    Ok(out)
}

/// Entries with offsets relative to the data, and the bytes of the data.
fn plan(
    tensors: impl IntoIterator<Item = (String, AnyType, Vec<u64>)>,
    alignment: u64,
) -> Result<(Vec<TensorInfo>, u64), Error> {
    let mut infos = Vec::new();
    let mut offset = 0u64;
    for (name, ty, dims) in tensors {
        rules::check_tensor_name(&name)?;
        let n_bytes = rules::tensor_bytes(&name, ty, &dims)?;
        let end = offset.checked_add(n_bytes).and_then(|end| rules::pad(end, alignment));
        let end = end.ok_or_else(|| Error::tensor(&name, "an end past 2^64 bytes", "a smaller file"))?;
        infos.push(TensorInfo { name, ty, dims, file: 0, offset, n_bytes });
        offset = end;
    }
    Ok((infos, offset))
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    let mut bytes = [0; 4];
    LE::write_u32(&mut bytes, value);
    out.extend_from_slice(&bytes);
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; 8];
    LE::write_u64(&mut bytes, value);
    out.extend_from_slice(&bytes);
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    put_u64(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn put_tensor(out: &mut Vec<u8>, t: &TensorInfo) {
    put_string(out, &t.name);
    put_u32(out, t.dims.len() as u32); // at most 4
    for &extent in &t.dims {
        put_u64(out, extent);
    }
    put_u32(out, t.ty.id());
    put_u64(out, t.offset);
}

macro_rules! define_value_writers {
    ($(($variant:ident, $t:ident, $id:literal),)*) => {
        fn put_value(out: &mut Vec<u8>, value: &Value) {
            match value {
                $(Value::$variant(v) => out.extend_from_slice(&v.to_le_bytes()),)*
                Value::Bool(v) => out.push((*v).into()),
                Value::String(v) => put_string(out, v),
                Value::Array(v) => put_array(out, v),
            }
        }

        fn put_array(out: &mut Vec<u8>, array: &Array) {
            put_u32(out, array.element_id());
            put_u64(out, array.len() as u64);
            match array {
                $(Array::$variant(values) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),)*
                Array::Bool(values) => out.extend(values.iter().map(|&v| u8::from(v))),
                Array::String(values) => values.iter().for_each(|v| put_string(out, v)),
            }
        }
    };
}
for_each_number!(define_value_writers);

#[cfg(test)]
mod tests;
