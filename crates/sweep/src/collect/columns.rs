//! The columns of the table.

use super::{Of, Row};
use crate::manifest;
use crate::result::{CellResult, Done, Run, TextScore};
use crate::spec::Measure;
use pythia_eval::Paired;
use pythia_runtime::eval::{AgainstBase, Estimate};
use pythia_show::Cell;
use std::borrow::Cow;

/// Version of the columns. It changes when a column changes its meaning or is removed.
const SCHEMA: u64 = 1;

/// A column.
pub(super) struct Column {
    pub(super) name: &'static str,
    #[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "text has no types"))]
    pub(super) kind: Kind,
    pub(super) source: Source,
    pub(super) value: for<'a> fn(&Row<'a>) -> Value<'a>,
}

/// Type of the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Whole,
    Float,
    Truth,
}

/// What decides the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The manifest and the result alone.
    Result,
    /// Where and when a cell was computed.
    Run,
}

/// A field.
pub(super) enum Value<'a> {
    None,
    Text(Cow<'a, str>),
    Whole(u64),
    /// Always finite.
    Float(f64),
    Truth(bool),
}

impl<'a> Value<'a> {
    fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    fn float(value: f64) -> Self {
        if value.is_finite() { Self::Float(value) } else { Self::None }
    }

    pub(super) fn as_csv(&self) -> Cell<'_> {
        match self {
            Self::None => Cell::Value(String::new()),
            Self::Text(text) => Cell::Text(text),
            Self::Whole(value) => Cell::Value(value.to_string()),
            Self::Float(value) => Cell::Value(format!("{value:?}")),
            Self::Truth(value) => Cell::Value(value.to_string()),
        }
    }

    pub(super) fn into_json(self) -> serde_json::Value {
        match self {
            Self::None => serde_json::Value::Null,
            Self::Text(text) => text.into_owned().into(),
            Self::Whole(value) => value.into(),
            Self::Float(value) => value.into(),
            Self::Truth(value) => value.into(),
        }
    }
}

/// `None` as a missing value.
fn or_none<'a, T>(value: Option<T>, make: impl FnOnce(T) -> Value<'a>) -> Value<'a> {
    value.map_or(Value::None, make)
}

/// What `value` returns: `?` in it ends it alone.
fn of<T>(value: impl FnOnce() -> Option<T>) -> Option<T> {
    value()
}

fn done<'a>(row: &Row<'a>) -> Option<&'a Done> {
    row.result().and_then(CellResult::done)
}

fn score<'a>(row: &Row<'a>) -> Option<&'a TextScore> {
    done(row)?.text.as_ref()
}

fn against<'a>(row: &Row<'a>) -> Option<&'a AgainstBase> {
    score(row)?.against_base.as_ref()
}

fn paired<'a>(row: &Row<'a>) -> Option<&'a Paired> {
    row.task()?.against_base.as_ref()
}

fn run<'a>(row: &Row<'a>) -> Option<&'a Run> {
    row.result().map(|result| &result.run)
}

fn status(row: &Row<'_>) -> &'static str {
    match &row.of {
        Of::Missing(_) => "missing",
        Of::Cell { result: None, .. } => "to_do",
        Of::Cell { result: Some(result), .. } if result.done().is_some() => "done",
        Of::Cell { .. } => "failed",
    }
}

/// Name and commit, or the path.
fn source<'a>(row: &Row<'a>) -> Option<(&'a str, Option<&'a str>)> {
    row.checkpoint().map(|checkpoint| match &checkpoint.source {
        manifest::Source::Hub { repo, commit } => (repo.as_str(), Some(commit.as_str())),
        manifest::Source::Folder { path } => (path.as_str(), None),
    })
}

/// Digests or names, a space between.
fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> Value<'a> {
    let texts: Vec<&str> = texts.collect();
    if texts.is_empty() { Value::None } else { Value::text(texts.join(" ")) }
}

/// A column of texts, numbers or truths: name, then an option that is made from the row.
macro_rules! column {
    ($source:ident $kind:ident $name:literal, $row:ident => $value:expr) => {
        Column {
            name: $name,
            kind: Kind::$kind,
            source: Source::$source,
            value: |$row| {
                let value = of(|| $value);
                column!(@make $kind value)
            },
        }
    };
    (@make Text $value:ident) => { or_none($value, Value::text) };
    (@make Whole $value:ident) => { or_none($value, Value::Whole) };
    (@make Float $value:ident) => { or_none($value, Value::float) };
    (@make Truth $value:ident) => { or_none($value, Value::Truth) };
}

