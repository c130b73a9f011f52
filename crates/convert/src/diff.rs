//! The differences between two GGUF files.
//!
//! Two files are equal if they have the same metadata and the same tensors, with the same types, shapes and bytes. The
//! order of keys and tensors, the version of the container and a split into several files do not count.

use crate::Error;
use crate::deviation::Deviation;
use crate::file::{Elems, GgufFile};
use crate::pipeline::{CHUNK_ELEMS, Chunked, PassOptions, Pipeline};
use pythia_gguf::{Array, Metadata, TensorInfo, Value};
use std::collections::HashMap;

/// Two files compared, tensor by tensor and key by key.
#[derive(Debug)]
pub struct Diff<'a> {
    /// Every key of either file: those of `a` in its order, then those that only `b` has.
    pub keys: Vec<KeyDiff<'a>>,
    /// Every tensor of either file, in that order too.
    pub tensors: Vec<TensorDiff<'a>>,
}

/// One metadata key.
#[derive(Clone, Copy, Debug)]
pub struct KeyDiff<'a> {
    /// Its name.
    pub key: &'a str,
    /// Its value in `a`.
    pub a: Option<&'a Value>,
    /// Its value in `b`.
    pub b: Option<&'a Value>,
}

/// One tensor. At least one file has it.
#[derive(Clone, Copy, Debug)]
pub struct TensorDiff<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its entry in `a`.
    pub a: Option<&'a TensorInfo>,
    /// Its entry in `b`.
    pub b: Option<&'a TensorInfo>,
    /// The result of the comparison.
    pub content: Content,
}

/// How a tensor of one file compares with that of the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Content {
    /// Type, shape and bytes are the same.
    Same,
    /// Only one file has the tensor.
    OneSided,
    /// The shapes differ, so values cannot be compared.
    Shapes,
    /// The bytes differ, and at least one of the types cannot be decoded.
    Bytes,
    /// The types or the bytes differ. The values differ by this much, possibly not at all.
    Values(Deviation),
}

impl Diff<'_> {
    /// Whether there is no difference at all.
    pub fn is_same(&self) -> bool {
        self.keys.iter().all(KeyDiff::is_same) && self.tensors.iter().all(TensorDiff::is_same)
    }
}

impl TensorDiff<'_> {
    /// Whether both files have it, in the same type, shape and bytes.
    pub fn is_same(&self) -> bool {
        self.content == Content::Same
    }
}

impl KeyDiff<'_> {
    /// Whether both files have it, with the same value of the same type.
    pub fn is_same(&self) -> bool {
        matches!((self.a, self.b), (Some(a), Some(b)) if same_value(a, b))
    }

    /// The first difference of two strings, or of two arrays of one type: the index of a character or an element, which
    /// may be the end of the shorter one.
    pub fn first_difference(&self) -> Option<usize> {
        match (self.a?, self.b?) {
            (Value::String(a), Value::String(b)) if a != b => {
                Some(a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count())
            }
            (Value::Array(a), Value::Array(b)) if a.element_name() == b.element_name() && !same_array(a, b) => {
                let mut common = 0..a.len().min(b.len());
                let differs = |&i: &usize| match (a.get(i), b.get(i)) {
                    (Some(a), Some(b)) => !same_value(&a, &b),
                    _ => true,
                };
                Some(common.find(differs).unwrap_or(common.end))
            }
            _ => None,
        }
    }
}

/// Equality of bits, so that a NaN equals itself.
fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::F32(a), Value::F32(b)) => a.to_bits() == b.to_bits(),
        (Value::F64(a), Value::F64(b)) => a.to_bits() == b.to_bits(),
        (Value::Array(a), Value::Array(b)) => same_array(a, b),
        _ => a == b,
    }
}

fn same_array(a: &Array, b: &Array) -> bool {
    match (a, b) {
        (Array::F32(a), Array::F32(b)) => a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits())),
        (Array::F64(a), Array::F64(b)) => a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits())),
        _ => a == b,
    }
}

/// The total of the progress that [`diff`] reports: the bytes of the tensors that both files have.
pub fn progress_bytes(a: &GgufFile, b: &GgufFile) -> u64 {
    let both = a.gguf().tensors().iter().filter_map(|tensor| Some((tensor, b.gguf().tensor(&tensor.name)?)));
    both.map(|(a, b)| a.n_bytes + b.n_bytes).sum()
}

/// Compares two files of any architecture.
///
/// # Errors
/// If a file cannot be read, the threads cannot be started, or it is cancelled.
pub fn diff<'a>(a: &'a GgufFile, b: &'a GgufFile, options: &PassOptions<'_>) -> Result<Diff<'a>, Error> {
    let pipeline = Pipeline::new(options)?;
    let in_a = a.gguf().tensors().iter();
    let only_b = b.gguf().tensors().iter().filter(|tensor| a.gguf().tensor(&tensor.name).is_none());
    let tensors = in_a.chain(only_b).map(|tensor| {
        let name = tensor.name.as_str();
        let (info_a, info_b) = (a.gguf().tensor(name), b.gguf().tensor(name));
        let content = match (info_a, info_b) {
            (Some(info_a), Some(info_b)) => content(&pipeline, (a, info_a), (b, info_b))?,
            _ => Content::OneSided,
        };
        Ok(TensorDiff { name, a: info_a, b: info_b, content })
    });
    let tensors = tensors.collect::<Result<_, Error>>()?;
    Ok(Diff { keys: keys(&a.gguf().metadata, &b.gguf().metadata), tensors })
}

