//! `pythia-quant calibrate`: collects the metric of a model's output at every matrix, from gradients on a text.

mod report;

use crate::exit::{self, Failure};
use crate::input::{self, SourceOptions, TextOptions, parse_threads};
use crate::progress::{Bar, Unit};
use pythia_calibrate::calibration::{Collected, Collector, Estimate, Request, check_n_ctx, partial_path, windows};
use pythia_calibrate::network::Network;
use pythia_convert::output::check_target;
use pythia_convert::{GgufSource, Provenance, Source, model_name};
use pythia_gguf::keys;
use pythia_kernels::Cpu;
use pythia_model::Gelu;
use pythia_runtime::{Text, Tokenizer, parse_gelu};
use pythia_show::{Width, number};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Find out where errors of the weights matter: gradients of the model's own predictions on a text
///
/// Runs the model forward and backward over windows of a text, and sums outer products of the gradients at the outputs
/// of its matrices. convert --quantizer feedback uses the file. Use an unquantized model, and a text like those that the
/// model will read.
///
/// A run that was stopped goes on when the same command is given again: its state is kept in FILE.partial, from minute
/// to minute.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Model: a Hugging Face folder, OWNER/NAME[@REVISION] on the Hub, or a GGUF file (the first of a split model)
    model: PathBuf,
    /// Text for the model to read, UTF-8; - for standard input
    #[arg(short = 'f', long = "file", value_name = "TEXT")]
    text: PathBuf,
    #[command(flatten)]
    text_options: TextOptions,
    /// File to write
    #[arg(short, long, value_name = "FILE", default_value = "calibration.gguf")]
    output: PathBuf,
    #[command(flatten)]
    settings: Settings,
    /// Collect the second moments of the inputs of every matrix too; several times larger for wide models
    #[arg(long)]
    inputs: bool,
    /// Threads [default: one per core]; does not change the result
    #[arg(short, long, value_name = "N", value_parser = parse_threads, default_value = "0", hide_default_value = true)]
    threads: usize,
    /// Form of GELU [default: what the model says, or erf]; llama.cpp always computes tanh
    #[arg(long, value_name = "erf|tanh", value_parser = parse_gelu)]
    gelu: Option<Gelu>,
    #[command(flatten)]
    source_options: SourceOptions,
    /// Replace an existing file, and the state of a run with other settings
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print nothing but errors
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

/// Which part of a text is read, and how.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Settings {
    /// Tokens per window; 0 for the model's context length [default: 512, or the model's context if that is shorter]
    #[arg(short = 'c', long = "ctx", visible_alias = "ctx-size", value_name = "N")]
    n_ctx: Option<usize>,
    /// Use the first N windows of the text
    #[arg(long, visible_alias = "chunks", value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    windows: u64,
    /// Seed of the labels that are drawn from the model's predictions
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl Settings {
    fn n_ctx(&self, longest: usize) -> usize {
        match self.n_ctx {
            None => longest.min(512),
            Some(0) => longest,
            Some(n_ctx) => n_ctx,
        }
    }
}

/// A model that a command line names.
struct Named {
    source: Box<dyn Source>,
    name: String,
    provenance: Provenance,
}

/// What a run came to.
struct Outcome {
    collected: Collected,
    estimate: Estimate,
    /// Windows that an earlier run had completed.
    resumed: usize,
    /// Where the text comes from.
    text: String,
    /// Tokens of the text, if it was read to its end.
    text_tokens: Option<usize>,
    threads: usize,
    file_bytes: u64,
    seconds: f64,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let interrupted = exit::catch_interrupts();
    check_target(&args.output, &input::files([args.model.as_path(), &args.text]), args.force)?;
    let text = args.text_options.open(&args.text)?;
    let text = if args.quiet { text.watched(|_| ()) } else { text };
    let model = args.open()?;
    check_target(&args.output, &model.source.inputs(), args.force)?;
    let outcome = args.collect(&model, &text, interrupted)?;
    match (args.quiet, args.json) {
        (true, _) => Ok(()),
        (_, true) => exit::print_json(&report::json(args, &outcome)),
        _ => exit::print(&report::text(args, &outcome, Width::of_stdout())),
    }
}

