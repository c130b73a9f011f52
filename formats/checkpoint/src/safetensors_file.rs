//! One safetensors file: the header checked, the data read by position.
//!
//! ```text
//! byte  0        8                8 + n
//!       | n u64  | n bytes JSON   | the tensors by ascending offset, without holes, to the end of the file
//! ```
//!
//! All little-endian. The format's own description: <https://github.com/huggingface/safetensors#format>.

use crate::dtype::Dtype;
use crate::error::{Error, Shown, excerpt};
use crate::weights::{ListedTensor, Opened, View, WeightFile};
use safetensors::SafeTensorError;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

/// Bytes of the length field before the header.
const LENGTH_BYTES: u64 = 8;
/// The format allows 100 MB. The header of the largest Pythia has 60 KB, and a parsed one takes ten times its length.
const HEADER_LIMIT_BYTES: u64 = 16 << 20;

/// A tensor as the header lists it.
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
    for (name, info) in &tensors {
        check_size(info).map_err(|reason| Error::tensor(path, name, reason))?;
    }
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let names: Vec<String> = tensors.iter().map(|(name, _)| name.clone()).collect();
    // Finds overlaps, holes and a first tensor that does not start at 0.
    let metadata = Metadata::new(None, tensors).map_err(|e| match e {
        SafeTensorError::InvalidOffset(name) => {
            Error::tensor(path, &name, "its data does not start where the tensor before it ends (overlap or hole)")
        }
        other => Error::container(path, LENGTH_BYTES, format!("the header is invalid: {other}")),
    })?;
    let data_bytes = file_bytes - data_offset;
    if metadata.data_len() as u64 != data_bytes {
        let reason = format!("{data_bytes} bytes of tensor data, the header describes {}", metadata.data_len());
        return Err(Error::container(path, data_offset, reason));
    }
    let listed = names.into_iter().filter_map(|name| {
        let info = metadata.info(&name)?;
        let offset = data_offset + info.data_offsets.0 as u64;
        Some(HeaderTensor { dtype: info.dtype, shape: info.shape.clone(), offset, name })
    });
    Ok(listed.collect())
}

/// Whether a tensor's range is as long as its shape and type need.
fn check_size(info: &TensorInfo) -> Result<(), String> {
    let (start, end) = info.data_offsets;
    let n_bits = info.shape.iter().try_fold(info.dtype.bitsize(), |product, &dim| product.checked_mul(dim));
    match (n_bits, end.checked_sub(start)) {
        (Some(n_bits), Some(n_bytes)) if n_bits.is_multiple_of(8) && n_bits / 8 == n_bytes => Ok(()),
        (_, None) => Err(format!("data_offsets [{start}, {end}] are inverted")),
        (None, _) => Err(format!("shape {:?} is too large to be real", Shown(&info.shape))),
        (Some(n_bits), Some(n_bytes)) => Err(format!(
            "data_offsets [{start}, {end}] hold {n_bytes} bytes, shape {:?} of {:?} needs {}",
            Shown(&info.shape),
            info.dtype,
            n_bits.div_ceil(8),
        )),
    }
}

/// The entries of a header, in its order, names unique.
///
/// The crate's own deserializer keeps the last of two entries with one name; everything it checks beyond that is
/// checked here through its types.
struct Header(Vec<(String, TensorInfo)>);

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
                        access.next_value::<HashMap<String, String>>().map_err(in_entry)?;
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
