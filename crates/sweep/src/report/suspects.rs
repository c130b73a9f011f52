//! Checkpoints that look wrong: files that several share, results that several share, values far off their neighbours.

use super::grid::{Grid, Model, Point};
use super::onset::Outliers;
use crate::Checkpoint;
use crate::order::by_size;
use crate::result::ErrorClass;
use pythia_show::number::significant;
use pythia_text::counted;
use std::collections::{BTreeMap, HashMap};

/// A perplexity this many times beyond what its neighbours suggest is called out.
const PERPLEXITY_RATIO: f64 = 1.25;
/// A damage likewise. It varies more from step to step.
const DAMAGE_RATIO: f64 = 2.0;

/// What looks wrong, one kind of it.
pub(super) struct Suspicion {
    /// In a few words.
    pub(super) title: String,
    /// A sentence each.
    pub(super) items: Vec<String>,
}

/// All that looks wrong.
pub(super) struct Suspects<'a> {
    pub(super) found: Vec<Suspicion>,
    /// Checkpoints with values far off their neighbours'.
    pub(super) outliers: Outliers<'a>,
}

/// The rule for outliers, for readers.
pub(super) fn rule() -> String {
    format!(
        "How outliers are found: a value is compared with both neighbours, and with what the straight lines through the \
         two checkpoints before and through the two after suggest, all in logarithms. It is called out where it is beyond \
         all four, for the base's perplexity by a factor of {PERPLEXITY_RATIO}, for damage by {DAMAGE_RATIO}. The first \
         and the last checkpoint are not judged. Outliers do not count for where a level begins to hurt."
    )
}

impl<'a> Suspects<'a> {
    pub(super) fn of(grid: &Grid<'a>) -> Self {
        let mut outliers = Outliers::new();
        let found = vec![
            failed(grid),
            missing(grid),
            warned(grid),
            same_files(grid),
            same_results(grid),
            far_perplexities(grid, &mut outliers),
            far_damages(grid, &mut outliers),
        ];
        Self { found: found.into_iter().filter(|suspicion| !suspicion.items.is_empty()).collect(), outliers }
    }
}

fn failed(grid: &Grid<'_>) -> Suspicion {
    let mut classes: BTreeMap<ErrorClass, Vec<String>> = BTreeMap::new();
    for result in grid.results() {
        if let Some(failed) = result.failed() {
            let of = &result.of;
            let text = format!("{}@{} {}: {}", of.model, of.revision, of.level, failed.message);
            classes.entry(failed.class).or_default().push(text);
        }
    }
    let item = |(class, cells): (&ErrorClass, &Vec<String>)| {
        format!("{}: {}, such as {}", class.name(), counted(cells.len(), "cell"), cells[0])
    };
    Suspicion { title: "Cells that failed".into(), items: classes.iter().map(item).collect() }
}

fn missing(grid: &Grid<'_>) -> Suspicion {
    let mut reasons: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for missing in &grid.manifest.missing {
        reasons.entry((&missing.model, &missing.reason)).or_default().push(&missing.revision);
    }
    let items = reasons.iter().map(|((model, reason), revisions)| format!("{model}: {}: {reason}", few(revisions)));
    Suspicion { title: "Missing checkpoints".into(), items: items.collect() }
}

fn warned(grid: &Grid<'_>) -> Suspicion {
    let mut warnings: Vec<((&str, &str), Vec<&str>)> = Vec::new();
    for point in grid.models.iter().flat_map(|model| &model.points) {
        if let Some(warning) = &point.of.warning {
            let key = (point.of.model.as_str(), warning.as_str());
            match warnings.iter_mut().find(|(other, _)| *other == key) {
                Some((_, revisions)) => revisions.push(&point.of.revision),
                None => warnings.push((key, vec![&point.of.revision])),
            }
        }
    }
    let items = warnings.iter().map(|((model, warning), revisions)| format!("{model}: {}: {warning}", few(revisions)));
    Suspicion { title: "Reported faults".into(), items: items.collect() }
}

