//! The reader.
//!
//! ```text
//! "GGUF" | version u32 | tensors u64 | pairs u64
//! pair:    key string | type u32 | value
//! tensor:  name string | n_dims u32 | dims u64 x n_dims | type u32 | offset u64, from the start of the data
//! padding to the alignment, then the data: tensors in table order, each padded to the alignment
//! string:  bytes u64 | UTF-8            array: type u32 | elements u64 | values without padding
//! ```
//!
//! All integers are little-endian. Versions 2 and 3 differ only in that 3 allows big-endian files, which are refused.

use crate::cursor::Cursor;
use crate::error::{Error, Place, quoted};
use crate::metadata::Metadata;
use crate::rules::{self, MAGIC, MAX_DIMS, MAX_PAIRS, MAX_TENSORS};
use crate::tensor::{AnyType, TensorInfo};
use crate::value::{ARRAY_ID, Array, BOOL_ID, STRING_ID, Value, for_each_number};
use std::collections::HashSet;

/// The checked header of a file: every tensor is inside the file, aligned, in order and without overlap. Or the
/// [merged](crate::Merge) headers of the files of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    /// Version of the container: 2 or 3.
    pub version: u32,
    /// Alignment of tensor data in bytes.
    pub alignment: u64,
    /// The key-value pairs.
    pub metadata: Metadata,
    /// Start of tensor data, from the start of the file, or of the first file of a split model. May be past the end of
    /// a file without tensors.
    pub data_offset: u64,
    tensors: Vec<TensorInfo>,
    /// Indices into `tensors`, by ascending name.
    by_name: Vec<usize>,
}

impl Gguf {
    /// Reads the header of a whole file, `bytes`. Bytes after the last tensor are tolerated.
    ///
    /// Memory is proportional to the bytes of the header, whatever counts and lengths it declares, and at most some 150
    /// MB.
    ///
    /// # Errors
    /// If the bytes are not a GGUF file, break a rule of the format, or end too early.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        Self::parse_header(bytes, bytes.len() as u64)
    }

    /// As [`parse`](Self::parse), for a file of `file_bytes` of which `bytes` are the start, at least the header.
    pub(crate) fn parse_header(bytes: &[u8], file_bytes: u64) -> Result<Self, Error> {
        check_magic(bytes)?;
        let mut cursor = Cursor::new(bytes, MAGIC.len());
        let version = read_version(&mut cursor)?;
        let n_tensors = cursor.u64("tensor count")?;
        let n_pairs = cursor.u64("metadata pair count")?;
        // An entry is never smaller than this, so wrong counts are refused before the first entry is read.
        check_count(&cursor, n_pairs, MIN_PAIR_BYTES, MAX_PAIRS, "metadata pairs")?;
        check_count(&cursor, n_tensors, MIN_TENSOR_BYTES, MAX_TENSORS, "tensors")?;

        let metadata = read_metadata(&mut cursor, n_pairs)?;
        let alignment = rules::alignment(&metadata)?;
        let mut tensors = Vec::new();
        for _ in 0..n_tensors {
            tensors.push(read_tensor(&mut cursor)?);
        }
        let by_name = index_by_name(&tensors)?;
        let data_offset = rules::pad(cursor.offset(), alignment)
            .ok_or_else(|| Error::header("a header of 2^64 bytes", "a smaller one"))?;
        place(&mut tensors, data_offset, alignment, file_bytes)?;
        Ok(Self { version, alignment, metadata, data_offset, tensors, by_name })
    }

    /// The same file or model with other tensors. Their names must be unique.
    pub(crate) fn with_tensors(self, tensors: Vec<TensorInfo>) -> Result<Self, Error> {
        let by_name = index_by_name(&tensors)?;
        Ok(Self { tensors, by_name, ..self })
    }

    /// Takes the tensors out, and leaves none.
    pub(crate) fn take_tensors(&mut self) -> Vec<TensorInfo> {
        self.by_name.clear();
        std::mem::take(&mut self.tensors)
    }

    /// The tensors in file order; those of a split model file by file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let at = self.by_name.binary_search_by(|&i| self.tensors[i].name.as_str().cmp(name)).ok()?;
        Some(&self.tensors[self.by_name[at]])
    }

    /// The bytes of tensor `t`.
    ///
    /// # Panics
    /// If `bytes` are not those of the file that `t` is in, or `t` is not one of its tensors.
    pub fn data<'a>(&self, bytes: &'a [u8], t: &TensorInfo) -> &'a [u8] {
        // Inside the file, so both fit in usize.
        &bytes[t.offset as usize..][..t.n_bytes as usize]
    }
}

