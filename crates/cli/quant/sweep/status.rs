//! `pythia-quant sweep status`.

use crate::exit::Failure;
use std::path::PathBuf;

/// Show what is done, failed and missing
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the sweep, or its manifest
    sweep: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    pythia_sweep::Sweep::open(&args.sweep)?;
    todo!()
}