/// A value and its standard error: two columns.
macro_rules! estimate {
    ($name:literal, $se:literal, $row:ident => $value:expr) => {
        [
            Column {
                name: $name,
                kind: Kind::Float,
                source: Source::Result,
                value: |$row| or_none(of(|| $value), |estimate: Estimate| Value::float(estimate.value)),
            },
            Column {
                name: $se,
                kind: Kind::Float,
                source: Source::Result,
                value: |$row| or_none(of(|| $value), |estimate: Estimate| Value::float(estimate.se)),
            },
        ]
    };
}

/// All columns, in order; those of [`Source::Run`] are last.
pub(super) fn columns() -> Vec<Column> {
    let mut all = identity();
    all.extend(file());
    all.extend(text());
    all.extend(task());
    all.extend(runs());
    all
}

/// What the cell is, and how it ended.
/// The columns of a table of chunks: what the cell is, then the chunk.
pub(super) fn chunk_columns() -> Vec<Column> {
    const NAMES: [&str; 8] = ["schema", "cell", "model", "step", "revision", "level", "quantizer", "measure"];
    let mut all: Vec<Column> = columns().into_iter().filter(|column| NAMES.contains(&column.name)).collect();
    all.push(column!(Result Whole "chunk", row => Some(row.chunk()?.0 as u64)));
    all.push(column!(Result Float "nll_sum", row => Some(row.chunk()?.1.nll)));
    all.push(column!(Result Float "kld_sum", row => Some(row.chunk()?.1.kld)));
    all
}

fn identity() -> Vec<Column> {
    vec![
        column!(Result Whole "schema", _row => Some(SCHEMA)),
        column!(Result Text "cell", row => Some(row.cell()?.id.to_string())),
        column!(Result Text "model", row => match &row.of {
            Of::Missing(missing) => Some(missing.model.as_str()),
            Of::Cell { .. } => Some(row.checkpoint()?.model.as_str()),
        }),
        column!(Result Whole "step", row => match &row.of {
            Of::Missing(missing) => crate::step_of(&missing.revision),
            Of::Cell { .. } => row.checkpoint()?.step,
        }),
        column!(Result Text "revision", row => match &row.of {
            Of::Missing(missing) => Some(missing.revision.as_str()),
            Of::Cell { .. } => Some(row.checkpoint()?.revision.as_str()),
        }),
        column!(Result Text "level", row => Some(row.recipe()?.level.as_str())),
        column!(Result Text "quantizer", row => Some(row.recipe()?.quantizer.as_str())),
        column!(Result Text "status", row => Some(status(row))),
        column!(Result Text "error", row => Some(row.result()?.failed()?.class.name())),
        column!(Result Text "warning", row => match &row.of {
            Of::Missing(missing) => Some(missing.reason.as_str()),
            Of::Cell { .. } => row.checkpoint()?.warning.as_deref(),
        }),
        column!(Result Text "source", row => Some(source(row)?.0)),
        column!(Result Text "commit", row => source(row)?.1),
        Column {
            name: "weights_digest",
            kind: Kind::Text,
            source: Source::Result,
            value: |row| {
                let files = row.group().into_iter().flat_map(|group| &group.files);
                joined(files.filter(|file| file.is_weights).map(|file| file.digest.as_str()))
            },
        },
        column!(Result Text "group", row => Some(row.group()?.group.as_str())),
        column!(Result Text "computed_at", row => done(row)?.computed_at.as_deref()),
    ]
}

/// The file that was measured.
fn file() -> Vec<Column> {
    vec![
        column!(Result Text "file_level", row => Some(done(row)?.file.level.as_str())),
        column!(Result Whole "file_bytes", row => Some(done(row)?.file.files.iter().map(|file| file.bytes).sum())),
        Column {
            name: "file_sha256",
            kind: Kind::Text,
            source: Source::Result,
            value: |row| {
                let files = done(row).into_iter().flat_map(|done| &done.file.files);
                joined(files.map(|file| file.sha256.as_str()))
            },
        },
        column!(Result Float "bits_per_weight", row => Some(done(row)?.file.bits_per_weight)),
        column!(Result Float "bits_per_weight_blocks", row => Some(done(row)?.file.bits_per_weight_blocks)),
        column!(Result Text "activations", row => row.cell().map(|_| row.manifest.spec.activations.as_str())),
        column!(Result Text "calibration_sha256", row => {
            row.cell()?;
            Some(row.manifest.spec.calibration.as_ref()?.sha256.as_str())
        }),
    ]
}

