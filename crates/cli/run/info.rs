//! `pythia-run info`: describes a model and how it would run here.

mod fit;

use super::model::{FILE, FileArgs, Passes, RunArgs, describe};
use crate::exit::{self, Failure};
use pythia_gguf::{FileType, keys};
use pythia_model::Model;
use pythia_runtime::machine::Processors;
use pythia_schema::{Hparams, parameter_counts};
use pythia_show::{Width, facts, number};
use serde_json::{Value, json};
use std::path::Path;

/// Describe a model and how it would run on this machine
#[derive(Debug, clap::Args)]
#[command(mut_group(FILE, |file| file.required(false)))]
#[group(required = true, multiple = true, args = ["file", "model", "fit"])]
pub(super) struct Args {
    #[command(flatten)]
    file: Option<FileArgs>,
    /// Say whether the model fits in this machine's memory, and estimate its speed; without MODEL, for every size of
    /// Pythia at four levels
    ///
    /// Available memory is what the system reports, or less if this process has a limit (a control group, as containers
    /// have). The model's file, the key-value cache for 2048 tokens, the buffers of a batch and the program must fit.
    /// Speeds are estimates: the memory's bandwidth and the processor's rates are measured, which takes some seconds, and
    /// multiplied by the share of them that models were measured to reach.
    #[arg(long, conflicts_with_all = ["device", "gpu_layers", "activations"])]
    fit: bool,
    #[command(flatten)]
    how: RunArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    args.how.refuse_memory("info runs nothing")?;
    let path = args.file.as_ref().map(FileArgs::path);
    if args.fit {
        return fit::run(path, &args.how, args.json);
    }
    // The parser refuses a command line with neither.
    let path = path.unwrap_or(Path::new(""));
    let (model, tokenizer) = args.how.open(path, Passes::Few)?;
    let mut info = describe(&model, path);
    let (total, non_embedding) = parameter_counts(model.hparams());
    let h = model.hparams();
    let more = json!({
        "name": text(&model, keys::NAME),
        "file_type": file_type(&model),
        "file_bytes": model.file_bytes(),
        "parameters": total,
        "parameters_non_embedding": non_embedding,
        "n_layer": h.n_layer,
        "n_embd": h.n_embd,
        "n_head": h.n_head,
        "n_ff": h.n_ff,
        "n_vocab": h.n_vocab,
        "n_tokens": tokenizer.n_tokens(),
        "n_ctx": h.n_ctx,
        "n_rot": h.n_rot,
        "rope_base": super::decimal(h.rope_base),
        "rope_factor": super::decimal(h.rope_factor),
        "norm_eps": super::decimal(h.norm_eps),
        "parallel_residual": h.parallel_residual,
        "file_gelu": if h.gelu_tanh { "tanh" } else { "erf" },
        "processors": Processors::here().map(|p| p.logical),
        "cores": Processors::here().map(|p| p.cores),
        "kv_bytes_per_token": kv_bytes_per_token(&model),
        "gpu": args.how.describe_gpu(&model)?,
    });
    if let (Value::Object(info), Value::Object(more)) = (&mut info, more) {
        info.extend(more);
    }
    if args.json { exit::print_json_line(&info) } else { exit::print(&table(&model, &info)) }
}

/// Keys and values of all layers.
fn kv_bytes_per_token(model: &Model) -> usize {
    pythia_model::kv_bytes_per_token(model.hparams(), model.options().kv).unwrap_or(usize::MAX)
}

fn text(model: &Model, key: &str) -> Option<String> {
    model.gguf().metadata.str(key).ok().flatten().map(str::to_owned)
}

/// The file type, if the file states it.
fn file_type(model: &Model) -> Option<&'static str> {
    FileType::of(&model.gguf().metadata).map(FileType::name)
}

fn table(model: &Model, info: &Value) -> String {
    let h = model.hparams();
    let plain = |key: &str| match &info[key] {
        Value::String(text) => text.clone(),
        Value::Null => "not stated".to_owned(),
        other => other.to_string(),
    };
    let cache = kv_bytes_per_token(model);
    let own = if info["gelu"] == info["file_gelu"] {
        String::new()
    } else {
        format!(" (the file's: {})", plain("file_gelu"))
    };
    let rows = [
        ("model", plain("model")),
        ("name", plain("name")),
        ("type", format!("{}, {}", plain("file_type"), number::bytes(model.file_bytes()))),
        ("parameters", format!("{}, {} without embeddings", plain("parameters"), plain("parameters_non_embedding"))),
        ("shape", format!("{} layers, {} wide, {} heads, feed-forward {}", h.n_layer, h.n_embd, h.n_head, h.n_ff)),
        ("residual", if h.parallel_residual { "parallel" } else { "sequential" }.to_owned()),
        ("rotary", rotary(h)),
        ("vocabulary", format!("{} rows, {} tokens", h.n_vocab, plain("n_tokens"))),
        ("context", format!("{} tokens", h.n_ctx)),
        (
            "cache",
            format!(
                "{}, {cache} bytes per token, {} for a full context",
                plain("kv_cache"),
                number::bytes((cache * h.n_ctx) as u64)
            ),
        ),
        (
            "runs on",
            match &info["gpu"] {
                Value::String(gpu) => gpu.clone(),
                _ => format!("{}, {} threads{}", plain("isa"), plain("threads"), cores()),
            },
        ),
        ("arithmetic", format!("{} activations, GELU by {}{own}", plain("activations"), plain("gelu"))),
    ];
    facts(&rows, 12, Width::of_stdout())
}

/// A note where a core has several processors: more threads than cores are seldom faster.
fn cores() -> String {
    match Processors::here() {
        Some(Processors { logical, cores }) if cores < logical => format!(" ({logical} processors on {cores} cores)"),
        _ => String::new(),
    }
}

/// The rotary embedding in words.
fn rotary(h: &Hparams) -> String {
    let scaling = if h.rope_factor == 1.0 { String::new() } else { format!(", linear scaling by {}", h.rope_factor) };
    format!("{} of {} elements of a head, base {}{scaling}", h.n_rot, h.n_embd / h.n_head, h.rope_base)
}
