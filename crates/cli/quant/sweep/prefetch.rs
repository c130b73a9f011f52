//! `pythia-quant sweep prefetch`.

use crate::exit::Failure;
use std::path::PathBuf;

/// Download the checkpoints of a sweep
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the sweep, or its manifest
    sweep: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    pythia_sweep::Sweep::open(&args.sweep)?;
    todo!()
}
