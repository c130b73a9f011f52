//! Which tensors go into which file.

use super::{MAX_COUNT, remove_keys};
use crate::error::Error;
use crate::keys;
use crate::metadata::Metadata;
use crate::tensor::TensorInfo;
use crate::write::{Layout, preamble, put_tensor};
use std::ops::Range;

/// How large the files of a model may be. Without any limit it is one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a file, its header included. One with a single tensor may be larger.
    pub max_bytes: Option<u64>,
    /// Tensors of a file.
    pub max_tensors: Option<usize>,
}

impl Limits {
    fn allow(&self, n_bytes: u64, n_tensors: usize) -> bool {
        self.max_bytes.is_none_or(|max| n_bytes <= max) && self.max_tensors.is_none_or(|max| n_tensors <= max)
    }
}

impl Layout {
    /// Plans the files that `limits` ask for in place of this one, which was planned with `metadata`: this one as it
    /// is, if it is within them.
    ///
    /// Tensors keep their order, and each file takes as many as it may. If the metadata leaves no room for the first
    /// tensor, the first file has none.
    ///
    /// # Errors
    /// If the metadata alone is larger than a file may be, or there would be more files than the format can number.
    pub fn split(self, metadata: &Metadata, limits: &Limits) -> Result<Vec<Self>, Error> {
        if limits.allow(self.total_bytes(), self.tensors().len()) {
            return Ok(vec![self]);
        }
        let n_tensors = self.tensors().len();
        // Numbers take the same room whatever they are.
        let sizes = [0, 1].map(|no| part_metadata(metadata, no, MAX_COUNT, n_tensors));
        let [first, rest] = sizes.map(|metadata| Size::of(&metadata));
        let parts = divide(self.tensors(), limits, first?, rest?)?;
        let count = parts.len() as u32;
        let layouts = parts.into_iter().zip(0..).map(|(part, no)| {
            let tensors = self.tensors()[part].iter().map(|t| (t.name.clone(), t.ty, t.dims.clone()));
            Self::of(&part_metadata(metadata, no, count, n_tensors), tensors)
        });
        layouts.collect()
    }
}

/// The tensors of each file.
fn divide(tensors: &[TensorInfo], limits: &Limits, first: Size, rest: Size) -> Result<Vec<Range<usize>>, Error> {
    if let Some(max) = limits.max_bytes.filter(|&max| first.total() > max) {
        let found = format!("{} bytes of metadata", first.total());
        return Err(Error::header(found, format!("no more than {max} bytes, which a file may have")));
    }
    let mut parts: Vec<Range<usize>> = Vec::new();
    let mut part = 0..0;
    let mut size = first;
    for (index, tensor) in tensors.iter().enumerate() {
        let larger = size.with(tensor);
        let may_end = !part.is_empty() || parts.is_empty();
        if may_end && !limits.allow(larger.total(), part.len() + 1) {
            parts.push(part);
            part = index..index + 1;
            size = rest.with(tensor);
        } else {
            part.end = index + 1;
            size = larger;
        }
    }
    parts.push(part);
    if parts.len() > MAX_COUNT as usize {
        return Err(Error::header(format!("{} parts of a model", parts.len()), format!("at most {MAX_COUNT}")));
    }
    Ok(parts)
}

/// The metadata of file `no`: all of it in the first one, the split alone in the others.
fn part_metadata(metadata: &Metadata, no: u32, count: u32, n_tensors: usize) -> Metadata {
    let mut part = Metadata::new();
    if no == 0 {
        part = metadata.clone();
        remove_keys(&mut part);
    } else if let Some(alignment) = metadata.get(keys::ALIGNMENT) {
        // Readers take it from the file that it is about.
        part.insert(keys::ALIGNMENT, alignment.clone());
    }
    // At most `MAX_COUNT`, and tables of 2^31 tensors have been refused long before.
    part.insert(keys::SPLIT_NO, no as u16);
    part.insert(keys::SPLIT_COUNT, count as u16);
    part.insert(keys::SPLIT_TENSORS_COUNT, n_tensors as i32);
    part
}

/// Size of a file that is being filled, in bytes.
#[derive(Clone, Copy)]
struct Size {
    header: u64,
    data: u64,
    alignment: u64,
}

impl Size {
    /// Of a file without tensors.
    fn of(metadata: &Metadata) -> Result<Self, Error> {
        let alignment = crate::rules::alignment(metadata)?;
        Ok(Self { header: preamble(metadata, 0)?.len() as u64, data: 0, alignment })
    }

    fn with(self, tensor: &TensorInfo) -> Self {
        let mut entry = Vec::new();
        put_tensor(&mut entry, tensor);
        let data = self.data + tensor.n_bytes.next_multiple_of(self.alignment);
        Self { header: self.header + entry.len() as u64, data, ..self }
    }

