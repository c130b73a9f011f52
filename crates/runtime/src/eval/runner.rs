//! Windows through a model, a tile of logits at a time.
//!
//! A text of 280,000 tokens has 56 GB of logits over Pythia's vocabulary; a tile has 6 MB.

use super::protocol::Window;
use crate::Error;
use pythia_model::{Context, ContextShape, Model, Span};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Rows of logits in a tile.
const TILE_ROWS: usize = 32;

/// Tokens that go through a model in one call at most. More would not be faster, and activations grow with it.
const BATCH_TOKENS: usize = 512;

/// Tokens for one call of a model, and the tiles of its logits that are wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Positions in the text.
    pub(super) tokens: Range<usize>,
    pub(super) tiles: Vec<Tile>,
}

/// Some rows of a batch's logits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// Rows of the batch.
    pub(super) rows: Range<usize>,
    /// Positions in the text of the tokens that these rows predict, one each.
    pub(super) targets: Range<usize>,
}

/// The batches of a window. Its last token predicts nothing that is scored, so it is left out.
pub(super) fn batches(window: &Window) -> Vec<Batch> {
    batches_of(window, BATCH_TOKENS, TILE_ROWS)
}

fn batches_of(window: &Window, batch_tokens: usize, tile_rows: usize) -> Vec<Batch> {
    let end = window.scored.end - 1;
    let starts = (window.tokens.start..end).step_by(batch_tokens);
    let batch = |start: usize| {
        let tokens = start..end.min(start + batch_tokens);
        // The token at position t is predicted by the row of position t - 1.
        let wanted = tokens.start.max(window.scored.start - 1)..tokens.end;
        let tile = |first: usize| {
            let last = wanted.end.min(first + tile_rows);
            Tile { rows: first - tokens.start..last - tokens.start, targets: first + 1..last + 1 }
        };
        let tiles = wanted.clone().step_by(tile_rows).map(tile).collect();
        Batch { tokens, tiles }
    };
    starts.map(batch).collect()
}

/// A model, its context and the tile in hand.
pub(super) struct Runner<'m> {
    pub(super) model: &'m Model,
    context: Context<'m>,
    logits: Vec<f32>,
    /// Tokens that went through the model, and the time that took, logits not counted.
    pub(super) tokens: usize,
    pub(super) time: Duration,
}

impl<'m> Runner<'m> {
    /// Ready for windows of at most `window_tokens`.
    pub(super) fn new(model: &'m Model, window_tokens: usize) -> Result<Self, Error> {
        let shape = ContextShape { n_seq: 1, n_ctx: window_tokens, n_batch: window_tokens.min(BATCH_TOKENS) };
        let context = model.context(shape)?;
        Ok(Self { model, context, logits: Vec::new(), tokens: 0, time: Duration::ZERO })
    }

    /// Forgets the window before.
    pub(super) fn restart(&mut self) {
        self.context.truncate(0, 0);
    }

    /// Appends tokens to the window.
    pub(super) fn forward(&mut self, tokens: &[u32]) -> Result<(), Error> {
        let start = Instant::now();
        self.context.forward(&[Span { sequence: 0, tokens }])?;
        self.time += start.elapsed();
        self.tokens += tokens.len();
        Ok(())
    }

    /// Brings these rows of the last batch in hand.
    pub(super) fn load(&mut self, rows: Range<usize>) {
        self.logits.resize(rows.len() * self.model.hparams().n_vocab, 0.0);
        self.context.logits(rows, &mut self.logits);
    }

    /// Row `i` of those in hand.
    pub(super) fn row(&self, i: usize) -> &[f32] {
        let n_vocab = self.model.hparams().n_vocab;
        &self.logits[i * n_vocab..(i + 1) * n_vocab]
    }

    /// Tokens through the model per second.
    pub(super) fn rate(&self) -> f64 {
        self.tokens as f64 / self.time.as_secs_f64()
    }
}

/// Log of the normalizing sum of a row, and the negative log-likelihood of `target` under it, in nats.
pub(super) fn nll(model: &Model, row: &[f32], target: u32) -> (f64, f64) {
    let log_sum = model.cpu().log_sum_exp(row);
    (log_sum, log_sum - f64::from(row[target as usize]))
}

/// Checks once what [`nll`] and the models index by.
pub(crate) fn check_tokens(tokens: &[u32], n_vocab: usize) -> Result<(), Error> {
    match tokens.iter().find(|&&token| token as usize >= n_vocab) {
        Some(&token) => Err(Error::TokenOutOfRange { token, n_vocab }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::*;

    #[test]
    fn tiles_cover_what_is_scored_and_no_more() {
        let llama = Protocol::Llama { n_ctx: 20 };
        let stride = Protocol::HfStride { window: 11, stride: 4 };
        for (protocol, batch_tokens, tile_rows) in [(llama, 512, 32), (llama, 7, 3), (stride, 5, 2), (stride, 1, 1)] {
            for window in protocol.windows(64).unwrap() {
                let batches = batches_of(&window, batch_tokens, tile_rows);
                let tokens: Vec<usize> = batches.iter().flat_map(|b| b.tokens.clone()).collect();
                assert_eq!(tokens, (window.tokens.start..window.scored.end - 1).collect::<Vec<_>>());
                let tiles = batches.iter().flat_map(|b| b.tiles.iter().map(move |t| (b, t)));
                let mut targets = Vec::new();
                for (batch, tile) in tiles {
                    assert_eq!(batch.tokens.start + tile.rows.start + 1, tile.targets.start);
                    assert!(tile.rows.len() == tile.targets.len() && tile.rows.len() <= tile_rows);
                    assert!(tile.rows.end <= batch.tokens.len());
                    targets.extend(tile.targets.clone());
                }
                assert_eq!(targets, window.scored.collect::<Vec<_>>());
            }
        }
    }
}
