//! How far a sweep is: what is done, what failed, what is left, and how long that takes.

use crate::manifest::{Cell, Manifest, Missing};
use crate::order::{by_checkpoint, by_size, ranges};
use crate::result::{CellResult, ErrorClass};
use crate::{Sweep, lease};
use pythia_show::{Align, Table, Width, wrap};
use pythia_text::counted;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

/// How far a sweep is.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// All cells.
    pub cells: Count,
    /// Checkpoints: done if all of their cells are, failed if none is left and one has failed.
    pub checkpoints: Count,
    /// Cells of each model, small models first.
    pub models: Vec<Named>,
    /// Cells of each recipe.
    pub levels: Vec<Named>,
    /// Cells of each measure.
    pub measures: Vec<Named>,
    /// Where cells are left or failed.
    pub unfinished: Vec<Unfinished>,
    /// Checkpoints that runs are working on now.
    pub running: Vec<Running>,
    /// What went wrong, by class.
    pub errors: Vec<Errors>,
    /// Checkpoints that were asked for and are not there.
    pub missing: Vec<Missing>,
    /// Checkpoints that have the same files as another one and are not computed again.
    pub duplicates: usize,
    /// What is left; `None` if nothing is.
    pub left: Option<Left>,
    /// Every cell that failed, if they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Vec<FailedCell>>,
}

/// A checkpoint that a run is working on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Running {
    /// `MODEL@REVISION`.
    pub checkpoint: String,
    /// Name of the machine.
    pub host: String,
    /// The process there.
    pub pid: u32,
}

/// How many are done, failed and to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// With values.
    pub done: usize,
    /// With an error.
    pub failed: usize,
    /// Without a valid result.
    pub to_do: usize,
}

/// Cells of a model, recipe or measure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its cells.
    #[serde(flatten)]
    pub cells: Count,
}

/// Checkpoints of a model that are not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unfinished {
    /// The model.
    pub model: String,
    /// Those with cells to do, neighbours as ranges: `step0, step16 to step512`.
    pub to_do: String,
    /// Those with failed cells and none to do.
    pub failed: String,
}

/// The errors of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// The class.
    pub class: ErrorClass,
    /// Cells that failed with it.
    pub cells: usize,
    /// Whether trying again may help.
    pub may_pass: bool,
    /// One of the cells.
    pub example: FailedCell,
}

/// A cell that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedCell {
    /// Its id.
    pub cell: String,
    /// In words: `pythia-70m@step0 Q4_0 on wiki.txt:512`.
    pub name: String,
    /// The class of the error.
    pub class: ErrorClass,
    /// How often it was tried.
    pub attempts: u32,
    /// What happened.
    pub message: String,
}

/// Work that is left.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Left {
    /// Seconds of one core.
    pub core_seconds: f64,
    /// Groups that it is measured on; 0 if it is the estimate of the plan.
    pub measured_on: usize,
}

impl Count {
    /// All.
    pub fn total(self) -> usize {
        self.done + self.failed + self.to_do
    }

    fn add(&mut self, result: Option<&CellResult>) {
        match result {
            Some(result) if result.done().is_some() => self.done += 1,
            Some(_) => self.failed += 1,
            None => self.to_do += 1,
        }
    }
}

impl Status {
    /// Of a sweep, as it is now. Lists the cells that failed `with_failed`.
    pub fn now(sweep: &Sweep, with_failed: bool) -> Self {
        let groups = &sweep.manifest().groups;
        let running = (0..groups.len()).filter_map(|group| {
            let holder = lease::holder(&sweep.lease_path(group))?;
            Some(Running { checkpoint: groups[group].checkpoints[0].name(), host: holder.host, pid: holder.pid })
        });
        let running = running.collect();
        Self { running, ..Self::of(sweep.manifest(), &sweep.results(), with_failed) }
    }

