//! Results that the threads of a team find.

use pythia_kernels::Team;

/// The results of `work` for `0..n`, in order.
pub(crate) fn map<T: Send>(team: &Team, n: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let mut results: Vec<Option<T>> = (0..n).map(|_| None).collect();
    team.run_pieces(&mut results, 1, |n, slot| slot[0] = Some(work(n)));
    results.into_iter().map(|result| result.expect("every task ran")).collect()
}
