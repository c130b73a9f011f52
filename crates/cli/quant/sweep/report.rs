//! `pythia-quant sweep report`.

use crate::exit::Failure;
use std::path::PathBuf;

/// Write a page with plots
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the sweep, or its manifest
    sweep: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    pythia_sweep::Sweep::open(&args.sweep)?;
    todo!()
}
