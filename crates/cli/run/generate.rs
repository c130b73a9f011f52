//! `pythia-run generate`: a text continued.

mod many;

use super::drafting::{self, DraftArgs};
use super::model::{ModelArgs, Passes, describe, note_changes};
use super::text::TextArgs;
use crate::exit::{self, Failure};
use pythia_model::{ContextShape, Model};
use pythia_runtime::device::CPU;
use pythia_runtime::{Error, Finish, GenerateOptions, Generation, Sampling, generate, prompt};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Continue a text
///
/// Writes the continuation to standard output as it appears, and timings to standard error. Without a sampling option
/// it takes the most likely token at every step. A terminal gets control characters escaped, such as `\u{1b}`; a file
/// or a pipe gets the text unchanged.
///
/// With -N it writes several samples of one prompt, with --jsonl a continuation of every prompt of a file, many side by
/// side. Each has the text that it would have alone.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Maximum number of tokens to generate; -1 or -2 for as many as the context holds
    #[arg(
        short,
        long,
        visible_aliases = ["predict", "max-new-tokens"],
        value_name = "N",
        default_value_t = 128,
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-2..)
    )]
    n_predict: i64,
    /// Maximum length of prompt and continuation together, in tokens; 0 for the model's context length
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    ctx_size: usize,
    /// End the continuation before this text; may be repeated
    #[arg(
        short = 'r',
        long,
        visible_aliases = ["stop-strings", "reverse-prompt"],
        value_name = "TEXT",
        allow_hyphen_values = true
    )]
    stop: Vec<String>,
    /// Continue after the end-of-text token
    #[arg(long)]
    ignore_eos: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    draft: DraftArgs,
    /// Write N samples of the prompt, which is computed once. They have the seeds S, S+1 and so on, where S is --seed;
    /// 0 follows the largest of 64 bits
    #[arg(short = 'N', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    samples: u32,
    /// Continue every prompt of a file with a JSON object per line: a text each, or a list of token ids; - for standard
    /// input. Prints a JSON object per text, in the same order
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "file_of_text"])]
    jsonl: Option<PathBuf>,
    /// Name of the prompt in the objects of --jsonl [default: prompt]
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Texts of -N or --jsonl that are written side by side, at most [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=128))]
    parallel: Option<u64>,
    /// Print the prompt before the continuation
    #[arg(long, conflicts_with_all = ["json", "samples", "jsonl"])]
    echo: bool,
    /// Print one JSON object at the end, with -N one per sample
    #[arg(long)]
    json: bool,
    /// Print no timings
    #[arg(short, long)]
    quiet: bool,
}

/// How tokens are chosen.
#[derive(Debug, clap::Args)]
struct SamplingArgs {
    /// Take the most likely token at every step (the default)
    #[arg(long, conflicts_with_all = ["do_sample", "temp", "top_k", "top_p", "min_p"])]
    greedy: bool,
    /// Sample tokens; implied by the options below
    #[arg(long)]
    do_sample: bool,
    /// Temperature: values below 1 favour likely tokens, 0 is greedy [default when sampling: 1]
    #[arg(long, visible_alias = "temperature", value_name = "T")]
    temp: Option<f32>,
    /// Sample from the K most likely tokens; 0 for all
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Sample from the smallest set of tokens whose probabilities add up to P
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Sample from the tokens at least P times as likely as the most likely one
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Penalty for tokens that already occurred; above 1 makes them less likely
    #[arg(long, visible_alias = "repetition-penalty", value_name = "R", default_value_t = 1.0)]
    repeat_penalty: f32,
    /// Number of last tokens that --repeat-penalty considers; -1 for the whole text, 0 for none
    #[arg(
        long,
        value_name = "N",
        default_value_t = -1,
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-1..)
    )]
    repeat_last_n: i64,
    /// Random seed for sampling, of 64 bits; -1 for a different one each time
    #[arg(short, long, value_name = "N", default_value = "0", allow_negative_numbers = true, value_parser = parse_seed)]
    seed: Seed,
}

/// A random seed.
#[derive(Clone, Copy, Debug)]
enum Seed {
    Given(u64),
    /// One that nobody chose.
    Any,
}

