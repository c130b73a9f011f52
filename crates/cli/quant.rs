//! `pythia-quant`: from checkpoints to GGUF files, and what is in them.

mod compare;
mod convert;
mod inspect;

use crate::exit;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

const PROGRAM: &str = "pythia-quant";

/// Quantize EleutherAI's Pythia models (GPT-NeoX) to GGUF
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, subcommand_required = true, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

/// A row per subcommand; each has a file of its own in `quant/`.
#[derive(Debug, Subcommand)]
enum Command {
    Convert(convert::Args),
    Compare(compare::Args),
    Inspect(inspect::Args),
}

/// The whole program.
pub fn main() -> ExitCode {
    let args: Args = match exit::parse(PROGRAM) {
        Ok(args) => args,
        Err(code) => return code,
    };
    let result = match args.command {
        Command::Convert(args) => convert::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Inspect(args) => inspect::run(&args),
    };
    exit::report(PROGRAM, result)
}

/// A remark on stderr that does not stop the program.
fn warn(message: &str) {
    exit::note(format_args!("{PROGRAM}: warning: {message}"));
}
