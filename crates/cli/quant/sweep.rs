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
use pythia_sweep::Shard;
use pythia_sweep::run::Part;
use pythia_task::Progress;
use std::process::ExitCode;
use std::sync::Arc;

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
        Command::Status(args) => return status::run(args),
        Command::Collect(args) => collect::run(args),
        Command::Report(args) => report::run(args),
        Command::Emit(args) => emit::run(args),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Which checkpoints of a sweep.
#[derive(Debug, clap::Args)]
struct PartOptions {
    /// Part I of N, with I from 0 to N-1: checkpoints that take about the same time in every part [default: that of the
    /// array job, otherwise everything]
    #[arg(long, value_name = "I/N", conflicts_with_all = ["shards", "group"])]
    shard: Option<Shard>,
    /// In an array job, the number of its tasks, where the engine does not tell it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "group")]
    shards: Option<u32>,
    /// Only the checkpoint whose group has this id, or the only one whose id begins with it
    #[arg(long, value_name = "ID")]
    group: Option<String>,
}

impl PartOptions {
    fn part(&self) -> Result<Part, Failure> {
        if let Some(group) = &self.group {
            return Ok(Part::Group(group.clone()));
        }
        let shard = match self.shard {
            Some(shard) => Some(shard),
            None => Shard::from_env(|name| std::env::var(name).ok(), self.shards.map(|n| n as usize))?,
        };
        Ok(shard.map_or(Part::All, Part::Shard))
    }
}

/// The settings of the environment for the Hub.
#[cfg(feature = "hub")]
fn hub_settings(offline: bool) -> Result<pythia_hub::Settings, Failure> {
    let mut settings = pythia_hub::Settings::from_env(|name| std::env::var_os(name))?;
    settings.offline |= offline;
    Ok(settings)
}

/// Shows the progress of downloads.
fn downloads(quiet: bool) -> Arc<dyn Progress> {
    #[cfg(feature = "hub")]
    return crate::input::downloads(quiet);
    #[cfg(not(feature = "hub"))]
    {
        let _ = quiet;
        Arc::new(())
    }
}

/// Whether a task is one of the user's own, which is named by its file.
fn is_own_task(name: &str) -> bool {
    std::path::Path::new(name).extension().is_some_and(|extension| extension == "toml")
}

/// A time for people: `3 min`, `2.5 h`, `12 days`.
fn duration(seconds: f64) -> String {
    let (minutes, hours) = (seconds / 60.0, seconds / 3600.0);
    match seconds {
        _ if seconds < 90.0 => format!("{seconds:.0} s"),
        _ if minutes < 90.0 => format!("{minutes:.0} min"),
        _ if hours < 48.0 => format!("{hours:.1} h"),
        _ => format!("{:.0} days", hours / 24.0),
    }
}
