//! `pythia-quant sweep prefetch`: downloads the checkpoints of a sweep.

use super::PartOptions;
#[cfg(feature = "hub")]
use crate::exit;
use crate::exit::Failure;
use pythia_sweep::Sweep;
use std::path::PathBuf;

/// Download the checkpoints of a sweep into the Hub's cache, on a machine with a connection
///
/// Runs on machines without one find them there, with --offline. Checkpoints with the same files are downloaded once.
/// What is there is not downloaded again, nor what is computed already.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the sweep, or its manifest
    sweep: PathBuf,
    #[command(flatten)]
    part: PartOptions,
    /// Print only warnings and errors
    #[arg(short, long)]
    quiet: bool,
}

#[cfg(feature = "hub")]
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let sweep = Sweep::open(&args.sweep)?;
    let (settings, cancel) = (super::hub_settings(false)?, exit::catch_interrupts());
    let n =
        pythia_sweep::run::prefetch(&sweep, &args.part.part()?, &settings, cancel, &|| super::downloads(args.quiet))?;
    if args.quiet {
        return Ok(());
    }
    exit::print(&format!("{} in {}\n", pythia_text::counted(n, "checkpoint"), pythia_text::path(&settings.cache)))
}

#[cfg(not(feature = "hub"))]
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let _ = (Sweep::open(&args.sweep)?, args.part.part()?, args.quiet);
    Err(Failure::usage("to use models of the Hub, build the program with the feature `hub`"))
}
