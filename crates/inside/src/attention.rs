//! Attention patterns of chosen heads, and what they are like.

mod page;
mod record;
mod score;

pub use page::page;
pub use record::{csv, jsonl, safetensors};
pub use score::Scores;

use crate::Error;
use crate::cache::check_length;
use half::f16;
use pythia_kernels::Team;
use pythia_model::backend::Batch;
use pythia_model::{BATCH_TOKENS, ContextShape, Hook, Hooks, Model, Site, Span, Values};
use pythia_runtime::{Rng, Tokenizer};
use pythia_task::{Cancel, Progress};
use score::{Places, Sums};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Request {
    /// Layers and heads, in ascending order, such as [`list::heads`](crate::list::heads) gives.
    pub heads: Vec<(usize, usize)>,
    /// Whether patterns are kept, and not only scores.
    pub patterns: bool,
}

/// What some heads attend to.
#[derive(Clone, Debug)]
pub struct Attention {
    /// The tokens of the text.
    pub ids: Vec<u32>,
    /// The heads, in the order of the request.
    pub heads: Vec<Head>,
}

/// What one head attends to.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its layer.
    pub layer: usize,
    /// Its number in the layer.
    pub head: usize,
    /// What its pattern is like.
    pub scores: Scores,
    /// Its pattern, `[queries, keys]`; empty if patterns were not asked for. Keys after the query have weight 0.
    pub pattern: Vec<f16>,
}

/// Patterns that are kept in memory at most.
const MOST_BYTES: usize = 1 << 30;
/// Patterns of all heads of a layer, of one batch.
const BATCH_BYTES: usize = 64 << 20;

/// Runs a text from the start of a sequence. `progress` counts tokens. Without patterns, memory is what one layer has for
/// one batch; patterns take `2 * n * n` bytes per head.
///
/// # Errors
/// If there are no tokens or more than the model's context has, one is not in the vocabulary, there are no heads or one
/// that the model has not, the patterns would take more than 1 GiB, the device does not show attention or failed, weights
/// are not finite, or `cancel` is raised.
pub fn attention(
    model: &Arc<Model>,
    ids: &[u32],
    request: &Request,
    cancel: &Cancel,
    progress: &dyn Progress,
) -> Result<Attention, Error> {
    let hparams = model.hparams();
    check_length(ids.len(), hparams)?;
    let n = ids.len();
    let refused = |problem: String| Err(Error::Setting { name: "heads", problem });
    let has = |(layer, head): &(usize, usize)| *layer < hparams.n_layer && *head < hparams.n_head;
    if let Some((layer, head)) = request.heads.iter().find(|head| !has(head)) {
        return refused(format!("the model has no head {layer}.{head}"));
    }
    if request.heads.is_empty() {
        return refused("found none, wanted at least one".to_owned());
    }
    if !request.heads.is_sorted() {
        return refused("wanted them in ascending order".to_owned());
    }
    let bytes = request.heads.len().saturating_mul(2 * n * n);
    if request.patterns && bytes > MOST_BYTES {
        return refused(format!(
            "patterns of {} heads for {n} tokens take {bytes} bytes, at most {MOST_BYTES} are kept: wanted fewer heads or \
             tokens",
            request.heads.len()
        ));
    }
    progress.expect(Some(n as u64));
    let n_batch = (BATCH_BYTES / (4 * hparams.n_head * n)).clamp(16, BATCH_TOKENS).min(n);
    let mut context = model.context(ContextShape { n_seq: 1, n_ctx: n, n_batch })?.cancelled_by(cancel.clone());
    let mut sequence = context.sequence()?;
    let places = Places::new(ids);
    let room = if request.patterns { n * n } else { 0 };
    let watched = |&(layer, head): &(usize, usize)| Watched {
        layer,
        head,
        sums: Sums::default(),
        pattern: vec![f16::ZERO; room],
    };
    let heads = request.heads.iter().map(watched).collect();
    let mut watch = Watch { places: &places, heads, failed: None, n, team: model.cpu().team() };
    for tokens in ids.chunks(n_batch) {
        context.forward_seen(&mut [Span { sequence: &mut sequence, tokens }], &mut watch)?;
        if let Some((hook, position)) = watch.failed {
            return Err(Error::NotFinite { hook, position });
        }
        progress.advance("", tokens.len() as i64);
    }
    let heads = watch.heads.into_iter().map(|Watched { layer, head, sums, pattern }| Head {
        layer,
        head,
        scores: sums.finish(),
        pattern,
    });
    Ok(Attention { ids: ids.to_vec(), heads: heads.collect() })
}

