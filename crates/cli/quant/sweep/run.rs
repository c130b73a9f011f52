//! `pythia-quant sweep run`: computes cells.

use super::PartOptions;
use crate::device::DeviceArgs;
use crate::exit::{self, Failure, TRY_AGAIN};
use crate::input::{TaskOptions, parse_threads};
use crate::quant::compare::watch::Watch;
use pythia_compare::{Observer, Stage};
use pythia_eval::Work;
use pythia_sweep::run::{Options, Summary, run as compute};
use pythia_sweep::{Error, Measure, Sweep};
use pythia_task::{ErrorKind, Progress};
use pythia_text::counted;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Time that a stopped run has to end the chunk that is scored, and to write what is there.
const GRACE: Duration = Duration::from_secs(20);

/// Compute the cells of a sweep, or of a part of it
///
/// What has a valid result is not computed again, so the same command goes on after anything. Several runs may work on one
/// sweep, on several machines too. In an array job of Slurm, PBS, SGE, LSF, Kubernetes, AWS Batch or HyperQueue, the part is
/// that of the job.
///
/// Exit codes: 0 all cells of the part have values; 65 some have none, for good; 75 try again later: stopped by SIGTERM or
/// SIGUSR1, a download failed, no space, or other runs work on the rest.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the sweep, or its manifest
    sweep: PathBuf,
    #[command(flatten)]
    part: PartOptions,
    /// Only the cell with this id
    #[arg(long, value_name = "ID", conflicts_with_all = ["shard", "shards", "group"])]
    cell: Option<pythia_sweep::CellId>,
    /// Threads [default: those of the job (SLURM_CPUS_PER_TASK), or one per core]; does not change the results
    #[arg(long, value_name = "N", value_parser = parse_threads, default_value = "0", hide_default_value = true)]
    threads: usize,
    /// Folder for converted files and scores, such as a disk of this machine [default: in the sweep]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Keep converted files and scores of checkpoints that are done
    #[arg(long)]
    keep_work: bool,
    /// Remove a checkpoint from the Hub's cache when it is done, if this run has downloaded it
    #[arg(long)]
    evict: bool,
    /// Compute cells again that failed for good
    #[arg(long)]
    retry_failed: bool,
    /// End when only checkpoints are left that other runs work on, with exit code 75
    #[arg(long)]
    no_wait: bool,
    /// Open no connection (same as HF_HUB_OFFLINE=1)
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print only warnings and errors
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    exit::try_again_if_told();
    exit::extend_grace(GRACE);
    match run_part(args) {
        Err(failure) if failure.code() == ErrorKind::Cancelled.exit_code() && exit::is_told_to_try_again() => {
            exit::note("stopped; what is scored is kept, and the same command goes on there");
            Ok(ExitCode::from(TRY_AGAIN))
        }
        result => result,
    }
}

fn run_part(args: &Args) -> Result<ExitCode, Failure> {
    let sweep = Sweep::open(&args.sweep)?;
    let part = match args.cell {
        Some(cell) => pythia_sweep::run::Part::Cell(cell),
        None => args.part.part()?,
    };
    if let pythia_sweep::run::Part::Shard(shard) = &part
        && !args.quiet
    {
        exit::note(format_args!("shard {} of {}", shard.index, shard.count));
    }
    let device = args.device.find()?;
    let watch = SweepWatch(Watch::new(args.quiet));
    let options = Options {
        part,
        threads: threads(args.threads),
        device: &device,
        scratch: args.scratch.clone(),
        keeps_work: args.keep_work,
        evicts: args.evict,
        retries_failed: args.retry_failed,
        waits: !args.no_wait,
        works: works(&sweep, args.offline, args.quiet)?,
        program: format!("{} {}", crate::quant::PROGRAM, env!("CARGO_PKG_VERSION")),
        cancel: exit::catch_interrupts().clone(),
        observer: &watch,
        downloads: &|| super::downloads(args.quiet),
        #[cfg(feature = "hub")]
        hub: &super::hub_settings(args.offline)?,
    };
    match compute(&sweep, &options) {
        Ok(summary) => {
            if !args.quiet {
                exit::print(&describe(&summary))?;
            }
            Ok(ExitCode::from(code(&summary)))
        }
        Err(Error::Cancelled) => {
            Err(Failure::interrupted_with("interrupted; what is scored is kept, and the same command goes on there"))
        }
        Err(error) if error.may_pass() => {
            exit::note(format_args!(
                "{}: error: {error}; the same command goes on when there is space",
                super::super::PROGRAM
            ));
            Ok(ExitCode::from(TRY_AGAIN))
        }
        Err(error) => Err(error.into()),
    }
}

/// Shows what a comparison does, except for notes about its cache, which is not the user's here.
struct SweepWatch(Watch);

impl Observer for SweepWatch {
    fn warn(&self, line: &str) {
        self.0.warn(line);
    }

    fn note(&self, line: &str) {
        self.0.note(line);
    }

    fn cache(&self, _line: &str) {}

    fn step(&self, line: &str) {
        self.0.step(line);
    }

    fn begin(&self, stage: Stage) -> Box<dyn Progress + '_> {
        self.0.begin(stage)
    }
}

/// The exit code.
fn code(summary: &Summary) -> u8 {
    if summary.is_complete() {
        0
    } else if summary.may_pass() {
        TRY_AGAIN
    } else {
        ErrorKind::Data.exit_code()
    }
}

fn describe(summary: &Summary) -> String {
    let mut line = format!("{} computed", counted(summary.done, "cell"));
    if summary.known > 0 {
        line += &format!(", {} were there", summary.known);
    }
    for (class, n) in &summary.failed {
        line += &format!(", {n} failed ({})", class.name());
    }
    if summary.elsewhere > 0 {
        line += &format!(", {} are left to other runs", summary.elsewhere);
    }
    line + "\n"
}

/// The threads of the command line, else those of the job.
fn threads(named: usize) -> usize {
    let of_job = || std::env::var("SLURM_CPUS_PER_TASK").ok()?.trim().parse().ok();
    // A job may name more than the machine lets it use.
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    if named > 0 { named } else { of_job().map_or(0, |n: usize| n.min(usable)) }
}

/// The documents of the tasks of a sweep, which must be those that it was planned with.
fn works(sweep: &Sweep, offline: bool, quiet: bool) -> Result<Vec<Work>, Failure> {
    for measure in &sweep.manifest().spec.measures {
        let Measure::Tasks { names, shots, limit, data, sha256 } = measure else { continue };
        let name = |name: &String| match super::is_own_task(name) {
            true => sweep.resolve(name).to_string_lossy().into_owned(),
            false => name.clone(),
        };
        let data = data.as_ref().map(|path| sweep.resolve(path));
        let options = TaskOptions::new(names.iter().map(name).collect(), *shots, *limit, data);
        let works = options.load(&options.selection()?, offline, quiet)?;
        let digests: Vec<String> = works.iter().map(Work::sha256).collect();
        if pythia_sweep::digest(&digests) != *sha256 {
            return Err(Failure::data("the documents of the tasks have changed since the sweep was planned"));
        }
        return Ok(works);
    }
    Ok(Vec::new())
}
