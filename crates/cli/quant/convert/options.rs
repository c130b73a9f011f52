//! What `convert` and `quantize` share: their options, and the steps from a request to files and a report.

use super::report::{self, Outcome};
use crate::exit::{self, Failure};
use crate::input::{check_file, parse_threads};
use crate::progress::{Bar, Unit};
use pythia_convert::output::MadeFolders;
use pythia_convert::{ImatrixFile, Level, Plan, Recipe, Request, RunOptions, Source, TypeRule};
use pythia_gguf::Limits;
use pythia_show::Width;
use pythia_tensor::TensorType;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How tensors are encoded, and how files are written.
#[derive(Debug, clap::Args)]
pub(in crate::quant) struct Options {
    /// Importance matrix (.gguf, or the older .dat): gives important columns the smallest errors
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Store the weight matrices whose GGUF name matches REGEX as TYPE; may be repeated, the last match wins
    #[arg(long, value_name = "REGEX=TYPE")]
    tensor_type: Vec<TypeRule>,
    /// Type of the output matrix
    #[arg(long, value_name = "TYPE")]
    output_tensor_type: Option<TensorType>,
    /// Type of the token embedding
    #[arg(long, value_name = "TYPE")]
    token_embedding_type: Option<TensorType>,
    /// Store every matrix in the named type, without the mix
    #[arg(long)]
    pure: bool,
    /// Fail if a matrix cannot have its type because its rows are not whole blocks, instead of using another type
    #[arg(long)]
    strict: bool,
    /// Accept weights that are NaN, infinite or too large for f16
    #[arg(long)]
    allow_nonfinite: bool,
    /// Write OUT.sha256 beside each file, with digests of the file and of every tensor
    #[arg(long)]
    sha256: bool,
    /// Split a model larger than SIZE, such as 500M or 2G (powers of ten), into OUT-00001-of-0000N.gguf and so on
    ///
    /// The limit covers the whole file, header included. Only a file with a single tensor that is larger exceeds it.
    /// The first file has all metadata and is the one to open. A model that fits in one file is written as OUT.gguf.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    split_max_size: Option<u64>,
    /// Split a model of more than N tensors in the same way, N per file; both limits can be combined
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    split_max_tensors: Option<u32>,
    /// Worker threads [default: one per core]; does not change the files
    #[arg(long, value_name = "N", value_parser = parse_threads, default_value = "0", hide_default_value = true)]
    threads: usize,
    /// Show what would be written, but write nothing; a checkpoint of the Hub is still downloaded
    #[arg(long)]
    pub(in crate::quant) dry_run: bool,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// List every tensor
    #[arg(short, long)]
    verbose: bool,
    /// Print nothing but errors
    #[arg(short, long, conflicts_with_all = ["verbose", "json"])]
    pub(in crate::quant) quiet: bool,
}

impl Options {
    /// The request that these options make for `targets`.
    pub(in crate::quant) fn request(&self, targets: &Targets) -> Result<Request, Failure> {
        let imatrix = self.imatrix.as_deref().map(|path| {
            check_file(path)?;
            ImatrixFile::open(path).map_err(Failure::from)
        });
        let recipe = Recipe {
            pure: self.pure,
            output: self.output_tensor_type,
            token_embd: self.token_embedding_type,
            rules: self.tensor_type.clone(),
        };
        let limits = Limits {
            max_bytes: self.split_max_size,
            max_tensors: self.split_max_tensors.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        };
        let files = targets.files.clone();
        Ok(Request { files, recipe, imatrix: imatrix.transpose()?, strict: self.strict, limits, ..Request::default() })
    }

