//! What the container format allows, for the reader and the writer alike.
//!
//! Source: `docs/gguf.md` of ggml, and where that is silent what llama.cpp's loader refuses.

use crate::error::Error;
use crate::keys;
use crate::metadata::Metadata;
use crate::tensor::AnyType;
use crate::value::Value;

/// The first bytes of every file.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// The version written.
pub(crate) const VERSION: u32 = 3;

/// Pairs of a file, which are looked up by going through all of them. Models have some dozens.
pub(crate) const MAX_PAIRS: u64 = 1 << 12;
/// Tensors of a file or of a split model. The largest models have some thousands.
pub(crate) const MAX_TENSORS: u64 = 1 << 16;
/// Memory that the values of a header may take. An empty string has 8 bytes in a file, and three times that when it is
/// read; the largest vocabularies need a tenth of this.
pub(crate) const MAX_METADATA_BYTES: u64 = 128 << 20;

const MAX_KEY_BYTES: usize = 65535;
/// llama.cpp keeps names in 64 bytes with a NUL at the end.
pub(crate) const MAX_NAME_BYTES: usize = 63;
pub(crate) const MAX_DIMS: usize = 4;
const DEFAULT_ALIGNMENT: u64 = 32;
/// The format sets no limit. This one, the largest page size in use, keeps padding from dominating a file.
const MAX_ALIGNMENT: u64 = 65536;

/// Checks the name of a metadata key.
pub(crate) fn check_key(key: &str) -> Result<(), Error> {
    let wanted = || format!("1 to {MAX_KEY_BYTES} bytes of printable ASCII");
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(Error::key(key, format!("a name of {} bytes", key.len()), wanted()));
    }
    match key.chars().find(|c| !matches!(c, ' '..='~')) {
        Some(c) => Err(Error::key(key, format!("character '{}' in the name", c.escape_default()), wanted())),
        None => Ok(()),
    }
}

/// Checks the name of a tensor.
pub(crate) fn check_tensor_name(name: &str) -> Result<(), Error> {
    let wanted = || format!("1 to {MAX_NAME_BYTES} bytes without a NUL");
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(Error::tensor(name, format!("a name of {} bytes", name.len()), wanted()));
    }
    if name.contains('\0') {
        return Err(Error::tensor(name, "a NUL in the name", wanted()));
    }
    Ok(())
}

/// Bytes of a tensor, after checking its shape against its type.
pub(crate) fn tensor_bytes(name: &str, ty: AnyType, dims: &[u64]) -> Result<u64, Error> {
    if !(1..=MAX_DIMS).contains(&dims.len()) {
        return Err(Error::tensor(name, format!("{} dimensions", dims.len()), format!("1 to {MAX_DIMS}")));
    }
    if dims.contains(&0) {
        return Err(Error::tensor(name, format!("shape {dims:?}"), "no empty dimension"));
    }
    let block = ty.block_elems() as u64;
    if !dims[0].is_multiple_of(block) {
        let wanted = format!("a multiple of {block}, the block of {}", ty.name());
        return Err(Error::tensor(name, format!("rows of {} elements", dims[0]), wanted));
    }
    let elems = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    let bytes = elems.and_then(|n| (n / block).checked_mul(ty.block_bytes() as u64));
    // Half the range, so that adding a padding or an offset that lies inside a file cannot wrap.
    bytes
        .filter(|&n| n <= i64::MAX as u64)
        .ok_or_else(|| Error::tensor(name, format!("shape {dims:?} of {}", ty.name()), "a size that fits in 63 bits"))
}

/// Alignment of the tensor data in bytes.
pub(crate) fn alignment(metadata: &Metadata) -> Result<u64, Error> {
    let value = match metadata.get(keys::ALIGNMENT) {
        None => return Ok(DEFAULT_ALIGNMENT),
        Some(value) => value,
    };
    // llama.cpp reads this key as u32 and nothing else, so other widths are not accepted here.
    match *value {
        Value::U32(n) if n.is_power_of_two() && u64::from(n) <= MAX_ALIGNMENT => Ok(n.into()),
        _ => {
            let wanted = format!("a u32 power of two, at most {MAX_ALIGNMENT}");
            Err(Error::key(keys::ALIGNMENT, value.describe(), wanted))
        }
    }
}

/// `offset` rounded up to a multiple of `alignment`, a power of two; `None` if that is too large.
pub(crate) fn pad(offset: u64, alignment: u64) -> Option<u64> {
    offset.checked_next_multiple_of(alignment)
}