    /// From the results of [`Sweep::results`](crate::Sweep::results). Lists the cells that failed `with_failed`.
    pub fn of(manifest: &Manifest, results: &[Option<CellResult>], with_failed: bool) -> Self {
        let names: Vec<&str> = models(manifest);
        let model_of: HashMap<&str, usize> = names.iter().copied().zip(0..).collect();
        let mut cells = Count::default();
        let mut per_model = vec![Count::default(); names.len()];
        let mut per_recipe = vec![Count::default(); manifest.spec.recipes.len()];
        let mut per_measure = vec![Count::default(); manifest.spec.measures.len()];
        let mut per_checkpoint: HashMap<(usize, usize), Count> = HashMap::new();
        let mut errors: BTreeMap<ErrorClass, Errors> = BTreeMap::new();
        let mut failed = Vec::new();
        for (cell, result) in manifest.cells.iter().zip(results) {
            let result = result.as_ref();
            let model = model_of.get(manifest.checkpoint(cell).model.as_str()).copied();
            cells.add(result);
            model.into_iter().for_each(|model| per_model[model].add(result));
            per_recipe[cell.recipe].add(result);
            per_measure[cell.measure].add(result);
            per_checkpoint.entry((cell.group, cell.checkpoint)).or_default().add(result);
            if let Some(of) = result.and_then(|result| FailedCell::of(manifest, cell, result)) {
                let may_pass = of.class.may_pass();
                let first = || Errors { class: of.class, cells: 0, may_pass, example: of.clone() };
                errors.entry(of.class).or_insert_with(first).cells += 1;
                if with_failed {
                    failed.push(of);
                }
            }
        }
        let mut checkpoints = Count::default();
        for count in per_checkpoint.values() {
            match count {
                Count { to_do: 0, failed: 0, .. } => checkpoints.done += 1,
                Count { to_do: 0, .. } => checkpoints.failed += 1,
                _ => checkpoints.to_do += 1,
            }
        }
        let named = |name: String, cells: Count| Named { name, cells };
        let recipes = manifest.spec.recipes.iter().map(crate::Recipe::name);
        let measures = manifest.spec.measures.iter().map(crate::Measure::name);
        Self {
            cells,
            checkpoints,
            unfinished: unfinished(manifest, &names, &per_checkpoint),
            models: names.iter().map(|name| (*name).to_owned()).zip(per_model).map(|(n, c)| named(n, c)).collect(),
            levels: recipes.zip(per_recipe).map(|(n, c)| named(n, c)).collect(),
            measures: measures.zip(per_measure).map(|(n, c)| named(n, c)).collect(),
            errors: errors.into_values().collect(),
            missing: manifest.missing.clone(),
            duplicates: manifest.groups.iter().map(|group| group.checkpoints.len() - 1).sum(),
            running: Vec::new(),
            left: Left::of(manifest, results),
            failed: with_failed.then_some(failed),
        }
    }

    /// For a terminal.
    pub fn to_terminal(&self, width: Width) -> String {
        let mut out = self.head();
        out += "\n";
        let columns = [
            ("", Align::Left),
            ("cells", Align::Right),
            ("done", Align::Right),
            ("failed", Align::Right),
            ("to do", Align::Right),
        ];
        let mut table = Table::new(columns);
        let mut row = |name: String, count: Count| {
            let Count { done, failed, to_do } = count;
            table.push([name].into_iter().chain([count.total(), done, failed, to_do].map(|n| n.to_string())).collect());
        };
        row("all".to_owned(), self.cells);
        for (axis, names) in [("model", &self.models), ("level", &self.levels), ("measure", &self.measures)] {
            if names.len() > 1 {
                names.iter().for_each(|named| row(format!("{axis} {}", named.name), named.cells));
            }
        }
        out += &table.to_terminal(width).text;
        let mut paragraph = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                let _ = writeln!(out, "\n{title}");
                lines.iter().for_each(|line| out += &wrap(&pythia_text::Line(line).to_string(), width, "  "));
            }
        };
        let steps = |of: fn(&Unfinished) -> &str| {
            let some = self.unfinished.iter().filter(|unfinished| !of(unfinished).is_empty());
            some.map(|unfinished| format!("  {}: {}", unfinished.model, of(unfinished))).collect()
        };
        let running = |run: &Running| format!("  {}: process {} on {}", run.checkpoint, run.pid, run.host);
        paragraph("Running:", self.running.iter().map(running).collect());
        paragraph("To do:", steps(|unfinished| &unfinished.to_do));
        paragraph("Failed:", steps(|unfinished| &unfinished.failed));
        let error = |errors: &Errors| {
            let advice = if errors.may_pass { " (trying again may help)" } else { "" };
            let FailedCell { name, message, .. } = &errors.example;
            format!("  {}{advice}: {}, such as {name}: {message}", errors.class.name(), counted(errors.cells, "cell"))
        };
        paragraph("Errors:", self.errors.iter().map(error).collect());
        let missing = |missing: &Missing| format!("  {}@{}: {}", missing.model, missing.revision, missing.reason);
        paragraph("Missing checkpoints:", self.missing.iter().map(missing).collect());
        let failed = |failed: &FailedCell| {
            let FailedCell { cell, name, class, attempts, message } = failed;
            format!("  {cell} {name}: {}, {}: {message}", class.name(), counted(*attempts as usize, "attempt"))
        };
        paragraph("Cells that failed:", self.failed.iter().flatten().map(failed).collect());
        out
    }

    /// The state in a few sentences, each on a line.
    fn head(&self) -> String {
        let Count { done, failed, to_do } = self.cells;
        let share = 100.0 * (done + failed) as f64 / self.cells.total().max(1) as f64;
        let mut out = match (to_do, failed) {
            (0, 0) => format!("All {} are done.", counted(done, "cell")),
            (0, _) => format!("Nothing is left: {} done, {failed} failed.", counted(done, "cell")),
            _ => format!("{} done, {failed} failed, {to_do} to do: {share:.1} %.", counted(done, "cell")),
        };
        let Count { done, failed, to_do } = self.checkpoints;
        let _ = write!(out, "\nCheckpoints: {done} done, {failed} failed, {to_do} to do");
        out += &match self.duplicates {
            0 => ".\n".to_owned(),
            1 => "; 1 has the files of another one and is not computed again.\n".to_owned(),
            n => format!("; {n} have the files of another one and are not computed again.\n"),
        };
        if let Some(Left { core_seconds, measured_on }) = self.left {
            let basis = match measured_on {
                0 => "by the estimate of the plan; none is measured yet".to_owned(),
                1 => "by the one group that is done".to_owned(),
                n => format!("by the {n} groups that are done"),
            };
            let _ = writeln!(out, "Left: about {} of one core, {basis}.", duration(core_seconds));
        }
        out
    }
}

