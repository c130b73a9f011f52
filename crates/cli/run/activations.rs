//! `pythia-run activations`: values inside a model, as files. [`pythia_inside::export`] does the work.

use super::model::{ModelArgs, Passes, describe};
use super::text::TextArgs;
use crate::exit::{self, Failure};
use crate::input::{TextOptions, parse_file_size};
use crate::progress::{Bar, Log, Unit};
use pythia_compare::cache::Digests;
use pythia_inside::Selection;
use pythia_inside::export::{
    Dtype, Format, Input, Kind, ModelFile, Options, Positions, Request, SHARD_BYTES, Summary, export,
};
use pythia_model::Model;
use pythia_runtime::{Text, Tokenizer};
use pythia_show::{Width, facts, number};
use pythia_task::{Cancel, ErrorKind, Progress, user_cache};
use pythia_text::counted;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Export activations: the values at chosen places inside the model, for every token of a text
///
/// Writes DIR/activations-00000.safetensors and so on, and DIR/manifest.json. Arrays have the names of hooks, and a row
/// per exported position; `offsets`, `texts`, `tokens` and `positions` say what a row is of. A text that is longer than
/// a window is cut, and each window is run from its own start. If a run is stopped, the same command goes on after the
/// last whole file.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    text: TextArgs,
    /// File with a JSON object per line: a text each, or a list of token ids; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "file_of_text", "ids"])]
    jsonl: Option<PathBuf>,
    /// Name of the text in the objects of --jsonl
    #[arg(long, value_name = "NAME", default_value = "text", requires = "jsonl")]
    #[arg(conflicts_with_all = ["prompt", "file_of_text", "ids"])]
    field: String,
    /// Token ids: a list such as 12,7,450, or a file with a list per line; - for standard input
    #[arg(long, value_name = "FILE|LIST", conflicts_with_all = ["prompt", "file_of_text"])]
    ids: Option<String>,
    /// What to export: names of TransformerLens (blocks.*.hook_resid_post), of modules of Hugging Face
    /// (gpt_neox.layers.3.mlp), or of sparsify (layers.3.mlp), with * for any characters and commas between them.
    /// `list` prints all
    #[arg(long, value_name = "NAMES", required = true)]
    hooks: Vec<String>,
    /// Positions of each text or window: all, last, or a list such as 0,5,-1 or 0:10,-5: as Python counts them
    #[arg(long, value_name = "LIST", default_value = "all", allow_hyphen_values = true)]
    positions: Positions,
    /// Type of the values; f16 and bf16 are rounded
    #[arg(long, value_enum, default_value = "f32")]
    dtype: DtypeName,
    /// Form of the files
    #[arg(long, value_enum, default_value = "safetensors")]
    format: FormatName,
    /// Folder to write: a new or empty one, or one with the beginning of the same export
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Tokens per window; 0 for the model's context length
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    ctx_size: usize,
    /// Begin every text and window with the BOS token, as TransformerLens does by default. Without this no token is
    /// added, as in lm-evaluation-harness and the other commands
    #[arg(long)]
    bos: bool,
    /// Only the first N windows; a text that fits one counts as one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    chunks: Option<u64>,
    /// Largest size of a file, such as 500M or 2G [default: 1G]
    #[arg(long, value_name = "SIZE", value_parser = parse_file_size)]
    shard_size: Option<u64>,
    /// Replace another export in DIR, and start again where this one was stopped
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
    // Last, because its heading would hold what follows.
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum DtypeName {
    F32,
    F16,
    Bf16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FormatName {
    Safetensors,
    Npz,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (model, tokenizer, reach) = args.model.open(Passes::Few)?;
    if args.hooks == ["list"] {
        return exit::print(&list(&model));
    }
    let options = options(args, &model, &tokenizer)?;
    let Some(folder) = &args.output else {
        return Err(Failure::usage("no folder to write is named, wanted -o DIR (--help lists all options)"));
    };
    let mut inputs = args.model.inputs(&model).chain(args.text.path()).chain(args.jsonl.as_deref());
    let place = |path: &Path| path.canonicalize().ok();
    let same = |path: &Path| place(path).is_some_and(|path| path.parent().map(Path::to_owned) == place(folder));
    if let Some(path) = inputs.find(|path| same(path)) {
        let (path, folder) = (pythia_text::path(path), pythia_text::path(folder));
        return Err(Failure::usage(format_args!("{path}: is read, and lies in {folder}, which is to be written")));
    }
    let (text, kind) = input(args)?;
    let cancel = exit::catch_interrupts();
    let model_files = digests(&model, cancel)?;
    let program = format!("{} {}", super::PROGRAM, env!("CARGO_PKG_VERSION"));
    let request =
        Request { options: &options, model_files, program: &program, reach: &reach, force: args.force, cancel };
    let watch = Watch {
        bar: Bar::new(0, Unit::Items("tokens"), args.quiet),
        log: Log::new(args.quiet),
        done: AtomicU64::new(0),
        total: AtomicU64::new(0),
    };
    let start = Instant::now();
    let result = export(&model, &tokenizer, &Input { text: &text, kind }, folder, &request, &watch);
    watch.bar.finish();
    let summary = result.map_err(|error| locate(error, args.model.path(), &text, folder, args.force))?;
    let seconds = start.elapsed().as_secs_f64();
    warnings(&summary, &options).iter().for_each(|line| exit::note(format_args!("warning: {line}")));
    match args.json {
        true => exit::print_json_line(&to_json(&model, args, folder, &summary, seconds)),
        false => exit::print(&table(&model, folder, &options, &summary, seconds)),
    }
}

fn options(args: &Args, model: &Model, tokenizer: &Tokenizer) -> Result<Options, Failure> {
    let bos = match args.bos {
        false => None,
        true => Some(tokenizer.bos().or(tokenizer.eos()).ok_or_else(|| {
            Failure::data(format_args!("{}: has no BOS token, which --bos needs", pythia_text::path(args.model.path())))
        })?),
    };
    Ok(Options {
        selection: Selection::parse(&args.hooks, model.hparams())?,
        positions: args.positions.clone(),
        dtype: match args.dtype {
            DtypeName::F32 => Dtype::F32,
            DtypeName::F16 => Dtype::F16,
            DtypeName::Bf16 => Dtype::Bf16,
        },
        format: match args.format {
            FormatName::Safetensors => Format::Safetensors,
            FormatName::Npz => Format::Npz,
        },
        window: if args.ctx_size == 0 { model.hparams().n_ctx } else { args.ctx_size },
        bos,
        shard_bytes: args.shard_size.unwrap_or(SHARD_BYTES),
        max_sequences: args.chunks,
    })
}

/// The text, and what its lines mean.
fn input(args: &Args) -> Result<(Text, Kind), Failure> {
    match (&args.jsonl, &args.ids) {
        (Some(path), _) => Ok((TextOptions::of_records().open(path)?, Kind::JsonLines { field: args.field.clone() })),
        (None, Some(ids)) => {
            let is_list = ids.bytes().all(|byte| byte.is_ascii_digit() || b", []".contains(&byte));
            let text = match is_list && !Path::new(ids).exists() {
                true => Text::literal(ids, "--ids"),
                false => TextOptions::of_records().open(Path::new(ids))?,
            };
            Ok((text, Kind::Ids))
        }
        (None, None) => Ok((args.text.open()?, Kind::Text)),
    }
}

/// Digests of the model's files, which are kept for the next time.
fn digests(model: &Model, cancel: &Cancel) -> Result<Vec<ModelFile>, Failure> {
    let cache = user_cache(|name| std::env::var_os(name).map(PathBuf::from)).map(|cache| cache.join("eval"));
    let mut digests = Digests::open(cache.as_deref());
    let mut files = Vec::new();
    for path in model.paths() {
        let digest = digests.of(path, cancel)?;
        files.push(ModelFile { name: digest.name, bytes: digest.bytes, sha256: digest.sha256 });
    }
    digests.keep();
    Ok(files)
}

/// With the name of the file at fault; after an interruption, with how to go on.
fn locate(error: pythia_inside::Error, model: &Path, text: &Text, folder: &Path, force: bool) -> Failure {
    match error {
        error if error.kind() == ErrorKind::Cancelled => {
            Failure::interrupted_with(match folder.join("manifest.json").exists() {
                true if force => "interrupted; the same command without --force goes on after the last whole file",
                true => "interrupted; the same command goes on after the last whole file",
                false => "interrupted; no file was whole yet",
            })
        }
        pythia_inside::Error::Runtime(error) => exit::locate(error, model, text),
        error => error.into(),
    }
}

/// All hooks of a model, with the modules that put out the same.
fn list(model: &Model) -> String {
    let hooks = pythia_model::Hook::all(model.hparams());
    let line = |hook: &pythia_model::Hook| {
        let modules = pythia_inside::modules(*hook).join(" ");
        format!("{:32} {modules}", hook.to_string()).trim_end().to_owned() + "\n"
    };
    hooks.iter().map(line).collect()
}

fn warnings(summary: &Summary, options: &Options) -> Vec<String> {
    let tally = summary.tally();
    let mut lines = Vec::new();
    if tally.overflowed > 0 {
        let (n, dtype) = (tally.overflowed, if options.dtype == Dtype::F16 { "f16" } else { "bf16" });
        lines.push(format!("{n} values are too large for {dtype} and became infinite; --dtype f32 keeps them"));
    }
    if tally.not_finite > 0 {
        let n = tally.not_finite;
        lines.push(format!("{n} values are NaN or infinite: the weights are damaged or overflow"));
    }
    if summary.empty > 0 {
        lines.push(format!("{} without tokens; they have no rows", counted(summary.empty as usize, "text")));
    }
    if summary.without_rows > 0 {
        let n = counted(summary.without_rows as usize, "sequence");
        lines.push(format!("{n} too short for the positions {}; they have no rows", options.positions));
    }
    lines
}

fn table(model: &Model, folder: &Path, options: &Options, summary: &Summary, seconds: f64) -> String {
    let sum = |of: fn(&pythia_inside::export::Shard) -> u64| summary.shards.iter().map(of).sum::<u64>();
    let reused = match summary.reused {
        0 => String::new(),
        n => format!(", {n} of them there before"),
    };
    let speed = match summary.tokens_run {
        0 => "nothing was left to do".to_owned(),
        tokens => format!("{:.1} tokens/s, with writing", tokens as f64 / seconds.max(1e-9)),
    };
    let changes = model.edits().map(|edits| ("changed", edits.descriptions().join("; ")));
    let rows = [
        ("folder", pythia_text::path(folder).to_string()),
        ("files", format!("{}, {}{reused}", summary.shards.len(), number::bytes(sum(|shard| shard.bytes)))),
        ("hooks", options.selection.hooks().len().to_string()),
        ("sequences", sum(|shard| shard.sequences).to_string()),
        ("rows", format!("{} (positions: {})", sum(|shard| shard.rows), options.positions)),
        ("speed", speed),
    ];
    let rows: Vec<_> = changes.into_iter().chain(rows).collect();
    facts(&rows, 10, Width::of_stdout())
}

fn to_json(model: &Model, args: &Args, folder: &Path, summary: &Summary, seconds: f64) -> Value {
    let tally = summary.tally();
    json!({
        "run": describe(model, args.model.path()),
        "folder": folder.display().to_string(),
        "shards": summary.shards.len(),
        "reused": summary.reused,
        "bytes": summary.shards.iter().map(|shard| shard.bytes).sum::<u64>(),
        "sequences": summary.shards.iter().map(|shard| shard.sequences).sum::<u64>(),
        "rows": summary.shards.iter().map(|shard| shard.rows).sum::<u64>(),
        "tokens_run": summary.tokens_run,
        "empty": summary.empty,
        "without_rows": summary.without_rows,
        "not_finite": tally.not_finite,
        "overflowed": tally.overflowed,
        "seconds": seconds,
        "tokens_per_second": summary.tokens_run as f64 / seconds.max(1e-9),
    })
}

/// A bar at a terminal, else a line now and then.
struct Watch {
    bar: Bar,
    log: Log,
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress for Watch {
    fn expect(&self, total: Option<u64>) {
        self.bar.expect(total);
        self.total.store(total.unwrap_or(0), Ordering::Relaxed);
    }

    fn advance(&self, shard: &str, tokens: i64) {
        let tokens = u64::try_from(tokens).unwrap_or(0);
        self.bar.advance(tokens);
        self.bar.message(shard);
        let done = self.done.fetch_add(tokens, Ordering::Relaxed) + tokens;
        self.log.tick(|| match self.total.load(Ordering::Relaxed) {
            0 => format!("{done} tokens, {shard}"),
            total => format!("{done} of about {total} tokens, {shard}"),
        });
    }

    fn note(&self, line: &str) {
        Progress::note(&self.bar, line);
    }
}
