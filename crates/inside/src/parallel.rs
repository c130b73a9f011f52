//! Rows that are independent of each other, shared out among threads.

/// `of(0)` to `of(n - 1)`, in order. What becomes of a row does not depend on how many threads there are.
pub(crate) fn rows<T: Send>(threads: usize, n: usize, of: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let share = n.div_ceil(threads.max(1)).max(1);
    let of = &of;
    std::thread::scope(|scope| {
        let run = |first: usize| scope.spawn(move || (first..n.min(first + share)).map(of).collect::<Vec<T>>());
        let parts: Vec<_> = (0..n).step_by(share).map(run).collect();
        let joined = |part: std::thread::ScopedJoinHandle<'_, Vec<T>>| match part.join() {
            Ok(rows) => rows,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        parts.into_iter().flat_map(joined).collect()
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn rows_keep_their_order() {
        for threads in 0..6 {
            for n in [0, 1, 5, 12] {
                assert_eq!(super::rows(threads, n, |i| i * i), (0..n).map(|i| i * i).collect::<Vec<_>>());
            }
        }
    }
}
