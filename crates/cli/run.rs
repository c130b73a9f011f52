//! `pythia-run`: runs GGUF files.

mod activations;
mod attention;
mod beginning;
pub(crate) mod bench;
mod changes;
mod drafting;
mod eval;
mod generate;
mod info;
mod lens;
mod model;
mod perplexity;
#[cfg_attr(not(feature = "server"), path = "run/no_serve.rs")]
mod serve;
mod showing;
mod text;
mod tokenize;
mod writing;

use crate::exit;
use crate::shown::{completions, man};
use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

const PROGRAM: &str = "pythia-run";

/// Run Pythia models (GPT-NeoX) from GGUF files
#[derive(Debug, Parser)]
#[command(name = PROGRAM, bin_name = PROGRAM, version, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

/// The subcommands. Each has its own file in `run/`, or in `shown/` if both programs have it.
#[derive(Debug, Subcommand)]
enum Command {
    Generate(generate::Args),
    Perplexity(perplexity::Args),
    Eval(eval::Args),
    Lens(lens::Args),
    Attention(attention::Args),
    Activations(activations::Args),
    Bench(bench::Args),
    Tokenize(tokenize::Args),
    Info(info::Args),
    Serve(serve::Args),
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
        Command::Generate(args) => generate::run(&args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Lens(args) => lens::run(&args),
        Command::Attention(args) => attention::run(&args),
        Command::Activations(args) => activations::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Tokenize(args) => tokenize::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Completions(args) => completions::run(&args, &Args::command()),
        Command::Man(args) => man::run(&args, &Args::command()),
    };
    exit::report(PROGRAM, result)
}

/// The shortest decimal that reads back as `x`: 0.8, not 0.800000011920929.
fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}
