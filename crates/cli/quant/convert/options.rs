//! What `convert` and `quantize` share: their options, and the steps from a request to files and a report.

use super::super::quantizer::{Allocated, QuantizerOptions};
use super::report::{self, Outcome};
use crate::exit::{self, Failure};
use crate::input::{self, check_file, parse_file_size, parse_threads};
use crate::progress::{Bar, Unit};
use pythia_convert::output::{MadeFolders, check_target};
use pythia_convert::{
    ImatrixFile, Level, PassOptions, Plan, Quantizer, Recipe, Request, RunOptions, Source, Targets, TypeRule,
};
use pythia_gguf::Limits;
use pythia_show::Width;
use pythia_tensor::TensorType;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Limit for a file of rules. A rule for every matrix of the largest model takes some ten kilobytes.
const MAX_RULES_BYTES: u64 = 1 << 20;

/// How tensors are encoded, and how files are written.
#[derive(Debug, clap::Args)]
pub(in crate::quant) struct Options {
    #[command(flatten)]
    quantizer: QuantizerOptions,
    /// Importance matrix (.gguf, or the older .dat): gives important columns the smallest errors
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Store the weight matrices whose GGUF name matches REGEX as TYPE; may be repeated, the last match wins
    #[arg(long, value_name = "REGEX=TYPE")]
    tensor_type: Vec<TypeRule>,
    /// Rules like those of --tensor-type from a file: one per line, # before comments; --tensor-type wins over them
    #[arg(long, value_name = "FILE")]
    tensor_type_file: Option<PathBuf>,
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
    #[arg(long, value_name = "SIZE", value_parser = parse_file_size)]
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
    /// Checks what needs no source.
    pub(in crate::quant) fn check(&self, types: &[Level]) -> Result<(), Failure> {
        self.quantizer.check(types.len(), self.force)
    }

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
            rules: self.rules()?,
        };
        let limits = Limits {
            max_bytes: self.split_max_size,
            max_tensors: self.split_max_tensors.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        };
        let files = targets.files.clone();
        Ok(Request { files, recipe, imatrix: imatrix.transpose()?, strict: self.strict, limits, ..Request::default() })
    }

    /// The rules by name, those with precedence last.
    fn rules(&self) -> Result<Vec<TypeRule>, Failure> {
        let mut rules = match &self.tensor_type_file {
            Some(path) => {
                let text = input::read_text(path, MAX_RULES_BYTES)?;
                TypeRule::parse_file(&text)
                    .map_err(|e| Failure::data(format_args!("{}: {e}", pythia_text::path(path))))?
            }
            None => Vec::new(),
        };
        rules.extend(self.tensor_type.iter().cloned());
        Ok(rules)
    }

    /// Plans `request`, carries it out unless this is a dry run, and reports.
    pub(in crate::quant) fn run(
        &self,
        source: &dyn Source,
        mut request: Request,
        targets: &Targets,
    ) -> Result<(), Failure> {
        let cancel = exit::catch_interrupts();
        if !self.dry_run {
            // Found out before a calibration, and not after.
            let outputs = request.files.iter().map(|(_, path)| path);
            let options = [&self.tensor_type_file, &self.imatrix].into_iter().flatten().cloned();
            let inputs: Vec<PathBuf> = source.inputs().into_iter().chain(options).collect();
            outputs.clone().try_for_each(|path| check_target(path, &inputs, self.force))?;
            let sidecars = outputs.clone().map(|path| path.with_added_extension("sha256"));
            let taken: Vec<PathBuf> = inputs.iter().chain(outputs).cloned().chain(sidecars).collect();
            self.quantizer.check_report(&taken, self.force)?;
        }
        let quantizer = self.quantizer.ready(source, &request.provenance, self.threads, self.quiet)?;
        request.quantizer = quantizer.as_ref().map(|ready| ready.feedback.clone() as Arc<dyn Quantizer>);
        let allocated = match &quantizer {
            Some(ready) => {
                let bar = Bar::new(0, Unit::Share, self.quiet);
                let options = PassOptions { threads: self.threads, cancel, progress: &bar };
                self.quantizer.allocate(source, ready, &mut request, options)?
            }
            None => None,
        };
        let mut plan = pythia_convert::plan(source, &request)?;
        plan.inputs.extend(quantizer.iter().flat_map(|ready| ready.inputs.iter().cloned()));
        if !self.quiet {
            plan.warnings.iter().for_each(|warning| super::super::warn(warning));
            let doubt = quantizer.as_ref().and_then(|ready| ready.feedback.doubt());
            doubt.iter().for_each(|doubt| super::super::warn(doubt));
        }
        if self.dry_run {
            return self.report(&plan, allocated.as_ref(), None);
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
        let rounded = quantizer.map_or_else(Vec::new, |ready| ready.feedback.reports());
        self.quantizer.write_report(&rounded, self.force, &bar)?;
        let seconds = start.elapsed().as_secs_f64();
        self.report(&plan, allocated.as_ref(), Some(Outcome { written: &written, seconds, rounded: &rounded }))
    }

    fn report(&self, plan: &Plan, allocated: Option<&Allocated>, outcome: Option<Outcome<'_>>) -> Result<(), Failure> {
        if self.quiet {
            Ok(())
        } else if self.json {
            exit::print_json(&report::json(plan, allocated, outcome))
        } else {
            let with_tensors = self.verbose || self.dry_run;
            exit::print(&report::text(plan, (allocated, outcome), with_tensors, Width::of_stdout()))
        }
    }
}

/// The help text of TYPE.
pub(in crate::quant) fn types_help() -> String {
    let names: Vec<_> = Level::ALL.iter().map(|level| level.name()).collect();
    format!("One type per file to write, separated by commas: {}", names.join(", "))
}
