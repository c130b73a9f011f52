//! What `calibrate` prints: a row per kind of matrix, or JSON with every matrix.

use super::Args;
use crate::exit::IN_JSON;
use pythia_calibrate::calibration::Done;
use pythia_runtime::machine::peak_rss;
use pythia_schema::{TensorId, block_part};
use pythia_show::{Align, Table, Width, number, wrap};
use serde::Serialize;

/// What a run came to.
pub(super) struct Outcome {
    pub(super) done: Done,
    /// Windows that an earlier run had completed.
    pub(super) resumed: usize,
    /// Where the text comes from.
    pub(super) text: String,
    pub(super) file_bytes: u64,
    pub(super) seconds: f64,
}

/// The report for people.
pub(super) fn text(args: &Args, outcome: &Outcome, width: Width) -> String {
    let provenance = outcome.done.collected.provenance();
    let (text, output) = (pythia_text::Line(&outcome.text), pythia_text::path(&args.output));
    let (tokens, windows) = (outcome.done.collected.tokens(), provenance.windows);
    let all = outcome.done.text_tokens.map_or(String::new(), |all| format!(" of {all}"));
    let read = format!("{text}: {tokens}{all} tokens, {windows} windows of {}", tokens / windows);
    let memory = peak_rss().map_or(String::new(), |bytes| format!(", {} of memory", number::bytes(bytes)));
    let bytes = number::bytes(outcome.file_bytes);
    let written = format!("{output}: {bytes}, {:.1} s{memory}", outcome.seconds);
    let table = table(&outcome.done.collected.traces()).to_terminal(width).with_remark(width, IN_JSON);
    format!("{table}\n{}{}", wrap(&read, width, "  "), wrap(&written, width, "  "))
}

/// What matrices at the same place of every block have in common: `attn_qkv`.
fn kind_of(id: TensorId) -> String {
    let name = id.gguf();
    let name = block_part(&name).unwrap_or(&name);
    name.strip_suffix(".weight").unwrap_or(name).to_owned()
}

/// A row per kind of matrix, in the order of a forward pass.
fn table(traces: &[(TensorId, f64)]) -> Table {
    let total: f64 = traces.iter().map(|(_, trace)| trace).sum();
    let mut kinds: Vec<(String, usize, f64)> = Vec::new();
    for &(id, trace) in traces {
        let name = kind_of(id);
        match kinds.iter_mut().find(|kind| kind.0 == name) {
            Some(kind) => (kind.1, kind.2) = (kind.1 + 1, kind.2 + trace),
            None => kinds.push((name, 1, trace)),
        }
    }
    let mut table = Table::new([
        ("gradients at", Align::Left, 0),
        ("matrices", Align::Right, 1),
        ("mean square", Align::Right, 0),
        ("share", Align::Right, 0),
    ]);
    for (name, matrices, trace) in kinds {
        let share = if total > 0.0 { 100.0 * trace / total } else { 0.0 };
        let mean = number::significant(trace / matrices as f64, 3);
        table.push(vec![name, matrices.to_string(), mean, format!("{share:.1} %")]);
    }
    table
}

/// The report for programs.
#[derive(Debug, Serialize)]
pub(super) struct Json {
    path: String,
    bytes: u64,
    model: String,
    model_fingerprint: String,
    text: String,
    text_tokens: Option<usize>,
    tokens: usize,
    tokens_sha256: String,
    windows: usize,
    windows_resumed: usize,
    window_size: usize,
    seed: u64,
    inputs: bool,
    threads: usize,
    seconds: f64,
    peak_bytes: Option<u64>,
    estimated_bytes: u64,
    tensors: Vec<Tensor>,
}

/// The metric of one matrix in a number.
#[derive(Debug, Serialize)]
struct Tensor {
    tensor: String,
    /// The mean over tokens of the squared length of the gradient.
    trace: f64,
}

pub(super) fn json(args: &Args, outcome: &Outcome) -> Json {
    let provenance = outcome.done.collected.provenance();
    let tokens = outcome.done.collected.tokens();
    let tensors = outcome.done.collected.traces().into_iter();
    Json {
        path: args.output.display().to_string(),
        bytes: outcome.file_bytes,
        model: provenance.model.clone(),
        model_fingerprint: provenance.fingerprint.clone(),
        text: outcome.text.clone(),
        text_tokens: outcome.done.text_tokens,
        tokens,
        tokens_sha256: provenance.tokens_sha256.clone(),
        windows: provenance.windows,
        windows_resumed: outcome.resumed,
        window_size: tokens / provenance.windows,
        seed: provenance.seed,
        inputs: args.settings.inputs,
        threads: outcome.done.threads,
        seconds: outcome.seconds,
        peak_bytes: peak_rss(),
        estimated_bytes: outcome.done.estimate.memory(),
        tensors: tensors.map(|(id, trace)| Tensor { tensor: id.gguf(), trace }).collect(),
    }
}