/// The names of all models, small ones first.
fn models(manifest: &Manifest) -> Vec<&str> {
    let mut names: Vec<&str> = manifest
        .groups
        .iter()
        .flat_map(|group| &group.checkpoints)
        .map(|checkpoint| checkpoint.model.as_str())
        .collect();
    names.sort_by(|a, b| by_size(a, b));
    names.dedup();
    names
}

fn unfinished(manifest: &Manifest, models: &[&str], counts: &HashMap<(usize, usize), Count>) -> Vec<Unfinished> {
    let mut all: Vec<_> = counts
        .iter()
        .map(|(&(group, checkpoint), count)| (&manifest.groups[group].checkpoints[checkpoint], *count))
        .collect();
    all.sort_by(|a, b| by_checkpoint(a.0, b.0));
    let of_model = |model: &&str| {
        let start = all.iter().position(|(checkpoint, _)| checkpoint.model == *model)?;
        let of_model: Vec<_> = all[start..].iter().take_while(|(checkpoint, _)| checkpoint.model == *model).collect();
        let names: Vec<&str> = of_model.iter().map(|(checkpoint, _)| checkpoint.revision.as_str()).collect();
        let to_do = ranges(&names, |i| of_model[i].1.to_do > 0);
        let failed = ranges(&names, |i| of_model[i].1.to_do == 0 && of_model[i].1.failed > 0);
        let is_some = !to_do.is_empty() || !failed.is_empty();
        is_some.then(|| Unfinished { model: (*model).to_owned(), to_do, failed })
    };
    models.iter().filter_map(of_model).collect()
}

impl FailedCell {
    /// `None` for a cell with values.
    fn of(manifest: &Manifest, cell: &Cell, result: &CellResult) -> Option<Self> {
        let failed = result.failed()?;
        Some(Self {
            cell: cell.id.to_string(),
            name: manifest.name(cell),
            class: failed.class,
            attempts: failed.attempts,
            message: failed.message.clone(),
        })
    }
}

