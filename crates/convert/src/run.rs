//! Runs a plan: one pass over the source for all files.
//!
//! A reader thread fetches chunks of whole rows, a bounded number ahead. Each worker of the pipeline
//! widens, checks, encodes and writes a chunk. So reading, encoding and writing overlap, and memory is a few chunks,
//! independent of the size of the model. Every byte's position is planned and does not depend on threads.
//!
//! A [quantizer](crate::Quantizer) has its turn before the pass, which leaves out what it wrote.

use crate::decode::decode;
use crate::file::largest_magnitude;
use crate::output::{AtomicFile, Naming, check_target};
use crate::pipeline::{PassOptions, Pipeline};
use crate::plan::{Encoding, Plan, PlannedTensor, Slot};
use crate::quantizer::{Done, QuantizeJob};
use crate::{Error, FilePlan, Level, Quantizer, Source, SourceTensor, digest};
use pythia_task::{Cancel, Progress};
use pythia_tensor::TensorType;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Elements per chunk, rounded to whole rows: large enough to write a file in long pieces, small enough that every
/// thread gets chunks of a small model.
const CHUNK_ELEMS: usize = 1 << 18;

/// Elements decoded and encoded at a time, rounded to whole rows: 128 KiB of f32, which stay in the L2 cache for all
/// types, and enough blocks for encoders that process many at once.
const PIECE_ELEMS: usize = 1 << 15;

/// From here on a value rounds to infinity in f16. The scale and the minimum of a block are stored in f16 too.
const F16_OVERFLOW: f32 = 65520.0;

/// Options for running a plan. They do not change a byte of the result.
#[derive(Clone, Copy)]
pub struct RunOptions<'a> {
    /// Worker threads; 0 for one per core.
    pub threads: usize,
    /// Replace files that exist.
    pub force: bool,
    /// Accept weights that are infinite, NaN or too large for f16.
    pub allow_nonfinite: bool,
    /// Write `FILE.sha256` beside each file.
    pub sha256: bool,
    /// Raised by the caller to stop. The run then removes its unfinished files.
    pub cancel: &'a Cancel,
    /// Receives the progress, in bytes of the source. With a quantizer there are stages: `checking the weights`,
    /// `quantizing LEVEL` in the quantizer's units for each file that it rounds, and `writing`.
    pub progress: &'a dyn Progress,
}

/// A model that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its level.
    pub level: Level,
    /// Its file, or the files that it is split over.
    pub files: Vec<WrittenFile>,
    /// Time for encoding and writing it, summed over the threads. Work shared between models counts in each. The time
    /// of a quantizer is that of the clock.
    pub worker_seconds: f64,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub n_bytes: u64,
    /// Its SHA-256, hexadecimal, if digests were requested.
    pub sha256: Option<String>,
}

impl Written {
    /// Bytes of all its files.
    pub fn n_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.n_bytes).sum()
    }
}

/// Writes every file of `plan`. All files are renamed to their targets at the end: when all are complete, digested and
/// synced, and after the last check of the cancel flag. The first file of a split model is renamed last. If it replaces
/// an old one, that is removed first, because the model cannot be opened without it.
///
/// # Errors
/// If an output exists or is an input, a weight cannot be converted, the system refuses a read or write, or the run is
/// cancelled. Nothing is left behind then, except if a rename at the end fails: files that already have their names
/// stay.
pub fn run(source: &dyn Source, plan: &Plan, options: &RunOptions<'_>) -> Result<Vec<Written>, Error> {
    check_targets(plan, options)?;
    let RunOptions { threads, cancel, progress, .. } = *options;
    let pipeline = Pipeline::new(&PassOptions { threads, cancel, progress })?;
    let sinks = plan.files.iter().map(|file| Sink::create(file, options.progress)).collect::<Result<Vec<_>, _>>()?;
    let pass = Pass { source, plan, options, sinks: &sinks };
    if let Some(quantizer) = plan.quantizer.as_deref().filter(|_| plan.files.iter().any(|file| file.by_quantizer)) {
        pass.quantize(quantizer, &pipeline)?;
    }
    pipeline.stream(pass.chunks(), |chunk, scratch| pass.convert(&chunk, scratch))?;
    let complete = sinks.into_iter().zip(&plan.files).map(|(sink, file)| Complete::new(sink, file, options));
    let complete = complete.collect::<Result<Vec<_>, _>>()?;
    if options.cancel.is_raised() {
        return Err(Error::Cancelled);
    }
    let _naming = Naming::begin();
    // Finds targets that have appeared since the start, before the first rename.
    check_targets(plan, options)?;
    complete.into_iter().map(|model| model.commit(options.force)).collect()
}