fn same_files(grid: &Grid<'_>) -> Suspicion {
    let groups = grid.manifest.groups.iter().filter(|group| group.checkpoints.len() > 1);
    let mut items: Vec<(&str, String)> = groups
        .map(|group| {
            let names: Vec<String> = group.checkpoints.iter().map(Checkpoint::name).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            (group.checkpoints[0].model.as_str(), format!("{} have identical files", few(&names)))
        })
        .collect();
    items.sort_by(|a, b| by_size(a.0, b.0).then_with(|| a.1.cmp(&b.1)));
    Suspicion {
        title: "The same weights under several names".into(),
        items: items.into_iter().map(|item| item.1).collect(),
    }
}

/// Other files, but a sum of the same bits over thousands of tokens: the tensors are the same.
fn same_results(grid: &Grid<'_>) -> Suspicion {
    let mut items = Vec::new();
    for text in grid.texts() {
        let mut seen: HashMap<(u64, u64), Vec<&Point<'_>>> = HashMap::new();
        for point in grid.models.iter().flat_map(|model| &model.points) {
            let Some(score) = grid.score(point, 0, text).filter(|score| score.nll_sum.is_finite()) else { continue };
            let with_it = seen.entry((score.nll_sum.to_bits(), score.tokens)).or_default();
            if with_it.iter().all(|other| other.group != point.group) {
                with_it.push(point);
            }
        }
        let mut same: Vec<_> = seen.into_values().filter(|points| points.len() > 1).collect();
        same.sort_by(|a, b| crate::order::by_checkpoint(a[0].of, b[0].of));
        items.extend(same.iter().map(|points| {
            let names: Vec<String> = points.iter().map(|p| format!("{}@{}", p.of.model, p.of.revision)).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            format!("{} have the same likelihood to the last bit", few(&names))
        }));
    }
    Suspicion { title: "The same results from different files".into(), items }
}

fn far_perplexities<'a>(grid: &Grid<'a>, outliers: &mut Outliers<'a>) -> Suspicion {
    let mut items = Vec::new();
    for text in grid.texts() {
        for model in &grid.models {
            for (at, ratio) in far(model, PERPLEXITY_RATIO, |point| grid.perplexity(point, 0, text)) {
                let of = model.points[at].of;
                outliers.insert((model.name, &of.revision));
                let value = grid.perplexity(&model.points[at], 0, text).unwrap_or(f64::NAN);
                items.push(format!(
                    "{}@{}: perplexity {}, {} times the mean of its neighbours",
                    model.name,
                    of.revision,
                    significant(value, 4),
                    significant(ratio, 3)
                ));
            }
        }
    }
    Suspicion { title: "Perplexity far off its neighbours".into(), items }
}

fn far_damages<'a>(grid: &Grid<'a>, outliers: &mut Outliers<'a>) -> Suspicion {
    let names = grid.recipe_names();
    let mut items = Vec::new();
    for text in grid.texts() {
        for model in &grid.models {
            let mut levels: BTreeMap<usize, Vec<String>> = BTreeMap::new();
            for (recipe, name) in names.iter().enumerate().skip(1) {
                for (at, ratio) in far(model, DAMAGE_RATIO, |point| grid.damage(point, recipe, text)) {
                    levels.entry(at).or_default().push(format!("{name} {} times", significant(ratio, 3)));
                }
            }
            for (at, levels) in levels {
                let of = model.points[at].of;
                outliers.insert((model.name, &of.revision));
                items.push(format!(
                    "{}@{}: damage relative to the mean of its neighbours: {}",
                    model.name,
                    of.revision,
                    levels.join(", ")
                ));
            }
        }
    }
    Suspicion { title: "Damage far off its neighbours".into(), items }
}

