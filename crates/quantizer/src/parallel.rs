//! Slices cut into pieces that the threads of a team share.

use pythia_kernels::Team;
use std::sync::{Mutex, PoisonError};

/// Calls `work` with every `len` elements of `data` (the last piece may be shorter) and its number, on all threads.
/// What it computes must depend on the piece alone.
pub(crate) fn for_each_piece<T: Send>(team: &Team, data: &mut [T], len: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let pieces: Vec<_> = data.chunks_mut(len.max(1)).map(Mutex::new).collect();
    team.run(pieces.len(), &|n| work(n, &mut pieces[n].lock().unwrap_or_else(PoisonError::into_inner)));
}

/// The results of `work` for `0..n`, in order.
pub(crate) fn map<T: Send>(team: &Team, n: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let mut results: Vec<Option<T>> = (0..n).map(|_| None).collect();
    for_each_piece(team, &mut results, 1, |n, slot| slot[0] = Some(work(n)));
    results.into_iter().map(|result| result.expect("every task ran")).collect()
}