/// Checks all targets: the files, and the sidecars of their digests.
fn check_targets(plan: &Plan, options: &RunOptions<'_>) -> Result<(), Error> {
    for shard in plan.files.iter().flat_map(|file| &file.shards) {
        check_target(&shard.path, &plan.inputs, options.force)?;
        if options.sha256 {
            check_target(&digest::sidecar(&shard.path), &plan.inputs, options.force)?;
        }
    }
    Ok(())
}

/// A model with complete files that are not renamed yet.
struct Complete {
    /// In the order of the shards.
    files: Vec<CompleteFile>,
    written: Written,
}

/// A complete file that is not renamed yet, with its sidecar if digests were requested.
struct CompleteFile {
    file: AtomicFile,
    sidecar: Option<AtomicFile>,
}

impl Complete {
    fn new(sink: Sink, plan: &FilePlan, options: &RunOptions<'_>) -> Result<Self, Error> {
        let mut files = Vec::new();
        let mut written = Written {
            level: plan.level,
            files: Vec::new(),
            worker_seconds: sink.worker_nanos.into_inner() as f64 / 1e9,
        };
        for (file, shard) in sink.files.into_iter().zip(&plan.shards) {
            let digests = match options.sha256 {
                true => Some(digest::of_file(file.temp_path(), &shard.layout, options.cancel)?),
                false => None,
            };
            let sidecar =
                digests.as_ref().map(|digests| digests.sidecar_of(&shard.path, options.progress)).transpose()?;
            // Synced now, so that no rename has to wait for the disk.
            file.file().sync_all().map_err(Error::io(&shard.path, "flush"))?;
            files.push(CompleteFile { file, sidecar });
            let (path, n_bytes) = (shard.path.clone(), shard.layout.total_bytes());
            written.files.push(WrittenFile { path, n_bytes, sha256: digests.map(|digests| digests.whole) });
        }
        Ok(Self { files, written })
    }

    fn commit(self, force: bool) -> Result<Written, Error> {
        let first = &self.written.files[0].path;
        if force && self.files.len() > 1 && first.exists() {
            std::fs::remove_file(first).map_err(Error::io(first, "replace"))?;
        }
        for CompleteFile { file, sidecar } in self.files.into_iter().rev() {
            if force {
                // Removed first, so that the digests are never those of another file.
                digest::remove_sidecar(file.target())?;
            }
            file.commit(force)?;
            if let Some(sidecar) = sidecar {
                sidecar.commit(force)?;
            }
        }
        Ok(self.written)
    }
}

/// A model being written.
struct Sink {
    /// In the order of the shards.
    files: Vec<AtomicFile>,
    /// The tensors that need no encoding any more.
    done: Done,
    worker_nanos: AtomicU64,
}

impl Sink {
    /// Starts every file of a model, and writes their headers.
    fn create(plan: &FilePlan, progress: &dyn Progress) -> Result<Self, Error> {
        let mut files = Vec::new();
        for shard in &plan.shards {
            let file = AtomicFile::create(&shard.path, shard.layout.total_bytes(), progress)?;
            file.write_at(shard.layout.header(), 0)?;
            files.push(file);
        }
        Ok(Self { files, done: Done::new(plan.choices.len()), worker_nanos: AtomicU64::new(0) })
    }

    fn add_time(&self, since: Instant) {
        self.worker_nanos.fetch_add(since.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}

/// Whole rows of one tensor, with elements as stored in the source, in GGUF's row order.
struct Chunk<'p> {
    /// Index of the tensor in the plan.
    index: usize,
    tensor: &'p PlannedTensor,
    first_row: usize,
    bytes: Vec<u8>,
}

/// Buffers of one worker, reused from chunk to chunk.
#[derive(Default)]
struct Scratch {
    values: Vec<f32>,
    /// One output per encoding.
    encoded: Vec<Vec<u8>>,
}

/// The streaming pass.
#[derive(Clone, Copy)]
struct Pass<'a> {
    source: &'a dyn Source,
    plan: &'a Plan,
    options: &'a RunOptions<'a>,
    sinks: &'a [Sink],
}

impl<'a> Pass<'a> {
    /// Lets the quantizer round the files that ask for it, one after the other. It computes with all weights, so they
    /// are checked before and not when it is done.
    fn quantize(self, quantizer: &dyn Quantizer, pipeline: &Pipeline<'_>) -> Result<(), Error> {
        let RunOptions { threads, cancel, progress, .. } = *self.options;
        if !self.options.allow_nonfinite {
            progress.stage("checking the weights");
            progress.expect(Some(self.plan.source_bytes()));
            pipeline.stream(self.chunks(), |chunk, scratch| self.check(&chunk, scratch))?;
        }
        for (file, sink) in self.sinks.iter().enumerate().filter(|(file, _)| self.plan.files[*file].by_quantizer) {
            if cancel.is_raised() {
                return Err(Error::Cancelled);
            }
            progress.stage(&format!("quantizing {}", self.plan.files[file].level));
            let start = Instant::now();
            let options = PassOptions { threads, cancel, progress };
            let Self { source, plan, .. } = self;
            quantizer.quantize(&QuantizeJob { source, plan, file, options, outputs: &sink.files, done: &sink.done })?;
            sink.add_time(start);
        }
        progress.stage("writing");
        progress.expect(Some(self.needed().map(|(_, tensor)| tensor.source.n_bytes()).sum()));
        Ok(())
    }

