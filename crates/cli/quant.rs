//! `pythia-quant`: converts checkpoints to GGUF files, and inspects, compares and checks such files.

mod cache;
mod calibrate;
mod compare;
mod convert;
mod dequantize;
mod diff;
mod imatrix;
mod inspect;
mod measure_level;
mod quantize;
mod quantizer;
mod sweep;
mod value;
mod verify;

use crate::exit;
use crate::shown::{completions, man};
use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

const PROGRAM: &str = "pythia-quant";

/// Quantize EleutherAI's Pythia models (GPT-NeoX) to GGUF, and compare the results
#[derive(Debug, Parser)]
#[command(name = PROGRAM, bin_name = PROGRAM, version, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

/// The subcommands. Each has its own file in `quant/`, or in `shown/` if both programs have it.
#[derive(Debug, Subcommand)]
enum Command {
    Convert(convert::Args),
    Quantize(quantize::Args),
    Compare(compare::Args),
    #[command(hide = true)]
    MeasureLevel(measure_level::Args),
    Sweep(sweep::Args),
    Cache(cache::Args),
    Imatrix(imatrix::Args),
    Calibrate(calibrate::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Diff(diff::Args),
    Dequantize(dequantize::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// The whole program.
pub fn main() -> ExitCode {
    let args: Args = match exit::parse(PROGRAM) {
        Ok(args) => args,
        Err(code) => return code,
    };
    let result = match args.command {
        Command::Convert(args) => convert::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Cache(args) => cache::run(&args),
        Command::MeasureLevel(args) => measure_level::run(&args),
        Command::Imatrix(args) => imatrix::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Dequantize(args) => dequantize::run(&args),
        Command::Completions(args) => completions::run(&args, &Args::command()),
        Command::Man(args) => man::run(&args, &Args::command()),
        // They have additional exit codes.
        Command::Diff(args) => return exit::report(PROGRAM, diff::run(&args)),
        Command::Sweep(args) => return exit::report(PROGRAM, sweep::run(&args)),
    };
    exit::report(PROGRAM, result)
}

/// A warning on stderr. The program continues.
fn warn(message: &str) {
    exit::note(format_args!("{PROGRAM}: warning: {message}"));
}