    fn total(self) -> u64 {
        self.header.next_multiple_of(self.alignment) + self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::Gguf;
    use crate::split::{Merge, shard_name};
    use pythia_tensor::TensorType;

    fn model(alignment: Option<u32>) -> (Metadata, Vec<(String, TensorType, Vec<u64>)>) {
        let mut metadata = Metadata::new();
        metadata.insert(keys::ARCHITECTURE, "gptneox");
        metadata.insert("text", "x".repeat(500));
        if let Some(alignment) = alignment {
            metadata.insert(keys::ALIGNMENT, alignment);
        }
        let tensors = (0..20u64).map(|i| (format!("blk.{i}.weight"), TensorType::F32, vec![7 + 40 * (i % 5), i + 1]));
        (metadata, tensors.collect())
    }

    fn split(alignment: Option<u32>, limits: Limits) -> Vec<Layout> {
        let (metadata, tensors) = model(alignment);
        Layout::new(&metadata, tensors).unwrap().split(&metadata, &limits).unwrap()
    }

    fn headers(layouts: &[Layout]) -> Vec<Gguf> {
        let file = |layout: &Layout| {
            let mut file = layout.header().to_vec();
            file.resize(layout.total_bytes() as usize, 0);
            Gguf::parse(&file).unwrap()
        };
        layouts.iter().map(file).collect()
    }

    #[test]
    fn every_limit_gives_files_within_it_that_merge_to_the_model() {
        for alignment in [None, Some(256)] {
            let (metadata, tensors) = model(alignment);
            for max_bytes in [1100, 2000, 5000, 9000, 30_000, 1 << 40] {
                let layouts = split(alignment, Limits { max_bytes: Some(max_bytes), max_tensors: None });
                for (no, layout) in layouts.iter().enumerate() {
                    let single = no > 0 && layout.tensors().len() == 1;
                    assert!(layout.total_bytes() <= max_bytes || single, "{max_bytes}: file {no}");
                    // Taken as full as it may be: the next tensor would not have fitted.
                    if let Some(next) = layouts.get(no + 1) {
                        let alignment = headers(&layouts)[no].alignment;
                        let entry = 64 + alignment;
                        let next = next.tensors()[0].n_bytes.next_multiple_of(alignment);
                        assert!(layout.total_bytes() + entry + next > max_bytes, "{max_bytes}: file {no} has room");
                    }
                }
                let count = layouts.len() as u32;
                let mut headers = headers(&layouts).into_iter();
                let mut merge = Merge::new(headers.next().unwrap(), &shard_name("m", 0, count)).unwrap();
                headers.for_each(|header| merge.add(header).unwrap());
                let merged = merge.finish().unwrap();
                assert_eq!(merged.metadata, metadata);
                let names = merged.tensors().iter().map(|t| &t.name);
                assert!(names.eq(tensors.iter().map(|(name, ..)| name)), "{max_bytes}");
            }
        }
    }

    #[test]
    fn tensors_are_counted() {
        let layouts = split(None, Limits { max_bytes: None, max_tensors: Some(6) });
        let counts: Vec<_> = layouts.iter().map(|layout| layout.tensors().len()).collect();
        assert_eq!(counts, [6, 6, 6, 2]);
        let headers = headers(&layouts);
        assert_eq!(headers[0].metadata.len(), 2 + 3);
        assert_eq!(headers[3].metadata.get(keys::SPLIT_NO), Some(&3u16.into()));
        assert_eq!(headers[3].metadata.get(keys::SPLIT_COUNT), Some(&4u16.into()));
        assert_eq!(headers[3].metadata.get(keys::SPLIT_TENSORS_COUNT), Some(&20i32.into()));
        assert_eq!(headers[3].metadata.len(), 3);
    }

    #[test]
    fn what_fits_is_not_split_and_what_cannot_is_refused() {
        let (metadata, tensors) = model(None);
        let whole = Layout::new(&metadata, tensors).unwrap();
        let limits = |max_bytes| Limits { max_bytes: Some(max_bytes), max_tensors: None };
        let n_bytes = whole.total_bytes();
        assert_eq!(whole.clone().split(&metadata, &Limits::default()), Ok(vec![whole.clone()]));
        assert_eq!(whole.clone().split(&metadata, &limits(n_bytes)), Ok(vec![whole.clone()]));
        assert_eq!(whole.clone().split(&metadata, &limits(n_bytes - 1)).unwrap().len(), 2);
        let line = whole.split(&metadata, &limits(500)).unwrap_err().to_string();
        assert!(line.contains("bytes of metadata, wanted no more than 500 bytes"), "{line}");
    }

    #[test]
    fn metadata_may_fill_the_first_file() {
        // Space for the metadata, but not for the first tensor.
        let layouts = split(None, Limits { max_bytes: Some(750), max_tensors: None });
        assert_eq!(layouts[0].tensors().len(), 0);
        assert_eq!(headers(&layouts)[0].metadata.get("text"), model(None).0.get("text"));
        assert_eq!(layouts[1].tensors()[0].name, "blk.0.weight");
    }
}