    /// The tensors that are not written yet to every file, with their indices.
    fn needed(self) -> impl Iterator<Item = (usize, &'a PlannedTensor)> + Send {
        let needed = move |&(index, _): &(usize, &PlannedTensor)| self.sinks.iter().any(|sink| !sink.done.has(index));
        self.plan.tensors.iter().enumerate().filter(needed)
    }

    /// Every chunk of every needed tensor, read in order.
    fn chunks(self) -> impl Iterator<Item = Result<Chunk<'a>, Error>> + Send {
        self.needed().flat_map(move |(index, tensor)| {
            let n_rows = tensor.source.n_rows();
            let step = (CHUNK_ELEMS / tensor.source.row_elems().max(1)).max(1);
            (0..n_rows).step_by(step).map(move |row| self.read(index, tensor, row..n_rows.min(row + step)))
        })
    }

    fn read(self, index: usize, tensor: &'a PlannedTensor, rows: Range<usize>) -> Result<Chunk<'a>, Error> {
        let (first_row, mut bytes) = (rows.start, Vec::new());
        self.source.read_rows(&tensor.source, rows, &mut bytes)?;
        Ok(Chunk { index, tensor, first_row, bytes })
    }

    /// Where an encoding of tensor `index` is still to be written.
    fn places(self, index: usize, encoding: &'a Encoding) -> impl Iterator<Item = &'a Slot> {
        encoding.places.iter().filter(move |place| !self.sinks[place.file].done.has(index))
    }

    /// Refuses a chunk with weights that cannot be converted.
    fn check(self, chunk: &Chunk<'_>, scratch: &mut Scratch) -> Result<(), Error> {
        let source = &chunk.tensor.source;
        for piece in chunk.bytes.chunks(piece_rows(source) * source.row_bytes()) {
            decode(source.ty, piece, &mut scratch.values);
            check_values(chunk.tensor, &scratch.values)?;
        }
        self.options.progress.advance(&chunk.tensor.name, chunk.bytes.len() as i64);
        Ok(())
    }

    /// Encodes a chunk in all its types, and writes it to all its positions.
    fn convert(self, chunk: &Chunk<'a>, scratch: &mut Scratch) -> Result<(), Error> {
        let Chunk { index, tensor, .. } = *chunk;
        let Scratch { values, encoded } = scratch;
        encoded.resize_with(tensor.encodings.len().max(encoded.len()), Vec::new);
        encoded.iter_mut().for_each(Vec::clear);
        let source = &tensor.source;
        for piece in chunk.bytes.chunks(piece_rows(source) * source.row_bytes()) {
            // Checked here too, because some types take a second per chunk.
            if self.options.cancel.is_raised() {
                return Err(Error::Cancelled);
            }
            decode(source.ty, piece, values);
            if !self.options.allow_nonfinite {
                check_values(tensor, values)?;
            }
            for (encoding, out) in tensor.encodings.iter().zip(encoded.iter_mut()) {
                if self.places(index, encoding).next().is_none() {
                    continue;
                }
                let start = Instant::now();
                match encoding.ty == source.ty {
                    // The source's own type is copied bit for bit.
                    true => out.extend_from_slice(piece),
                    false => append(encoding.ty, values, tensor.importance.as_deref(), out),
                }
                self.places(index, encoding).for_each(|place| self.sinks[place.file].add_time(start));
            }
        }
        for (encoding, bytes) in tensor.encodings.iter().zip(encoded.iter()) {
            self.write(chunk, encoding, bytes)?;
        }
        self.options.progress.advance(&tensor.name, chunk.bytes.len() as i64);
        Ok(())
    }

    fn write(self, chunk: &Chunk<'_>, encoding: &'a Encoding, bytes: &[u8]) -> Result<(), Error> {
        // Rows are whole blocks, so they are of one size and the chunk starts at a multiple of it.
        let n_rows = chunk.bytes.len() / chunk.tensor.source.row_bytes();
        let within = chunk.first_row as u64 * (bytes.len() / n_rows) as u64;
        for place in self.places(chunk.index, encoding) {
            let start = Instant::now();
            self.sinks[place.file].files[place.shard].write_at(bytes, place.offset + within)?;
            self.sinks[place.file].add_time(start);
        }
        Ok(())
    }
}

/// Rows that are decoded and encoded at a time.
fn piece_rows(source: &SourceTensor) -> usize {
    (PIECE_ELEMS / source.row_elems()).max(1)
}

/// Appends the encoding of whole rows.
fn append(ty: TensorType, values: &[f32], importance: Option<&[f32]>, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + values.len() / ty.block_elems() * ty.block_bytes(), 0);
    match importance {
        Some(importance) => ty.encode_weighted(values, importance, &mut out[start..]),
        None => ty.encode(values, &mut out[start..]),
    }
}

