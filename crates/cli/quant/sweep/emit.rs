//! `pythia-quant sweep emit`.

use crate::exit::{self, Failure};
use crate::input;
use clap::Subcommand;
use pythia_convert::output::{AtomicFile, check_target};
use pythia_sweep::Sweep;
use pythia_sweep::emit::{Engine, Options, Pod, script};
use std::env;
use std::path::PathBuf;

/// Threads of a shard, unless others are asked for.
const THREADS: usize = 8;

/// Print a script that runs a sweep with Slurm, HyperQueue, GNU parallel, Kubernetes or Snakemake
///
/// The script runs as it is. It asks for time, memory and cores by the estimates of the plan, with a margin, and says so in
/// its first lines. Shards that are interrupted are run again; what is done is not computed again.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    engine: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A job array: sbatch FILE
    Slurm(Common),
    /// A task array of HyperQueue: bash FILE
    Hq(Common),
    /// GNU parallel on this machine: bash FILE
    Parallel(Common),
    /// A Job with indexed completions: kubectl apply -f FILE
    K8s {
        #[command(flatten)]
        common: Common,
        /// Container image that has the program
        #[arg(long)]
        image: String,
        /// Volume claim that has the sweep
        #[arg(long, value_name = "NAME")]
        claim: String,
        /// Where the claim is mounted; the sweep has the same path there as here [default: the parent folder of the sweep]
        #[arg(long, value_name = "DIR")]
        mount: Option<PathBuf>,
    },
    /// A Snakefile: snakemake --snakefile FILE
    Snakemake(Common),
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Folder of the sweep, or its manifest
    sweep: PathBuf,
    /// Write the script to a file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace that file
    #[arg(long)]
    force: bool,
    /// Shards, at most one per checkpoint [default: as many as take about two hours each]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    shards: Option<usize>,
    /// Threads of a shard
    #[arg(long, value_name = "N", value_parser = parse_count, default_value_t = THREADS)]
    threads: usize,
    /// Shards that run at once [default: as many as the engine likes]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    at_once: Option<usize>,
    /// Folder for unfinished files; $NAME at its start is a variable of the job, such as '$SLURM_TMPDIR'
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Delete downloads after their checkpoint is done
    #[arg(long)]
    evict: bool,
    /// Open no connections: everything was fetched by `prefetch`
    #[arg(long)]
    offline: bool,
    /// pythia-quant on the machines that run the shards [default: this program; for k8s, the one in the image's PATH]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Seconds before another try, for hq and parallel
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry_after: u64,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (common, engine) = match &args.engine {
        Command::Slurm(common) => (common, Engine::Slurm),
        Command::Hq(common) => (common, Engine::HyperQueue),
        Command::Parallel(common) => (common, Engine::Parallel),
        Command::Snakemake(common) => (common, Engine::Snakemake),
        Command::K8s { common, image, claim, mount } => {
            let pod = Pod { image: image.clone(), claim: claim.clone(), mount: mount.clone() };
            (common, Engine::Kubernetes(pod))
        }
    };
    let sweep = Sweep::open(&common.sweep)?;
    if let Some(output) = &common.output {
        let manifest = common.sweep.join(pythia_sweep::MANIFEST);
        check_target(output, &input::files([common.sweep.as_path(), &manifest]), common.force)?;
    }
    let text = script(&sweep, &engine, &common.options(&engine)?)?;
    let Some(output) = &common.output else {
        return exit::print_prose(&text);
    };
    Ok(AtomicFile::write(output, text.as_bytes(), common.force, &exit::Notes { quiet: false })?)
}

impl Common {
    fn options(&self, engine: &Engine) -> Result<Options, Failure> {
        let program = match (&self.program, engine) {
            (Some(program), _) => program.clone(),
            (None, Engine::Kubernetes(_)) => super::super::PROGRAM.into(),
            (None, _) => env::current_exe().map_err(|e| Failure::io(format_args!("the path of this program: {e}")))?,
        };
        Ok(Options {
            program,
            shards: self.shards,
            threads: self.threads,
            at_once: self.at_once,
            scratch: self.scratch.clone(),
            evict: self.evict,
            offline: self.offline,
            retry_seconds: self.retry_after,
        })
    }
}

/// For clap: a number that is not zero.
fn parse_count(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&n| (1..=1_000_000).contains(&n));
    number.ok_or_else(|| format!("found '{text}', wanted a number from 1"))
}
