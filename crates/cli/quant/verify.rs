//! `pythia-quant verify`: whether a GGUF file is sound, and what it lost against its source.

mod report;

use super::convert::open_lora;
use crate::exit::{self, Failure};
use crate::input::{self, SourceOptions, check_gguf, parse_threads};
use crate::progress::{Bar, Unit};
use pythia_convert::verify::{Against, Problem, Report, against, progress_bytes, verify};
use pythia_convert::{GgufFile, GgufSource, ImatrixFile, PassOptions, Source};
use pythia_runtime::Tokenizer;
use pythia_show::Width;
use pythia_tokenizer::Vocab;
use std::path::{Path, PathBuf};

/// Check that a GGUF file is sound
///
/// Checks the structure, that metadata and tensors are those of a model of this architecture, that the embedded
/// tokenizer.json and the tokenizer keys are one tokenizer, that every block decodes to finite values, and the digests in FILE.sha256 if it is there. With --against, encodes the source anew and
/// compares the bytes: most files are equal to the last one, and a block that is not is named. Where the file was made with
/// an importance matrix, that takes --imatrix; without, or of quantized weights, a block is wrong if its error is one that
/// no encoder makes. It also measures the error of every tensor and marks as SUSPECT what rounding to its type does not explain: more than three times the error that the
/// format is known to make on heavy-tailed weights. Of a model that is split over several files, each is checked, also
/// with the .sha256 file beside it.
///
/// The exit code is 65 if anything is wrong.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// GGUF file, or the first of those a model is split over
    #[arg(value_name = "FILE.gguf")]
    file: PathBuf,
    /// What the file was made from: a Hugging Face folder, a model of the Hub (OWNER/NAME[@REVISION]), or a GGUF file
    /// with weights in F32, F16 or BF16
    #[arg(long, value_name = "SOURCE")]
    against: Option<PathBuf>,
    /// The importance matrix that the file was made with; without it, its tensors cannot be encoded anew
    #[arg(long, value_name = "FILE", requires = "against")]
    imatrix: Option<PathBuf>,
    /// The LoRA adapter that was merged into SOURCE, as for convert
    #[arg(long, value_name = "ADAPTER", requires = "against")]
    lora: Option<PathBuf>,
    #[command(flatten)]
    source_options: SourceOptions,
    /// Print the SHA-256 of the file and of every tensor
    #[arg(long)]
    sha256: bool,
    /// List the error of every tensor, the worst first (JSON always does)
    #[arg(long, requires = "against")]
    tensors: bool,
    /// Worker threads [default: one per core]; results do not depend on it
    #[arg(long, value_name = "N", value_parser = parse_threads, default_value = "0", hide_default_value = true)]
    threads: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print nothing but errors
    #[arg(short, long, conflicts_with_all = ["json", "sha256", "tensors"])]
    quiet: bool,
}

/// All that was found.
struct Findings<'a> {
    file: &'a GgufFile,
    report: Report,
    against: Option<Against>,
}

impl Findings<'_> {
    fn problems(&self) -> impl Iterator<Item = &Problem> {
        let against = self.against.iter().flat_map(|against| &against.problems);
        self.report.problems.iter().chain(against)
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let cancel = exit::catch_interrupts();
    check_gguf(&args.file)?;
    let file = GgufFile::open(&args.file)?;
    let source = args.against.as_deref().map(|named| open_source(named, args)).transpose()?;
    let imatrix = args.imatrix.as_deref().map(ImatrixFile::open).transpose()?;
    let compared = if source.is_some() { file.tensor_bytes() } else { 0 };
    let bar = Bar::new(progress_bytes(&file, args.sha256) + compared, Unit::Bytes, args.quiet);
    let options = PassOptions { threads: args.threads, cancel, progress: &bar };
    let mut report = verify(&file, args.sha256, &options)?;
    report.problems.extend(tokenizer_problem(&file));
    let against = match (&source, &report.hparams) {
        (Some(source), Some(hparams)) => Some(against(&file, hparams, &**source, imatrix.as_ref(), &options)?),
        _ => None,
    };
    bar.finish();
    let findings = Findings { file: &file, report, against };
    if args.json {
        exit::print_json(&report::json(&findings))?;
    } else if !args.quiet {
        exit::print(&report::text(&findings, args, Width::of_stdout()))?;
    }
    let Some(first) = findings.problems().next() else { return Ok(()) };
    let more = match findings.problems().count() - 1 {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    };
    Err(Failure::data(format_args!("{}: {first}{more}", args.file.display())))
}

/// Where the file has a tokenizer that no text can be encoded with, or two that differ. What is wrong with the keys alone
/// has been found already.
fn tokenizer_problem(file: &GgufFile) -> Option<Problem> {
    let vocab = Vocab::from_metadata(&file.gguf().metadata).ok()?;
    Tokenizer::from_vocab(&vocab).err().map(|error| Problem::Tokenizer(error.to_string()))
}

fn open_source(named: &Path, args: &Args) -> Result<Box<dyn Source>, Failure> {
    let path = &args.source_options.locate(named, args.quiet)?.path;
    if input::is_gguf(path)? {
        if args.lora.is_some() {
            let path = path.display();
            return Err(Failure::usage(format_args!("{path}: is a GGUF file; --lora needs the checkpoint")));
        }
        return Ok(Box::new(GgufSource::open(path)?));
    }
    let checkpoint = args.source_options.open(path)?;
    match &args.lora {
        Some(adapter) => Ok(Box::new(open_lora(checkpoint, adapter)?)),
        None => Ok(Box::new(checkpoint)),
    }
}