fn parse_seed(text: &str) -> Result<Seed, String> {
    match (text.parse(), text) {
        (Ok(seed), _) => Ok(Seed::Given(seed)),
        (_, "-1") => Ok(Seed::Any),
        _ => Err(format!("found '{text}', wanted a whole number from 0 to {}, or -1", u64::MAX)),
    }
}

impl Args {
    /// A copy of the weights pays after some 40 passes (docs/performance.md). Each is for a token of all texts that are
    /// written side by side. A file may have any number of texts.
    fn passes(&self) -> Passes {
        const MANY: usize = 64;
        let most = if self.ctx_size == 0 { usize::MAX } else { self.ctx_size };
        let tokens = usize::try_from(self.n_predict).unwrap_or(usize::MAX).min(most);
        let side_by_side = self.parallel.unwrap_or(many::PARALLEL).max(1);
        let rounds = u64::from(self.samples).div_ceil(side_by_side) as usize;
        let is_few = if self.jsonl.is_some() { tokens <= 1 } else { tokens.saturating_mul(rounds) < MANY };
        if is_few { Passes::Few } else { Passes::Many }
    }
}

impl SamplingArgs {
    fn settings(&self) -> Sampling {
        let temperature = self.temp.or(self.do_sample.then_some(1.0));
        Sampling {
            repetition_penalty: self.repeat_penalty,
            penalty_tokens: usize::try_from(self.repeat_last_n).ok(),
            seed: match self.seed {
                Seed::Given(seed) => seed,
                Seed::Any => random_seed(),
            },
            ..Sampling::asked(temperature, self.top_k, self.top_p, self.min_p)
        }
    }
}

/// Different from run to run. Small enough to be typed again as `--seed`.
fn random_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_nanos() as u64 ^ u64::from(std::process::id()) << 20) & 0xffff_ffff
}

/// No context holds a prompt that is longer.
const MAX_PROMPT_BYTES: usize = 16 << 20;

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut options = GenerateOptions {
        max_new_tokens: usize::try_from(args.n_predict).ok(),
        stop: args.stop.clone(),
        ignore_eos: args.ignore_eos,
        sampling: args.sampling.settings(),
        logit_bias: Vec::new(),
        draft: None,
    };
    if args.field.is_some() && args.jsonl.is_none() {
        return Err(Failure::usage("--field: names the prompt in the lines of --jsonl, which is not there"));
    }
    if args.parallel.is_some() && args.samples == 1 && args.jsonl.is_none() {
        return Err(Failure::usage("--parallel: there is one text; -N and --jsonl make more"));
    }
    let passes = args.passes();
    let (model, tokenizer, reach) = args.model.open(passes)?;
    options.draft = args.draft.open(&tokenizer, |path| args.model.how().open(path, passes))?;
    let interrupted = exit::catch_interrupts();
    exit::stop_when_unread();
    if args.samples > 1 || args.jsonl.is_some() {
        return many::run(args, &model, tokenizer, &reach, &options, interrupted);
    }
    let source = args.text.open()?;
    let locate = |e| exit::locate(e, args.model.path(), &source);
    let text = source.reader()?.read_all(MAX_PROMPT_BYTES).map_err(locate)?;
    let prompt = prompt(&tokenizer, &text).map_err(locate)?;
    // Not of what is generated, whose length nobody knows before.
    reach.check(prompt.len(), "the prompt")?;
    let n_ctx = n_ctx(args, &model, prompt.len(), &options)?;
    let shape = ContextShape { n_seq: 1, n_ctx, n_batch: options.n_batch(prompt.len()) };
    let mut context = model.context(shape)?.cancelled_by(interrupted.clone());
    options.draft.as_ref().map_or(Ok(()), |drafting| drafting.check_memory(1, n_ctx))?;
    let mut output = Output { silent: args.json, failure: None, ends_line: true };
    if args.echo {
        let _ = output.write(&text);
    }
    let mut on_text = |text: &str| {
        let written = output.write(text);
        if interrupted.is_raised() { ControlFlow::Break(()) } else { written }
    };
    let generation = match generate(&mut context, &Arc::new(tokenizer), &prompt, &options, &mut on_text) {
        Err(Error::Cancelled) => return exit::stopped(),
        generation => generation.map_err(locate)?,
    };
    output.finish()?;
    if args.json {
        exit::print_json_line(&json(args, &model, &prompt, &options, &generation))?;
    } else if !args.quiet {
        note_changes(&model);
        exit::note(timings(&generation, &options));
        if options.draft.is_some() {
            exit::note(drafting::in_words(&generation.timings.draft));
        }
    }
    if interrupted.is_raised() { exit::stopped() } else { Ok(()) }
}

