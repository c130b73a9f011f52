//! What a level takes to run, computed from its file and its dimensions.

use pythia_model::{BATCH_TOKENS, ContextShape, KvType, Model, context_bytes};
use pythia_schema::Hparams;
use serde::Serialize;

/// Memory for generation with a context of `TOKENS`, or the model's if that is smaller. What is the
/// same for all levels is counted too: it decides whether a model fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Tokens of the context.
    pub context_tokens: usize,
    /// Key-value cache, rotary table, activations of a batch and logits.
    pub context_bytes: u64,
}

impl Memory {
    /// Tokens of context that are asked for.
    const TOKENS: usize = 2048;
    /// The program itself, its libraries and the tokenizer.
    pub const PROGRAM_BYTES: u64 = 20_000_000;

    /// Of an opened model.
    pub fn of(model: &Model) -> Self {
        Self::of_shape(model.hparams(), model.options().kv)
    }

    /// Of a model of these dimensions.
    pub fn of_shape(hparams: &Hparams, kv: KvType) -> Self {
        let context_tokens = Self::TOKENS.min(hparams.n_ctx);
        let shape = ContextShape { n_seq: 1, n_ctx: context_tokens, n_batch: BATCH_TOKENS.min(context_tokens) };
        let context = context_bytes(hparams, kv, shape).unwrap_or(usize::MAX) as u64;
        let logits = 4 * hparams.n_vocab as u64;
        Self { context_tokens, context_bytes: context.saturating_add(logits) }
    }

    /// With the file's pages and the program.
    pub fn total_bytes(&self, file_bytes: u64) -> u64 {
        file_bytes.saturating_add(self.context_bytes).saturating_add(Self::PROGRAM_BYTES)
    }
}
