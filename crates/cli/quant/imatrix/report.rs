//! What `imatrix` prints: a row per kind of matrix, or JSON with every matrix.

use super::Args;
use crate::exit::IN_JSON;
use pythia_calibrate::ColumnSummary;
use pythia_gguf::Imatrix;
use pythia_model::Model;
use pythia_runtime::Arithmetic;
use pythia_runtime::TextForm;
use pythia_show::{Align, Table, Width, number, wrap};
use serde::Serialize;

/// What a run came to.
pub(super) struct Outcome {
    pub(super) imatrix: Imatrix,
    pub(super) file_bytes: usize,
    /// Where the text comes from.
    pub(super) text: String,
    pub(super) text_form: TextForm,
    /// Tokens of the text, those that fill no chunk included. `None` if it was not read to its end.
    pub(super) text_tokens: Option<usize>,
    pub(super) seconds: f64,
}

impl Outcome {
    fn tokens(&self) -> usize {
        self.imatrix.chunk_count as usize * self.imatrix.chunk_size as usize
    }
}

/// What matrices at the same place of every block have in common: `attn_qkv`.
fn kind_of(summary: &ColumnSummary) -> &str {
    let name = summary.tensor.strip_suffix(".weight").unwrap_or(&summary.tensor);
    name.rsplit('.').next().unwrap_or(name)
}

fn summaries(outcome: &Outcome) -> Vec<ColumnSummary> {
    outcome.imatrix.entries.iter().map(ColumnSummary::of).collect()
}

/// The report for people.
pub(super) fn text(args: &Args, outcome: &Outcome, width: Width) -> String {
    let summaries = summaries(outcome);
    let Imatrix { chunk_count, chunk_size, .. } = outcome.imatrix;
    let (text, output) = (pythia_text::Line(&outcome.text), pythia_text::path(&args.output));
    let all = outcome.text_tokens.map_or(String::new(), |all| format!(" of {all}"));
    let read = format!("{text}: {}{all} tokens, {chunk_count} chunks of {chunk_size}", outcome.tokens());
    let n_bytes = number::bytes(outcome.file_bytes as u64);
    let written = format!("{output}: {} tensors, {n_bytes}, {:.1} s", summaries.len(), outcome.seconds);
    let table = table(&summaries).to_terminal(width).with_remark(width, IN_JSON);
    format!("{table}\n{}{}", wrap(&read, width, "  "), wrap(&written, width, "  "))
}

/// A row per kind of matrix, in the order of a forward pass.
fn table(summaries: &[ColumnSummary]) -> Table {
    let mut kinds: Vec<Vec<&ColumnSummary>> = Vec::new();
    for summary in summaries {
        match kinds.iter_mut().find(|kind| kind_of(kind[0]) == kind_of(summary)) {
            Some(kind) => kind.push(summary),
            None => kinds.push(vec![summary]),
        }
    }
    let mut table = Table::new([
        ("inputs of", Align::Left, 0),
        ("matrices", Align::Right, 1),
        ("mean square", Align::Right, 0),
        ("largest", Align::Right, 0),
        ("of column", Align::Right, 3),
        ("in", Align::Left, 2),
        ("top 1 % hold", Align::Right, 0),
    ]);
    for kind in kinds {
        let mean =
            |f: fn(&ColumnSummary) -> f64| kind.iter().map(|summary| f(summary)).sum::<f64>() / kind.len() as f64;
        let largest = kind.iter().max_by(|a, b| a.max.total_cmp(&b.max)).unwrap_or(&kind[0]);
        table.push(vec![
            kind_of(kind[0]).to_owned(),
            kind.len().to_string(),
            number::significant(mean(|summary| summary.mean), 3),
            number::significant(largest.max, 3),
            largest.max_column.to_string(),
            largest.tensor.clone(),
            format!("{:.1} %", 100.0 * mean(|summary| summary.top_percent_share)),
        ]);
    }
    table
}

/// The report for programs.
#[derive(Debug, Serialize)]
pub(super) struct Json {
    path: String,
    bytes: usize,
    model: String,
    text: String,
    text_form: TextForm,
    text_tokens: Option<usize>,
    tokens: usize,
    chunks: u32,
    chunk_size: u32,
    arithmetic: Arithmetic,
    threads: usize,
    seconds: f64,
    tensors: Vec<ColumnSummary>,
}

pub(super) fn json(args: &Args, model: &Model, outcome: &Outcome) -> Json {
    Json {
        path: args.output.display().to_string(),
        bytes: outcome.file_bytes,
        model: args.model.display().to_string(),
        text: outcome.text.clone(),
        text_form: outcome.text_form,
        text_tokens: outcome.text_tokens,
        tokens: outcome.tokens(),
        chunks: outcome.imatrix.chunk_count,
        chunk_size: outcome.imatrix.chunk_size,
        arithmetic: Arithmetic::of(model.options()),
        threads: model.threads(),
        seconds: outcome.seconds,
        tensors: summaries(outcome),
    }
}
