//! The logit lens: the last norm and the output matrix on the residual stream at every depth.
//!
//! nostalgebraist, "interpreting GPT: the logit lens" (2020). Of what leaves the last block it is the model's own
//! prediction, to the bit. All numbers are in nats: natural logarithms.

mod page;
mod read;
mod record;

pub(crate) use page::in_script;
pub use page::page;
pub use read::{Next, Reading};
pub use record::{csv, jsonl, records};

use crate::cache::{Keeper, check_length};
use crate::{Error, Selection};
use pythia_model::{BATCH_TOKENS, ContextShape, Hook, Model, Site, Span};
use pythia_task::{Cancel, Progress};
pub(crate) use read::largest;
use read::{Final, read};
use std::ops::Range;
use std::sync::Arc;

/// Rows of logits in memory at once, twice over, with their probabilities in f64: 51 MB for Pythia's vocabulary.
const TILE_ROWS: usize = 64;

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Request {
    /// Rows of the residual stream: any of [`Site::Embed`], [`Site::ResidPre`], [`Site::ResidMid`] and
    /// [`Site::ResidPost`], such as [`list::stream`](crate::list::stream) gives.
    pub hooks: Vec<Hook>,
    /// How many of the likeliest tokens are told.
    pub top: usize,
}

/// What the layers say about a text.
#[derive(Clone, Debug)]
pub struct Lens {
    /// The tokens of the text.
    pub ids: Vec<u32>,
    /// Rows of the vocabulary.
    pub n_vocab: usize,
    /// The depths that were looked at, in the order of the pass.
    pub depths: Vec<Depth>,
}

/// What the residual stream says at one depth.
#[derive(Clone, Debug)]
pub struct Depth {
    /// Where.
    pub hook: Hook,
    /// A reading for each token of the text.
    pub readings: Vec<Reading>,
}

/// Means over the positions of a depth.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Share of positions whose likeliest token is that of the model's prediction, 0 to 1.
    pub agreement: f64,
    /// Mean divergence from the model's prediction, in nats.
    pub kl: f64,
    /// Mean entropy, in nats.
    pub entropy: f64,
    /// Mean rank of the next token of the text; 1 is the likeliest. NaN for a text of one token.
    pub rank: f64,
    /// Mean log-likelihood of that token, in nats. NaN for a text of one token.
    pub log_likelihood: f64,
}

impl Depth {
    /// The layer as users name it: `embed`, or the number of the block that the rows leave (or, before it, enter).
    pub fn name(&self) -> String {
        match (self.hook.layer, self.hook.site) {
            (Some(layer), Site::ResidPost) => layer.to_string(),
            (Some(layer), _) => format!("{layer} {}", self.hook.site.name()),
            (None, _) => "embed".to_owned(),
        }
    }

    /// Means over all positions.
    pub fn summary(&self) -> Summary {
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            let (sum, n) = values.fold((0.0, 0u32), |(sum, n), x| (sum + x, n + 1));
            sum / f64::from(n)
        };
        let readings = self.readings.iter();
        let next = || self.readings.iter().filter_map(|reading| reading.next);
        Summary {
            agreement: mean(&mut readings.clone().map(|reading| f64::from(u8::from(reading.same_top)))),
            kl: mean(&mut readings.clone().map(|reading| reading.kl)),
            entropy: mean(&mut readings.clone().map(|reading| reading.entropy)),
            rank: mean(&mut next().map(|next| next.rank as f64)),
            log_likelihood: mean(&mut next().map(|next| next.log_likelihood)),
        }
    }
}

