//! `pythia-quant sweep run`.

use crate::exit::Failure;
use std::path::PathBuf;

/// Compute cells of a sweep
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the sweep, or its manifest
    sweep: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<std::process::ExitCode, Failure> {
    pythia_sweep::Sweep::open(&args.sweep)?;
    todo!()
}
