//! What it costs to check `k` drafted tokens, and what drafts gain by it.
//!
//! ```text
//! cargo run --release --example verify -- MODEL.gguf [threads] [rounds] [position] [tokens] [--no-mmap]
//! ```
//!
//! First the time of a pass over `1 + k` tokens with the logits of each, over that of one token. Numbers of tokens take
//! turns, after `position` tokens that are there already; each time is the median of the rounds.
//!
//! With `tokens`, then the speed-up that follows from these times for drafts of a known rate of acceptance, beside the one
//! that such drafts reach in texts of so many tokens after `position`: see `speedup.rs`. The passes are then in the middle
//! of these texts, and take turns with them.

mod speedup;

use pythia_model::{BATCH_TOKENS, Context, ContextShape, Model, Options, Residence, Sequence, Span};
use pythia_runtime::{Error, Rng};
use speedup::Texts;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Rows of a pass, at most: a token and the longest draft.
const MOST: usize = 17;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (flags, args): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|arg| arg == "--no-mmap");
    let residence = if flags.is_empty() { Residence::Mapped } else { Residence::Copied };
    let path = args.first().ok_or("the first argument is a GGUF file")?;
    let number = |i: usize, default: usize| args.get(i).map_or(Ok(default), |arg| arg.parse());
    let (threads, rounds, position, tokens) = (number(1, 0)?, number(2, 9)?, number(3, 64)?, number(4, 0)?);
    let model = Model::open(Path::new(path), &Options { threads, residence, ..Options::default() })?;
    let mut random = Random { rng: Rng::new(1), n_vocab: model.hparams().n_vocab };
    let mut checks = Checks::new(&model, position + tokens / 2, &mut random)?;
    let mut texts = if tokens > 1 { Some(Texts::new(&model, &random.tokens(position.max(1)), tokens)?) } else { None };
    for round in 0..=rounds {
        checks.measure(&mut random)?;
        if round == 0 {
            // Weights were loaded into memory.
            checks.times.iter_mut().for_each(Vec::clear);
        } else if let Some(texts) = &mut texts {
            texts.write(round as u64, &checks.medians())?;
        }
    }
    let (threads, isa, times) = (model.threads(), model.isa_name(), checks.medians());
    println!("{path}: {threads} threads, {isa}, after {} tokens", position + tokens / 2);
    for (k, time) in times.iter().enumerate() {
        println!("{k:3} drafted: {:8.3} ms, {:5.2} of one token", time * 1e3, time / times[0]);
    }
    texts.into_iter().for_each(|texts| texts.print(&times));
    Ok(())
}

/// Tokens of no meaning.
struct Random {
    rng: Rng,
    n_vocab: usize,
}

impl Random {
    fn tokens(&mut self, n: usize) -> Vec<u32> {
        (0..n).map(|_| (self.rng.next_u64() % self.n_vocab as u64) as u32).collect()
    }
}

/// Passes over 1, 2 and so on tokens at one position of a text.
struct Checks {
    context: Context,
    sequence: Sequence,
    logits: Vec<f32>,
    /// Seconds, by tokens less one and round.
    times: Vec<Vec<f64>>,
}

impl Checks {
    fn new(model: &Arc<Model>, position: usize, random: &mut Random) -> Result<Self, Error> {
        let shape = ContextShape { n_seq: 1, n_ctx: position + MOST, n_batch: BATCH_TOKENS };
        let mut context = model.context(shape)?;
        let mut sequence = context.sequence()?;
        for tokens in random.tokens(position).chunks(BATCH_TOKENS) {
            context.forward(&mut [Span { sequence: &mut sequence, tokens }])?;
        }
        Ok(Self { context, sequence, logits: vec![0.0; MOST * random.n_vocab], times: vec![Vec::new(); MOST] })
    }

    /// Measures each number of tokens once.
    fn measure(&mut self, random: &mut Random) -> Result<(), Error> {
        let position = self.sequence.len();
        for (n, times) in (1..).zip(&mut self.times) {
            let tokens = random.tokens(n);
            let start = Instant::now();
            self.context.forward(&mut [Span { sequence: &mut self.sequence, tokens: &tokens }])?;
            self.context.logits(0..n, &mut self.logits[..n * random.n_vocab])?;
            times.push(start.elapsed().as_secs_f64());
            self.sequence.truncate(position);
        }
        Ok(())
    }

    fn medians(&self) -> Vec<f64> {
        self.times.iter().map(|times| median(times)).collect()
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