/// A head that is watched.
struct Watched {
    layer: usize,
    head: usize,
    sums: Sums,
    pattern: Vec<f16>,
}

struct Watch<'a> {
    places: &'a Places,
    heads: Vec<Watched>,
    failed: Option<(Hook, usize)>,
    /// Tokens of the text.
    n: usize,
    team: &'a Team,
}

impl Hooks for Watch<'_> {
    fn sees(&self, hook: Hook) -> bool {
        hook.site == Site::Pattern && self.heads.iter().any(|head| Some(head.layer) == hook.layer)
    }

    fn see(&mut self, hook: Hook, batch: Batch<'_>, values: Values<'_>) {
        let Values::Weights(weights) = values else { return };
        // One sequence.
        let first = batch.spans.first().map_or(0, |span| span.first_position);
        let seen = Seen { weights: &weights, first, rows: batch.tokens.len(), n: self.n };
        let places = self.places;
        let start = self.heads.partition_point(|head| Some(head.layer) < hook.layer);
        let end = self.heads.partition_point(|head| Some(head.layer) <= hook.layer);
        let of_layer = &mut self.heads[start..end];
        // Heads are independent, so threads share them out. The team is idle while a pass shows values.
        let failed = AtomicUsize::new(usize::MAX);
        self.team.run_pieces(of_layer, 1, |_, heads| {
            let query = heads.iter_mut().filter_map(|head| head.add(places, &seen)).min();
            failed.fetch_min(query.unwrap_or(usize::MAX), Ordering::Relaxed);
        });
        let failed = Some(failed.into_inner()).filter(|query| *query != usize::MAX);
        self.failed = self.failed.or(failed.map(|query| (hook, query)));
    }
}

/// The patterns of a layer, `[heads, rows, first + rows]`.
struct Seen<'a> {
    weights: &'a [f32],
    /// Position of the first row.
    first: usize,
    rows: usize,
    /// Tokens of the text.
    n: usize,
}

impl Watched {
    /// Adds the rows of a batch. Returns the first query whose weights are not finite.
    fn add(&mut self, places: &Places, seen: &Seen<'_>) -> Option<usize> {
        let &Seen { weights, first, rows, n } = seen;
        let (keys, mut failed) = (first + rows, None);
        let of_head = &weights[self.head * rows * keys..(self.head + 1) * rows * keys];
        for (row, query) in of_head.chunks_exact(keys).zip(first..) {
            let row = &row[..=query];
            if !row.iter().all(|weight| weight.is_finite()) {
                failed = failed.or(Some(query));
            }
            self.sums.add(places, query, row);
            if !self.pattern.is_empty() {
                let kept = &mut self.pattern[query * n..][..=query];
                kept.iter_mut().zip(row).for_each(|(kept, &weight)| *kept = f16::from_f32(weight));
            }
        }
        failed
    }
}

/// Random tokens, `n / 2` of them twice in the same order, for the induction score of Olsson et al., "In-context Learning
/// and Induction Heads" (2022): nothing but the repetition says what comes next. No token comes more than twice, special
/// ones not at all. The same seed gives the same tokens.
///
/// # Errors
/// If `n` is less than 4 or more than `most`, which the model has room for, or the tokenizer has fewer than `n / 2` tokens.
pub fn repeated(tokenizer: &Tokenizer, n: usize, most: usize, seed: u64) -> Result<Vec<u32>, Error> {
    let usual = |id: &u32| !tokenizer.is_special(*id) && !tokenizer.token_bytes(*id).is_empty();
    let mut ids: Vec<u32> = (0..tokenizer.n_tokens() as u32).filter(usual).collect();
    let (half, most) = (n / 2, most.min(2 * ids.len()));
    if !(4..=most).contains(&n) {
        let problem = format!("found {n}, wanted 4 to {most} for a sequence that repeats");
        return Err(Error::Setting { name: "tokens", problem });
    }
    let mut rng = Rng::new(seed);
    for i in 0..half {
        let other = i + (rng.next_u64() % (ids.len() - i) as u64) as usize;
        ids.swap(i, other);
    }
    ids.truncate(half);
    Ok(ids.repeat(2))
}