/// Refuses infinite weights, NaN, and weights too large for f16. They come from a damaged file or a diverged training
/// run.
fn check_values(tensor: &PlannedTensor, values: &[f32]) -> Result<(), Error> {
    let largest = largest_magnitude(values);
    if !largest.is_finite() {
        let reason = "holds a value that is not finite (--allow-nonfinite converts it all the same)";
        return Err(Error::Values { name: tensor.source.name.clone(), reason: reason.to_owned() });
    }
    let overflows = |encoding: &&Encoding| {
        !matches!(encoding.ty, TensorType::F32 | TensorType::BF16) && encoding.ty != tensor.source.ty
    };
    if largest >= F16_OVERFLOW
        && let Some(encoding) = tensor.encodings.iter().find(overflows)
    {
        let reason =
            format!("holds {largest:e}, too large for the f16 in {} (--allow-nonfinite ignores it)", encoding.ty);
        return Err(Error::Values { name: tensor.source.name.clone(), reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn tensor(source: TensorType, types: &[TensorType]) -> PlannedTensor {
        let shape = vec![1, 256];
        let source = SourceTensor { name: "w".into(), ty: source, shape: shape.clone(), order: None };
        let encodings = types.iter().map(|&ty| Encoding { ty, places: vec![] }).collect();
        PlannedTensor { name: "w".into(), shape, source, importance: None, encodings }
    }

    /// A split model of three files that lack only their names in `folder`.
    fn complete(folder: &Path) -> Complete {
        let file = |no: u8| {
            let path = folder.join(format!("m{no}"));
            let file = AtomicFile::create(&path, 0, &()).unwrap();
            file.write_at(b"new", 0).unwrap();
            (CompleteFile { file, sidecar: None }, WrittenFile { path, n_bytes: 3, sha256: None })
        };
        let (files, written) = (1..=3).map(file).unzip();
        Complete { files, written: Written { level: Level::F16, files: written, worker_seconds: 0.0 } }
    }

    #[test]
    fn a_split_model_is_never_half_old_and_half_new() {
        use std::fs::{create_dir, read, remove_dir, write};
        let dir = tempfile::tempdir().unwrap();
        let path = |no: u8| dir.path().join(format!("m{no}"));
        // A folder refuses the second of the names to be given. The first file, by which the model is opened, has none
        // then.
        let model = complete(dir.path());
        create_dir(path(2)).unwrap();
        model.commit(false).unwrap_err();
        assert!(path(3).exists() && !path(1).exists());

        // An older model loses its first file before any other is replaced.
        [1, 3].into_iter().for_each(|no| write(path(no), "old").unwrap());
        complete(dir.path()).commit(true).unwrap_err();
        assert!(read(path(3)).unwrap() == b"new" && !path(1).exists());

        remove_dir(path(2)).unwrap();
        [1, 2].into_iter().for_each(|no| write(path(no), "old").unwrap());
        let written = complete(dir.path()).commit(true).unwrap();
        assert_eq!(written.n_bytes(), 9);
        assert!([1, 2, 3].iter().all(|&no| read(path(no)).unwrap() == b"new"));
    }

    #[test]
    fn values_that_a_type_cannot_hold_are_refused() {
        use TensorType::{BF16, F16, F32, Q8_0};
        let refused = |value: f32, source: TensorType, types: &[TensorType]| {
            let mut values = [0.5; 256];
            values[77] = value;
            check_values(&tensor(source, types), &values).err().map(|e| e.to_string())
        };
        for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN] {
            assert!(refused(value, F32, &[F32]).unwrap().contains("not finite"), "{value}");
        }
        for value in [65520.0, -1e30] {
            assert_eq!(refused(value, F32, &[F32, BF16]), None);
            let message = refused(value, F32, &[BF16, Q8_0]).unwrap();
            assert!(message.contains("too large for the f16 in Q8_0"), "{message}");
            // Copied, not encoded.
            assert_eq!(refused(value, Q8_0, &[Q8_0, F32]), None);
            assert!(refused(value, Q8_0, &[Q8_0, F16]).is_some());
        }
        assert_eq!(refused(-65519.0, F32, &[F16]), None);
        assert!(half::f16::from_f32(65519.0).is_finite() && half::f16::from_f32(65520.0).is_infinite());
    }
}