    /// Plans `request`, carries it out unless this is a dry run, and reports.
    pub(in crate::quant) fn run(
        &self,
        source: &dyn Source,
        request: &Request,
        targets: &Targets,
    ) -> Result<(), Failure> {
        let cancel = exit::catch_interrupts();
        let plan = pythia_convert::plan(source, request)?;
        if !self.quiet {
            plan.warnings.iter().for_each(|warning| super::super::warn(warning));
        }
        if self.dry_run {
            return self.report(&plan, None);
        }
        let made = targets.folder.as_deref().map(MadeFolders::create).transpose()?;
        let start = Instant::now();
        let bar = Bar::new(plan.source_bytes(), Unit::Bytes, self.quiet);
        let options = RunOptions {
            threads: self.threads,
            force: self.force,
            allow_nonfinite: self.allow_nonfinite,
            sha256: self.sha256,
            cancel,
            progress: &bar,
        };
        let written = pythia_convert::run(source, &plan, &options)?;
        made.map_or(Ok(()), MadeFolders::keep)?;
        bar.finish();
        self.report(&plan, Some(Outcome { written: &written, seconds: start.elapsed().as_secs_f64() }))
    }

    fn report(&self, plan: &Plan, outcome: Option<Outcome<'_>>) -> Result<(), Failure> {
        if self.quiet {
            Ok(())
        } else if self.json {
            exit::print_json(&report::json(plan, outcome))
        } else {
            exit::print(&report::text(plan, outcome, self.verbose || self.dry_run, Width::of_stdout()))
        }
    }
}

/// For clap: a size in bytes, or with K, M or G in powers of ten, as in llama.cpp's `gguf-split`.
fn parse_size(text: &str) -> Result<u64, String> {
    const UNITS: [(char, u64); 3] = [('K', 1000), ('M', 1_000_000), ('G', 1_000_000_000)];
    let unit = UNITS.into_iter().find(|(unit, _)| text.ends_with([*unit, unit.to_ascii_lowercase()]));
    let (number, factor) = unit.map_or((text, 1), |(_, factor)| (&text[..text.len() - 1], factor));
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let size = number.parse::<u64>().ok().filter(|_| is_number).and_then(|n| n.checked_mul(factor));
    size.filter(|&n| n > 0).ok_or_else(|| format!("found '{text}', wanted a size such as 500M or 2G"))
}

/// The help text of TYPE.
pub(in crate::quant) fn types_help() -> String {
    let names: Vec<_> = Level::ALL.iter().map(|level| level.name()).collect();
    format!("One type per file to write, separated by commas: {}", names.join(", "))
}

/// The file of each type.
#[derive(Debug)]
pub(in crate::quant) struct Targets {
    files: Vec<(Level, PathBuf)>,
    /// Created if it does not exist.
    folder: Option<PathBuf>,
}

impl Targets {
    /// `output` is a folder if it exists as one, ends in a separator, or has to hold several files; otherwise a file.
    /// In a folder, files are named `NAME-TYPE.gguf`. Without `output` it is the current folder.
    pub(in crate::quant) fn new(output: Option<&Path>, name: &str, levels: &[Level]) -> Result<Self, Failure> {
        let is_folder = |output: &Path| {
            let written_as_folder = output.as_os_str().to_string_lossy().ends_with(std::path::is_separator);
            levels.len() > 1 || output.is_dir() || written_as_folder
        };
        let file = |level: &Level| match output {
            None => format!("{name}-{level}.gguf").into(),
            Some(output) if is_folder(output) => output.join(format!("{name}-{level}.gguf")),
            Some(output) => output.to_owned(),
        };
        let files = levels.iter().map(|level| (*level, file(level))).collect();
        let folder = output.filter(|output| is_folder(output)).map(Path::to_owned);
        match &folder {
            Some(path) if !path.is_dir() && (path.exists() || path.extension().is_some_and(|e| e == "gguf")) => {
                let path = path.display();
                Err(Failure::usage(format_args!("{path}: not a folder; several types need a folder")))
            }
            _ => Ok(Self { files, folder }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_powers_of_ten() {
        let sizes = ["1", "20K", "500M", "2G", "3g", "18446744073709551615"].map(|text| parse_size(text).ok());
        let wanted = [1, 20_000, 500_000_000, 2_000_000_000, 3_000_000_000, u64::MAX];
        assert_eq!(sizes, wanted.map(Some));
        for text in ["", "0", "0G", "M", "-1M", "+1M", "1.5G", "2T", "2GB", "2 G", "18446744073709551615K", "\u{20ac}"]
        {
            assert!(parse_size(text).unwrap_err().contains(text), "{text}");
        }
    }
}
