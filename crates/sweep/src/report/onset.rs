//! From which step on a level hurts.

use super::grid::{Grid, Model};
use pythia_runtime::eval::Estimate;
use std::collections::HashSet;

/// A level hurts where its perplexity is certainly more than this many percent above the base's.
pub(super) const LIMIT_PERCENT: f64 = 1.0;
/// Damage has grown where it is this many times that of the first step.
pub(super) const GROWN: f64 = 2.0;

/// What training does to the damage of a level.
pub(super) struct Onset {
    /// First step that is measured, with its damage.
    pub(super) first: (u64, f64),
    /// Last step that is measured, with its damage.
    pub(super) last: (u64, f64),
    /// Perplexity above the base's at the last step, percent.
    pub(super) last_percent: Estimate,
    /// The step with the least damage.
    pub(super) least: (u64, f64),
    /// The step with the largest damage.
    pub(super) worst: (u64, f64),
    /// From this step on, damage is at least [`GROWN`] times that of the first step.
    pub(super) grown: Option<u64>,
    /// From this step on, the level hurts.
    pub(super) hurts: Option<u64>,
    /// Steps where it hurts, and all steps.
    pub(super) hurting: (usize, usize),
}

/// A checkpoint by model and revision.
pub(super) type Outliers<'a> = HashSet<(&'a str, &'a str)>;

impl Onset {
    /// Of a recipe on a text; checkpoints that were called out as outliers do not count. `None` without values.
    pub(super) fn of(
        grid: &Grid<'_>,
        model: &Model<'_>,
        recipe: usize,
        text: usize,
        out: &Outliers<'_>,
    ) -> Option<Self> {
        let mut steps: Vec<(u64, f64, Estimate)> = Vec::new();
        for point in model.points.iter().filter(|point| !out.contains(&(model.name, point.of.revision.as_str()))) {
            let Some(step) = point.of.step else { continue };
            let Some(against) = grid.score(point, recipe, text).and_then(|score| score.against_base) else { continue };
            if against.kld_mean.value.is_finite() {
                steps.push((step, against.kld_mean.value, against.perplexity_delta_percent));
            }
        }
        let (&first, &last) = (steps.first()?, steps.last()?);
        let worst = steps.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let least = steps.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1))?;
        let hurts = |percent: Estimate| percent.value - 2.0 * error(percent) > LIMIT_PERCENT;
        Some(Self {
            first: (first.0, first.1),
            last: (last.0, last.1),
            last_percent: last.2,
            least: (least.0, least.1),
            worst: (worst.0, worst.1),
            grown: from_then_on(&steps, |step| step.1 >= GROWN * first.1 && step.1 > 0.0),
            hurts: from_then_on(&steps, |step| hurts(step.2)),
            hurting: (steps.iter().filter(|step| hurts(step.2)).count(), steps.len()),
        })
    }
}

fn error(estimate: Estimate) -> f64 {
    if estimate.se.is_finite() { estimate.se } else { 0.0 }
}

/// The first of the steps at the end that all hold.
fn from_then_on<T>(steps: &[(u64, f64, T)], holds: impl Fn(&(u64, f64, T)) -> bool) -> Option<u64> {
    steps.iter().rev().take_while(|step| holds(step)).last().map(|step| step.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stops_in_between_begins_afterwards() {
        let steps = |values: &[f64]| values.iter().zip(0..).map(|(&v, i)| (i, v, ())).collect::<Vec<_>>();
        let of = |values: &[f64]| from_then_on(&steps(values), |step| step.1 > 1.0);
        assert_eq!(of(&[0.0, 2.0, 0.5, 2.0, 3.0]), Some(3));
        assert_eq!(of(&[2.0, 2.0]), Some(0));
        assert_eq!(of(&[2.0, 0.0]), None);
        assert_eq!(of(&[]), None);
    }
}
