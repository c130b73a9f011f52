//! The divergence of predictions, from logits.

use pythia_kernels::Team;

/// Sum over rows of the Kullback-Leibler divergence between the predictions that logits stand for, in nats.
pub(crate) fn sum(team: &Team, base: &[f32], other: &[f32], n_vocab: usize) -> f64 {
    let rows: Vec<_> = base.chunks_exact(n_vocab).zip(other.chunks_exact(n_vocab)).collect();
    team.map(rows.len(), |n| of_row(rows[n].0, rows[n].1)).iter().sum()
}

/// `sum of p (ln p - ln q)` of two rows of logits.
fn of_row(base: &[f32], other: &[f32]) -> f64 {
    let (base_total, other_total) = (log_sum_exp(base), log_sum_exp(other));
    let terms = base.iter().zip(other).map(|(&a, &b)| {
        let log_p = f64::from(a) - base_total;
        libm::exp(log_p) * (log_p - (f64::from(b) - other_total))
    });
    terms.sum()
}

/// Adds to `sums`, per token of the vocabulary, the sum of `p (1 - p)` over rows of logits.
pub(crate) fn add_variances(team: &Team, logits: &[f32], sums: &mut [f64]) {
    let n_vocab = sums.len();
    let rows: Vec<&[f32]> = logits.chunks_exact(n_vocab).collect();
    let totals = team.map(rows.len(), |n| log_sum_exp(rows[n]));
    team.run_pieces(sums, VOCAB_PIECE, |piece, sums| {
        for (row, total) in rows.iter().zip(&totals) {
            for (sum, &x) in sums.iter_mut().zip(&row[piece * VOCAB_PIECE..]) {
                let p = libm::exp(f64::from(x) - total);
                *sum += p * (1.0 - p);
            }
        }
    });
}

/// Tokens of the vocabulary that a thread sums at a time.
const VOCAB_PIECE: usize = 1024;

/// In f64 throughout. The kernels' takes f32 exponentials, whose error would be a thousandth of the divergence of Q8_0.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max });
    let sum: f64 = logits.iter().map(|&x| libm::exp(f64::from(x) - f64::from(max))).sum();
    f64::from(max) + libm::log(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_probabilities() {
        let (a, b) = ([0.0, 1.0, 2.0f32], [1.0, 1.0, 1.0f32]);
        let p = a.map(|x: f32| f64::from(x).exp());
        let total: f64 = p.iter().sum();
        let wanted: f64 = p.iter().map(|p| p / total * (p / total * 3.0).ln()).sum();
        let team = Team::new(2);
        let twice = |x: [f32; 3]| [x, x].concat();
        assert!((sum(&team, &twice(a), &twice(b), 3) - 2.0 * wanted).abs() < 1e-12);
        assert_eq!(sum(&team, &a, &a, 3), 0.0);
    }
}