/// No more room than the text can take: the cache is allocated for it.
fn n_ctx(args: &Args, model: &Model, prompt: usize, options: &GenerateOptions) -> Result<usize, Failure> {
    Ok(options.n_ctx(prompt, limit(args, model)?))
}

/// Tokens of a text at most.
fn limit(args: &Args, model: &Model) -> Result<usize, Failure> {
    let trained = model.hparams().n_ctx;
    let limit = if args.ctx_size == 0 { trained } else { args.ctx_size };
    if limit > trained {
        return Err(Failure::usage(format_args!("--ctx-size: found {limit}, wanted at most the model's {trained}")));
    }
    Ok(limit)
}

/// Standard output, until its reader closes it.
struct Output {
    silent: bool,
    failure: Option<Failure>,
    ends_line: bool,
}

impl Output {
    fn write(&mut self, text: &str) -> ControlFlow<()> {
        if self.silent || text.is_empty() {
            return ControlFlow::Continue(());
        }
        self.ends_line = text.ends_with('\n');
        self.failure = exit::print_prose(text).err();
        self.silent = self.failure.is_some() || exit::is_unread();
        if self.silent { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Ends the line, so that the shell's prompt or the timings begin on a new one.
    fn finish(mut self) -> Result<(), Failure> {
        if !self.ends_line {
            let _ = self.write("\n");
        }
        self.failure.map_or(Ok(()), Err)
    }
}

fn timings(generation: &Generation, options: &GenerateOptions) -> String {
    let t = &generation.timings;
    let ended = match &generation.finish {
        Finish::EndOfText => "the model ended the text".to_owned(),
        Finish::Stop(stop) => format!("found {stop:?}"),
        Finish::Length => "length reached".to_owned(),
        Finish::ContextFull => "context full".to_owned(),
        Finish::Interrupted => "interrupted".to_owned(),
        Finish::NotFinite { .. } => "the logits are not finite".to_owned(),
    };
    let seed =
        if options.sampling.temperature > 0.0 { format!("; seed {}", options.sampling.seed) } else { String::new() };
    format!(
        "prompt: {} tokens, {:.1} tokens/s; first token after {:.3} s; generated: {} tokens, {:.1} tokens/s; {ended}{seed}",
        t.prompt_tokens,
        t.prompt_rate(),
        t.first_token.as_secs_f64(),
        t.generated_tokens,
        t.generation_rate(),
    )
}

fn json(args: &Args, model: &Model, prompt: &[u32], options: &GenerateOptions, generation: &Generation) -> Value {
    let t = &generation.timings;
    let s = &options.sampling;
    let stop = match &generation.finish {
        Finish::Stop(stop) => Some(stop),
        _ => None,
    };
    let mut run = describe(model, args.model.path());
    if model.device() == CPU {
        run["weights"] = json!(if model.is_copied() { "copied" } else { "mapped" });
    }
    json!({
        "run": run,
        "prompt_ids": prompt,
        "ids": generation.ids,
        "text": generation.text,
        "finish": generation.finish.name(),
        "stop": stop,
        "sampling": {
            "temperature": super::decimal(s.temperature),
            "top_k": s.top_k,
            "top_p": super::decimal(s.top_p),
            "min_p": super::decimal(s.min_p),
            "repetition_penalty": super::decimal(s.repetition_penalty),
            "penalty_tokens": s.penalty_tokens,
            "seed": s.seed,
        },
        "draft": options.draft.as_ref().map(|_| t.draft),
        "timings": {
            "prompt_tokens": t.prompt_tokens,
            "prompt_seconds": t.prompt.as_secs_f64(),
            "prompt_tokens_per_second": t.prompt_rate(),
            "first_token_seconds": t.first_token.as_secs_f64(),
            "generated_tokens": t.generated_tokens,
            "generation_seconds": t.generation.as_secs_f64(),
            "generated_tokens_per_second": t.generation_rate(),
        },
    })
}
