//! One option per item, within a budget, at the smallest total cost.

/// An option of an item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    /// What it takes of the budget.
    pub(crate) bytes: u64,
    /// What it costs.
    pub(crate) cost: f64,
}

/// Units that a budget is counted in, at most.
const UNITS: u64 = 1 << 16;

/// The number of the option of each item, so that they fit into `budget` together and their costs are least. `None` if
/// not even the smallest fit.
///
/// Exact, but for sizes that are rounded up to a 65536th of the budget: by dynamic programming over items and units.
///
/// # Panics
/// If a cost is not finite.
pub(crate) fn solve(items: &[Vec<Choice>], budget: u64) -> Option<Vec<usize>> {
    assert!(items.iter().flatten().all(|option| option.cost.is_finite()), "finite costs");
    let smallest = |options: &Vec<Choice>| options.iter().map(|option| option.bytes).min();
    // What all options take anyway is not counted in units.
    let least: Vec<u64> = items.iter().map(smallest).collect::<Option<_>>()?;
    let spare = budget.checked_sub(least.iter().sum())?;
    let unit = spare.div_ceil(UNITS).max(1);
    let n_units = (spare / unit) as usize;
    let units = |item: usize, option: &Choice| ((option.bytes - least[item]).div_ceil(unit)) as usize;

    // The least cost of the items so far within so many units, and the option of the last that gives it.
    let mut best = vec![0.0; n_units + 1];
    let mut chosen = Vec::with_capacity(items.len());
    for (item, options) in items.iter().enumerate() {
        let mut next = vec![f64::INFINITY; n_units + 1];
        let mut choice = vec![0u8; n_units + 1];
        for (number, option) in options.iter().enumerate() {
            let taken = units(item, option);
            for within in taken..=n_units {
                let cost = best[within - taken] + option.cost;
                if cost < next[within] {
                    (next[within], choice[within]) = (cost, number as u8);
                }
            }
        }
        best = next;
        chosen.push(choice);
    }
    let mut left = n_units;
    let mut result = vec![0; items.len()];
    for item in (0..items.len()).rev() {
        result[item] = usize::from(chosen[item][left]);
        left -= units(item, &items[item][result[item]]);
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(bytes: u64, cost: f64) -> Choice {
        Choice { bytes, cost }
    }

    #[test]
    fn it_finds_the_best_of_all_combinations() {
        let items: Vec<Vec<Choice>> = (0..5u64)
            .map(|i| (0..4u64).map(|o| choice(10 + 7 * o + i * o, (i + 1) as f64 / (1.0 + o as f64 * 0.8))).collect())
            .collect();
        for budget in [49, 50, 63, 90, 120, 1000] {
            let mut best = f64::INFINITY;
            for n in 0..4usize.pow(5) {
                let options = (0..5).map(|i| &items[i][n / 4usize.pow(i as u32) % 4]);
                let (bytes, cost) = options.fold((0, 0.0), |(b, c), o| (b + o.bytes, c + o.cost));
                if bytes <= budget && cost < best {
                    best = cost;
                }
            }
            let found = solve(&items, budget);
            assert_eq!(found.is_some(), best.is_finite(), "{budget}");
            if let Some(found) = found {
                let bytes: u64 = found.iter().zip(&items).map(|(&o, item)| item[o].bytes).sum();
                let cost: f64 = found.iter().zip(&items).map(|(&o, item)| item[o].cost).sum();
                assert!(bytes <= budget && (cost - best).abs() < 1e-12, "{budget}: {cost} {best}");
            }
        }
    }

    #[test]
    fn sizes_of_real_models_stay_within_the_budget() {
        let items: Vec<Vec<Choice>> =
            (0..100u64).map(|i| (1..9u64).map(|o| choice(o * 1_234_567 + i, 1.0 / o as f64)).collect()).collect();
        let budget = 512_345_678;
        let found = solve(&items, budget).unwrap();
        let bytes: u64 = found.iter().zip(&items).map(|(&o, item)| item[o].bytes).sum();
        assert!(bytes <= budget && bytes > budget - budget / 100, "{bytes}");
    }
}
