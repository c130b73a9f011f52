//! `pythia-quant convert`: a checkpoint to GGUF files, several levels in one pass.

mod report;

use crate::exit::{self, Failure};
use crate::input::{check_checkpoint, parse_threads};
use crate::progress::{Bar, Unit};
use pythia_checkpoint::Checkpoint;
use pythia_convert::{Level, Plan, Provenance, Recipe, Request, RunOptions, TypeRule, Written};
use pythia_tensor::TensorType;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Convert a Hugging Face checkpoint to GGUF
///
/// Every TYPE becomes a file of its own; all are made in one pass over the checkpoint. They name the mixes of
/// llama.cpp: Q4_* and Q5_* keep the output matrix in Q6_K.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Checkpoint: a Hugging Face folder or one .safetensors file in it
    source: PathBuf,
    /// File to write; with several types, or where it names one, a folder [default: SOURCE-TYPE.gguf here]
    #[arg(short, long)]
    output: Option<PathBuf>,
    #[arg(short = 't', long = "type", required = true, value_delimiter = ',', value_name = "TYPE", help = types_help())]
    types: Vec<Level>,
    /// Store the weight matrices whose GGUF name REGEX matches as TYPE; may be repeated, the last match wins
    #[arg(long, value_name = "REGEX=TYPE")]
    tensor_type: Vec<TypeRule>,
    /// Type of the output matrix
    #[arg(long, value_name = "TYPE")]
    output_tensor_type: Option<TensorType>,
    /// Type of the token embedding
    #[arg(long, value_name = "TYPE")]
    token_embedding_type: Option<TensorType>,
    /// Every matrix in the file's type, no mix
    #[arg(long)]
    pure: bool,
    /// Convert weights that are not finite or too large for f16, instead of refusing them
    #[arg(long)]
    allow_nonfinite: bool,
    /// Record the SHA-256 of the weight files in the metadata (reads them once more)
    #[arg(long)]
    provenance_sha: bool,
    /// Write OUT.sha256 beside each file: digests of the file and of every tensor
    #[arg(long)]
    sha256: bool,
    /// Worker threads [default: one per core]; the bytes written do not depend on it
    #[arg(long, value_name = "N", value_parser = parse_threads, default_value = "0", hide_default_value = true)]
    threads: usize,
    /// Say what would be written, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// List every tensor
    #[arg(short, long)]
    verbose: bool,
    /// Print nothing but errors
    #[arg(short, long, conflicts_with_all = ["verbose", "json"])]
    quiet: bool,
}

fn types_help() -> String {
    let names: Vec<_> = Level::ALL.iter().map(|level| level.name()).collect();
    format!("Types of the files, separated by commas: {}", names.join(", "))
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let cancel = exit::catch_interrupts();
    check_checkpoint(&args.source)?;
    let checkpoint = Checkpoint::open(&args.source)?;
    let provenance = Provenance::gather(&checkpoint, args.provenance_sha && !args.dry_run, cancel)?;
    let request = Request { files: targets(args, &provenance.name)?, recipe: recipe(args), provenance };
    let plan = pythia_convert::plan(&checkpoint, &request)?;
    if !args.quiet {
        plan.warnings.iter().for_each(|warning| super::warn(warning));
    }
    if args.dry_run {
        return show(args, &plan, None);
    }
    if let Some(folder) = args.output.as_deref().filter(|path| is_folder(path, args.types.len())) {
        std::fs::create_dir_all(folder).map_err(|e| Failure::at(folder, &e))?;
    }
    let start = Instant::now();
    let bar = Bar::new(plan.source_bytes(), Unit::Bytes, args.quiet);
    let options = RunOptions {
        threads: args.threads,
        force: args.force,
        allow_nonfinite: args.allow_nonfinite,
        sha256: args.sha256,
        cancel,
        progress: &bar,
    };
    let written = pythia_convert::run(&checkpoint, &plan, &options)?;
    bar.finish();
    show(args, &plan, Some(report::Outcome { written: &written, seconds: start.elapsed().as_secs_f64() }))
}

fn show(args: &Args, plan: &Plan, outcome: Option<report::Outcome<'_>>) -> Result<(), Failure> {
    if args.quiet {
        Ok(())
    } else if args.json {
        exit::print_json(&report::json(plan, outcome))
    } else {
        exit::print(&report::text(plan, outcome, args.verbose || args.dry_run))
    }
}

fn recipe(args: &Args) -> Recipe {
    Recipe {
        pure: args.pure,
        output: args.output_tensor_type,
        token_embd: args.token_embedding_type,
        rules: args.tensor_type.clone(),
    }
}

/// Whether `--output` names a folder: it is one, is written like one, or has to hold several files.
fn is_folder(output: &Path, n_types: usize) -> bool {
    n_types > 1 || output.is_dir() || output.as_os_str().to_string_lossy().ends_with(std::path::is_separator)
}

/// The file of each type.
fn targets(args: &Args, source_name: &str) -> Result<Vec<(Level, PathBuf)>, Failure> {
    let named = |level: &Level| format!("{source_name}-{level}.gguf");
    let levels = args.types.iter();
    Ok(match &args.output {
        None => levels.map(|level| (*level, named(level).into())).collect(),
        Some(output) if is_folder(output, args.types.len()) => {
            if !output.is_dir() && (output.exists() || output.extension().is_some_and(|e| e == "gguf")) {
                let output = output.display();
                return Err(Failure::usage(format_args!("{output}: is not a folder, which several types need")));
            }
            levels.map(|level| (*level, output.join(named(level)))).collect()
        }
        Some(output) => levels.map(|level| (*level, output.clone())).collect(),
    })
}