/// Points of a model whose value is beyond both neighbours, and beyond the lines through the two before and the two
/// after, by a factor of `limit`; with their ratio to the geometric mean of the neighbours. The lines let through what
/// bends: perplexity falls steeply, and damage has a minimum early in training.
fn far(model: &Model<'_>, limit: f64, value: impl Fn(&Point<'_>) -> Option<f64>) -> Vec<(usize, f64)> {
    let logs: Vec<(usize, f64)> = model
        .points
        .iter()
        .enumerate()
        .filter(|(_, point)| point.of.step.is_some())
        .filter_map(|(i, point)| Some((i, value(point).filter(|value| *value > 0.0)?.ln())))
        .collect();
    let log = |at: usize| logs.get(at).map(|log| log.1);
    let mut far = Vec::new();
    for at in 1..logs.len().saturating_sub(1) {
        let (i, own) = logs[at];
        let (before, after) = (logs[at - 1].1, logs[at + 1].1);
        let lines = [(before, at.checked_sub(2).and_then(log)), (after, log(at + 2))];
        let lines = lines.into_iter().filter_map(|(near, next)| Some(2.0 * near - next?));
        let ends = (before.min(after), before.max(after));
        let (low, high) = lines.fold(ends, |(low, high), v| (low.min(v), high.max(v)));
        if own < low - limit.ln() || own > high + limit.ln() {
            far.push((i, (own - 0.5 * (before + after)).exp()));
        }
    }
    far
}

/// Names beyond the first few are counted.
fn few(names: &[&str]) -> String {
    const SHOWN: usize = 6;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>();
    match names.len().saturating_sub(SHOWN) {
        0 => match &shown[..] {
            [one, other] => format!("{one} and {other}"),
            all => all.join(", "),
        },
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn titles(suspects: &Suspects<'_>) -> Vec<String> {
        suspects.found.iter().map(|suspicion| suspicion.title.clone()).collect()
    }

    #[test]
    fn a_smooth_training_is_not_suspicious() {
        let manifest = sample::manifest(&["pythia-70m"], &sample::pythia_steps(), 7, true);
        let results = sample::results(&manifest);
        let grid = Grid::new(&manifest, &results);
        assert_eq!(titles(&Suspects::of(&grid)), Vec::<String>::new());
    }

    #[test]
    fn a_bend_is_no_outlier() {
        // Damage of Q4_0 at steps 1 to 1500 of a small model.
        let damages = [7.1e-4, 7.0e-4, 6.2e-4, 1.9e-4, 4.4e-5, 3.9e-4, 1.2e-3, 2.4e-3, 5.2e-3, 1.1e-2, 1.4e-2];
        let steps: Vec<u64> = (0..damages.len() as u64).collect();
        let manifest = sample::manifest(&["a"], &steps, 1, false);
        let grid = Grid::new(&manifest, &[]);
        let found = |damages: &[f64]| {
            far(&grid.models[0], DAMAGE_RATIO, |point| damages.get(point.group).copied())
                .iter()
                .map(|far| far.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(found(&damages), Vec::<usize>::new());
        for (i, factor) in [(4, 0.2), (7, 5.0), (9, 0.1)] {
            let mut changed = damages;
            changed[i] *= factor;
            assert_eq!(found(&changed), [i], "{factor}");
        }
    }

    #[test]
    fn what_is_wrong_is_found() {
        let mut manifest = sample::manifest(&["pythia-70m"], &sample::pythia_steps(), 2, false);
        manifest.groups[5].checkpoints[0].warning = Some("reported as damaged".into());
        let mut results = sample::results(&manifest);
        // The weights of the last step under the name of step 512 (number 10), in another file.
        let n = manifest.groups.len();
        for recipe in 0..3 {
            let last = results[(n - 1) * 3 + recipe].clone();
            results[10 * 3 + recipe] = last;
        }
        let failed = sample::failed(&manifest, &manifest.cells[7], ErrorClass::Corrupt, "<b>");
        results[7] = Some(failed);
        let grid = Grid::new(&manifest, &results);
        let suspects = Suspects::of(&grid);
        let want = [
            "Cells that failed",
            "Reported faults",
            "The same results from different files",
            "Perplexity far off its neighbours",
            "Damage far off its neighbours",
        ];
        assert_eq!(titles(&suspects), want);
        assert_eq!(suspects.outliers.len(), 1);
        assert!(suspects.outliers.contains(&("pythia-70m", "step512")));
        let same = &suspects.found[2].items[0];
        assert_eq!(same, "pythia-70m@step512 and pythia-70m@step143000 have the same likelihood to the last bit");
    }
}