fn keys<'a>(a: &'a Metadata, b: &'a Metadata) -> Vec<KeyDiff<'a>> {
    // A map, because a header may have many keys and `Metadata::get` scans them.
    let [by_key_a, by_key_b]: [HashMap<_, _>; 2] = [a.iter().collect(), b.iter().collect()];
    let in_a = a.iter().map(|(key, value)| KeyDiff { key, a: Some(value), b: by_key_b.get(key).copied() });
    let only_b = b.iter().filter(|(key, _)| !by_key_a.contains_key(key));
    in_a.chain(only_b.map(|(key, value)| KeyDiff { key, a: None, b: Some(value) })).collect()
}

fn content(
    pipeline: &Pipeline<'_>,
    (file_a, a): (&GgufFile, &TensorInfo),
    (file_b, b): (&GgufFile, &TensorInfo),
) -> Result<Content, Error> {
    let progress_bytes = a.n_bytes + b.n_bytes;
    let decided = if a.dims != b.dims {
        Some(Content::Shapes)
    } else if a.ty == b.ty && same_bytes(pipeline, (file_a, a), (file_b, b))? {
        Some(Content::Same)
    } else {
        None
    };
    let (Some(ty_a), Some(ty_b), None) = (a.ty.known(), b.ty.known(), decided) else {
        pipeline.advance(&a.name, progress_bytes);
        return Ok(decided.unwrap_or(Content::Bytes));
    };
    let span = Chunked { name: &a.name, len: a.n_elems(), step: CHUNK_ELEMS, progress_bytes };
    let parts = pipeline.map(span, |elems, (in_a, in_b): &mut (Elems, Elems)| {
        in_a.read(file_a, a, ty_a, &elems)?;
        in_b.read(file_b, b, ty_b, &elems)?;
        let mut deviation = Deviation::default();
        deviation.add(&in_a.values, &in_b.values);
        Ok(deviation)
    })?;
    Ok(Content::Values(parts.iter().fold(Deviation::default(), Deviation::merge)))
}

/// Whether two tensors of the same size have the same bytes.
fn same_bytes(
    pipeline: &Pipeline<'_>,
    (file_a, a): (&GgufFile, &TensorInfo),
    (file_b, b): (&GgufFile, &TensorInfo),
) -> Result<bool, Error> {
    const CHUNK_BYTES: u64 = 1 << 19;
    let span = Chunked { name: &a.name, len: a.n_bytes, step: CHUNK_BYTES, progress_bytes: 0 };
    let same = pipeline.map(span, |bytes, (in_a, in_b): &mut (Vec<u8>, Vec<u8>)| {
        file_a.read(a, a.offset + bytes.start..a.offset + bytes.end, in_a)?;
        file_b.read(b, b.offset + bytes.start..b.offset + bytes.end, in_b)?;
        Ok(in_a == in_b)
    })?;
    Ok(same.into_iter().all(|same| same))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(a: impl Into<Value>, b: impl Into<Value>) -> (bool, Option<usize>) {
        let (a, b) = (a.into(), b.into());
        let diff = KeyDiff { key: "k", a: Some(&a), b: Some(&b) };
        (diff.is_same(), diff.first_difference())
    }

    #[test]
    fn values_differ_by_type_and_by_bits() {
        assert_eq!(first(7u32, 7u64), (false, None));
        assert_eq!(first(f32::NAN, f32::NAN), (true, None));
        assert_eq!(first(vec![1.0, f32::NAN], vec![1.0, f32::NAN]), (true, None));
        assert_eq!(first(0f32, -0f32), (false, None));
        assert_eq!(first("träge", "träger"), (false, Some(5)));
        assert_eq!(first("träge", "truge"), (false, Some(2)));
        assert_eq!(first(vec![1u8, 2, 3], vec![1u8, 9, 3]), (false, Some(1)));
        assert_eq!(first(vec![1u8, 2, 3], vec![1u8, 2]), (false, Some(2)));
        assert_eq!(first(vec![1u8], vec![1u16]), (false, None));
        assert_eq!(first(vec!["a".to_owned()], vec!["a".to_owned()]), (true, None));
    }

    #[test]
    fn keys_of_either_side_are_listed_once() {
        let (mut a, mut b) = (Metadata::new(), Metadata::new());
        a.insert("one", 1u32);
        a.insert("both", 2u32);
        b.insert("other", 3u32);
        b.insert("both", 2u32);
        let keys = keys(&a, &b);
        let shown: Vec<_> = keys.iter().map(|k| (k.key, k.a.is_some(), k.b.is_some(), k.is_same())).collect();
        assert_eq!(shown, [("one", true, false, false), ("both", true, true, true), ("other", false, true, false)]);
    }
}
