//! What the pattern of a head is like, in a few numbers.

use std::collections::HashMap;

/// Means over queries of a pattern `A`, where `A[i][j]` is the weight that query `i` gives key `j`, and `t` are the tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// `-sum over j of A[i][j] ln A[i][j]`, in nats: 0 if a query attends to one key.
    pub entropy: f64,
    /// `A[i][i - 1]`, for `i >= 1`. `None` for a text of one token, as the next.
    pub previous: Option<f64>,
    /// `A[i][0]`, for `i >= 1`.
    pub first: Option<f64>,
    /// The sum of `A[i][j]` over all `j < i` with `t[j] = t[i]`, for those `i` that have any. `None` if none has.
    pub duplicate: Option<f64>,
    /// `A[i][p + 1]`, where `p` is the last with `t[p] = t[i]` and `p + 1 < i`: the weight of the token that came after the
    /// current one when it was there before. For those `i` that have such a `p`; `None` if none has.
    pub induction: Option<f64>,
}

/// Where the tokens of a text came before.
#[derive(Debug)]
pub(super) struct Places {
    /// For each position, the earlier ones with the same token.
    earlier: Vec<Vec<usize>>,
}

impl Places {
    pub(super) fn new(ids: &[u32]) -> Self {
        let mut seen: HashMap<u32, Vec<usize>> = HashMap::new();
        let mut earlier = Vec::with_capacity(ids.len());
        for (position, &id) in ids.iter().enumerate() {
            let places = seen.entry(id).or_default();
            earlier.push(places.clone());
            places.push(position);
        }
        Self { earlier }
    }

    /// The position after the last earlier one with the same token, unless it is the query itself.
    fn after_earlier(&self, query: usize) -> Option<usize> {
        self.earlier[query].iter().rev().map(|place| place + 1).find(|&after| after < query)
    }
}

/// Sums over queries.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    entropy: Mean,
    previous: Mean,
    first: Mean,
    duplicate: Mean,
    induction: Mean,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    n: u32,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.n += 1;
    }

    fn get(self) -> Option<f64> {
        (self.n > 0).then(|| self.sum / f64::from(self.n))
    }
}

impl Sums {
    /// Adds the weights of the keys up to a query.
    pub(super) fn add(&mut self, places: &Places, query: usize, weights: &[f32]) {
        let weight = |key: usize| f64::from(weights[key]);
        let term = |&w: &f32| if w > 0.0 { -f64::from(w) * libm::log(f64::from(w)) } else { 0.0 };
        self.entropy.add(weights.iter().map(term).sum());
        if query > 0 {
            self.previous.add(weight(query - 1));
            self.first.add(weight(0));
        }
        let earlier = &places.earlier[query];
        if !earlier.is_empty() {
            self.duplicate.add(earlier.iter().map(|&key| weight(key)).sum());
        }
        if let Some(key) = places.after_earlier(query) {
            self.induction.add(weight(key));
        }
    }

    pub(super) fn finish(self) -> Scores {
        Scores {
            entropy: self.entropy.get().unwrap_or(0.0),
            previous: self.previous.get(),
            first: self.first.get(),
            duplicate: self.duplicate.get(),
            induction: self.induction.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scores of a pattern that gives each query's whole weight to one key.
    fn of(ids: &[u32], key: impl Fn(usize) -> usize) -> Scores {
        let (places, mut sums) = (Places::new(ids), Sums::default());
        for query in 0..ids.len() {
            let mut weights = vec![0.0; query + 1];
            weights[key(query)] = 1.0;
            sums.add(&places, query, &weights);
        }
        sums.finish()
    }

    #[test]
    fn a_head_that_does_one_thing_scores_one() {
        let ids = [5, 6, 7, 8, 5, 6, 7, 8];
        let induction = of(&ids, |query| if query < 4 { 0 } else { query - 3 });
        assert_eq!((induction.induction, induction.entropy, induction.duplicate), (Some(1.0), 0.0, Some(0.0)));
        let duplicate = of(&ids, |query| if query < 4 { query } else { query - 4 });
        assert_eq!((duplicate.duplicate, duplicate.induction), (Some(1.0), Some(0.0)));
        let previous = of(&ids, |query| query.saturating_sub(1));
        assert_eq!((previous.previous, previous.first), (Some(1.0), Some(1.0 / 7.0)));
        assert_eq!(of(&ids, |_| 0).first, Some(1.0));
    }

    #[test]
    fn only_positions_that_can_score_count() {
        // Token 1 again at once: what came after it is the query itself.
        let at_once = of(&[1, 1, 2], |query| query);
        assert_eq!((at_once.induction, at_once.duplicate), (None, Some(0.0)));
        // Three in a row: what came after the first of them is the second.
        assert_eq!(of(&[1, 1, 1], |query| query.saturating_sub(1)).induction, Some(1.0));
        // The last earlier one counts.
        assert_eq!(of(&[1, 2, 1, 3, 1], |query| if query == 4 { 3 } else { 1.min(query) }).induction, Some(1.0));
        let none = of(&[1, 2, 3], |query| query);
        assert_eq!((none.induction, none.duplicate), (None, None));
        let one = of(&[1], |query| query);
        assert_eq!((one.previous, one.first, one.entropy), (None, None, 0.0));
    }

    #[test]
    fn even_weights_have_the_entropy_of_their_number() {
        let (places, mut sums) = (Places::new(&[1, 2]), Sums::default());
        sums.add(&places, 0, &[1.0]);
        sums.add(&places, 1, &[0.5, 0.5]);
        assert!((sums.finish().entropy - 2f64.ln() / 2.0).abs() < 1e-15);
    }
}
