//! `pythia-quant measure-level`: `compare` starts it for each file, see [`pythia_compare::Worker`].

use crate::device::DeviceArgs;
use crate::exit::{self, Failure};
use crate::input::parse_threads;
use pythia_compare::measure;
use pythia_kernels::IsaLevel;
use pythia_model::{Activations, Gelu, KvType, Options};
use pythia_runtime::{parse_activations, parse_gelu, parse_kv};
use pythia_task::ErrorKind;
use std::io::Read;
use std::path::PathBuf;

/// Name of the subcommand.
pub(super) const COMMAND: &str = "measure-level";

/// Measure one file for `compare`
///
/// Ends when its standard input does, so that it never outlives the process that started it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    file: PathBuf,
    #[arg(long, value_parser = parse_threads, default_value = "0")]
    threads: usize,
    #[arg(long, value_parser = parse_activations, default_value = "int8")]
    activations: Activations,
    #[arg(long, value_parser = parse_gelu)]
    gelu: Option<Gelu>,
    #[arg(long, value_parser = parse_kv, default_value = "f16")]
    kv: KvType,
    #[arg(long)]
    isa: Option<IsaLevel>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// The subcommand.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(ErrorKind::Cancelled.exit_code().into());
    });
    let &Args { threads, activations, gelu, kv, isa, .. } = args;
    let options = Options { threads, isa, activations, gelu, kv, ..Options::default() };
    let measured = measure(&args.device.find()?, &args.file, &options, exit::catch_interrupts())?;
    exit::print_json_line(&serde_json::to_value(measured).map_err(Failure::io)?)
}
