//! Checks the bytes after the header: every block, the padding between tensors, and the bytes after the last tensor.

use super::{BytePlace, Problem, Report};
use crate::Error;
use crate::file::{Elems, GgufFile, byte_range, largest_magnitude};
use crate::pipeline::{CHUNK_ELEMS, Chunked, Pipeline};
use crate::provenance::base_name;
use pythia_gguf::TensorInfo;
use pythia_tensor::TensorType;

/// Checks all of it, tensor by tensor.
pub(super) fn check(file: &GgufFile, pipeline: &Pipeline<'_>, report: &mut Report) -> Result<(), Error> {
    let mut skipped = 0;
    // Tensors are in the order of the files.
    let mut tensors = file.gguf().tensors().iter().peekable();
    for (number, part) in file.parts().iter().enumerate() {
        let mut end = part.data_offset;
        while let Some(tensor) = tensors.next_if(|tensor| tensor.file == number) {
            match tensor.ty.known() {
                Some(ty) => values(file, tensor, ty, pipeline, report)?,
                None => {
                    skipped += 1;
                    pipeline.advance(&tensor.name, tensor.n_bytes);
                }
            }
            end = (tensor.offset + tensor.n_bytes).next_multiple_of(part.alignment);
            report.problems.extend(padding(file, tensor, end.min(part.n_bytes()))?);
        }
        if part.n_bytes() > end {
            let place = place(file, number, end);
            report.problems.push(Problem::Trailing { place, n_bytes: part.n_bytes() - end });
        }
    }
    if skipped > 0 {
        report.warnings.push(format!("{skipped} tensors are of types that cannot be decoded: values not checked"));
    }
    Ok(())
}

/// Byte `offset` of a file of the model.
pub(super) fn place(file: &GgufFile, number: usize, offset: u64) -> BytePlace {
    let part = (file.parts().len() > 1).then(|| base_name(file.parts()[number].path()));
    BytePlace { offset, part }
}

/// Findings in a chunk of a tensor.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Blocks with values that are not finite.
    n_bad: u64,
    /// The first of them.
    first_bad: Option<u64>,
    /// Whether any value is not zero.
    nonzero: bool,
    /// Number of values below the smallest normal float. Some processors are a hundred times slower with them.
    n_subnormal: u64,
}

fn values(
    file: &GgufFile,
    tensor: &TensorInfo,
    ty: TensorType,
    pipeline: &Pipeline<'_>,
    report: &mut Report,
) -> Result<(), Error> {
    let block = ty.block_elems() as u64;
    let span = Chunked { name: &tensor.name, len: tensor.n_elems(), step: CHUNK_ELEMS, progress_bytes: tensor.n_bytes };
    let parts = pipeline.map(span, |elems, scratch: &mut Elems| {
        scratch.read(file, tensor, ty, &elems)?;
        Ok(look(&scratch.values, ty.block_elems(), elems.start / block))
    })?;
    let n_bad = parts.iter().map(|part| part.n_bad).sum();
    if let Some(first) = parts.iter().find_map(|part| part.first_bad) {
        report.problems.push(Problem::NotFinite {
            tensor: tensor.name.clone(),
            ty: ty.name(),
            n_blocks: n_bad,
            of: tensor.n_elems() / block,
            block: first,
            place: place(file, tensor.file, byte_range(tensor, &(first * block..first * block)).start),
        });
    }
    // A vector of zeros may be an untrained bias. A matrix of zeros was probably never written.
    if tensor.dims.len() > 1 && !parts.iter().any(|part| part.nonzero) {
        report.warnings.push(format!("tensor {:?}: all values are zero", tensor.name));
    }
    let n_subnormal: u64 = parts.iter().map(|part| part.n_subnormal).sum();
    if n_subnormal > tensor.n_elems() / 2 {
        let (name, n_elems) = (&tensor.name, tensor.n_elems());
        let what = format!("{n_subnormal} of {n_elems} values are subnormal, which are slow on some processors");
        report.warnings.push(format!("tensor {name:?}: {what}"));
    }
    Ok(())
}

/// Checks values that start with block `first_block` of their tensor.
fn look(values: &[f32], block_elems: usize, first_block: u64) -> Seen {
    let largest = largest_magnitude(values);
    let n_subnormal = values.iter().filter(|value| value.is_subnormal()).count() as u64;
    if largest.is_finite() {
        return Seen { nonzero: largest != 0.0, n_subnormal, ..Seen::default() };
    }
    let blocks = values.chunks(block_elems).zip(first_block..);
    let mut bad = blocks.filter(|(block, _)| block.iter().any(|value| !value.is_finite())).map(|(_, index)| index);
    let first_bad = bad.next();
    Seen { n_bad: u64::from(first_bad.is_some()) + bad.count() as u64, first_bad, nonzero: true, n_subnormal }
}

/// The first byte that is not zero between a tensor and `end`.
fn padding(file: &GgufFile, tensor: &TensorInfo, end: u64) -> Result<Option<Problem>, Error> {
    let start = tensor.offset + tensor.n_bytes;
    let mut bytes = Vec::new();
    file.read(tensor, start..end.max(start), &mut bytes)?;
    let at = bytes.iter().position(|&byte| byte != 0);
    let place = |at: usize| place(file, tensor.file, start + at as u64);
    Ok(at.map(|at| Problem::Padding { tensor: tensor.name.clone(), place: place(at) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_blocks_are_counted_and_the_first_is_named() {
        let mut values = [1.0; 128];
        assert!(look(&values, 32, 7).first_bad.is_none());
        (values[40], values[41], values[127]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
        let seen = look(&values, 32, 7);
        assert_eq!((seen.n_bad, seen.first_bad, seen.nonzero), (2, Some(8), true));
        assert!(!look(&[0.0, -0.0], 1, 0).nonzero);
    }

    #[test]
    fn subnormal_values_are_counted() {
        let smallest = f32::MIN_POSITIVE;
        let values = [0.0, -0.0, 1.0, smallest, -smallest, smallest / 2.0, -smallest / 2.0, f32::from_bits(1)];
        assert_eq!(look(&values, 1, 0).n_subnormal, 3);
        assert_eq!(look(&[f32::NAN, f32::from_bits(1)], 1, 0).n_subnormal, 1);
    }
}
