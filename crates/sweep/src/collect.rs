//! All results as one tidy table.
//!
//! A text gives a row per cell, tasks a row per cell, task and metric. Rows are sorted by model, step, measure and recipe.
//! A second table has a row per chunk of a text ([`Table::of_chunks`]). A missing value is an empty field, and so is a number that is none. The last columns tell where a cell was computed;
//! without them, the table of a sweep does not depend on who computed which part of it.

mod columns;
#[cfg(feature = "parquet")]
mod parquet;

use crate::manifest::{Cell, Checkpoint, Group, Manifest};
use crate::order;
use crate::result::CellResult;
use crate::spec::{Measure, Recipe};
use columns::{Column, Source, Value, chunk_columns, columns};
use pythia_compare::report::TaskValue;
use pythia_runtime::eval::WindowSums;
use pythia_show::{Csv, Quotes};

/// What a table contains.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// Only columns that do not depend on where and when cells were computed.
    pub results_only: bool,
    /// Also cells that are not done yet, and checkpoints that are not there.
    pub all: bool,
}

/// A table: see the [module](self).
pub struct Table<'a> {
    columns: Vec<Column>,
    rows: Vec<Row<'a>>,
}

/// What a row is made from.
struct Row<'a> {
    manifest: &'a Manifest,
    of: Of<'a>,
}

/// A cell or a checkpoint that is not there.
enum Of<'a> {
    Cell {
        cell: &'a Cell,
        result: Option<&'a CellResult>,
        task: Option<&'a TaskValue>,
        /// In a table of chunks, which one, and its sums.
        chunk: Option<(usize, WindowSums)>,
    },
    Missing(&'a crate::Missing),
}

impl<'a> Row<'a> {
    fn cell(&self) -> Option<&'a Cell> {
        match &self.of {
            Of::Cell { cell, .. } => Some(cell),
            Of::Missing(_) => None,
        }
    }

    fn result(&self) -> Option<&'a CellResult> {
        match &self.of {
            Of::Cell { result, .. } => *result,
            Of::Missing(_) => None,
        }
    }

    fn task(&self) -> Option<&'a TaskValue> {
        match &self.of {
            Of::Cell { task, .. } => *task,
            Of::Missing(_) => None,
        }
    }

    fn chunk(&self) -> Option<(usize, WindowSums)> {
        match &self.of {
            Of::Cell { chunk, .. } => *chunk,
            Of::Missing(_) => None,
        }
    }

    fn group(&self) -> Option<&'a Group> {
        self.cell().map(|cell| &self.manifest.groups[cell.group])
    }

    fn checkpoint(&self) -> Option<&'a Checkpoint> {
        self.cell().map(|cell| self.manifest.checkpoint(cell))
    }

    fn recipe(&self) -> Option<&'a Recipe> {
        self.cell().map(|cell| self.manifest.recipe(cell))
    }

    fn measure(&self) -> Option<&'a Measure> {
        self.cell().map(|cell| &self.manifest.spec.measures[cell.measure])
    }
}

impl<'a> Table<'a> {
    /// From the results of [`Sweep::results`](crate::Sweep::results).
    pub fn new(manifest: &'a Manifest, results: &'a [Option<CellResult>], choice: Choice) -> Self {
        let mut rows = Vec::new();
        for i in order::cells(manifest) {
            let (cell, result) = (&manifest.cells[i], results[i].as_ref());
            if result.is_none() && !choice.all {
                continue;
            }
            let tasks = result.and_then(CellResult::done).and_then(|done| done.tasks.as_deref()).unwrap_or(&[]);
            let mut push = |task| rows.push(Row { manifest, of: Of::Cell { cell, result, task, chunk: None } });
            if tasks.is_empty() {
                push(None);
            }
            tasks.iter().for_each(|task| push(Some(task)));
        }
        if choice.all {
            rows.extend(manifest.missing.iter().map(|missing| Row { manifest, of: Of::Missing(missing) }));
        }
        let columns = columns().into_iter().filter(|column| !(choice.results_only && column.source == Source::Run));
        Self { columns: columns.collect(), rows }
    }

