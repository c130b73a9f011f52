//! `pythia-quant sweep collect`.

use crate::exit::{self, Failure, Notes};
use pythia_convert::output::{AtomicFile, check_target};
use pythia_sweep::collect::{Choice, Table};
use pythia_sweep::{MANIFEST, Sweep};
use std::path::{Path, PathBuf};

/// Collect all results in one table
///
/// One row per checkpoint, level and text, or per checkpoint, level, task and metric, sorted by model, step, measure and
/// level. Cells that failed are rows with a status.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the sweep, or its manifest
    sweep: PathBuf,
    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Format [default: by the ending of FILE, or csv]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Leave out columns that depend on where and when cells were computed: tables of one sweep are then equal, however
    /// it was run
    #[arg(long)]
    results_only: bool,
    /// A row per chunk of the text instead, for tests that pair chunks; for sweeps planned with --chunk-sums
    #[arg(long, conflicts_with_all = ["all", "results_only"])]
    chunks: bool,
    /// Also rows for cells that are not done, and for missing checkpoints
    #[arg(long)]
    all: bool,
    /// Replace an existing FILE
    #[arg(long)]
    force: bool,
    /// Print only warnings and errors
    #[arg(short, long)]
    quiet: bool,
}

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Csv,
    Jsonl,
    Parquet,
}

impl Format {
    /// By the ending of a file's name.
    fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    fn write(self, table: &Table<'_>) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Csv => Ok(table.to_csv().into_bytes()),
            Self::Jsonl => Ok(table.to_jsonl().into_bytes()),
            #[cfg(feature = "parquet")]
            Self::Parquet => Ok(table.to_parquet()?),
            #[cfg(not(feature = "parquet"))]
            Self::Parquet => Err(Failure::usage("this program is built without Parquet (feature `parquet`)")),
        }
    }
}

impl Args {
    fn format(&self) -> Result<Format, Failure> {
        match (self.format, &self.output) {
            (Some(Format::Parquet), None) => {
                Err(Failure::usage("Parquet is not for standard output; give --output FILE"))
            }
            (Some(format), _) => Ok(format),
            (None, None) => Ok(Format::Csv),
            (None, Some(path)) => Format::of(path).ok_or_else(|| {
                let path = pythia_text::path(path);
                Failure::usage(format_args!("{path}: wanted a name in .csv, .jsonl or .parquet, or --format"))
            }),
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let format = args.format()?;
    let sweep = Sweep::open(&args.sweep)?;
    if let Some(path) = &args.output {
        check_target(path, &[sweep.folder().join(MANIFEST)], args.force)?;
    }
    let results = sweep.results();
    let table = if args.chunks {
        if !sweep.manifest().spec.keeps_chunks {
            return Err(Failure::usage("--chunks: the sweep keeps no sums of chunks; plan it with --chunk-sums"));
        }
        Table::of_chunks(sweep.manifest(), &results)
    } else {
        Table::new(sweep.manifest(), &results, Choice { results_only: args.results_only, all: args.all })
    };
    let content = format.write(&table)?;
    let Some(path) = &args.output else {
        return exit::print(&String::from_utf8_lossy(&content));
    };
    AtomicFile::write(path, &content, args.force, &Notes { quiet: args.quiet })?;
    if !args.quiet {
        exit::note(format_args!("{}: {} rows", pythia_text::path(path), table.len()));
    }
    Ok(())
}
