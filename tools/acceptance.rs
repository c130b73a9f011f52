//! How many drafted tokens a model accepts:
//!
//! ```text
//! cargo run --release --example acceptance -- MODEL.gguf DRAFT.gguf TEXT [prompts] [tokens]
//! ```
//!
//! Prompts are 64 tokens each, from places of the text that are equally far apart. Drafts of 1 and of 4 tokens, drawn with the
//! random numbers of the text, taken as the most likely tokens of the draft model, and looked up in the text.

use pythia_model::{BATCH_TOKENS, Context, ContextShape, Model, Options};
use pythia_runtime::draft::{Draft, DraftLength, DraftStats, LookupDraft, ModelDraft};
use pythia_runtime::{GenerateOptions, Generator, Sampler, Sampling, Scheduler, Tokenizer};
use pythia_task::Cancel;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

const PROMPT: usize = 64;

/// The most likely tokens, whatever the text's sampler is.
#[derive(Debug)]
struct MostLikely(ModelDraft);

impl Draft for MostLikely {
    fn propose(&mut self, tokens: &[u32], sampler: &Sampler, n: usize) -> Result<Vec<u32>, pythia_runtime::Error> {
        self.0.propose(tokens, &Sampler::new(Sampling::default(), sampler.n_tokens())?, n)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, draft, text, ..] = &args[..] else { return Err("wanted MODEL.gguf DRAFT.gguf TEXT".into()) };
    let number = |i: usize, default: usize| args.get(i).map_or(Ok(default), |arg| arg.parse());
    let (prompts, new) = (number(3, 40)?, number(4, 48)?);
    let model = Model::open(Path::new(model), &Options::default())?;
    let draft = Model::open(Path::new(draft), &Options::default())?;
    let tokenizer = Arc::new(Tokenizer::from_gguf(&model.gguf().metadata)?);
    let ids = tokenizer.encode(&std::fs::read_to_string(text)?)?;
    let starts: Vec<usize> = (0..prompts).map(|i| i * ids.len().saturating_sub(PROMPT) / prompts).collect();
    let warm = |temperature| Sampling { temperature, ..Sampling::default() };
    let settings = [
        ("greedy", Sampling::default()),
        ("temp 0.5", warm(0.5)),
        ("temp 0.8", warm(0.8)),
        ("temp 1", warm(1.0)),
        ("temp 1, top-k 40", Sampling { top_k: 40, ..warm(1.0) }),
        ("temp 1, top-p 0.9", Sampling { top_p: 0.9, ..warm(1.0) }),
        ("temp 0.8, min-p 0.05", Sampling { min_p: 0.05, ..warm(0.8) }),
    ];
    println!("accepted share of drafted tokens, {prompts} texts of {new} tokens; drafts of 1 and of 4 tokens");
    println!("{:24}{:>12}{:>16}{:>12}", "sampling", "same draws", "most likely", "look-up");
    let n_ctx = PROMPT + new;
    let mut context = model.context(ContextShape { n_seq: 1, n_ctx, n_batch: BATCH_TOKENS })?;
    for (name, sampling) in settings {
        let mut cells = Vec::new();
        for kind in 0..3 {
            let mut shares = Vec::new();
            for most in [1, 4] {
                let mut all = DraftStats::default();
                for (seed, &start) in (0..).zip(&starts) {
                    let drafting = || ModelDraft::new(&draft, n_ctx, &Cancel::new());
                    let draft: Box<dyn Draft> = match kind {
                        0 => Box::new(drafting()),
                        1 => Box::new(MostLikely(drafting())),
                        _ => Box::new(LookupDraft),
                    };
                    let sampling = Sampling { seed, ..sampling };
                    let options = GenerateOptions {
                        max_new_tokens: Some(new),
                        ignore_eos: true,
                        sampling,
                        ..GenerateOptions::default()
                    };
                    let prompt = &ids[start..start + PROMPT];
                    let generator = Generator::new(&context, &tokenizer, prompt, &options)?;
                    let length = DraftLength::new(most, most)?;
                    all += run(&mut context, generator.drafted_by(draft, length))?;
                }
                shares.push(format!("{:.2}", all.acceptance()));
            }
            cells.push(shares.join(" "));
        }
        println!("{name:24}{:>12}{:>16}{:>12}", cells[0], cells[1], cells[2]);
    }
    Ok(())
}

fn run(context: &mut Context, mut generator: Generator) -> Result<DraftStats, pythia_runtime::Error> {
    let mut scheduler = Scheduler::new();
    while generator.finish().is_none() {
        scheduler.step(context, &mut [&mut generator])?;
    }
    Ok(generator.draft_stats())
}
