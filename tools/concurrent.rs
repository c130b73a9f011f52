//! Tokens per second of many generations at once:
//!
//! ```text
//! cargo run --release -p pythia-runtime --example concurrent -- MODEL.gguf [threads] [temperature] [rounds] [generations...] [--no-mmap]
//! ```
//!
//! Each generation continues a prompt of 32 random tokens by 64. Two rates, each the best of a few rounds: all generated
//! tokens over the whole time, prompts included; and those after the first over the time from when all have their first.

use pythia_model::{Model, Options, Residence};
use pythia_runtime::engine::{Engine, EngineOptions, Event, Job};
use pythia_runtime::{GenerateOptions, Rng, Sampling, Tokenizer};
use pythia_task::Cancel;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

const PROMPT: usize = 32;
const NEW: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let (flags, args): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|arg| arg == "--no-mmap");
    let residence = if flags.is_empty() { Residence::Mapped } else { Residence::Copied };
    let path = args.first().ok_or("the first argument is a GGUF file")?;
    let number = |i: usize, default: f32| args.get(i).map_or(Ok(default), |arg| arg.parse());
    let (threads, temperature, rounds) = (number(1, 0.0)? as usize, number(2, 0.0)?, number(3, 3.0)? as usize);
    let model = Model::open(Path::new(path), &Options { threads, residence, ..Options::default() })?;
    let tokenizer = Arc::new(Tokenizer::from_gguf(&model.gguf().metadata)?);
    println!("{path}: {} threads, {}, temperature {temperature}", model.threads(), model.isa_name());
    let counts = args.iter().skip(4).map(|arg| arg.parse()).collect::<Result<Vec<usize>, _>>()?;
    let mut one = None;
    for together in if counts.is_empty() { vec![1, 8, 32] } else { counts } {
        let options = EngineOptions { n_seq: together, n_ctx: PROMPT + NEW, max_queue: 0, turn: None };
        let engine = Engine::start(Arc::clone(&model), Arc::clone(&tokenizer), options)?;
        let mut best = [0.0f64; 2];
        for round in 0..rounds as u64 {
            let rates = rates(&engine, together, temperature, round)?;
            best = [0, 1].map(|i| best[i].max(rates[i]));
        }
        let [all, decode] = best;
        let first = *one.get_or_insert(best);
        println!(
            "{together:3} together: {all:8.1} tokens/s, {:5.2} x the first; after the prompts {decode:8.1}, {:5.2} x",
            all / first[0],
            decode / first[1]
        );
    }
    Ok(())
}

/// Tokens per second of so many generations, of prompts that no other round has: with the prompts, and after them.
fn rates(engine: &Engine, together: usize, temperature: f32, round: u64) -> Result<[f64; 2], Box<dyn Error>> {
    let n_tokens = engine.tokenizer().n_tokens() as f64;
    let (sender, done) = channel();
    let start = Instant::now();
    for i in 0..together as u64 {
        let seed = round * 1000 + i;
        let mut rng = Rng::new(seed);
        let prompt = (0..PROMPT).map(|_| (rng.next_f64() * n_tokens) as u32).collect();
        let sampling = Sampling { temperature, top_p: 0.95, seed, ..Sampling::default() };
        let options =
            GenerateOptions { max_new_tokens: Some(NEW), ignore_eos: true, sampling, ..GenerateOptions::default() };
        let job = Job { prompt, score_prompt: false, logprobs: None, options, cancel: Cancel::new() };
        let sender = sender.clone();
        let mut began = None;
        let sink = move |event| {
            match event {
                Event::Token { .. } => {
                    began.get_or_insert_with(Instant::now);
                    Ok(())
                }
                Event::Done(outcome) => sender.send(Ok((outcome.timings.generated_tokens, began))),
                Event::Failed(error) => sender.send(Err(error)),
                Event::Prompt(_) => Ok(()),
            }
            .map_or(ControlFlow::Break(()), ControlFlow::Continue)
        };
        engine.submit(job, Box::new(sink))?;
    }
    drop(sender);
    let done = done.iter().collect::<Result<Vec<_>, _>>()?;
    let end = Instant::now();
    let tokens = done.iter().map(|(tokens, _)| tokens).sum::<usize>();
    let began = done.iter().filter_map(|(_, began)| *began).max().unwrap_or(start);
    let rate = |tokens: usize, since: Instant| tokens as f64 / (end - since).as_secs_f64();
    Ok([rate(tokens, start), rate(tokens - together, began)])
}
