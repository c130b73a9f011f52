//! `pythia-quant sweep`: many checkpoints at many levels. [`pythia_sweep`] does the work.

mod collect;
mod emit;
mod plan;
mod prefetch;
mod report;
mod run;
mod status;

use crate::exit::Failure;
use clap::Subcommand;
use std::process::ExitCode;

/// Measure many checkpoints at many levels: plan, run in parts on any number of machines, collect
///
/// A sweep is a folder. `plan` writes the list of its cells into it, each a checkpoint, a level and a text. `run` computes
/// all of them or a part; what is there is not computed again. `collect` makes one table, `report` a page with plots.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

/// The subcommands. Each has its own file in `sweep/`.
#[derive(Debug, Subcommand)]
enum Command {
    Plan(plan::Args),
    Prefetch(prefetch::Args),
    Run(run::Args),
    Status(status::Args),
    Collect(collect::Args),
    Report(report::Args),
    Emit(emit::Args),
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let done = match &args.command {
        Command::Plan(args) => plan::run(args),
        Command::Prefetch(args) => prefetch::run(args),
        Command::Run(args) => return run::run(args),
        Command::Status(args) => status::run(args),
        Command::Collect(args) => collect::run(args),
        Command::Report(args) => report::run(args),
        Command::Emit(args) => emit::run(args),
    };
    done.map(|()| ExitCode::SUCCESS)
}
