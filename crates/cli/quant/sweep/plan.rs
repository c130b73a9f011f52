//! `pythia-quant sweep plan`.

use crate::exit::Failure;
use std::path::PathBuf;

/// List the cells of a sweep
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the sweep, or its manifest
    sweep: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    pythia_sweep::Sweep::open(&args.sweep)?;
    todo!()
}
