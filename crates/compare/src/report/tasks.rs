//! Values of tasks in a report.

use pythia_eval::Paired;
use pythia_show::number::{as_precise_as, change, metric};
use pythia_show::{Align, Table};
use serde::{Deserialize, Serialize};

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
#[derive(Clone, Debug, Deserialize, Serialize)]
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
    #[serde(deserialize_with = "pythia_runtime::eval::nan_if_null")]
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
        let error = |stderr| format!(" +- {}", as_precise_as(self.value, stderr));
        format!("{}{}", change(self.value, paired.difference), paired.stderr.map_or_else(String::new, error))
    }
}

impl Tasks {
    /// What its table shows.
    pub(crate) const TITLE: &'static str = "Tasks, with the difference from the base on the same documents";

    /// A row per file: values and differences.
    pub(crate) fn table(&self) -> Table {
        let titles = self.levels.first().into_iter().flat_map(|level| &level.values);
        let chosen = self.chosen();
        let columns = titles.enumerate().flat_map(|(i, value)| {
            // One metric of every task before the second of any.
            let rank = chosen.iter().position(|&chosen| chosen == i).unwrap_or(chosen.len() + i);
            let rank = u8::try_from(rank).unwrap_or(u8::MAX);
            [(value.title(), Align::Right, rank), (format!("{} - base", value.title()), Align::Right, rank)]
        });
        let mut table = Table::new(std::iter::once(("level".to_owned(), Align::Left, 0)).chain(columns));
        for level in &self.levels {
            let cells = level.values.iter().flat_map(|value| [metric(value.value), value.difference()]);
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

    /// The first share of each task among its values, else its first value: indices.
    fn chosen(&self) -> Vec<usize> {
        let values = self.levels.first().map_or(&[][..], |level| &level.values);
        let mut chosen: Vec<usize> = Vec::new();
        for (i, value) in values.iter().enumerate() {
            match chosen.last_mut() {
                Some(last) if values[*last].task == value.task => {
                    if !values[*last].is_share && value.is_share {
                        *last = i;
                    }
                }
                _ => chosen.push(i),
            }
        }
        chosen
    }

    /// The names of the shares that [`loss`](Self::loss) is the mean of.
    pub(crate) fn shares(&self) -> Vec<String> {
        let values = self.levels.first().map_or(&[][..], |level| &level.values);
        self.chosen().into_iter().filter(|&i| values[i].is_share).map(|i| values[i].title()).collect()
    }

    /// Mean loss of the first share of each task, in percentage points, with its standard error: `None` for the base, or
    /// if no task has one.
    pub(crate) fn loss(&self, name: &str) -> Option<(f64, f64)> {
        let level = self.levels.iter().find(|level| level.name == name)?;
        let shares = self.chosen().into_iter().map(|i| &level.values[i]).filter(|value| value.is_share);
        let losses = shares.map(|value| {
            let paired = value.against_base.as_ref()?;
            Some((-100.0 * paired.difference, 100.0 * paired.stderr.unwrap_or(0.0)))
        });
        let losses: Vec<(f64, f64)> = losses.collect::<Option<_>>()?;
        let n = losses.len() as f64;
        let mean = losses.iter().map(|loss| loss.0).sum::<f64>() / n;
        let error = losses.iter().map(|loss| loss.1 * loss.1).sum::<f64>().sqrt() / n;
        (!losses.is_empty()).then_some((mean, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(task: &str, metric: &str, is_share: bool, difference: Option<f64>) -> TaskValue {
        let paired = |difference| Paired {
            difference,
            stderr: Some(0.003),
            mcnemar_p: None,
            gained: Vec::new(),
            lost: Vec::new(),
        };
        TaskValue {
            task: task.to_owned(),
            metric: metric.to_owned(),
            filter: "none".to_owned(),
            shots: 0,
            documents: 9,
            is_share,
            value: 0.5,
            stderr: None,
            against_base: difference.map(paired),
        }
    }

    #[test]
    fn the_loss_is_the_mean_over_the_first_share_of_each_task() {
        let level = |name: &str, paired: bool| LevelTasks {
            name: name.to_owned(),
            values: [("a", "perplexity", false, 5.0), ("a", "acc", true, -0.04), ("b", "acc", true, 0.01)]
                .into_iter()
                .chain([("b", "acc_norm", true, 0.7), ("c", "word_perplexity", false, 9.0)])
                .map(|(task, metric, is_share, difference)| value(task, metric, is_share, paired.then_some(difference)))
                .collect(),
        };
        let tasks = Tasks { levels: vec![level("F16", false), level("Q4_0", true)] };
        assert_eq!(tasks.shares(), ["a acc", "b acc"]);
        assert_eq!(tasks.loss("F16"), None);
        let (mean, error) = tasks.loss("Q4_0").unwrap();
        assert!((mean - 1.5).abs() < 1e-12 && (error - 0.3 / 2f64.sqrt()).abs() < 1e-12, "{mean} {error}");
    }
}
