//! Runs windows through a model, as many at a time as fit a batch.

use super::protocol::Window;
use crate::{Error, TokenStream};
use pythia_model::{BATCH_TOKENS, Context, ContextShape, Model, Sequence, Span};
use pythia_task::Cancel;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum number of windows in a batch. Attention processes each separately, in a cache of whole tiles, so many tiny
/// windows would cost more time and memory than they save.
const MAX_SEQUENCES: usize = 32;

/// Tokens for one call of a model: part of a window, or several whole windows, each in its own sequence.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// By sequence.
    pub(super) parts: Vec<Part>,
}

/// The part of a window in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Positions in the text.
    pub(super) tokens: Range<usize>,
    /// Positions in the text of the tokens that are scored, each of them predicted from the one before it.
    pub(super) targets: Range<usize>,
    /// Whether the window begins here.
    pub(super) begins: bool,
    /// Whether the window ends here.
    pub(super) ends: bool,
}

impl Batch {
    /// Tokens to run.
    fn n_tokens(&self) -> usize {
        self.parts.iter().map(|part| part.tokens.len()).sum()
    }

    /// Positions in the text of the tokens that are scored.
    pub(super) fn targets(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().flat_map(|part| part.targets.clone())
    }

    /// The rows of the batch that predict them.
    pub(super) fn rows(&self) -> impl Iterator<Item = usize> {
        let mut first_row = 0;
        self.parts.iter().flat_map(move |part| {
            // The token at position t is predicted by the row of position t - 1.
            let row = |target: usize| first_row + target - 1 - part.tokens.start;
            let rows = row(part.targets.start)..row(part.targets.end);
            first_row += part.tokens.len();
            rows
        })
    }
}

/// How the windows of a text are put into batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batching {
    /// Maximum number of sequences in a batch.
    n_seq: usize,
    /// Maximum number of tokens in a batch.
    n_batch: usize,
}

impl Batching {
    /// For this number of windows, if known, of at most `longest` tokens each.
    pub(super) fn new(longest: usize, n_windows: usize) -> Self {
        let longest = longest.max(1);
        let n_seq = (BATCH_TOKENS / longest).clamp(1, n_windows.clamp(1, MAX_SEQUENCES));
        Self { n_seq, n_batch: BATCH_TOKENS.min(n_seq * longest) }
    }

    /// Maximum number of windows in a batch.
    pub(super) fn n_seq(self) -> usize {
        self.n_seq
    }

    /// The batches of some windows, in the order of the text.
    pub(super) fn batches(self, windows: &[Window]) -> impl Iterator<Item = Batch> {
        windows.chunks(self.n_seq).flat_map(move |group| {
            let longest = group.iter().map(|w| run_tokens(w).len()).max().unwrap_or(0);
            let batch = move |start: usize| Batch { parts: group.iter().map(|w| self.part(w, start)).collect() };
            // Several windows fit one batch, so that only a window alone has more than one.
            (0..longest).step_by(self.n_batch).map(batch)
        })
    }

    /// The part of a window from its token `start` on.
    fn part(self, window: &Window, start: usize) -> Part {
        let all = run_tokens(window);
        let tokens = all.start + start..all.end.min(all.start + start + self.n_batch);
        let targets = window.scored.start.max(tokens.start + 1)..tokens.end + 1;
        let targets = targets.start.min(targets.end)..targets.end;
        Part { begins: start == 0, ends: tokens.end == all.end, tokens, targets }
    }
}

/// Positions of the tokens of a window that a model runs. The last one predicts nothing that is scored.
fn run_tokens(window: &Window) -> Range<usize> {
    window.tokens.start..window.scored.end - 1
}

/// A context with a sequence for each window of a batch, and the current tile of logits.
pub(super) struct Runner {
    context: Context,
    sequences: Vec<Sequence>,
    logits: Vec<f32>,
    /// Tokens processed by the model, and the time for that, including logits.
    tokens: usize,
    time: Duration,
}

impl Runner {
    /// Ready for these batches, of windows of at most `window_tokens`.
    pub(super) fn new(
        model: &Arc<Model>,
        batching: Batching,
        window_tokens: usize,
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        let Batching { n_seq, n_batch } = batching;
        let context =
            model.context(ContextShape { n_seq, n_ctx: window_tokens, n_batch })?.cancelled_by(cancel.clone());
        let sequences = (0..n_seq).map(|_| context.sequence()).collect::<Result<_, _>>()?;
        Ok(Self { context, sequences, logits: Vec::new(), tokens: 0, time: Duration::ZERO })
    }

