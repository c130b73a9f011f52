//! `pythia-run eval plot`: results on the evaluation plots of the model card.

use crate::exit::{self, Failure};
use crate::input;
use pythia_convert::output::{AtomicFile, check_target};
use pythia_eval::plot::{self, Measured};
use pythia_task::Progress;
use pythia_text::{counted, path as shown};
use std::path::{Path, PathBuf};

/// Draw results on the published curves of Pythia, OPT and BLOOM
///
/// Accuracy against parameters and against training step, for LAMBADA, PIQA, WinoGrande, ARC-easy and SciQ, in one page of
/// HTML. RESULTS are results_*.json of `pythia-run eval` or of lm-evaluation-harness.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files of results; of a folder, all results_*.json in it and one level below
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// Write the page to FILE
    #[arg(short, long, value_name = "FILE", default_value = "plot.html")]
    output: PathBuf,
    /// Number of parameters, as 70426624 or 70m, if the results do not say: one for all files, or one per file
    #[arg(long, value_name = "N", value_parser = parameters)]
    params: Vec<f64>,
    /// Training step, if the results do not say: one for all files, or one per file
    #[arg(long, value_name = "N")]
    step: Vec<u64>,
    /// Replace an existing FILE
    #[arg(long)]
    force: bool,
    /// No notes
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut paths = Vec::new();
    for path in &args.results {
        expand(path, &mut paths)?;
    }
    for (option, n) in [("--params", args.params.len()), ("--step", args.step.len())] {
        if n > 1 && n != paths.len() {
            return Err(Failure::usage(format_args!(
                "{n} times {option} for {} files; wanted 1, or one per file",
                paths.len()
            )));
        }
    }
    check_target(&args.output, &paths, args.force)?;
    let notes = exit::Notes { quiet: args.quiet };
    let mut results = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let mut measured = read(path)?;
        let stated = |n: usize| if n == 1 { 0 } else { index };
        measured.parameters = args.params.get(stated(args.params.len())).copied().or(measured.parameters);
        measured.step = args.step.get(stated(args.step.len())).copied().or(measured.step);
        if !has_plots(&measured) {
            notes.note(&format!("{}: no task of the plots in it", shown(path)));
        }
        for task in measured.tasks.iter().filter(|task| plot::shows(&task.name)) {
            if let Some(shots @ 1..) = task.shots {
                notes.note(&format!("{}: {} with {shots} examples; the curves have none", shown(path), task.name));
            }
        }
        results.push(measured);
    }
    if !results.iter().any(has_plots) {
        return Err(Failure::data("no task of the plots in any result (docs/plots.md names them)"));
    }
    AtomicFile::write(&args.output, plot::render(&results).as_bytes(), args.force, &notes)?;
    exit::print_prose(&format!("{}: {}\n", shown(&args.output), counted(results.len(), "result")))
}

fn has_plots(measured: &plot::Measured) -> bool {
    measured.tasks.iter().any(|task| plot::shows(&task.name))
}

/// A file stands for itself, a folder for the results in it.
fn expand(path: &Path, out: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if !path.is_dir() {
        out.push(path.to_owned());
        return Ok(());
    }
    let before = out.len();
    for entry in entries(path)? {
        if entry.is_dir() {
            out.extend(entries(&entry)?.into_iter().filter(|path| is_results(path)));
        } else if is_results(&entry) {
            out.push(entry);
        }
    }
    match out.len() - before {
        0 => Err(Failure::data(format_args!("{}: no results_*.json in it", shown(path)))),
        _ => Ok(()),
    }
}

/// In the order of their names, which is that of time for results.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let read = std::fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut entries: Vec<PathBuf> = read.map_err(|e| Failure::at(folder, &e))?;
    entries.sort();
    Ok(entries)
}

fn is_results(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("results_") && name.ends_with(".json")
}

fn read(path: &Path) -> Result<Measured, Failure> {
    let text = input::read_text(path, plot::LIMIT_BYTES)?;
    Measured::parse(&text).map_err(|e| Failure::data(format_args!("{}: {e}", shown(path))))
}

/// `70426624`, `70m`, `1.4b`.
fn parameters(text: &str) -> Result<f64, String> {
    let lower = text.to_lowercase();
    let (digits, unit) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 1e3),
        Some(b'm') => (&lower[..lower.len() - 1], 1e6),
        Some(b'b') => (&lower[..lower.len() - 1], 1e9),
        _ => (&lower[..], 1.0),
    };
    let number = digits.parse::<f64>().ok().map(|n| n * unit).filter(|n| n.is_finite() && *n >= 1.0);
    number.ok_or_else(|| "wanted a number such as 70426624, 70m or 1.4b".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_parameters() {
        for (text, n) in [("70426624", 70_426_624.0), ("70m", 7e7), ("1.4B", 1.4e9), ("6500K", 6.5e6)] {
            assert_eq!(parameters(text), Ok(n));
        }
        for text in ["", "m", "-70m", "nan", "inf", "70x", "0"] {
            assert!(parameters(text).is_err(), "{text}");
        }
    }
}
