//! What it costs to check `k` drafted tokens: the time of a pass over `1 + k` tokens with the logits of each, over that of
//! one token.
//!
//! ```text
//! cargo run --release --example verify -- MODEL.gguf [threads] [rounds] [position]
//! ```
//!
//! Numbers of tokens take turns, after `position` tokens that are there already; each time is the median of the rounds.

use pythia_model::{BATCH_TOKENS, ContextShape, Model, Options, Span};
use pythia_runtime::Rng;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

const MOST: usize = 17;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let path = args.first().ok_or("the first argument is a GGUF file")?;
    let number = |i: usize, default: usize| args.get(i).map_or(Ok(default), |arg| arg.parse());
    let (threads, rounds, position) = (number(1, 0)?, number(2, 9)?, number(3, 64)?);
    let model = Model::open(Path::new(path), &Options { threads, ..Options::default() })?;
    let n_vocab = model.hparams().n_vocab;
    let shape = ContextShape { n_seq: 1, n_ctx: position + MOST, n_batch: BATCH_TOKENS };
    let mut context = model.context(shape)?;
    let mut sequence = context.sequence()?;
    let mut rng = Rng::new(1);
    let mut token = || (rng.next_u64() % n_vocab as u64) as u32;
    let prompt: Vec<u32> = (0..position).map(|_| token()).collect();
    for tokens in prompt.chunks(BATCH_TOKENS) {
        context.forward(&mut [Span { sequence: &mut sequence, tokens }])?;
    }
    let mut logits = vec![0.0; MOST * n_vocab];
    let mut times = vec![Vec::new(); MOST];
    // The first round loads weights into memory and does not count.
    for round in 0..=rounds {
        for (n, times) in (1..).zip(&mut times) {
            let tokens: Vec<u32> = (0..n).map(|_| token()).collect();
            let start = Instant::now();
            context.forward(&mut [Span { sequence: &mut sequence, tokens: &tokens }])?;
            context.logits(0..n, &mut logits[..n * n_vocab])?;
            if round > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
            sequence.truncate(position);
        }
    }
    println!("{path}: {} threads, {}, after {position} tokens", model.threads(), model.isa_name());
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    for (n, time) in (1..).zip(&medians) {
        println!("{:3} drafted: {:8.3} ms, {:5.2} of one token", n - 1, time * 1e3, time / medians[0]);
    }
    Ok(())
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}
