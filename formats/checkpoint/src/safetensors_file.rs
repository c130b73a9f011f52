//! A safetensors file. Its header is checked; its data is read by position.
//!
//! ```text
//! byte  0        8                8 + n
//!       | n u64  | n bytes JSON   | the tensors by ascending offset, without holes, to the end of the file
//! ```
//!
//! All little-endian. The format's own description: <https://github.com/huggingface/safetensors#format>.

use crate::dtype::Dtype;
use crate::error::{Error, Shown, excerpt};
use crate::weights::{LIMIT_DIMS, LIMIT_TENSORS, ListedTensor, Opened, View, WeightFile, too_many_tensors};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;
use std::path::Path;

/// Bytes of the length field before the header.
const LENGTH_BYTES: u64 = 8;
/// Maximum length of a header. The format allows 100 MB, but that of the largest Pythia has 60 KB, and a parsed header
/// takes ten times its length.
const HEADER_LIMIT_BYTES: u64 = 16 << 20;

/// A tensor in the header.
#[derive(Debug)]
struct HeaderTensor {
    name: String,
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    /// In bytes from the start of the file.
    offset: u64,
}

/// Checks the header.
pub(crate) fn open(opened: Opened<'_>) -> Result<WeightFile, Error> {
    let Opened { path, n_bytes, .. } = opened;
    let header_bytes = header_len(path, &opened.start, n_bytes)?;
    let data_offset = LENGTH_BYTES + header_bytes;
    let header = opened.read(LENGTH_BYTES..data_offset)?;
    let tensors = parse_header(path, &header, data_offset, n_bytes)?;
    let tensors = tensors.into_iter().map(listed).collect();
    Ok(WeightFile { path: path.to_owned(), tensors, checksums: Vec::new(), file: opened.file })
}

fn listed(tensor: HeaderTensor) -> ListedTensor {
    let HeaderTensor { name, dtype, shape, offset } = tensor;
    let place = match (Dtype::from_safetensors(dtype), dtype) {
        (Some(dtype), _) => Ok((dtype, View::contiguous(offset, &shape, dtype))),
        (None, safetensors::Dtype::F64) => {
            Ok((Dtype::F32, View { elem_bytes: size_of::<f64>(), ..View::contiguous(offset, &shape, Dtype::F32) }))
        }
        (None, dtype) => Err(format!("type {dtype:?}, wanted F32, F16, BF16 or F64")),
    };
    ListedTensor { name, shape, place }
}

/// The header's length, from the `start` of a file of `file_bytes`.
fn header_len(path: &Path, start: &[u8], file_bytes: u64) -> Result<u64, Error> {
    let Some(length) = start.first_chunk::<8>() else {
        let reason = format!("the file ends here, wanted the {LENGTH_BYTES} bytes of a safetensors header length");
        return Err(Error::container(path, file_bytes, reason));
    };
    let length = u64::from_le_bytes(*length);
    if length > HEADER_LIMIT_BYTES {
        let reason = format!("header length {length}, at most {HEADER_LIMIT_BYTES} are read: not a safetensors file?");
        return Err(Error::container(path, 0, reason));
    }
    if length > file_bytes - LENGTH_BYTES {
        let reason = format!("header length {length}, but only {} bytes follow: truncated?", file_bytes - LENGTH_BYTES);
        return Err(Error::container(path, 0, reason));
    }
    match start.get(LENGTH_BYTES as usize) {
        _ if length == 0 => Err(Error::container(path, 0, "header length 0")),
        Some(b'{') => Ok(length),
        _ => Err(Error::container(path, LENGTH_BYTES, "the header does not start with '{': not a safetensors file?")),
    }
}

