//! What a row of logits says, and how far it is from what the model says in the end.

use pythia_kernels::Cpu;
use pythia_runtime::eval::Divergence;

/// What the residual stream says at one position and depth.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The likeliest tokens with their log-likelihoods in nats, the likeliest first; of equal ones, the lower id first.
    pub top: Vec<(u32, f64)>,
    /// About the next token of the text. The last position has none.
    pub next: Option<Next>,
    /// In nats, from 0 to the logarithm of the vocabulary's size.
    pub entropy: f64,
    /// The Kullback-Leibler divergence of this prediction from the model's: `sum of p (ln p - ln q)`, in nats, where `p`
    /// is what the model predicts in the end and `q` is what is read here.
    pub kl: f64,
    /// Whether the model finds the same token likeliest in the end.
    pub same_top: bool,
}

/// The next token of the text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Next {
    /// Its id.
    pub id: u32,
    /// One more than the number of tokens with a larger logit: 1 for the likeliest.
    pub rank: usize,
    /// Its log-likelihood, in nats.
    pub log_likelihood: f64,
}

/// What the model predicts in the end.
pub(crate) struct Final<'l> {
    divergence: Divergence<'l>,
    top: u32,
}

impl<'l> Final<'l> {
    /// From its logits; `None` if one is not finite.
    pub(crate) fn new(cpu: &Cpu, logits: &'l [f32]) -> Option<Self> {
        let log_sum = log_sum(cpu, logits)?;
        let top = largest(logits, 1).first()?.0;
        Some(Self { divergence: Divergence::from(logits, log_sum), top })
    }
}

/// What `logits` say; `None` if one is not finite.
pub(crate) fn read(cpu: &Cpu, end: &Final<'_>, logits: &[f32], next: Option<u32>, top: usize) -> Option<Reading> {
    let log_sum = log_sum(cpu, logits)?;
    let log_likelihood = |logit: f32| f64::from(logit) - log_sum;
    let top: Vec<(u32, f64)> =
        largest(logits, top).into_iter().map(|(id, logit)| (id, log_likelihood(logit))).collect();
    let next = next.map(|id| {
        let logit = logits[id as usize];
        let rank = 1 + logits.iter().filter(|&&other| other > logit).count();
        Next { id, rank, log_likelihood: log_likelihood(logit) }
    });
    Some(Reading {
        same_top: top.first().is_some_and(|(id, _)| *id == end.top),
        kl: end.divergence.of(logits, log_sum),
        entropy: Divergence::from(logits, log_sum).entropy(),
        top,
        next,
    })
}

fn log_sum(cpu: &Cpu, logits: &[f32]) -> Option<f64> {
    Some(cpu.log_sum_exp(logits)).filter(|sum| sum.is_finite())
}

/// The `n` largest logits, the largest first; of equal ones, the lower id first.
pub(crate) fn largest(logits: &[f32], n: usize) -> Vec<(u32, f32)> {
    let mut largest: Vec<(u32, f32)> = Vec::with_capacity(n.min(logits.len()));
    for (id, &logit) in (0u32..).zip(logits) {
        if largest.len() < n || largest.last().is_some_and(|(_, least)| logit > *least) {
            let at = largest.partition_point(|(_, other)| *other >= logit);
            largest.truncate(n - 1);
            largest.insert(at.min(largest.len()), (id, logit));
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;
    use pythia_model::Options;

    fn cpu() -> Cpu {
        let Options { threads, isa, .. } = Options::default();
        Cpu::new(threads, isa).unwrap()
    }

    /// `ln softmax`, step by step.
    fn log_softmax(logits: &[f32]) -> Vec<f64> {
        let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        logits.iter().map(|&x| f64::from(x) - sum.ln()).collect()
    }

    #[test]
    fn a_reading_is_what_its_definitions_say() {
        let end: Vec<f32> = (0..200).map(|i| (i as f32 * 0.37).sin() * 6.0).collect();
        let here: Vec<f32> = (0..200).map(|i| (i as f32 * 0.61).cos() * 4.0).collect();
        let (p, q) = (log_softmax(&end), log_softmax(&here));
        let cpu = cpu();
        let reading = read(&cpu, &Final::new(&cpu, &end).unwrap(), &here, Some(17), 4).unwrap();
        let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
        let entropy: f64 = q.iter().map(|q| -q.exp() * q).sum();
        assert!((reading.kl - kl).abs() < 1e-5 && kl > 1.0, "{} {kl}", reading.kl);
        assert!((reading.entropy - entropy).abs() < 1e-5, "{} {entropy}", reading.entropy);
        let mut order: Vec<usize> = (0..200).collect();
        order.sort_by(|&a, &b| here[b].total_cmp(&here[a]).then(a.cmp(&b)));
        assert!(reading.top.iter().map(|(id, _)| *id as usize).eq(order[..4].iter().copied()));
        assert!(reading.top.iter().all(|(id, likelihood)| (likelihood - q[*id as usize]).abs() < 1e-5));
        let next = reading.next.unwrap();
        assert_eq!(next.rank, 1 + order.iter().position(|&id| id == 17).unwrap());
        assert!((next.log_likelihood - q[17]).abs() < 1e-5);
        assert!(!reading.same_top);
        let same = read(&cpu, &Final::new(&cpu, &end).unwrap(), &end, None, 1).unwrap();
        assert!(same.same_top && same.kl == 0.0 && same.next.is_none());
    }

    #[test]
    fn equal_logits_keep_their_order_and_share_a_rank() {
        let logits = [1.0, 3.0, 2.0, 3.0, 2.0];
        let ids = |n| largest(&logits, n).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!((ids(1), ids(3), ids(4), ids(9)), (vec![1], vec![1, 3, 2], vec![1, 3, 2, 4], vec![1, 3, 2, 4, 0]));
        let cpu = cpu();
        let end = Final::new(&cpu, &logits).unwrap();
        let rank = |id| read(&cpu, &end, &logits, Some(id), 1).unwrap().next.unwrap().rank;
        assert_eq!((rank(1), rank(3), rank(2), rank(4), rank(0)), (1, 1, 3, 3, 5));
    }

    #[test]
    fn numbers_that_are_none_are_not_read() {
        let cpu = cpu();
        let fine = [0.0; 40];
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut logits = fine;
            logits[33] = bad;
            assert!(Final::new(&cpu, &logits).is_none(), "{bad}");
            assert!(read(&cpu, &Final::new(&cpu, &fine).unwrap(), &logits, None, 1).is_none(), "{bad}");
        }
    }
}
