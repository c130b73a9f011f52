//! What `convert` and `quantize` print: tables of tensors, files and substitutions, or JSON.

use super::super::quantizer::Allocated;
use crate::exit::IN_JSON;
use pythia_convert::plan::Fallback;
use pythia_convert::{FilePlan, Level, LoraFacts, Plan, Written};
use pythia_show::{Align, Column, Table, Width, number};
use pythia_tensor::TensorType;
use serde::Serialize;

/// What a run added to its plan.
#[derive(Clone, Copy)]
pub(super) struct Outcome<'a> {
    pub(super) written: &'a [Written],
    pub(super) seconds: f64,
    /// What a quantizer did to the files that it rounded.
    pub(super) rounded: &'a [(Level, pythia_quantizer::Report)],
}

/// The report for people.
pub(super) fn text(
    plan: &Plan,
    (allocated, outcome): (Option<&Allocated>, Option<Outcome<'_>>),
    with_tensors: bool,
    width: Width,
) -> String {
    let show = |table: Table| table.to_terminal(width).with_remark(width, IN_JSON);
    let mut text = String::new();
    if with_tensors {
        text += &show(tensors(plan));
        text.push('\n');
    }
    text += &show(files(plan, outcome));
    if let Some(table) = substitutions(plan) {
        text += &format!("\nstored in another type, because rows are not whole blocks:\n{}\n", show(table));
    }
    if let Some(lora) = &plan.lora {
        text += &merged(lora);
    }
    text += &allocated.map_or(String::new(), allocation);
    match outcome {
        Some(outcome) => {
            text += &rounded(outcome);
            text += &summary(plan, outcome);
        }
        None => text += "dry run: nothing was written\n",
    }
    text
}

/// What `--budget` came to, and the types that it chose as the lines of a file of rules.
fn allocation(allocated: &Allocated) -> String {
    let Allocated { budget, allocation } = allocated;
    let (rules, n) = (&allocation.rules, allocation.types.len());
    let kld = |kld: Option<f64>| kld.map_or("-".to_owned(), |kld| number::significant(kld, 3));
    let (found, own) = (kld(allocation.divergence), kld(allocation.level.0));
    let mut text = format!(
        "\nbudget {budget}: {} of {n} matrices get other types; mean KLD on held-out windows {found}, with the types of \
         the level {own} ({} choices tried)\n",
        rules.len(),
        allocation.tried
    );
    if !rules.is_empty() {
        text += "their types, as lines for --tensor-type-file here and in llama-quantize:\n";
        rules.iter().for_each(|rule| text += &format!("{rule}\n"));
        text.push('\n');
    }
    text
}

/// A line per file that a quantizer rounded.
fn rounded(outcome: Outcome<'_>) -> String {
    let line = |(level, report): &(Level, pythia_quantizer::Report)| {
        let (n, kept) = (report.matrices.len(), report.matrices.iter().filter(|matrix| matrix.accepted).count());
        let divergence = report.divergence.map_or(String::new(), |divergence| {
            let divergence = number::significant(divergence, 3);
            format!("; mean KLD {divergence} on windows of the calibration that were held out, with f32 activations")
        });
        format!("{level}: {kept} of {n} matrices rounded by feedback{divergence}\n")
    };
    outcome.rounded.iter().map(line).collect()
}

fn merged(lora: &LoraFacts) -> String {
    let LoraFacts { name, n_products, n_biases, n_replaced, .. } = lora;
    let name = pythia_text::quoted(name, '"', 100);
    format!(
        "merged LoRA adapter {name}: products added to {n_products} matrices, {n_biases} biases changed, \
         {n_replaced} tensors replaced\n"
    )
}

fn summary(plan: &Plan, outcome: Outcome<'_>) -> String {
    let read = number::bytes(plan.source_bytes());
    let n_bytes = number::bytes(outcome.written.iter().map(Written::n_bytes).sum());
    format!("{read} read, {n_bytes} written in {:.1} s\n", outcome.seconds)
}

/// A row per tensor: its source, and its type in each file.
fn tensors(plan: &Plan) -> Table {
    let mut columns: Vec<Column> =
        [("tensor", 0), ("shape", 2), ("source", 3)].map(|(title, rank)| (title, Align::Left, rank).into()).to_vec();
    let with_importance = plan.tensors.iter().any(|tensor| tensor.importance.is_some());
    if with_importance {
        columns.push(("importance", Align::Left, 4).into());
    }
    for (index, file) in plan.files.iter().enumerate() {
        columns.push((file.level.to_string(), Align::Left, u8::from(index > 0)).into());
        columns.push(("bytes", Align::Right, 5).into());
    }
    let mut table = Table::new(columns);
    let mut planned: Vec<_> = plan.files.iter().map(|file| file.tensors()).collect();
    for tensor in &plan.tensors {
        let shape = tensor.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
        let mut row = vec![tensor.name.clone(), shape, tensor.source.ty.to_string()];
        if with_importance {
            row.push(if tensor.importance.is_some() { "yes" } else { "" }.to_owned());
        }
        for (_, info) in planned.iter_mut().filter_map(Iterator::next) {
            row.push(info.ty.name().to_owned());
            row.push(info.n_bytes.to_string());
        }
        table.push(row);
    }
    table
}

/// A row per model, and one for each file of a split one.
fn files(plan: &Plan, outcome: Option<Outcome<'_>>) -> Table {
    let mut columns = vec![
        ("type", Align::Left, 0),
        ("file", Align::Left, 0),
        ("bytes", Align::Right, 0),
        ("bits/weight", Align::Right, 1),
        ("in blocks", Align::Right, 3),
        ("fallbacks", Align::Right, 2),
    ];
    if outcome.is_some() {
        columns.push(("worker s", Align::Right, 4));
    }
    let mut table = Table::new(columns);
    for (index, file) in plan.files.iter().enumerate() {
        let mut row = vec![
            file.level.to_string(),
            if file.is_split() { format!("{} files", file.shards.len()) } else { file.path().display().to_string() },
            file.n_bytes().to_string(),
            format!("{:.3}", file.bits_per_weight()),
            format!("{:.3}", file.block_bits_per_weight()),
            file.fallbacks().count().to_string(),
        ];
        row.extend(outcome.map(|outcome| format!("{:.2}", outcome.written[index].worker_seconds)));
        let n_columns = row.len();
        table.push(row);
        for shard in file.shards.iter().filter(|_| file.is_split()) {
            let (path, n_bytes) = (shard.path.display().to_string(), shard.layout.total_bytes().to_string());
            let mut row = vec![String::new(), path, n_bytes];
            row.resize(n_columns, String::new());
            table.push(row);
        }
    }
    table
}

/// A row per file, kind of tensor and type, because a model of 24 blocks has 24 tensors of a kind. `None` without
/// substitutions.
fn substitutions(plan: &Plan) -> Option<Table> {
    /// What is the same for tensors in one row: file, kind, wanted type, elements of a row, used type.
    type Key = (usize, String, TensorType, u64, TensorType);
    let mut groups: Vec<(Key, usize)> = Vec::new();
    for (index, file) in plan.files.iter().enumerate() {
        for Fallback { tensor, wanted, row_elems, used } in file.fallbacks() {
            let key = (index, kind(tensor), wanted, row_elems, used);
            match groups.iter_mut().find(|(other, _)| *other == key) {
                Some((_, n)) => *n += 1,
                None => groups.push((key, 1)),
            }
        }
    }
    if groups.is_empty() {
        return None;
    }
    let mut table = Table::new([
        ("type", Align::Left, 0),
        ("tensors", Align::Left, 0),
        ("number", Align::Right, 1),
        ("row", Align::Right, 2),
        ("wanted", Align::Left, 0),
        ("block", Align::Right, 2),
        ("stored as", Align::Left, 0),
    ]);
    for ((index, kind, wanted, row_elems, used), n) in groups {
        let level = plan.files[index].level.to_string();
        let block = wanted.block_elems().to_string();
        let (wanted, used) = (wanted.to_string(), used.to_string());
        table.push(vec![level, kind, n.to_string(), row_elems.to_string(), wanted, block, used]);
    }
    Some(table)
}

/// The name of a tensor for all blocks: `blk.*.ffn_up.weight`.
fn kind(tensor: &str) -> String {
    let parts = tensor.split('.').map(|part| if part.parse::<u32>().is_ok() { "*" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

/// The report for programs.
#[derive(Debug, Serialize)]
pub(super) struct Json {
    dry_run: bool,
    source_bytes: u64,
    /// Wall time of the pass, `null` in a dry run.
    seconds: Option<f64>,
    warnings: Vec<String>,
    /// The adapter that is merged; `null` without `--lora`.
    lora: Option<JsonLora>,
    /// What `--budget` came to; `null` without it.
    allocation: Option<JsonAllocation>,
    files: Vec<JsonFile>,
}

#[derive(Debug, Serialize)]
struct JsonLora {
    name: String,
    config_sha256: String,
    weights_sha256: String,
    products: usize,
    biases: usize,
    replaced: usize,
}

#[derive(Debug, Serialize)]
struct JsonAllocation {
    budget: String,
    /// Bytes of the file, and of that with the types of the level.
    bytes: u64,
    level_bytes: u64,
    /// Estimated mean KLD.
    predicted: f64,
    /// Mean KLD on held-out windows of the calibration with f32 activations, and that with the types of the level.
    divergence: Option<f64>,
    level_divergence: Option<f64>,
    /// Choices that were rounded and measured.
    tried: usize,
    /// The matrices that do not have the type of the level, as rules for `--tensor-type-file`.
    rules: Vec<String>,
}

impl JsonAllocation {
    fn new(Allocated { budget, allocation }: &Allocated) -> Self {
        Self {
            budget: budget.to_string(),
            bytes: allocation.n_bytes,
            level_bytes: allocation.level.1,
            predicted: allocation.predicted,
            divergence: allocation.divergence,
            level_divergence: allocation.level.0,
            tried: allocation.tried,
            rules: allocation.rules.iter().map(ToString::to_string).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct JsonFile {
    #[serde(rename = "type")]
    level: &'static str,
    /// The file to open: the first of a split model.
    path: String,
    /// Of all shards.
    bytes: u64,
    /// The quantizer that rounds its matrices together; `null` for the encoders alone.
    quantizer: Option<String>,
    bits_per_weight: f64,
    bits_per_weight_blocks: f64,
    worker_seconds: Option<f64>,
    /// Of the file; `null` of a split model, whose shards have one each.
    sha256: Option<String>,
    /// The files that the model consists of: one unless it is split.
    shards: Vec<JsonShard>,
    fallbacks: Vec<JsonFallback>,
    tensors: Vec<JsonTensor>,
}

#[derive(Debug, Serialize)]
struct JsonShard {
    path: String,
    bytes: u64,
    sha256: Option<String>,
}

#[derive(Debug, Serialize)]
struct JsonFallback {
    tensor: String,
    wanted: &'static str,
    used: &'static str,
    row_elems: u64,
}

#[derive(Debug, Serialize)]
struct JsonTensor {
    name: String,
    shape: Vec<usize>,
    source: &'static str,
    /// Whether the importance of its columns is known.
    importance: bool,
    #[serde(rename = "type")]
    ty: &'static str,
    /// Index of the shard it is in.
    shard: usize,
    /// From the start of the shard.
    offset: u64,
    bytes: u64,
}

pub(super) fn json(plan: &Plan, allocated: Option<&Allocated>, outcome: Option<Outcome<'_>>) -> Json {
    let written = |index: usize| outcome.map(|outcome| &outcome.written[index]);
    Json {
        dry_run: outcome.is_none(),
        source_bytes: plan.source_bytes(),
        seconds: outcome.map(|outcome| outcome.seconds),
        warnings: plan.warnings.clone(),
        lora: plan.lora.clone().map(|lora| JsonLora {
            name: lora.name,
            config_sha256: lora.config_sha256,
            weights_sha256: lora.weights_sha256,
            products: lora.n_products,
            biases: lora.n_biases,
            replaced: lora.n_replaced,
        }),
        allocation: allocated.map(JsonAllocation::new),
        files: plan.files.iter().enumerate().map(|(index, file)| json_file(plan, file, written(index))).collect(),
    }
}

fn json_file(plan: &Plan, file: &FilePlan, written: Option<&Written>) -> JsonFile {
    let fallbacks = file.fallbacks().map(|fallback| JsonFallback {
        tensor: fallback.tensor.to_owned(),
        wanted: fallback.wanted.name(),
        used: fallback.used.name(),
        row_elems: fallback.row_elems,
    });
    let tensors = plan.tensors.iter().zip(file.tensors()).map(|(tensor, (shard, info))| JsonTensor {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        source: tensor.source.ty.name(),
        importance: tensor.importance.is_some(),
        ty: info.ty.name(),
        shard,
        offset: info.offset,
        bytes: info.n_bytes,
    });
    let sha256 = |index: usize| written.and_then(|written| written.files[index].sha256.clone());
    let shards = file.shards.iter().enumerate().map(|(index, shard)| JsonShard {
        path: shard.path.display().to_string(),
        bytes: shard.layout.total_bytes(),
        sha256: sha256(index),
    });
    JsonFile {
        level: file.level.name(),
        path: file.path().display().to_string(),
        bytes: file.n_bytes(),
        quantizer: plan.quantizer.as_ref().filter(|_| file.by_quantizer).map(|quantizer| quantizer.name().to_owned()),
        bits_per_weight: file.bits_per_weight(),
        bits_per_weight_blocks: file.block_bits_per_weight(),
        worker_seconds: written.map(|written| written.worker_seconds),
        sha256: if file.is_split() { None } else { sha256(0) },
        shards: shards.collect(),
        fallbacks: fallbacks.collect(),
        tensors: tensors.collect(),
    }
}