/// On a text.
fn text() -> Vec<Column> {
    let mut all = vec![
        column!(Result Text "measure", row => Some(row.measure()?.name())),
        column!(Result Text "text", row => match row.measure()? {
            Measure::Text { text, .. } => Some(text.name.as_str()),
            Measure::Tasks { .. } => None,
        }),
        column!(Result Text "text_sha256", row => match row.measure()? {
            Measure::Text { text, .. } => Some(text.sha256.as_str()),
            Measure::Tasks { .. } => None,
        }),
        column!(Result Whole "n_ctx", row => match row.measure()? {
            Measure::Text { n_ctx, .. } => Some(*n_ctx as u64),
            Measure::Tasks { .. } => None,
        }),
        column!(Result Whole "chunks", row => Some(score(row)?.chunks as u64)),
        column!(Result Whole "tokens", row => Some(score(row)?.tokens)),
        column!(Result Float "nll_sum", row => Some(score(row)?.nll_sum)),
    ];
    all.extend(estimate!("ppl", "ppl_se", row => Some(score(row)?.perplexity)));
    all.extend(estimate!("ppl_delta", "ppl_delta_se", row => Some(against(row)?.perplexity_delta)));
    all.extend(
        estimate!("ppl_delta_percent", "ppl_delta_percent_se", row => Some(against(row)?.perplexity_delta_percent)),
    );
    all.extend(estimate!("kld_mean", "kld_mean_se", row => Some(against(row)?.kld_mean)));
    all.push(column!(Result Float "kld_p99", row => Some(against(row)?.kld_p99)));
    all.push(column!(Result Float "kld_max", row => Some(against(row)?.kld_max)));
    all.extend(estimate!("same_top", "same_top_se", row => Some(against(row)?.same_top)));
    all
}

/// In a task.
fn task() -> Vec<Column> {
    vec![
        column!(Result Text "tasks_sha256", row => match row.measure()? {
            Measure::Tasks { sha256, .. } => Some(sha256.as_str()),
            Measure::Text { .. } => None,
        }),
        column!(Result Text "task", row => Some(row.task()?.task.as_str())),
        column!(Result Text "metric", row => Some(row.task()?.metric.as_str())),
        column!(Result Text "filter", row => Some(row.task()?.filter.as_str())),
        column!(Result Whole "shots", row => Some(row.task()?.shots as u64)),
        column!(Result Whole "documents", row => Some(row.task()?.documents as u64)),
        column!(Result Truth "higher_is_better", row => Some(row.task()?.is_share)),
        column!(Result Float "value", row => Some(row.task()?.value)),
        column!(Result Float "value_se", row => row.task()?.stderr),
        column!(Result Float "value_delta", row => Some(paired(row)?.difference)),
        column!(Result Float "value_delta_se", row => paired(row)?.stderr),
        column!(Result Float "mcnemar_p", row => paired(row)?.mcnemar_p),
    ]
}

/// Where and when the cell was computed. The message of an error may name folders of the machine.
fn runs() -> Vec<Column> {
    vec![
        column!(Run Text "error_message", row => Some(row.result()?.failed()?.message.as_str())),
        column!(Run Whole "attempts", row => Some(u64::from(row.result()?.failed()?.attempts))),
        column!(Run Text "program", row => Some(run(row)?.program.as_str())),
        column!(Run Text "host", row => Some(run(row)?.host.as_str())),
        column!(Run Text "device", row => Some(run(row)?.device.as_str())),
        column!(Run Text "isa", row => Some(run(row)?.isa.as_str())),
        column!(Run Whole "threads", row => Some(run(row)?.threads as u64)),
        column!(Run Text "started", row => Some(run(row)?.started.as_str())),
        column!(Run Float "group_seconds", row => Some(run(row)?.group_seconds)),
        column!(Run Float "group_cpu_seconds", row => Some(run(row)?.group_cpu_seconds)),
        column!(Run Whole "peak_rss_bytes", row => Some(run(row)?.peak_rss_bytes).filter(|bytes| *bytes > 0)),
    ]
}