impl Args {
    fn open(&self) -> Result<Named, Failure> {
        let located = self.source_options.locate(&self.model, self.quiet)?;
        if input::is_gguf(&located.path)? {
            let name = model_name(&located.path);
            let source = Box::new(GgufSource::open(&located.path)?);
            return Ok(Named { source, name, provenance: Provenance::default() });
        }
        let source = self.source_options.open(&located.path)?;
        let provenance = Provenance::gather(source.checkpoint(), false, exit::catch_interrupts())?;
        let name = located.stem.unwrap_or_else(|| provenance.name.clone());
        Ok(Named { source: Box::new(source), name, provenance })
    }

    fn collect(&self, model: &Named, text: &Text, interrupted: &pythia_task::Cancel) -> Result<Outcome, Failure> {
        let start = Instant::now();
        let located = |error: pythia_calibrate::Error| match error {
            pythia_calibrate::Error::Text(error) => exit::locate(error, &self.model, text),
            error => error.into(),
        };
        let cpu = Arc::new(Cpu::new(self.threads, None).map_err(Failure::usage)?);
        let network = Network::open(&*model.source, cpu, self.gelu)?;
        let tokenizer = self.tokenizer(model)?;
        let n_ctx = self.settings.n_ctx(network.hparams().n_ctx);
        check_n_ctx(n_ctx, network.hparams().n_ctx)?;
        let max = usize::try_from(self.settings.windows).unwrap_or(usize::MAX);
        let mut stream = text.tokens(&tokenizer, interrupted)?;
        let tokens = windows(&mut stream, network.hparams().n_vocab, n_ctx, max).map_err(located)?;
        let request = Request {
            n_ctx,
            seed: self.settings.seed,
            inputs: self.inputs,
            model: model.name.clone(),
            text: text.name(),
            program: format!("{} {}", super::PROGRAM, env!("CARGO_PKG_VERSION")),
            cancel: interrupted.clone(),
        };
        let mut collector = Collector::new(&network, &request, tokens).map_err(located)?;
        let estimate = *collector.estimate();
        let resumed = collector.keep_state(partial_path(&self.output), self.force)?;
        if !self.quiet {
            self.announce(&collector, resumed);
        }
        let bar = Bar::new(0, Unit::Items("tokens"), self.quiet);
        let collected = collector.run(&bar);
        drop(bar);
        let collected = collected.map_err(|error| self.stopped(error))?;
        Ok(Outcome {
            file_bytes: collected.write(&self.output, self.force)?,
            collected,
            estimate,
            resumed: resumed.unwrap_or(0),
            text: text.to_string(),
            text_tokens: stream.total(),
            threads: network.cpu().threads(),
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// Says what the run takes before it begins, where it takes long.
    fn announce(&self, collector: &Collector<'_, '_>, resumed: Option<usize>) {
        let estimate = collector.estimate();
        if let Some(resumed) = resumed {
            let partial = partial_path(&self.output);
            let partial = partial.display();
            exit::note(format_args!("{partial}: going on after {resumed} of {} windows", collector.windows()));
        }
        if estimate.memory() > 1 << 30 {
            let bytes = |n| number::bytes(n);
            exit::note(format_args!(
                "needs about {} of memory: {} for sums, {} for the activations of {} windows at a time, {} for weights",
                bytes(estimate.memory()),
                bytes(estimate.sums),
                bytes(estimate.activations),
                estimate.group,
                bytes(estimate.weights),
            ));
        }
    }

    /// An interruption, with what to do about it.
    fn stopped(&self, error: pythia_calibrate::Error) -> Failure {
        match error {
            pythia_calibrate::Error::Cancelled => {
                let partial = partial_path(&self.output);
                let partial = partial.display();
                Failure::interrupted_with(format_args!("interrupted; the same command goes on from {partial}"))
            }
            error => error.into(),
        }
    }

    fn tokenizer(&self, model: &Named) -> Result<Tokenizer, Failure> {
        let metadata = model.source.metadata(&model.provenance)?;
        let shown = pythia_text::path(&self.model).to_string();
        if metadata.get(keys::TOKENS).is_none() {
            return Err(Failure::data(format_args!("{shown}: no tokenizer, wanted one to read the text with")));
        }
        Tokenizer::from_gguf(&metadata).map_err(|error| Failure::data(format_args!("{shown}: {error}")))
    }
}
