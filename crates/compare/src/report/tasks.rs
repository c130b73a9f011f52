//! Values of tasks in a report.

use pythia_eval::Paired;
use pythia_show::number::{plain, signed, significant};
use pythia_show::{Align, Table};
use serde::Serialize;

/// What every file has in the tasks of the request.
#[derive(Clone, Debug, Serialize)]
pub struct Tasks {
    /// The base, then the others, in the order of the request.
    pub levels: Vec<LevelTasks>,
}

/// What a file has in every task.
#[derive(Clone, Debug, Serialize)]
pub struct LevelTasks {
    /// Its name in the report.
    pub name: String,
    /// A value per task, filter and metric; the same ones for every file.
    pub values: Vec<TaskValue>,
}

/// The value of a metric.
#[derive(Clone, Debug, Serialize)]
pub struct TaskValue {
    /// Name of the task.
    pub task: String,
    /// Name of the metric.
    pub metric: String,
    /// Name of the filter; `none` if there is only one.
    pub filter: String,
    /// Examples before each document.
    pub shots: usize,
    /// Documents.
    pub documents: usize,
    /// Whether it is a share of documents, of which more is better, not a perplexity.
    pub is_share: bool,
    /// The value.
    pub value: f64,
    /// Its standard error, if it has one.
    pub stderr: Option<f64>,
    /// The difference from the base on the same documents; `None` for the base.
    pub against_base: Option<Paired>,
}

impl TaskValue {
    /// As a heading: `piqa acc`.
    fn title(&self) -> String {
        match self.filter.as_str() {
            "none" => format!("{} {}", self.task, self.metric),
            filter => format!("{} {} {filter}", self.task, self.metric),
        }
    }

    /// The difference, with the error of it.
    fn difference(&self) -> String {
        let Some(paired) = &self.against_base else { return "-".to_owned() };
        let error = paired.stderr.map_or_else(String::new, |stderr| format!(" +- {}", decimals(stderr)));
        format!("{}{error}", signed(paired.difference, 4))
    }
}

fn decimals(x: f64) -> String {
    if x.abs() < 1e4 { plain(x, 4) } else { significant(x, 5) }
}

impl Tasks {
    /// What its table shows.
    pub(crate) const TITLE: &'static str = "Tasks, with the difference from the base on the same documents";

    /// A row per file: values and differences.
    pub(crate) fn table(&self) -> Table {
        let titles = self.levels.first().into_iter().flat_map(|level| &level.values);
        let columns = titles.enumerate().flat_map(|(i, value)| {
            // The first metrics are those that are asked for.
            let rank = u8::try_from(i).unwrap_or(u8::MAX);
            [(value.title(), Align::Right, rank), ("- base".to_owned(), Align::Right, rank)]
        });
        let mut table = Table::new(std::iter::once(("level".to_owned(), Align::Left, 0)).chain(columns));
        for level in &self.levels {
            let cells = level.values.iter().flat_map(|value| [decimals(value.value), value.difference()]);
            table.push(std::iter::once(level.name.clone()).chain(cells).collect());
        }
        table
    }

    /// Further columns of the file of comma-separated values: names, and for each file its numbers.
    pub(crate) fn csv_names(&self) -> Vec<String> {
        let titles = self.levels.first().into_iter().flat_map(|level| &level.values);
        let names = titles.flat_map(|value| {
            let name = value.title().replace(' ', "_");
            ["", "_stderr", "_delta", "_delta_stderr"].map(|ending| format!("{name}{ending}"))
        });
        names.collect()
    }

    /// The numbers of a file in these columns.
    pub(crate) fn csv_cells(&self, name: &str) -> Vec<Option<f64>> {
        let level = self.levels.iter().find(|level| level.name == name);
        let cells = level.into_iter().flat_map(|level| &level.values).flat_map(|value| {
            let paired = value.against_base.as_ref();
            [
                Some(value.value),
                value.stderr,
                paired.map(|paired| paired.difference),
                paired.and_then(|paired| paired.stderr),
            ]
        });
        cells.collect()
    }

    /// Mean loss of the first share of each task, in percentage points, with its standard error: `None` for the base, or
    /// if no task has one.
    pub(crate) fn loss(&self, name: &str) -> Option<(f64, f64)> {
        let level = self.levels.iter().find(|level| level.name == name)?;
        let mut seen: Vec<&str> = Vec::new();
        let mut losses = Vec::new();
        for value in level.values.iter().filter(|value| value.is_share) {
            if !seen.contains(&value.task.as_str()) {
                seen.push(&value.task);
                let paired = value.against_base.as_ref()?;
                losses.push((-100.0 * paired.difference, 100.0 * paired.stderr.unwrap_or(0.0)));
            }
        }
        let n = losses.len() as f64;
        let mean = losses.iter().map(|loss| loss.0).sum::<f64>() / n;
        let error = losses.iter().map(|loss| loss.1 * loss.1).sum::<f64>().sqrt() / n;
        (!losses.is_empty()).then_some((mean, error))
    }
}