    /// A row per chunk of every text: which cell it is, and the sums over its scored tokens. Only sweeps that keep them have
    /// such rows.
    pub fn of_chunks(manifest: &'a Manifest, results: &'a [Option<CellResult>]) -> Self {
        let mut rows = Vec::new();
        for i in order::cells(manifest) {
            let (cell, result) = (&manifest.cells[i], results[i].as_ref());
            let score = result.and_then(CellResult::done).and_then(|done| done.text.as_ref());
            let sums = score.and_then(|score| score.chunk_sums.as_deref()).unwrap_or_default();
            let row = |(chunk, sums): (usize, &WindowSums)| Row {
                manifest,
                of: Of::Cell { cell, result, task: None, chunk: Some((chunk, *sums)) },
            };
            rows.extend(sums.iter().enumerate().map(row));
        }
        Self { columns: chunk_columns(), rows }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As comma-separated values. Floats are the shortest that are read back as the same.
    pub fn to_csv(&self) -> String {
        let mut csv = Csv::new(self.columns.iter().map(|column| column.name), Quotes::WhereNeeded);
        for row in &self.rows {
            let values: Vec<Value<'_>> = self.columns.iter().map(|column| (column.value)(row)).collect();
            csv.push(values.iter().map(Value::as_csv));
        }
        csv.finish()
    }

    /// As an object of JSON per line. Every line has every name.
    pub fn to_jsonl(&self) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let object: serde_json::Map<String, serde_json::Value> =
                self.columns.iter().map(|column| (column.name.to_owned(), (column.value)(row).into_json())).collect();
            out += &pythia_text::json(&serde_json::Value::Object(object).to_string());
            out.push('\n');
        }
        out
    }

    /// As a Parquet file. All columns are optional.
    ///
    /// # Errors
    /// If the library refuses.
    #[cfg(feature = "parquet")]
    pub fn to_parquet(&self) -> Result<Vec<u8>, crate::Error> {
        let written = parquet::write(&self.columns, &self.rows);
        written.map_err(|e| crate::Error::Data(format!("the table cannot be written as Parquet: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Missing;
    use crate::result::ErrorClass;
    use crate::sample;

    /// A sweep of two models with every kind of row.
    pub(super) fn sweep() -> (Manifest, Vec<Option<CellResult>>) {
        let mut manifest = sample::manifest(&["b-1b", "=a,\"-70m-\"\u{1b}"], &[8, 0], 1, true);
        let reason = "no weights".to_owned();
        manifest.missing.push(Missing { model: "b-1b".into(), revision: "step4".into(), reason });
        manifest.groups[2].checkpoints[0].warning = Some("reported, with a comma".into());
        let mut results = sample::results(&manifest);
        results[1] = Some(sample::failed(&manifest, &manifest.cells[1], ErrorClass::Numeric, "a\nb"));
        results[2] = None;
        let text = |result: &mut Option<CellResult>| match &mut result.as_mut().unwrap().outcome {
            crate::Outcome::Done(done) => done.text.as_mut().unwrap().perplexity.se = f64::NAN,
            crate::Outcome::Failed(_) => unreachable!(),
        };
        text(&mut results[0]);
        (manifest, results)
    }

    /// The fields of a column, by its name.
    fn column(table: &Table<'_>, name: &str) -> Vec<String> {
        let jsonl = table.to_jsonl();
        let lines = jsonl.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| line[name].as_str().map_or_else(|| line[name].to_string(), str::to_owned)).collect()
    }

    #[test]
    fn a_row_per_cell_and_task_in_order() {
        let (manifest, results) = sweep();
        let table = Table::new(&manifest, &results, Choice::default());
        // 16 cells; one is not there, and 7 with tasks have three metrics.
        assert_eq!(table.len(), 8 + 7 * 3);
        let all = Table::new(&manifest, &results, Choice { all: true, ..Choice::default() });
        assert_eq!(all.len(), table.len() + 2);
        let steps = column(&table, "step");
        assert_eq!((steps[0].as_str(), steps.last().unwrap().as_str()), ("0", "8"));
        let models = column(&all, "model");
        assert!(models[0].starts_with("=a") && models.last().unwrap() == "b-1b");
        assert_eq!(column(&all, "status").last().unwrap(), "missing");
        let metrics = column(&table, "metric");
        assert_eq!(metrics[..6], ["null", "null", "acc", "perplexity", "acc", "acc"]);
    }

    #[test]
    fn values_are_read_back_as_they_were() {
        let (manifest, results) = sweep();
        let table = Table::new(&manifest, &results, Choice::default());
        let jsonl = table.to_jsonl();
        let csv = table.to_csv();
        let names: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
        let at = |name: &str| names.iter().position(|other| *other == name).unwrap();
        let score = results[results.len() - 3].as_ref().unwrap().done().unwrap().text.as_ref().unwrap();
        let want = (score.perplexity.value, score.nll_sum);
        let found = jsonl.lines().filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            Some((line["ppl"].as_f64()?, line["nll_sum"].as_f64()?))
        });
        assert!(found.collect::<Vec<_>>().contains(&want));
        // Lines of the model without commas in its name.
        let plain = csv.lines().filter(|line| line.contains("b-1b,") && !line.contains('"'));
        let found = plain.filter_map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!(fields.len(), names.len(), "{line}");
            fields[at("kld_mean")].parse::<f64>().ok()
        });
        assert!(found.count() > 0);
    }

    #[test]
    fn what_is_foreign_is_harmless_and_what_is_no_number_is_empty() {
        let (manifest, results) = sweep();
        let table = Table::new(&manifest, &results, Choice::default());
        let csv = table.to_csv();
        assert!(csv.contains("\"'=a,\"\"-70m-\"\"\\u{1b}\"") && !csv.contains('\u{1b}'), "{csv}");
        assert!(!csv.contains("NaN") && csv.contains("a\\nb"), "{csv}");
        assert_eq!(csv.lines().count(), 1 + table.len());
        let jsonl = table.to_jsonl();
        assert_eq!(jsonl.lines().count(), table.len());
        assert!(!jsonl.contains('\u{1b}'));
    }

    #[test]
    fn results_do_not_depend_on_who_computed_them() {
        let (manifest, results) = sweep();
        let mut others = results.clone();
        for result in others.iter_mut().flatten() {
            result.run.host = "other".into();
            result.run.started = "2027".into();
            (result.run.threads, result.run.group_seconds) = (99, 1e9);
            result.run.isa = "scalar".into();
            if let crate::Outcome::Failed(failed) = &mut result.outcome {
                failed.attempts += 1;
                failed.message = "/another/folder".into();
            }
        }
        let choice = Choice { results_only: true, all: true };
        let table = |results| Table::new(&manifest, results, choice).to_csv();
        assert_eq!(table(&results), table(&others));
        let with_runs = |results| Table::new(&manifest, results, Choice::default()).to_csv();
        assert_ne!(with_runs(&results), with_runs(&others));
    }
}
