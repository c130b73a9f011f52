//! From replies to values: what each document adds, the value over all, its standard error.

use crate::answer::{self, Taking};
use crate::statistics::{bootstrap_perplexity, mean, mean_stderr};
use crate::{Asks, Doc, Error, Metric, Reply, Task};
use pythia_runtime::score::Score;

/// What a document adds to a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item {
    /// Its value, or its log-likelihood.
    pub value: f64,
    /// Words or bytes, for metrics per word or byte; otherwise 1.
    pub weight: f64,
}

/// A metric over the documents of a task, of one filter.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Which.
    pub metric: Metric,
    /// Name of the filter; `none` if there is only one.
    pub filter: String,
    /// The value.
    pub value: f64,
    /// Its standard error; `None` if there is one document, or none is defined.
    pub stderr: Option<f64>,
    /// Per document, in their order.
    pub items: Vec<Item>,
}

/// Measures a task. `stop` is asked now and then whether to give up the bootstrap, which leaves out its standard error.
///
/// # Errors
/// If a filter is no regular expression.
pub(crate) fn measure(
    task: &Task,
    docs: &[Doc],
    replies: &[Vec<Reply>],
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Measured>, Error> {
    let mut measured = Vec::new();
    for filter in &task.filters {
        let taking = Taking::new(filter)?;
        for &metric in &task.metrics {
            let item = |(doc, replies): (&Doc, &Vec<Reply>)| item(metric, doc, replies, &taking);
            let items: Vec<Item> = docs.iter().zip(replies).map(item).collect();
            let (value, stderr) = (value(metric, &items), stderr(metric, &items, stop));
            measured.push(Measured { metric, filter: filter.name.clone(), value, stderr, items });
        }
    }
    Ok(measured)
}

impl Measured {
    /// The name in results: `acc,none`.
    pub fn key(&self) -> String {
        format!("{},{}", self.metric.name(), self.filter)
    }

    /// How much the value changes with each document, times their number: the differences of these between two models
    /// vary as the difference of the values does. For a mean, they are the items.
    pub(crate) fn influence(&self) -> Vec<f64> {
        let n = self.items.len() as f64;
        let weight = self.items.iter().map(|item| item.weight).sum::<f64>() / n;
        let slope = match self.metric {
            Metric::Perplexity | Metric::WordPerplexity | Metric::BytePerplexity => -self.value,
            Metric::BitsPerByte => -std::f64::consts::LOG2_E,
            _ => return self.items.iter().map(|item| item.value).collect(),
        };
        // The derivative of a function of sum(value) / sum(weight).
        let ratio = ratio(&self.items);
        self.items.iter().map(|item| slope * (item.value - ratio * item.weight) / weight).collect()
    }
}

/// Sum of the values per weight.
fn ratio(items: &[Item]) -> f64 {
    items.iter().map(|item| item.value).sum::<f64>() / items.iter().map(|item| item.weight).sum::<f64>()
}

fn value(metric: Metric, items: &[Item]) -> f64 {
    match metric {
        Metric::Perplexity | Metric::WordPerplexity | Metric::BytePerplexity => libm::exp(-ratio(items)),
        Metric::BitsPerByte => -ratio(items) / std::f64::consts::LN_2,
        _ => mean(&values(items)),
    }
}

fn stderr(metric: Metric, items: &[Item], stop: &(dyn Fn() -> bool + Sync)) -> Option<f64> {
    match metric {
        Metric::Perplexity => bootstrap_perplexity(&values(items), stop),
        // The harness has none for these either.
        Metric::WordPerplexity | Metric::BytePerplexity | Metric::BitsPerByte => None,
        _ => mean_stderr(&values(items)),
    }
}

fn values(items: &[Item]) -> Vec<f64> {
    items.iter().map(|item| item.value).collect()
}

/// What a document adds. A metric that does not fit its kind has no value.
fn item(metric: Metric, doc: &Doc, replies: &[Reply], taking: &Taking) -> Item {
    let one = |value: f64| Item { value, weight: 1.0 };
    let scores: Vec<Score> = replies.iter().filter_map(Reply::score).collect();
    match &doc.asks {
        Asks::Choices { choices, gold, .. } => one(of_choices(metric, choices, gold, &scores)),
        Asks::LogLikelihood { .. } => {
            let Some(score) = scores.first() else { return one(f64::NAN) };
            one(match metric {
                Metric::Acc => f64::from(u8::from(score.is_greedy)),
                Metric::Perplexity => score.log_likelihood,
                _ => f64::NAN,
            })
        }
        Asks::Rolling { words, bytes, .. } => {
            let value = scores.iter().map(|score| score.log_likelihood).sum();
            match metric {
                Metric::WordPerplexity => Item { value, weight: *words as f64 },
                Metric::BytePerplexity | Metric::BitsPerByte => Item { value, weight: *bytes as f64 },
                _ => one(f64::NAN),
            }
        }
        Asks::Generate { answers, .. } => {
            let text = replies.first().and_then(Reply::text).unwrap_or_default();
            one(answer::measure(metric, taking.of(text), answers))
        }
    }
}

fn of_choices(metric: Metric, choices: &[String], gold: &[usize], scores: &[Score]) -> f64 {
    let per = |length: fn(&String) -> usize| {
        first_largest(choices.iter().zip(scores).map(|(choice, score)| score.log_likelihood / length(choice) as f64))
    };
    let chosen = match metric {
        Metric::Acc => first_largest(scores.iter().map(|score| score.log_likelihood)),
        Metric::AccNorm => per(|choice| choice.chars().count()),
        Metric::AccBytes => per(String::len),
        Metric::Mass => return mass(gold, scores),
        _ => return f64::NAN,
    };
    f64::from(u8::from(chosen.is_some_and(|chosen| gold.contains(&chosen))))
}

/// Index of the largest value, the first of ties.
fn first_largest(values: impl Iterator<Item = f64>) -> Option<usize> {
    let larger = |best: Option<(usize, f64)>, (i, value): (usize, f64)| match best {
        Some((_, largest)) if value.partial_cmp(&largest) != Some(std::cmp::Ordering::Greater) => best,
        _ => Some((i, value)),
    };
    values.enumerate().fold(None, larger).map(|best| best.0)
}

/// Probability of the right choices, of all.
fn mass(gold: &[usize], scores: &[Score]) -> f64 {
    let probabilities: Vec<f64> = scores.iter().map(|score| libm::exp(score.log_likelihood)).collect();
    let total: f64 = probabilities.iter().sum();
    gold.iter().filter_map(|&i| probabilities.get(i)).map(|p| p / total).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(values: &[f64]) -> Vec<Score> {
        values.iter().map(|&log_likelihood| Score { log_likelihood, is_greedy: false }).collect()
    }

    fn of(metric: Metric, choices: &[&str], gold: &[usize], values: &[f64]) -> f64 {
        let choices: Vec<String> = choices.iter().map(|choice| choice.to_string()).collect();
        of_choices(metric, &choices, gold, &scores(values))
    }

    #[test]
    fn choices_are_compared_per_text_code_point_or_byte() {
        // 4 and 2 code points, 4 and 6 bytes.
        let choices = ["abcd", "\u{4f60}\u{597d}"];
        let values = [-4.0, -3.0];
        assert_eq!(of(Metric::Acc, &choices, &[1], &values), 1.0, "-4 < -3");
        assert_eq!(of(Metric::AccNorm, &choices, &[1], &values), 0.0, "-1 > -1.5");
        assert_eq!(of(Metric::AccBytes, &choices, &[1], &values), 1.0, "-1 < -0.5");
        assert_eq!(of(Metric::Acc, &choices, &[0], &[-2.0, -2.0]), 1.0, "the first of ties");
        assert_eq!(of(Metric::Acc, &choices, &[], &values), 0.0, "none is right");
        assert_eq!(of(Metric::Acc, &choices, &[0, 1], &values), 1.0, "any of the right ones");
        let mass = of(Metric::Mass, &["a", "b", "c"], &[0, 2], &[0.5f64.ln(), 0.3f64.ln(), 0.2f64.ln()]);
        assert!((mass - 0.7).abs() < 1e-15, "{mass}");
    }

    /// Values of `weighted_perplexity` and `bits_per_byte` of the harness.
    #[test]
    fn perplexities_are_weighted() {
        let items = [(-100.5, 20.0), (-33.25, 7.0), (-80.0, 19.0)].map(|(value, weight)| Item { value, weight });
        assert!((value(Metric::WordPerplexity, &items) - 104.244_503_016_979_5).abs() < 1e-11);
        assert!((value(Metric::BitsPerByte, &items) - 6.703_827_499_782_955).abs() < 1e-14);
    }

    /// The influence of a document is how the value changes with its weight.
    #[test]
    fn influences_are_derivatives() {
        let items = [(-3.0, 2.0), (-8.0, 3.0), (-1.5, 1.0)].map(|(value, weight)| Item { value, weight });
        for metric in [Metric::Perplexity, Metric::WordPerplexity, Metric::BitsPerByte] {
            let items =
                items.map(|item| Item { weight: if metric == Metric::Perplexity { 1.0 } else { item.weight }, ..item });
            let measured = Measured {
                metric,
                filter: "none".to_owned(),
                value: value(metric, &items),
                stderr: None,
                items: items.to_vec(),
            };
            for (i, influence) in measured.influence().into_iter().enumerate() {
                let step = 1e-6;
                let mut changed = items;
                changed[i] = Item { value: items[i].value * (1.0 + step), weight: items[i].weight * (1.0 + step) };
                let slope = (value(metric, &changed) - measured.value) / step * 3.0;
                assert!((slope - influence).abs() < 1e-4 * influence.abs(), "{metric:?}: {slope} {influence}");
            }
        }
    }
}
