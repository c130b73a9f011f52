//! Several requests at once.

use crate::Error;
use crate::client::Client;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Calls `work` with each of `items` in their order, on at most `max_threads` threads.
///
/// # Errors
/// The first error that is not [`Error::Cancelled`]. An error stops `client`, and so the other threads.
pub(crate) fn for_each<T: Send>(
    client: &Client,
    max_threads: usize,
    items: Vec<T>,
    work: impl Fn(T) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let n_threads = max_threads.min(items.len());
    let queue = Mutex::new(VecDeque::from(items));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let all = || {
        while let Some(item) = next() {
            if let Err(error) = work(item) {
                client.stop();
                return Err(error);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(all)).collect();
        let lost = || Err(Error::network("download", "a thread ended without a result"));
        let results = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| lost()));
        // A thread that fails cancels the others.
        let worst = |first: Result<(), Error>, next| match (first, next) {
            (Ok(()) | Err(Error::Cancelled), next @ Err(_)) => next,
            (first, _) => first,
        };
        results.fold(Ok(()), worst)
    })
}
