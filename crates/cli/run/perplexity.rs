//! `pythia-run perplexity`: how well a model predicts a text.

use super::model::{ModelArgs, Passes, describe};
use super::text::TextArgs;
use super::writing::Writing;
use crate::exit::{self, Failure};
use crate::input;
use crate::progress::{Bar, Unit};
use pythia_convert::output::check_target;
use pythia_model::Model;
use pythia_runtime::Text;
use pythia_runtime::eval::{self, Observer, Perplexity, Protocol, Request, State};
use pythia_show::{Width, facts};
use pythia_task::Cancel;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Measure the perplexity of a text
///
/// Compare perplexities only if protocol, window length and text are the same.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Which tokens are scored: those of llama-perplexity, or those of the Hugging Face guide
    #[arg(long, value_enum, default_value = "llama")]
    protocol: ProtocolName,
    /// Tokens per window; 0 for the model's context length [default: 512 for llama; for hf-stride the model's, at most
    /// 2048]
    #[arg(short, long, value_name = "N")]
    ctx_size: Option<usize>,
    /// Tokens from the start of one window to the next, for hf-stride [default: 512, at most a window]
    #[arg(long, visible_alias = "ppl-stride", value_name = "N")]
    stride: Option<usize>,
    /// Evaluate only the first N windows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    chunks: Option<u64>,
    /// Write the negative log-likelihood of every scored token to FILE, one JSON object per line
    #[arg(long, value_name = "FILE")]
    nll_out: Option<PathBuf>,
    /// Replace an existing file of --nll-out
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ProtocolName {
    Llama,
    HfStride,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (model, tokenizer, reach) = args.model.open(Passes::Few)?;
    let text = args.text.open()?;
    let interrupted = exit::catch_interrupts();
    let nll_file = args.nll_out.as_deref().map(|path| NllFile::create(path, &model, args)).transpose()?;
    let protocol = protocol(args, &model)?;
    reach.check(protocol.window_tokens(), "a window")?;
    let locate = |e| exit::locate(e, args.model.path(), &text);
    let max_windows = args.chunks.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let request = Request { tokenizer: &tokenizer, protocol, max_windows, cancel: interrupted };
    let mut watch = Watch { nll_file, bar: None, quiet: args.quiet, cancel: interrupted, failure: None };
    let result = eval::perplexity(&model, &request, &mut text.tokens(&tokenizer, interrupted)?, &mut watch);
    let Watch { nll_file, failure, bar, .. } = watch;
    drop(bar);
    // If the record stopped the run, its reason is the error to report.
    if let Some(failure) = failure {
        return Err(failure);
    }
    let result = result.map_err(locate)?;
    reach.check_scored("the longest window")?;
    if let Some(file) = nll_file {
        file.finish()?;
    }
    match args.json {
        true => exit::print_json_line(&json(&model, args, &text, &result)),
        false => exit::print(&table(&model, &text, &result)),
    }
}

fn protocol(args: &Args, model: &Model) -> Result<Protocol, Failure> {
    if args.protocol == ProtocolName::Llama && args.stride.is_some() {
        return Err(Failure::usage("--stride: needs --protocol hf-stride"));
    }
    let name = match args.protocol {
        ProtocolName::Llama => "llama",
        ProtocolName::HfStride => "hf-stride",
    };
    Ok(Protocol::named(name, args.ctx_size, args.stride, model.hparams().n_ctx)?)
}

fn describe_protocol(protocol: Protocol) -> String {
    match protocol {
        Protocol::Llama { n_ctx } => format!("llama: disjoint windows of {n_ctx} tokens, second half of each scored"),
        Protocol::HfStride { window, stride } => {
            format!("hf-stride: windows of {window} tokens every {stride}, new tokens of each scored")
        }
    }
}

fn table(model: &Model, text: &Text, p: &Perplexity) -> String {
    let changes = model.edits().map(|edits| ("changed", edits.descriptions().join("; ")));
    let rows = [
        ("text", text.to_string()),
        ("protocol", describe_protocol(p.protocol)),
        ("scored", format!("{} tokens, {} bytes, in {} windows; no token is added", p.scored, p.bytes, p.windows)),
        ("nll", format!("{:.6} +- {:.6} nats per token", p.nll.value, p.nll.se)),
        ("bits/byte", format!("{:.6}", p.bits_per_byte)),
        ("speed", format!("{:.1} tokens/s", p.tokens_per_second)),
    ];
    let rows: Vec<_> = changes.into_iter().chain(rows).collect();
    let rows = facts(&rows, 10, Width::of_stdout());
    // The line that llama-perplexity prints; scripts look for it.
    format!("{rows}Final estimate: PPL = {:.4} +/- {:.5}\n", p.perplexity.value, p.perplexity.se)
}

fn json(model: &Model, args: &Args, text: &Text, p: &Perplexity) -> Value {
    json!({
        "run": describe(model, args.model.path()),
        "text": text.to_string(),
        "text_form": text.form(),
        "protocol": p.protocol,
        "windows": p.windows,
        "tokens_scored": p.scored,
        "bytes": p.bytes,
        "nll": p.nll,
        "perplexity": p.perplexity,
        "bits_per_byte": p.bits_per_byte,
        "tokens_per_second": p.tokens_per_second,
    })
}

/// Shows and records an evaluation. Stops it if the record cannot be written.
struct Watch {
    nll_file: Option<NllFile>,
    bar: Option<Bar>,
    quiet: bool,
    cancel: &'static Cancel,
    failure: Option<Failure>,
}

impl Observer for Watch {
    fn token(&mut self, position: usize, token: u32, nll: f64) {
        if let (Some(file), None) = (&mut self.nll_file, &self.failure) {
            self.failure = file.push(position, token, nll).err();
            if self.failure.is_some() {
                self.cancel.raise();
            }
        }
    }

    fn window(&mut self, state: &State) {
        let bar = self.bar.get_or_insert_with(|| Bar::new(0, Unit::Items("windows"), self.quiet));
        bar.expect(state.total_windows.map(|total| total as u64));
        bar.advance(1);
        bar.message(format!("PPL {:.4}", state.perplexity));
    }
}

/// The record of every token. It gets its name when it is complete.
struct NllFile {
    file: Writing,
    force: bool,
}

impl NllFile {
    /// Called before the work, so that a folder that cannot be written is noticed early.
    fn create(path: &Path, model: &Model, args: &Args) -> Result<Self, Failure> {
        let inputs = input::files(model.paths().iter().map(PathBuf::as_path).chain(args.text.path()));
        check_target(path, &inputs, args.force)?;
        Ok(Self { file: Writing::create(path, args.quiet)?, force: args.force })
    }

    fn push(&mut self, position: usize, token: u32, nll: f64) -> Result<(), Failure> {
        let line = json!({ "position": position, "token": token, "nll": nll });
        self.file.write(format_args!("{line}\n")).map_err(|e| Failure::at(self.file.path(), &e))
    }

    fn finish(self) -> Result<(), Failure> {
        self.file.finish(self.force)
    }
}