/// Key length, a byte of key, type, a byte of value.
const MIN_PAIR_BYTES: u64 = 8 + 1 + 4 + 1;
/// Name length, a byte of name, n_dims, one extent, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// First bytes of files that are mistaken for GGUF, and their kinds.
const LOOKALIKES: &[(&[u8], &str)] = &[
    (b"lmgg", "a GGML file, older than GGUF"),
    (b"ggml", "a GGML file, older than GGUF"),
    (b"fmgg", "a GGMF file, older than GGUF"),
    (b"ggmf", "a GGMF file, older than GGUF"),
    (b"tjgg", "a GGJT file, older than GGUF"),
    (b"ggjt", "a GGJT file, older than GGUF"),
    (b"algg", "a GGLA adapter, older than GGUF"),
    (b"ggla", "a GGLA adapter, older than GGUF"),
    (b"version https://git-lfs", "a Git LFS pointer in place of the file it points to"),
    (b"<!", "an HTML page, as failed downloads leave"),
    (b"<html", "an HTML page, as failed downloads leave"),
    (b"PK\x03\x04", "a zip archive, as PyTorch checkpoints are"),
];

fn check_magic(bytes: &[u8]) -> Result<(), Error> {
    if bytes.starts_with(MAGIC) {
        return Ok(());
    }
    let found = match LOOKALIKES.iter().find(|(start, _)| bytes.starts_with(start)) {
        Some((_, what)) => (*what).to_owned(),
        None if bytes.is_empty() => "an empty file".to_owned(),
        None => format!("bytes {}", quoted(&bytes[..bytes.len().min(4)].escape_ascii().to_string())),
    };
    Err(Error::header(found, "the magic 'GGUF'").at(0))
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32, Error> {
    let offset = cursor.offset();
    let version = cursor.u32("version")?;
    match version {
        2 | 3 => Ok(version),
        _ => {
            let swapped = version.swap_bytes();
            let found = if (1..=0xffff).contains(&swapped) {
                format!("version {swapped} in big-endian byte order")
            } else {
                format!("version {version}")
            };
            Err(Error::header(found, "little-endian version 2 or 3").at(offset))
        }
    }
}

fn check_count(cursor: &Cursor<'_>, n: u64, min_bytes: u64, limit: u64, what: &str) -> Result<(), Error> {
    let max = cursor.left() / min_bytes;
    if n <= max.min(limit) {
        return Ok(());
    }
    let wanted = match n > max {
        true => format!("at most {max}, the most that {} bytes can hold", cursor.left()),
        false => format!("at most {limit}"),
    };
    Err(Error::header(format!("{n} {what}"), wanted).at(cursor.offset()))
}

fn read_metadata(cursor: &mut Cursor<'_>, n_pairs: u64) -> Result<Metadata, Error> {
    let mut metadata = Metadata::new();
    let mut seen = HashSet::new();
    for _ in 0..n_pairs {
        let offset = cursor.offset();
        let key = cursor.string("a key")?;
        rules::check_key(key).map_err(|e| e.at(offset))?;
        if !seen.insert(key) {
            return Err(Error::key(key, "a second pair of this name", "one").at(offset));
        }
        let value = read_value(cursor).map_err(|e| e.in_key(key).at(offset))?;
        metadata.push(key.to_owned(), value);
    }
    Ok(metadata)
}

/// Reads `$n` little-endian numbers.
macro_rules! numbers {
    ($cursor:expr, $n:expr, $t:ident) => {{
        const SIZE: usize = size_of::<$t>();
        let bytes = $cursor.take_items($n, SIZE as u64, concat!("values of type ", stringify!($t)))?;
        bytes.as_chunks::<SIZE>().0.iter().map(|b| $t::from_le_bytes(*b))
    }};
}

macro_rules! define_value_readers {
    ($(($variant:ident, $t:ident, $id:literal),)*) => {
        fn read_value(cursor: &mut Cursor<'_>) -> Result<Value, Error> {
            let offset = cursor.offset();
            match cursor.u32("value type")? {
                $($id => Ok(Value::$variant(numbers!(cursor, 1, $t).next().unwrap_or_default())),)*
                BOOL_ID => Ok(Value::Bool(read_bools(cursor, 1)?[0])),
                STRING_ID => Ok(Value::String(cursor.owned_string("a string")?)),
                ARRAY_ID => Ok(Value::Array(read_array(cursor)?)),
                id => Err(Error::header(format!("value type {id}"), "a type from 0 to 12").at(offset)),
            }
        }

        fn read_array(cursor: &mut Cursor<'_>) -> Result<Array, Error> {
            let offset = cursor.offset();
            let id = cursor.u32("element type")?;
            let n = cursor.u64("array length")?;
            match id {
                $($id => {
                    let values = numbers!(cursor, n, $t);
                    let mut array = cursor.reserve(n)?;
                    array.extend(values);
                    Ok(Array::$variant(array))
                })*
                BOOL_ID => Ok(Array::Bool(read_bools(cursor, n)?)),
                STRING_ID => Ok(Array::String(read_strings(cursor, n)?)),
                ARRAY_ID => Err(Error::header("an array of arrays", "an array of plain values").at(offset)),
                id => Err(Error::header(format!("element type {id}"), "a type from 0 to 12").at(offset)),
            }
        }
    };
}
for_each_number!(define_value_readers);

fn read_bools(cursor: &mut Cursor<'_>, n: u64) -> Result<Vec<bool>, Error> {
    let offset = cursor.offset();
    let bytes = cursor.take(n, "values of type bool")?;
    if let Some(at) = bytes.iter().position(|&b| b > 1) {
        return Err(Error::header(format!("bool {}", bytes[at]), "0 or 1").at(offset + at as u64));
    }
    let mut bools = cursor.reserve(n)?;
    bools.extend(bytes.iter().map(|&b| b == 1));
    Ok(bools)
}

fn read_strings(cursor: &mut Cursor<'_>, n: u64) -> Result<Vec<String>, Error> {
    check_count(cursor, n, 8, u64::MAX, "strings")?;
    let mut strings = cursor.reserve(n)?;
    for _ in 0..n {
        strings.push(cursor.owned_string("a string")?);
    }
    Ok(strings)
}

/// Reads one entry of the tensor table. Its offset is still relative to the data.
fn read_tensor(cursor: &mut Cursor<'_>) -> Result<TensorInfo, Error> {
    let entry = cursor.offset();
    let name = cursor.string("a tensor name")?;
    rules::check_tensor_name(name).map_err(|e| e.at(entry))?;
    read_tensor_body(cursor, name).map_err(|e| match e.place() {
        Place::Header => e.in_tensor(name).at(entry),
        _ => e.at(entry),
    })
}

fn read_tensor_body(cursor: &mut Cursor<'_>, name: &str) -> Result<TensorInfo, Error> {
    let offset = cursor.offset();
    let n_dims = cursor.u32("dimension count")?;
    if n_dims as usize > MAX_DIMS {
        return Err(Error::header(format!("{n_dims} dimensions"), format!("1 to {MAX_DIMS}")).at(offset));
    }
    let dims = (0..n_dims).map(|_| cursor.u64("dimension")).collect::<Result<Vec<_>, _>>()?;
    let offset = cursor.offset();
    let id = cursor.u32("tensor type")?;
    let ty = AnyType::from_id(id)
        .ok_or_else(|| Error::header(format!("tensor type {id}"), "a type id that GGUF files use").at(offset))?;
    let offset = cursor.u64("data offset")?;
    let n_bytes = rules::tensor_bytes(name, ty, &dims)?;
    Ok(TensorInfo { name: name.to_owned(), ty, dims, file: 0, offset, n_bytes })
}

/// Indices of tensors by ascending name. Names must be unique.
pub(crate) fn index_by_name(tensors: &[TensorInfo]) -> Result<Vec<usize>, Error> {
    let mut by_name: Vec<usize> = (0..tensors.len()).collect();
    by_name.sort_by(|&a, &b| tensors[a].name.cmp(&tensors[b].name));
    for pair in by_name.windows(2) {
        let name = &tensors[pair[0]].name;
        if *name == tensors[pair[1]].name {
            return Err(Error::tensor(name, "two tensors of this name", "one"));
        }
    }
    Ok(by_name)
}

/// Makes offsets absolute, after checking that every tensor starts at the padded end of the previous one and is inside
/// the file. llama.cpp requires the same.
fn place(tensors: &mut [TensorInfo], data_offset: u64, alignment: u64, file_bytes: u64) -> Result<(), Error> {
    let mut expected = 0;
    for t in tensors {
        if !t.offset.is_multiple_of(alignment) {
            let wanted = format!("a multiple of the alignment {alignment}");
            return Err(Error::tensor(&t.name, format!("data offset {}", t.offset), wanted));
        }
        if t.offset != expected {
            let problem = if t.offset < expected { "overlapping the tensor before" } else { "leaving a hole" };
            let found = format!("data offset {}, {problem}", t.offset);
            return Err(Error::tensor(&t.name, found, format!("{expected}")));
        }
        let end = data_offset.checked_add(t.offset).and_then(|start| start.checked_add(t.n_bytes));
        let Some(end) = end.filter(|&end| end <= file_bytes) else {
            let found = format!("{} bytes of data from byte {}", t.n_bytes, data_offset.saturating_add(t.offset));
            let wanted = format!("no more than the file has, {file_bytes} bytes in all: truncated?");
            return Err(Error::tensor(&t.name, found, wanted));
        };
        t.offset += data_offset;
        // Inside the file, except for the padding, so this saturates only if no further tensor can be valid.
        expected = rules::pad(end - data_offset, alignment).unwrap_or(u64::MAX);
    }
    Ok(())
}
