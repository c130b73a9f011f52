//! Models split over several files: names, numbers, and merging of headers.
//!
//! The layout is that of llama.cpp's `gguf-split`. Each file is a complete GGUF file with some of the tensors. The
//! first has the metadata of the model; all have
//!
//! | Key | Type | Value |
//! | --- | --- | --- |
//! | `split.no` | u16 | number of the file, from 0 |
//! | `split.count` | u16 | number of files |
//! | `split.tensors.count` | i32 | tensors in all files together |
//!
//! and are named `PREFIX-%05d-of-%05d.gguf`, counted from 1. The first file is the one to open.

mod layout;
mod merge;

pub use layout::Limits;
pub use merge::Merge;
pub(crate) use merge::missing;

use crate::error::Error;
use crate::keys;
use crate::metadata::Metadata;

/// Maximum number of files, because `split.count` is a u16.
const MAX_COUNT: u32 = u16::MAX as u32;

/// The position of a file in a split model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Number of the file, from 0.
    pub no: u32,
    /// Number of files, at least 1.
    pub count: u32,
    /// Tensors in all files together. Known where there are several.
    pub n_tensors: Option<u64>,
}

impl Split {
    /// Reads it, in integers of any width; `None` of a file that is no part of anything.
    ///
    /// # Errors
    /// If there is a count of files but no number that fits it, or, of several files, no count of tensors.
    pub fn of(metadata: &Metadata) -> Result<Option<Self>, Error> {
        let Some(count) = metadata.u32(keys::SPLIT_COUNT)? else { return Ok(None) };
        if !(1..=MAX_COUNT).contains(&count) {
            return Err(Error::key(keys::SPLIT_COUNT, format!("{count} parts"), format!("1 to {MAX_COUNT}")));
        }
        let no = metadata.u32(keys::SPLIT_NO)?.or((count == 1).then_some(0));
        let no = no.ok_or_else(|| Error::missing_key(keys::SPLIT_NO, format!("0 to {}", count - 1)))?;
        if no >= count {
            return Err(Error::key(keys::SPLIT_NO, no.to_string(), format!("0 to {}", count - 1)));
        }
        let n_tensors = metadata.u64(keys::SPLIT_TENSORS_COUNT)?;
        if n_tensors.is_none() && count > 1 {
            return Err(Error::missing_key(keys::SPLIT_TENSORS_COUNT, "the tensors of all parts together"));
        }
        Ok(Some(Self { no, count, n_tensors }))
    }
}

/// The name of file `no`, from 0, of the `count` files of a model: `PREFIX-00001-of-00003.gguf`.
pub fn shard_name(prefix: &str, no: u32, count: u32) -> String {
    format!("{prefix}-{:05}-of-{count:05}.gguf", no + 1)
}

/// What the names of a model's files have in common, if `name` is one of a file of a split model.
pub fn shard_prefix(name: &str) -> Option<&str> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (prefix, no) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    (is_number(no) && is_number(count)).then_some(prefix)
}

/// Removes what is true of one file only.
fn remove_keys(metadata: &mut Metadata) {
    for key in [keys::SPLIT_NO, keys::SPLIT_COUNT, keys::SPLIT_TENSORS_COUNT] {
        metadata.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn split(
        no: impl Into<Value>,
        count: impl Into<Value>,
        tensors: impl Into<Value>,
    ) -> Result<Option<Split>, String> {
        let mut metadata = Metadata::new();
        metadata.insert(keys::SPLIT_NO, no);
        metadata.insert(keys::SPLIT_COUNT, count);
        metadata.insert(keys::SPLIT_TENSORS_COUNT, tensors);
        Split::of(&metadata).map_err(|e| e.to_string())
    }

    #[test]
    fn integers_of_any_width_are_read() {
        let wanted = Ok(Some(Split { no: 1, count: 3, n_tensors: Some(7) }));
        assert_eq!(split(1u16, 3u16, 7i32), wanted);
        assert_eq!(split(1u8, 3i64, 7u64), wanted);
        assert_eq!(split(0u16, u16::MAX, 0i32).unwrap().unwrap().count, 65535);
        assert_eq!(Split::of(&Metadata::new()), Ok(None));
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        let refused = |line: Result<_, String>, wanted: &str| {
            let line = line.unwrap_err();
            assert!(line.contains(wanted), "{line}");
        };
        refused(split(0u16, 0u16, 1i32), "key 'split.count': found 0 parts, wanted 1 to 65535");
        refused(split(0u32, 65536u32, 1i32), "found 65536 parts");
        refused(split(3u16, 3u16, 1i32), "key 'split.no': found 3, wanted 0 to 2");
        refused(split(0u16, 3u16, -1i32), "key 'split.tensors.count': found i32 -1, wanted a non-negative integer");
        refused(split("0", 3u16, 1i32), "key 'split.no': found string '0'");
        let mut metadata = Metadata::new();
        metadata.insert(keys::SPLIT_COUNT, 1u16);
        assert_eq!(Split::of(&metadata), Ok(Some(Split { no: 0, count: 1, n_tensors: None })));
        metadata.insert(keys::SPLIT_COUNT, 2u16);
        refused(Split::of(&metadata).map_err(|e| e.to_string()), "key 'split.no': found no such key, wanted 0 to 1");
        metadata.insert(keys::SPLIT_NO, 0u16);
        refused(Split::of(&metadata).map_err(|e| e.to_string()), "key 'split.tensors.count': found no such key");
    }

    #[test]
    fn names_are_those_of_gguf_split() {
        assert_eq!(shard_name("a/m-F16", 0, 3), "a/m-F16-00001-of-00003.gguf");
        assert_eq!(shard_prefix("m-F16-00001-of-00003.gguf"), Some("m-F16"));
        for name in ["m.gguf", "m-1-of-3.gguf", "m-00001-of-00003", "m-0000x-of-00003.gguf", "00001-of-00003.gguf"] {
            assert_eq!(shard_prefix(name), None, "{name}");
        }
    }
}
