//! `pythia-quant sweep report`.

use crate::exit::{self, Failure, Notes};
use pythia_convert::output::{AtomicFile, check_target};
use pythia_sweep::{MANIFEST, Sweep, report};
use std::fs;
use std::path::{Path, PathBuf};

/// Write a page with plots
///
/// Learning curves, damage against training step, a map of models over steps, and what looks wrong: identical weights,
/// missing checkpoints, outliers. One file of HTML that opens no connection; it can be written before all cells are done.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the sweep, or its manifest
    sweep: PathBuf,
    /// File for the page, or folder for it [default: report.html in the folder of the sweep]
    #[arg(short, long, value_name = "FILE.html|DIR")]
    output: Option<PathBuf>,
    /// Replace an existing page
    #[arg(long)]
    force: bool,
    /// Print only warnings and errors
    #[arg(short, long)]
    quiet: bool,
}

/// Name of the page in a folder.
const PAGE: &str = "report.html";

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let sweep = Sweep::open(&args.sweep)?;
    let path = args.path(sweep.folder());
    check_target(&path, &[sweep.folder().join(MANIFEST)], args.force)?;
    let page = report::render(sweep.manifest(), &sweep.results());
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|e| Failure::at(folder, &e))?;
    }
    AtomicFile::write(&path, page.as_bytes(), args.force, &Notes { quiet: args.quiet })?;
    if !args.quiet {
        exit::note(format_args!("report: {}", pythia_text::path(&path)));
    }
    Ok(())
}

impl Args {
    /// What ends in `.html` is a file.
    fn path(&self, sweep: &Path) -> PathBuf {
        let is_file = |path: &Path| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("html"));
        match &self.output {
            Some(path) if is_file(path) && !path.is_dir() => path.clone(),
            Some(folder) => folder.join(PAGE),
            None => sweep.join(PAGE),
        }
    }
}