    /// The model that runs.
    pub(super) fn model(&self) -> &Model {
        self.context.model()
    }

    /// Runs a batch of this text.
    pub(super) fn forward(&mut self, text: &TokenStream<'_>, batch: &Batch) -> Result<(), Error> {
        let start = Instant::now();
        let parts = self.sequences.iter_mut().zip(&batch.parts).map(|(sequence, part)| {
            if part.begins {
                sequence.truncate(0);
            }
            Span { sequence, tokens: text.slice(part.tokens.clone()) }
        });
        self.context.forward(&mut parts.collect::<Vec<Span<'_>>>())?;
        self.context.finish()?;
        self.time += start.elapsed();
        self.tokens += batch.n_tokens();
        Ok(())
    }

    /// Negative log-likelihoods, in nats, of the scored tokens of the batch that ran last.
    pub(super) fn nlls(&mut self, text: &TokenStream<'_>, batch: &Batch) -> Result<Vec<f64>, Error> {
        let start = Instant::now();
        let targets: Vec<u32> = batch.targets().map(|position| text.get(position)).collect();
        let mut nlls = vec![0.0; targets.len()];
        self.context.log_likelihoods(batch.rows(), &targets, &mut nlls)?;
        nlls.iter_mut().for_each(|x| *x = -*x);
        self.time += start.elapsed();
        Ok(nlls)
    }

    /// Computes the logits of these rows of the last batch into the tile.
    pub(super) fn load(&mut self, rows: &[usize]) -> Result<(), Error> {
        let start = Instant::now();
        self.logits.resize(rows.len() * self.model().hparams().n_vocab, 0.0);
        self.context.logits(rows.iter().copied(), &mut self.logits)?;
        self.time += start.elapsed();
        Ok(())
    }

    /// Row `i` of the tile.
    pub(super) fn row(&self, i: usize) -> &[f32] {
        let n_vocab = self.model().hparams().n_vocab;
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

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::*;

    #[test]
    fn batches_cover_every_window_and_score_what_is_scored() {
        let llama = Protocol::Llama { n_ctx: 20 };
        let stride = Protocol::HfStride { window: 11, stride: 4 };
        for (protocol, n_seq, n_batch) in [
            (llama, 1, 512),
            (llama, 1, 7),
            (llama, 2, 38),
            (llama, 26, 512),
            (stride, 1, 5),
            (stride, 1, 1),
            (stride, 3, 30),
        ] {
            let windows = protocol.windows(64).unwrap();
            let batches: Vec<Batch> = Batching { n_seq, n_batch }.batches(&windows).collect();
            let (mut tokens, mut targets, mut ended) = (Vec::new(), Vec::new(), 0);
            for batch in &batches {
                assert!(batch.parts.len() <= n_seq && batch.n_tokens() <= n_batch);
                // Positions of the text by row.
                let positions: Vec<usize> = batch.parts.iter().flat_map(|p| p.tokens.clone()).collect();
                assert!(batch.rows().map(|row| positions[row] + 1).eq(batch.targets()));
                assert!(batch.parts.len() == 1 || batch.parts.iter().all(|p| p.begins && p.ends));
                for part in &batch.parts {
                    assert_eq!(part.begins, part.tokens.start == windows[ended].tokens.start);
                    assert!(windows[ended].tokens.contains(&part.tokens.start));
                    ended += usize::from(part.ends);
                }
                tokens.extend(positions);
                targets.extend(batch.targets());
            }
            assert_eq!(ended, windows.len());
            assert_eq!(tokens, windows.iter().flat_map(run_tokens).collect::<Vec<_>>());
            assert_eq!(targets, windows.iter().flat_map(|w| w.scored.clone()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn short_windows_share_a_batch_and_long_ones_do_not() {
        let shape = |n_ctx| {
            let Batching { n_seq, n_batch } = Batching::new(n_ctx - 1, Protocol::Llama { n_ctx }.count(10_000));
            (n_seq, n_batch)
        };
        assert_eq!([shape(64), shape(512), shape(513), shape(2048)], [(8, 504), (1, 511), (1, 512), (1, 512)]);
        assert_eq!(Batching::new(63, 2).n_seq, 2);
    }
}
