//! `pythia-quant calibrate`: collects the metric of a model's output at every matrix, from gradients on a text.

mod report;
mod settings;

use crate::exit::{self, Failure};
use crate::input::{self, SourceOptions, TextOptions, parse_threads};
use crate::progress::{Bar, Unit};
use pythia_calibrate::calibration::{Collector, Job, partial_path};
use pythia_convert::output::check_target;
use pythia_convert::{GgufSource, Provenance, Source, model_name};
use pythia_model::Gelu;
use pythia_runtime::parse_gelu;
use pythia_show::{Width, number};
use pythia_task::ErrorKind;
use settings::SettingOptions;
use std::path::PathBuf;
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
    settings: SettingOptions,
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

/// A model that a command line names.
struct Named {
    source: Box<dyn Source>,
    name: String,
    provenance: Provenance,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let given = input::files([args.model.as_path(), &args.text]);
    check_target(&args.output, &given, args.force)?;
    // The state of an earlier run may be there, and is removed at the end.
    check_target(&partial_path(&args.output), &given, true)?;
    let text = args.text_options.open(&args.text)?;
    let text = if args.quiet { text.watched(|_| ()) } else { text };
    let model = args.open()?;
    check_target(&args.output, &model.source.inputs(), args.force)?;
    check_target(&partial_path(&args.output), &model.source.inputs(), true)?;
    let start = Instant::now();
    let job = Job {
        source: &*model.source,
        provenance: &model.provenance,
        name: &model.name,
        path: &args.model,
        text: &text,
        settings: args.settings.settings(),
        threads: args.threads,
        gelu: args.gelu,
        program: program(),
        cancel: exit::catch_interrupts().clone(),
    };
    let mut resumed = None;
    let prepare = |collector: &mut Collector<'_, '_>| {
        resumed = collector.keep_state(partial_path(&args.output), args.force)?;
        if !args.quiet {
            args.announce(collector, resumed);
        }
        Ok(())
    };
    let done = job.run(prepare, &bar(args.quiet)).map_err(|failure| args.stopped(failure))?;
    let outcome = report::Outcome {
        file_bytes: done.collected.write(&args.output, args.force, &exit::Notes { quiet: args.quiet })?,
        resumed: resumed.unwrap_or(0),
        text: text.to_string(),
        seconds: start.elapsed().as_secs_f64(),
        done,
    };
    match (args.quiet, args.json) {
        (true, _) => Ok(()),
        (_, true) => exit::print_json(&report::json(args, &outcome)),
        _ => exit::print(&report::text(args, &outcome, Width::of_stdout())),
    }
}

/// The program, for the file.
pub(super) fn program() -> String {
    format!("{} {}", super::PROGRAM, env!("CARGO_PKG_VERSION"))
}

/// Shows the progress of a calibration.
pub(super) fn bar(quiet: bool) -> Bar {
    Bar::new(0, Unit::Items("tokens"), quiet)
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

    /// Says what the run takes before it begins, where that is much.
    fn announce(&self, collector: &Collector<'_, '_>, resumed: Option<usize>) {
        let estimate = collector.estimate();
        if let Some(resumed) = resumed {
            let partial = partial_path(&self.output);
            let partial = partial.display();
            exit::note(format_args!("{partial}: going on after {resumed} of {} windows", collector.windows()));
        }
        if estimate.memory() > 1 << 30 {
            exit::note(format_args!(
                "needs about {} of memory: {} for sums, {} for the activations of {} windows at a time, {} for weights",
                number::bytes(estimate.memory()),
                number::bytes(estimate.sums),
                number::bytes(estimate.activations),
                estimate.group,
                number::bytes(estimate.weights),
            ));
        }
    }

    /// An interruption, with what to do about it.
    fn stopped(&self, failure: Failure) -> Failure {
        let partial = partial_path(&self.output);
        if failure.code() != ErrorKind::Cancelled.exit_code() || !partial.exists() {
            return failure;
        }
        let partial = partial.display();
        Failure::interrupted_with(format_args!("interrupted; the same command goes on from {partial}"))
    }
}