/// Runs a text from the start of a sequence, and reads every depth at every position. `progress` counts readings.
///
/// # Errors
/// If there are no tokens or more than the model's context has, one is not in the vocabulary, a hook is not of the
/// residual stream, more tokens are to be told than there are, logits are not finite, the device failed, or `cancel` is raised.
pub fn lens(
    model: &Arc<Model>,
    ids: &[u32],
    request: &Request,
    cancel: &Cancel,
    progress: &dyn Progress,
) -> Result<Lens, Error> {
    let hparams = model.hparams();
    check_length(ids.len(), hparams)?;
    check(request, hparams.n_vocab)?;
    progress.expect(Some((ids.len() * request.hooks.len()) as u64));
    let selection = Selection::of(request.hooks.iter().copied());
    let n_batch = ids.len().min(BATCH_TOKENS);
    let shape = ContextShape { n_seq: 1, n_ctx: ids.len(), n_batch };
    let mut context = model.context(shape)?.cancelled_by(cancel.clone());
    let mut sequence = context.sequence()?;
    let mut depths: Vec<Depth> = request.hooks.iter().map(|&hook| Depth { hook, readings: Vec::new() }).collect();
    let (n_embd, n_vocab, team) = (hparams.n_embd, hparams.n_vocab, model.cpu().team());
    let (mut own, mut through) = (Vec::new(), Vec::new());
    for (batch, tokens) in ids.chunks(n_batch).enumerate() {
        let mut keeper = Keeper::new(&selection, hparams);
        context.forward_seen(&mut [Span { sequence: &mut sequence, tokens }], &mut keeper)?;
        for rows in tiles(tokens.len()) {
            let first = batch * n_batch + rows.start;
            own.resize(rows.len() * n_vocab, 0.0);
            through.resize(rows.len() * n_vocab, 0.0);
            context.logits(rows.clone(), &mut own)?;
            let of_row = |i: usize| i * n_vocab..(i + 1) * n_vocab;
            let logits = Hook { site: Site::Logits, layer: None };
            let finals = team.map(rows.len(), |i| Final::new(model.cpu(), &own[of_row(i)]));
            let finals = whole(finals, logits, first)?;
            for depth in &mut depths {
                let hidden = keeper.cache.get(depth.hook).expect("a pass comes to every hook of the stream");
                context.project(&hidden.data[rows.start * n_embd..rows.end * n_embd], &mut through)?;
                let readings = team.map(rows.len(), |i| {
                    read(model.cpu(), &finals[i], &through[of_row(i)], ids.get(first + i + 1).copied(), request.top)
                });
                depth.readings.extend(whole(readings, depth.hook, first)?);
                progress.advance("", rows.len() as i64);
            }
        }
    }
    Ok(Lens { ids: ids.to_vec(), n_vocab, depths })
}

/// The probability of a log-likelihood in nats.
pub fn probability(log_likelihood: f64) -> f64 {
    libm::exp(log_likelihood)
}

/// Rows whose logits are computed together.
fn tiles(n: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(TILE_ROWS).map(move |start| start..n.min(start + TILE_ROWS))
}

/// All of the rows, the first of which is at position `first`, if all are finite.
fn whole<T>(rows: Vec<Option<T>>, hook: Hook, first: usize) -> Result<Vec<T>, Error> {
    let found = |(i, row): (usize, Option<T>)| row.ok_or(Error::NotFinite { hook, position: first + i });
    rows.into_iter().enumerate().map(found).collect()
}

fn check(request: &Request, n_vocab: usize) -> Result<(), Error> {
    let is_stream = |hook: &Hook| matches!(hook.site, Site::Embed | Site::ResidPre | Site::ResidMid | Site::ResidPost);
    if let Some(hook) = request.hooks.iter().find(|hook| !is_stream(hook)) {
        let problem = format!("found {hook}, wanted hooks of the residual stream");
        return Err(Error::Setting { name: "hooks", problem });
    }
    if request.hooks.is_empty() {
        return Err(Error::Setting { name: "layers", problem: "found none, wanted at least one".to_owned() });
    }
    if !(1..=n_vocab).contains(&request.top) {
        let problem = format!("found {}, wanted 1 to {n_vocab}, the model's vocabulary", request.top);
        return Err(Error::Setting { name: "top", problem });
    }
    Ok(())
}
