//! What the logit lens says of both models, each with its own last norm and output matrix.

use super::sums::Sums as RowSums;
use super::watch::{Record, Watch};
use crate::Error;
use crate::lens::largest;
use pythia_model::{Context, Hook, Site};
use pythia_runtime::eval::Divergence;

/// Rows of logits of each model in memory at once: 13 MB for Pythia's vocabulary.
const TILE_ROWS: usize = 64;

/// Sums over the positions that were read, for the depths of the residual stream and then the logits.
pub(super) struct Sums {
    depths: Vec<(Hook, Depth)>,
    positions: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Depth {
    kl: f64,
    differ: u64,
    /// Of the logits, which are not among the hooks of a pass.
    logits: RowSums,
}

const LOGITS: Hook = Hook { site: Site::Logits, layer: None };

impl Sums {
    pub(super) fn new(stream: &[Hook]) -> Self {
        let depths = stream.iter().copied().chain([LOGITS]).map(|hook| (hook, Depth::default())).collect();
        Self { depths, positions: 0 }
    }

    /// Positions that were read.
    pub(super) fn positions(&self) -> usize {
        self.positions
    }

    /// Mean divergence of the level from the base, in nats, and the share of positions with another likeliest token.
    /// `None` for other hooks, and if no position was read.
    pub(super) fn of(&self, hook: Hook) -> Option<(f64, f64)> {
        let (_, depth) = self.depths.iter().find(|(of, _)| *of == hook)?;
        let n = self.positions as f64;
        (self.positions > 0).then_some((depth.kl / n, depth.differ as f64 / n))
    }

    /// The sums of the logits.
    pub(super) fn logits(&self) -> &RowSums {
        &self.depths.last().expect("the logits are the last").1.logits
    }

    /// Adds some rows of the last batch of both contexts: the base's, then the level's. The batch begins at token `first`
    /// of the text.
    pub(super) fn add(
        &mut self,
        contexts: [&mut Context; 2],
        base: &Record,
        level: &Watch,
        rows: &[usize],
        first: usize,
    ) -> Result<(), Error> {
        let [base_context, level_context] = contexts;
        let hparams = base_context.model().hparams();
        let (n_embd, n_vocab) = (hparams.n_embd, hparams.n_vocab);
        let gathered = |stream: &[f32], rows: &[usize]| -> Vec<f32> {
            rows.iter().flat_map(|row| &stream[row * n_embd..(row + 1) * n_embd]).copied().collect()
        };
        for rows in rows.chunks(TILE_ROWS) {
            let mut logits = [vec![0.0; rows.len() * n_vocab], vec![0.0; rows.len() * n_vocab]];
            for (hook, depth) in &mut self.depths {
                let [x, y] = &mut logits;
                if *hook == LOGITS {
                    base_context.logits(rows.iter().copied(), x)?;
                    level_context.logits(rows.iter().copied(), y)?;
                } else {
                    base_context.project(&gathered(base.get(*hook), rows), x)?;
                    level_context.project(&gathered(level.stream(*hook), rows), y)?;
                }
                let unfinite = depth.add(&logits, n_vocab, base_context.model().cpu());
                if let Some(row) = unfinite {
                    return Err(Error::NotFinite { hook: *hook, position: first + rows[row] });
                }
            }
            self.positions += rows.len();
        }
        Ok(())
    }
}

impl Depth {
    /// Returns the first row where one of the two is not finite.
    fn add(&mut self, logits: &[Vec<f32>; 2], n_vocab: usize, cpu: &pythia_kernels::Cpu) -> Option<usize> {
        let rows = cpu.team().map(logits[0].len() / n_vocab, |i| {
            let [x, y] = [0, 1].map(|model| &logits[model][i * n_vocab..(i + 1) * n_vocab]);
            let [of_x, of_y] = [x, y].map(|row| cpu.log_sum_exp(row));
            let first = |row| largest(row, 1).first().map(|(id, _)| *id);
            let sums = RowSums::of(x, y);
            (of_x.is_finite() && of_y.is_finite() && sums.is_finite())
                .then(|| (Divergence::from(x, of_x).of(y, of_y), first(x) != first(y), sums))
        });
        for (row, read) in rows.into_iter().enumerate() {
            let Some((kl, differs, sums)) = read else { return Some(row) };
            self.kl += kl;
            self.differ += u64::from(differs);
            self.logits.add(&sums);
        }
        None
    }
}
