//! One pass over a file's tensors, in chunks, on a pool of threads.
//!
//! Memory is a few chunks per thread, whatever the size of the file. Chunks have the same bounds and results the same
//! order at any number of threads, so that sums of floats do not depend on it.

use crate::Error;
use pythia_task::{Cancel, Progress};
use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use std::ops::Range;

/// Elements of a chunk: 256 KiB as f32, and a multiple of every block.
pub(crate) const CHUNK_ELEMS: u64 = 1 << 16;

/// How a pass runs. None of it changes a result.
#[derive(Clone, Copy)]
pub struct PassOptions<'a> {
    /// Worker threads; 0 for one per core.
    pub threads: usize,
    /// Raised by the caller to stop.
    pub cancel: &'a Cancel,
    /// Hears how far it is.
    pub progress: &'a dyn Progress,
}

/// Threads that work on one tensor after the other.
pub(crate) struct Workers<'a> {
    pool: ThreadPool,
    cancel: &'a Cancel,
    progress: &'a dyn Progress,
}

/// What is cut into chunks.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    /// Name of the tensor.
    pub(crate) name: &'a str,
    /// How many elements, rows or bytes it has.
    pub(crate) len: u64,
    /// How many of them make a chunk; the last one has what is left.
    pub(crate) step: u64,
    /// What is reported as progress when all chunks are done.
    pub(crate) progress_bytes: u64,
}

impl<'a> Workers<'a> {
    pub(crate) fn new(options: &PassOptions<'a>) -> Result<Self, Error> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
        let pool = pool.map_err(|e| Error::Request(format!("cannot start {} threads: {e}", options.threads)))?;
        Ok(Self { pool, cancel: options.cancel, progress: options.progress })
    }

    /// What `work` makes of every chunk of `span`, in their order. `work` gets buffers that it may leave in any state.
    pub(crate) fn map<S: Default, T: Send>(
        &self,
        span: Span<'_>,
        work: impl Fn(Range<u64>, &mut S) -> Result<T, Error> + Sync,
    ) -> Result<Vec<T>, Error> {
        let step = span.step.max(1);
        let share = |at: u64| (u128::from(span.progress_bytes) * u128::from(at) / u128::from(span.len.max(1))) as u64;
        self.pool.install(|| {
            let chunks = (0..span.len.div_ceil(step)).into_par_iter();
            let results = chunks.map_init(S::default, |scratch, index| {
                if self.cancel.is_raised() {
                    return Err(Error::Cancelled);
                }
                let chunk = index * step..span.len.min((index + 1) * step);
                let result = work(chunk.clone(), scratch)?;
                self.progress.advance(span.name, (share(chunk.end) - share(chunk.start)) as i64);
                Ok(result)
            });
            results.collect()
        })
    }

    /// Reports progress that was made outside of [`map`](Self::map).
    pub(crate) fn advance(&self, name: &str, bytes: u64) {
        self.progress.advance(name, bytes as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[test]
    fn chunks_cover_the_span_in_order_and_progress_adds_up() {
        struct Sum(AtomicI64);
        impl Progress for Sum {
            fn advance(&self, _tensor: &str, bytes: i64) {
                self.0.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        let cancel = Cancel::new();
        for threads in [1, 3] {
            let progress = Sum(AtomicI64::new(0));
            let workers = Workers::new(&PassOptions { threads, cancel: &cancel, progress: &progress }).unwrap();
            let span = Span { name: "t", len: 1003, step: 10, progress_bytes: 777 };
            let chunks = workers.map(span, |chunk, (): &mut ()| Ok(chunk)).unwrap();
            assert_eq!(chunks.len(), 101);
            assert!(chunks.iter().cloned().flatten().eq(0..1003));
            assert_eq!(progress.0.into_inner(), 777);
        }
    }

    #[test]
    fn a_raised_flag_ends_it() {
        let cancel = Cancel::new();
        cancel.raise();
        let workers = Workers::new(&PassOptions { threads: 1, cancel: &cancel, progress: &() }).unwrap();
        let span = Span { name: "t", len: 1, step: 1, progress_bytes: 0 };
        assert!(matches!(workers.map(span, |_, (): &mut ()| Ok(())), Err(Error::Cancelled)));
    }
}