/// The checked tensors of a header, by ascending offset.
fn parse_header(path: &Path, header: &[u8], data_offset: u64, file_bytes: u64) -> Result<Vec<HeaderTensor>, Error> {
    let text = str::from_utf8(header)
        .map_err(|e| Error::container(path, LENGTH_BYTES + e.valid_up_to() as u64, "the header is not UTF-8"))?;
    let Header(mut tensors) = serde_json::from_str(text)
        .map_err(|e| Error::container(path, LENGTH_BYTES, format!("the header cannot be read: {e}")))?;
    for (name, entry) in &tensors {
        check_size(entry).map_err(|reason| Error::tensor(path, name, reason))?;
    }
    tensors.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut end = 0;
    for (name, entry) in &tensors {
        if entry.data_offsets.0 != end {
            let reason = "its data does not start where the tensor before it ends (overlap or hole)";
            return Err(Error::tensor(path, name, reason));
        }
        end = entry.data_offsets.1;
    }
    let data_bytes = file_bytes - data_offset;
    if end as u64 != data_bytes {
        let reason = format!("{data_bytes} bytes of tensor data, the header describes {end}");
        return Err(Error::container(path, data_offset, reason));
    }
    let listed = tensors.into_iter().map(|(name, entry)| {
        let offset = data_offset + entry.data_offsets.0 as u64;
        HeaderTensor { name, dtype: entry.dtype, shape: entry.shape.0, offset }
    });
    Ok(listed.collect())
}

/// Whether the range of a tensor has the length that its shape and type need.
fn check_size(entry: &Entry) -> Result<(), String> {
    let (start, end) = entry.data_offsets;
    let n_bits = entry.shape.0.iter().try_fold(entry.dtype.bitsize(), |product, &dim| product.checked_mul(dim));
    match (n_bits, end.checked_sub(start)) {
        (Some(n_bits), Some(n_bytes)) if n_bits.is_multiple_of(8) && n_bits / 8 == n_bytes => Ok(()),
        (_, None) => Err(format!("data_offsets [{start}, {end}] are inverted")),
        (None, _) => Err(format!("shape {:?} is too large to be real", Shown(&entry.shape.0))),
        (Some(n_bits), Some(n_bytes)) => Err(format!(
            "data_offsets [{start}, {end}] hold {n_bytes} bytes, shape {:?} of {:?} needs {}",
            Shown(&entry.shape.0),
            entry.dtype,
            n_bits.div_ceil(8),
        )),
    }
}

/// A tensor's entry in the header.
#[derive(Deserialize)]
struct Entry {
    dtype: safetensors::Dtype,
    shape: Dims,
    /// Start and end, in bytes from the start of the data.
    data_offsets: (usize, usize),
}

/// A shape of at most [`LIMIT_DIMS`] dimensions.
struct Dims(Vec<usize>);

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;

        impl<'de> Visitor<'de> for Sizes {
            type Value = Dims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of sizes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Dims, A::Error> {
                let mut dims = Vec::new();
                while let Some(dim) = access.next_element()? {
                    if dims.len() == LIMIT_DIMS {
                        return Err(A::Error::custom(format_args!("more than {LIMIT_DIMS} dimensions")));
                    }
                    dims.push(dim);
                }
                Ok(Dims(dims))
            }
        }

        deserializer.deserialize_seq(Sizes)
    }
}

/// `__metadata__`: an object of strings, which is checked and not kept.
struct Strings;

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Strings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Strings, A::Error> {
                while access.next_entry::<String, String>()?.is_some() {}
                Ok(Strings)
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// The entries of a header, in its order, names unique.
///
/// The `safetensors` crate keeps the last of two entries with the same name, and stores each name three times. Here
/// names are stored once, and at most [`LIMIT_TENSORS`] entries are allowed, because a header of 16 MB could list 300
/// thousand.
struct Header(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Header, A::Error> {
                let mut tensors = Vec::new();
                let mut seen = HashSet::new();
                while let Some(name) = access.next_key::<String>()? {
                    let in_entry = |e: A::Error| A::Error::custom(format_args!("{}: {e}", excerpt(&name)));
                    if name == "__metadata__" {
                        access.next_value::<Strings>().map_err(in_entry)?;
                    } else if tensors.len() == LIMIT_TENSORS {
                        return Err(A::Error::custom(too_many_tensors()));
                    } else {
                        tensors.push((name.clone(), access.next_value().map_err(in_entry)?));
                    }
                    if let Some(twice) = seen.replace(name) {
                        return Err(A::Error::custom(format_args!("{} comes twice", excerpt(&twice))));
                    }
                }
                Ok(Header(tensors))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests;
