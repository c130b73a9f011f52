//! The product of the two small matrices.

/// Columns worked on at a time: their sums and, at usual ranks, as many columns of the right factor stay in near caches.
const TILE: usize = 256;

/// Adds `scale * (left * right)` to `values`, `[rows, cols]`, of `left` `[rows, rank]` and `right` `[rank, cols]`.
///
/// Each sum is taken in f32 over ascending ranks, then multiplied, then added: its bits depend on nothing but the numbers,
/// so rows may be read in any pieces.
pub(super) fn add_product(values: &mut [f32], left: &[f32], right: &[f32], cols: usize, scale: f32) {
    let rank = right.len() / cols.max(1);
    if rank == 0 || cols == 0 {
        return;
    }
    for start in (0..cols).step_by(TILE) {
        let width = TILE.min(cols - start);
        for (row, left) in values.chunks_exact_mut(cols).zip(left.chunks_exact(rank)) {
            let mut sums = [0.0f32; TILE];
            for (&factor, right) in left.iter().zip(right.chunks_exact(cols)) {
                let right = &right[start..start + width];
                sums.iter_mut().zip(right).for_each(|(sum, right)| *sum += factor * right);
            }
            let row = &mut row[start..start + width];
            row.iter_mut().zip(&sums).for_each(|(value, sum)| *value += scale * sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, so that every sum is exact.
    fn matrix(rows: usize, cols: usize, seed: usize) -> Vec<f32> {
        (0..rows * cols).map(|i| ((i * 7 + seed * 13) % 19) as f32 - 9.0).collect()
    }

    #[test]
    fn it_is_the_product_in_any_pieces() {
        for (rows, cols, rank) in [(1, 1, 1), (3, 5, 2), (4, 256, 3), (7, 257, 8), (5, 600, 1)] {
            let (left, right, base) = (matrix(rows, rank, 1), matrix(rank, cols, 2), matrix(rows, cols, 3));
            let mut wanted = base.clone();
            for row in 0..rows {
                for col in 0..cols {
                    let sum: f32 = (0..rank).map(|k| left[row * rank + k] * right[k * cols + col]).sum();
                    wanted[row * cols + col] += 0.5 * sum;
                }
            }
            for step in 1..=rows {
                let mut values = base.clone();
                for (values, left) in values.chunks_mut(step * cols).zip(left.chunks(step * rank)) {
                    add_product(values, left, &right, cols, 0.5);
                }
                assert_eq!(values, wanted, "{rows} x {cols}, rank {rank}, {step} rows at a time");
            }
        }
    }
}
