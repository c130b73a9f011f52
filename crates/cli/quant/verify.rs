//! `pythia-quant verify`: whether a GGUF file is sound, and its errors against its source.

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
/// Checks the structure; that metadata and tensors are those of the architecture; that the embedded tokenizer.json and
/// the tokenizer keys describe the same tokenizer; that every block decodes to finite values; and the digests in
/// FILE.sha256, if that file exists. All files of a split model are checked.
///
/// With --against, encodes the source again and compares every byte. Most files are equal; blocks that differ wrongly
/// are named. If the file was made with an importance matrix, pass it with --imatrix. Without it, or if the weights
/// were quantized before, a block is wrong only if no encoder makes such an error. The error of every tensor is
/// measured too. Matrices that `--quantizer feedback` rounded together cannot be encoded again: only their errors are
/// checked. A tensor is marked SUSPECT if its error is more than three times what its type causes on heavy-tailed
/// weights.
///
/// The exit code is 65 if anything is wrong.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// GGUF file, or the first file of a split model
    #[arg(value_name = "FILE.gguf")]
    file: PathBuf,
    /// Source of the file: a Hugging Face folder, OWNER/NAME[@REVISION] on the Hub, or an F32, F16 or BF16 GGUF file
    #[arg(long, value_name = "SOURCE")]
    against: Option<PathBuf>,
    /// Importance matrix that the file was made with; without it, its tensors cannot be encoded again
    #[arg(long, value_name = "FILE", requires = "against")]
    imatrix: Option<PathBuf>,
    /// LoRA adapter that was merged into SOURCE, as for convert
    #[arg(long, value_name = "ADAPTER", requires = "against")]
    lora: Option<PathBuf>,
    #[command(flatten)]
    source_options: SourceOptions,
    /// Print the SHA-256 of the file and of every tensor
    #[arg(long)]
    sha256: bool,
    /// List the error of every tensor, worst first (JSON always does)
    #[arg(long, requires = "against")]
    tensors: bool,
    /// Worker threads [default: one per core]; does not change results
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

/// A problem if the file's tokenizer cannot encode text, or if its two descriptions differ. Errors in the keys alone
/// have already been found.
fn tokenizer_problem(file: &GgufFile) -> Option<Problem> {
    let vocab = Vocab::from_metadata(&file.gguf().metadata).ok()?;
    Tokenizer::from_vocab(&vocab).err().map(|error| Problem::Tokenizer(error.to_string()))
}

fn open_source(named: &Path, args: &Args) -> Result<Box<dyn Source>, Failure> {
    let path = &args.source_options.locate(named, args.quiet)?.path;
    if input::is_gguf(path)? {
        if args.lora.is_some() {
            let path = path.display();
            return Err(Failure::usage(format_args!("{path}: a GGUF file; --lora needs the checkpoint")));
        }
        return Ok(Box::new(GgufSource::open(path)?));
    }
    let checkpoint = args.source_options.open(path)?;
    match &args.lora {
        Some(adapter) => Ok(Box::new(open_lora(checkpoint, adapter)?)),
        None => Ok(Box::new(checkpoint)),
    }
}
