//! Processes the tensors of a model in chunks, on a pool of threads. Digests of whole files are computed elsewhere,
//! because they need all bytes in order.
//!
//! [`Pipeline::stream`] reads a source in order, once: one thread reads ahead while the pool works. [`Pipeline::map`]
//! reads a file by position: every worker reads its own chunks. Results are returned in order, so sums of floats do not
//! depend on the number of threads.
//!
//! Memory is a few chunks per thread, independent of the size of the model. A raised cancel flag ends the work before
//! the next chunk.

use crate::Error;
use pythia_task::{Cancel, Progress};
use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator, ParallelBridge, ParallelIterator};
use std::ops::Range;
use std::sync::mpsc::sync_channel;
use std::thread;

/// Elements of a chunk for [`Pipeline::map`]: 256 KiB as f32, and a multiple of every block.
pub(crate) const CHUNK_ELEMS: u64 = 1 << 16;

/// Chunks that [`Pipeline::stream`] reads ahead.
const CHUNKS_AHEAD: usize = 8;

/// Options of a pass over a model. They do not change results.
#[derive(Clone, Copy)]
pub struct PassOptions<'a> {
    /// Worker threads; 0 for one per core.
    pub threads: usize,
    /// Raised by the caller to stop.
    pub cancel: &'a Cancel,
    /// Receives the progress.
    pub progress: &'a dyn Progress,
}

/// Threads that work on one tensor after the other.
pub(crate) struct Pipeline<'a> {
    pool: ThreadPool,
    cancel: &'a Cancel,
    progress: &'a dyn Progress,
}

/// A tensor, or part of one, to be cut into chunks.
#[derive(Clone, Copy)]
pub(crate) struct Chunked<'a> {
    /// Name of the tensor.
    pub(crate) name: &'a str,
    /// Its number of elements, rows or bytes.
    pub(crate) len: u64,
    /// Number of them in a chunk. The last chunk has the rest.
    pub(crate) step: u64,
    /// Progress to report for all chunks.
    pub(crate) progress_bytes: u64,
}

impl<'a> Pipeline<'a> {
    pub(crate) fn new(options: &PassOptions<'a>) -> Result<Self, Error> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
        let pool = pool.map_err(|e| Error::Request(format!("cannot start {} threads: {e}", options.threads)))?;
        Ok(Self { pool, cancel: options.cancel, progress: options.progress })
    }

    /// The results of `work` for every chunk of `span`, in order. `work` may leave its buffers in any state.
    pub(crate) fn map<S: Default, T: Send>(
        &self,
        span: Chunked<'_>,
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

    /// Calls `work` for every chunk from `read`, in no particular order. A separate thread reads. The first error ends
    /// everything. `work` may leave its buffers in any state, and reports progress itself.
    pub(crate) fn stream<C: Send, S: Default>(
        &self,
        mut read: impl Iterator<Item = Result<C, Error>> + Send,
        work: impl Fn(C, &mut S) -> Result<(), Error> + Sync,
    ) -> Result<(), Error> {
        let (sender, chunks) = sync_channel(CHUNKS_AHEAD);
        let mut next = || if self.cancel.is_raised() { Some(Err(Error::Cancelled)) } else { read.next() };
        thread::scope(|scope| {
            scope.spawn(move || {
                while let Some(chunk) = next() {
                    let failed = chunk.is_err();
                    if sender.send(chunk).is_err() || failed {
                        break;
                    }
                }
            });
            // When a worker fails, the channel is dropped with the iterator, and the reader ends at its next send.
            self.pool.install(|| {
                let chunks = chunks.into_iter().par_bridge();
                chunks.try_for_each_init(S::default, |scratch, chunk| work(chunk?, scratch))
            })
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
            let pipeline = Pipeline::new(&PassOptions { threads, cancel: &cancel, progress: &progress }).unwrap();
            let span = Chunked { name: "t", len: 1003, step: 10, progress_bytes: 777 };
            let chunks = pipeline.map(span, |chunk, (): &mut ()| Ok(chunk)).unwrap();
            assert_eq!(chunks.len(), 101);
            assert!(chunks.iter().cloned().flatten().eq(0..1003));
            assert_eq!(progress.0.into_inner(), 777);
        }
    }

    #[test]
    fn a_raised_flag_ends_it() {
        let cancel = Cancel::new();
        cancel.raise();
        let pipeline = Pipeline::new(&PassOptions { threads: 1, cancel: &cancel, progress: &() }).unwrap();
        let span = Chunked { name: "t", len: 1, step: 1, progress_bytes: 0 };
        assert!(matches!(pipeline.map(span, |_, (): &mut ()| Ok(())), Err(Error::Cancelled)));
    }

    #[test]
    fn a_stream_is_worked_on_once_and_ends_at_the_first_error() {
        let cancel = Cancel::new();
        for threads in [1, 3] {
            let pipeline = Pipeline::new(&PassOptions { threads, cancel: &cancel, progress: &() }).unwrap();
            let sum = AtomicI64::new(0);
            let add = |n: i64, (): &mut ()| {
                sum.fetch_add(n, Ordering::Relaxed);
                Ok(())
            };
            pipeline.stream((1..=100).map(Ok), add).unwrap();
            assert_eq!(sum.load(Ordering::Relaxed), 5050);
            // Without an end but for the error, which comes from reading, then from work.
            let failing = (0..).map(|n: i64| if n == 50 { Err(Error::Request("read".into())) } else { Ok(n) });
            assert_eq!(pipeline.stream(failing, add).unwrap_err().to_string(), "read");
            let error = pipeline.stream((0..).map(Ok), |n: i64, (): &mut ()| match n {
                70 => Err(Error::Request("work".into())),
                _ => Ok(()),
            });
            assert_eq!(error.unwrap_err().to_string(), "work");
        }
        let pipeline = Pipeline::new(&PassOptions { threads: 1, cancel: &cancel, progress: &() }).unwrap();
        let raise = |n: i64, (): &mut ()| {
            if n == 3 {
                cancel.raise();
            }
            Ok(())
        };
        assert!(matches!(pipeline.stream((0..).map(Ok), raise), Err(Error::Cancelled)));
    }
}
