//! Tables of an evaluation for a terminal.

use super::Evaluated;
use crate::exit::IN_JSON;
use pythia_eval::{Group, Paired, Task};
use pythia_show::number::{as_precise_as, change, metric, significant};
use pythia_show::{Align, Table, Width};

/// All tasks and groups.
pub(super) fn of_tasks() -> String {
    let mut tasks = Table::new([
        ("task", Align::Left, 0),
        ("kind", Align::Left, 2),
        ("metrics", Align::Left, 1),
        ("shots", Align::Right, 0),
        ("dataset", Align::Left, 3),
        ("split", Align::Left, 4),
    ]);
    for task in Task::all() {
        let metrics: Vec<&str> = task.metrics.iter().map(|metric| metric.name()).collect();
        let config = task.dataset.config.as_ref().map_or(String::new(), |config| format!(" {config}"));
        tasks.push(vec![
            task.name.clone(),
            task.kind.name().to_owned(),
            metrics.join(", "),
            task.shots.to_string(),
            format!("{}{config}", task.dataset.repo),
            task.dataset.split.clone(),
        ]);
    }
    let mut groups = Table::new([("group", Align::Left, 0), ("members", Align::Left, 0)]);
    for group in Group::all() {
        let member = |member: &pythia_eval::Member| match member.shots {
            Some(shots) => format!("{} ({shots} shots)", member.name),
            None => member.name.clone(),
        };
        let mut names: Vec<String> = group.members.iter().take(8).map(member).collect();
        if group.members.len() > names.len() {
            names.push(format!("and {} more", group.members.len() - names.len()));
        }
        groups.push(vec![group.name.clone(), names.join(", ")]);
    }
    let width = Width::of_stdout();
    format!("{}\n{}", tasks.to_terminal(width).text, groups.to_terminal(width).text)
}

/// A row per task, metric and model.
pub(super) fn of_results(all: &[Evaluated]) -> String {
    let is_comparison = all.len() > 1;
    let mut columns = vec![("task", Align::Left, 0), ("shots", Align::Right, 3), ("metric", Align::Left, 0)];
    if is_comparison {
        columns.push(("model", Align::Left, 0));
    }
    columns.extend([("value", Align::Right, 0), ("±", Align::Right, 1)]);
    if is_comparison {
        columns.extend([
            ("difference", Align::Right, 0),
            ("± of it", Align::Right, 0),
            ("p", Align::Right, 2),
            ("gained", Align::Right, 2),
            ("lost", Align::Right, 2),
        ]);
    }
    let mut table = Table::new(columns);
    let Some(first) = all.first() else { return String::new() };
    for (t, task) in first.tasks.iter().enumerate() {
        for (m, measured) in task.measured.iter().enumerate() {
            for model in all {
                let Some(value) = model.tasks.get(t).and_then(|task| task.measured.get(m)) else { continue };
                let mut row = vec![
                    task.task.name.clone(),
                    task.shots.to_string(),
                    title(measured.metric.name(), &measured.filter),
                ];
                if is_comparison {
                    row.push(model.facts.name.clone());
                }
                row.extend([metric(value.value), error(value.value, value.stderr)]);
                let paired = model.paired.as_ref().and_then(|paired| paired.get(t)?.as_ref()?.get(m));
                if let Some(paired) = paired {
                    row.extend(comparison(value.value, paired));
                }
                table.push(row);
            }
        }
    }
    for (g, group) in first.groups.iter().enumerate() {
        for (v, value) in group.values.iter().enumerate() {
            for model in all {
                let Some(own) = model.groups.get(g).and_then(|group| group.values.get(v)) else { continue };
                let mut row = vec![group.group.name.clone(), String::new(), title(value.metric.name(), &value.filter)];
                if is_comparison {
                    row.push(model.facts.name.clone());
                }
                row.extend([metric(own.value), error(own.value, own.stderr)]);
                if model.paired.is_some() {
                    row.push(change(own.value, own.value - value.value));
                }
                table.push(row);
            }
        }
    }
    let width = Width::of_stdout();
    table.to_terminal(width).with_remark(width, IN_JSON)
}

fn title(name: &str, filter: &str) -> String {
    if filter == "none" { name.to_owned() } else { format!("{name}, {filter}") }
}

fn error(value: f64, stderr: Option<f64>) -> String {
    stderr.map_or(String::new(), |stderr| as_precise_as(value, stderr))
}

/// Difference from a value, its standard error, p, documents gained and lost.
fn comparison(value: f64, paired: &Paired) -> [String; 5] {
    let counts =
        paired.mcnemar_p.map(|p| [significant(p, 2), paired.gained.len().to_string(), paired.lost.len().to_string()]);
    let [p, gained, lost] = counts.unwrap_or_default();
    [change(value, paired.difference), error(value, paired.stderr), p, gained, lost]
}