impl Left {
    /// The seconds that the plan gives the cells to do, times what groups that are done took of the plan's.
    fn of(manifest: &Manifest, results: &[Option<CellResult>]) -> Option<Self> {
        let (mut planned, mut taken, mut to_do, mut measured_on) = (0.0, 0.0, 0.0, 0);
        let mut is_left = false;
        let mut at = 0;
        for (i, group) in manifest.groups.iter().enumerate() {
            let n_cells = manifest.cells_of(i).len();
            let results = &results[at..at + n_cells];
            at += n_cells;
            let n_left = results.iter().filter(|result| result.is_none()).count();
            if n_left > 0 {
                is_left = true;
                to_do += group.estimate.core_seconds * n_left as f64 / n_cells as f64;
            } else if results.iter().flatten().all(|result| result.done().is_some()) && n_cells > 0 {
                planned += group.estimate.core_seconds;
                taken += seconds_taken(results);
                measured_on += 1;
            }
        }
        let is_measured = planned > 0.0 && taken > 0.0;
        let factor = if is_measured { taken / planned } else { 1.0 };
        is_left.then_some(Self { core_seconds: to_do * factor, measured_on: if is_measured { measured_on } else { 0 } })
    }
}

/// Seconds times threads that a group took. A group that was interrupted has several runs.
fn seconds_taken(results: &[Option<CellResult>]) -> f64 {
    let mut runs: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for run in results.iter().flatten().map(|result| &result.run) {
        let seconds = runs.entry((&run.host, &run.started)).or_default();
        *seconds = seconds.max(run.group_seconds * run.threads as f64);
    }
    runs.values().sum()
}

/// `40 seconds`, `12 minutes`, `3.5 hours`, `12 days`.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} seconds"),
        s if s < 7200.0 => format!("{:.0} minutes", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} hours", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn width() -> Width {
        Width { columns: 100, shortens: true }
    }

    #[test]
    fn a_sweep_that_is_done_has_nothing_left() {
        let manifest = sample::manifest(&["pythia-70m"], &[0, 1, 2], 2, false);
        let status = Status::of(&manifest, &sample::results(&manifest), false);
        assert_eq!(status.cells, Count { done: 9, failed: 0, to_do: 0 });
        assert_eq!(status.checkpoints, Count { done: 3, failed: 0, to_do: 0 });
        assert!(status.left.is_none() && status.unfinished.is_empty() && status.errors.is_empty());
        let text = status.to_terminal(width());
        assert!(text.starts_with("All 9 cells are done.\n"), "{text}");
    }

    #[test]
    fn what_is_left_and_what_failed_is_told_by_axis() {
        let manifest = sample::manifest(&["b-1b", "a-70m"], &[0, 1, 2, 4, 8], 2, false);
        let mut results = sample::results(&manifest);
        // Of b-1b: steps 1 to 4 have no Q2_K; step 8 failed. Groups have three cells, the last of them Q2_K.
        for group in 1..4 {
            results[3 * group + 2] = None;
        }
        let message = "not\u{1b}enough";
        results[13] = Some(sample::failed(&manifest, &manifest.cells[13], ErrorClass::Memory, message));
        let status = Status::of(&manifest, &results, true);
        assert_eq!(status.cells, Count { done: 26, failed: 1, to_do: 3 });
        assert_eq!(status.checkpoints, Count { done: 6, failed: 1, to_do: 3 });
        assert_eq!(status.models[0].name, "a-70m");
        assert_eq!(status.models[1].cells, Count { done: 11, failed: 1, to_do: 3 });
        assert_eq!(status.levels[2].cells, Count { done: 7, failed: 0, to_do: 3 });
        let want = Unfinished { model: "b-1b".into(), to_do: "step1 to step4".into(), failed: "step8".into() };
        assert_eq!(status.unfinished, [want]);
        assert_eq!((status.errors.len(), status.errors[0].cells, status.errors[0].may_pass), (1, 1, true));
        // Groups that are done took 200 seconds of cores instead of 100. A third of three groups is left.
        let left = status.left.unwrap();
        assert!((left.core_seconds - 200.0).abs() < 1e-9 && left.measured_on == 6, "{left:?}");
        let text = status.to_terminal(width());
        assert!(text.contains("b-1b@step8 Q3_K_M on heldout.txt:512") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn before_the_first_group_the_plan_is_what_is_known() {
        let manifest = sample::manifest(&["a-70m"], &[0, 1], 1, false);
        let left = Status::of(&manifest, &[const { None }; 4], false).left.unwrap();
        assert_eq!(left, Left { core_seconds: 200.0, measured_on: 0 });
    }

    #[test]
    fn an_interrupted_group_took_all_of_its_runs() {
        let manifest = sample::manifest(&["a-70m"], &[0], 1, false);
        let mut results = sample::results(&manifest);
        results[1].as_mut().unwrap().run.started = "2026-11-30T09:00:00Z".into();
        assert_eq!(seconds_taken(&results), 400.0);
    }
}
