//! `pythia-quant diff`: the differences between two GGUF files.

mod inside;
mod report;

use crate::exit::{self, Failure};
use crate::input::{check_gguf, parse_threads};
use crate::progress::{Bar, Unit};
use pythia_convert::diff::{diff, progress_bytes};
use pythia_convert::{GgufFile, PassOptions};
use pythia_show::Width;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show the differences between two GGUF files, or what they make of a text
///
/// Compares metadata by key and tensors by name, for any architecture. Tensors whose types or bytes differ are decoded,
/// and their values are compared. The order of keys and tensors, the version of the container and a split into several
/// files do not count. For a split model, name the first file.
///
/// With --activations, both are run over a text, and the values inside are compared: where a level of quantization does
/// its damage. docs/inside.md says what the numbers mean.
///
/// The exit code is 0 if the contents are equal and 1 if they differ, as for diff(1). Other codes are errors.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// GGUF file to start from; differences are B - A
    #[arg(value_name = "A.gguf")]
    a: PathBuf,
    /// GGUF file to compare with it
    #[arg(value_name = "B.gguf")]
    b: PathBuf,
    /// Also show what is equal
    #[arg(long, conflicts_with = "activations")]
    all: bool,
    /// Compare only the tensors
    #[arg(long, conflicts_with = "activations")]
    no_metadata: bool,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = parse_threads, default_value = "0", hide_default_value = true)]
    threads: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print nothing but errors; the exit code is the answer
    #[arg(short, long, conflicts_with_all = ["all", "json"])]
    quiet: bool,
    #[command(flatten)]
    inside: inside::InsideArgs,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let cancel = exit::catch_interrupts();
    [&args.a, &args.b].into_iter().try_for_each(|path| check_gguf(path))?;
    if args.inside.is_wanted() {
        return inside::run(args, cancel);
    }
    let (a, b) = (GgufFile::open(&args.a)?, GgufFile::open(&args.b)?);
    let bar = Bar::new(progress_bytes(&a, &b), Unit::Bytes, args.quiet);
    let mut diff = diff(&a, &b, &PassOptions { threads: args.threads, cancel, progress: &bar })?;
    bar.finish();
    if args.no_metadata {
        diff.keys.clear();
    }
    if args.json {
        exit::print_json(&report::json(&diff, args.all))?;
    } else if !args.quiet {
        exit::print(&report::text(&diff, args.all, Width::of_stdout()))?;
    }
    Ok(if diff.is_same() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

/// The exit code of files that differ.
const DIFFERENT: u8 = 1;
