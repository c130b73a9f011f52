//! `pythia-quant sweep status`.

use crate::exit::{self, Failure};
use pythia_show::Width;
use pythia_sweep::{Status, Sweep};
use pythia_task::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show what is done, failed and missing
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the sweep, or its manifest
    sweep: PathBuf,
    /// List every cell that failed
    #[arg(long)]
    failed: bool,
    /// For scripts: exit code 0 only if all cells are done, 1 if some are left, 65 if none is left and some failed
    #[arg(long)]
    check: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Some cells are left.
const LEFT: u8 = 1;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let sweep = Sweep::open(&args.sweep)?;
    let status = Status::now(&sweep, args.failed);
    if args.json {
        exit::print_json(&status)?;
    } else {
        exit::print(&status.to_terminal(Width::of_stdout()))?;
    }
    let cells = status.cells;
    Ok(match (args.check, cells.to_do, cells.failed) {
        (false, ..) | (true, 0, 0) => ExitCode::SUCCESS,
        (true, 0, _) => ExitCode::from(ErrorKind::Data.exit_code()),
        (true, ..) => ExitCode::from(LEFT),
    })
}
