//! The hyperparameters and their keys.

use crate::error::{Error, quoted};
use crate::keys;
use crate::metadata::Metadata;

/// The value of `general.architecture`, and the prefix of the keys below.
pub const ARCH: &str = "gptneox";

const CONTEXT_LENGTH: &str = "gptneox.context_length";
const EMBEDDING_LENGTH: &str = "gptneox.embedding_length";
const BLOCK_COUNT: &str = "gptneox.block_count";
const FEED_FORWARD_LENGTH: &str = "gptneox.feed_forward_length";
const HEAD_COUNT: &str = "gptneox.attention.head_count";
const HEAD_COUNT_KV: &str = "gptneox.attention.head_count_kv";
const LAYER_NORM_EPSILON: &str = "gptneox.attention.layer_norm_epsilon";
const PARALLEL_RESIDUAL: &str = "gptneox.use_parallel_residual";
const ROPE_DIMENSION_COUNT: &str = "gptneox.rope.dimension_count";
const ROPE_FREQ_BASE: &str = "gptneox.rope.freq_base";
const ROPE_SCALING_TYPE: &str = "gptneox.rope.scaling.type";
const VOCAB_SIZE: &str = "gptneox.vocab_size";

/// What a loader assumes when `rope.freq_base` is absent, as it is in files of llama.cpp's converter.
const DEFAULT_ROPE_BASE: f32 = 10000.0;

/// llama.cpp's limit.
const MAX_LAYERS: usize = 512;
// Far above any model of this architecture, and low enough that no product of two of them, times the size of an
// element, wraps 64 bits.
const MAX_WIDTH: usize = 1 << 20;
const MAX_VOCAB: usize = 1 << 24;
const MAX_CONTEXT: usize = 1 << 24;

/// Hyperparameters of a GPT-NeoX model.
#[derive(Clone, Debug, PartialEq)]
pub struct Hparams {
    /// Number of transformer blocks.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Attention heads, each `n_embd / n_head` wide.
    pub n_head: usize,
    /// Width of the feed-forward network.
    pub n_ff: usize,
    /// Rows of the vocabulary matrices, padding included.
    pub n_vocab: usize,
    /// Positions the model was trained for.
    pub n_ctx: usize,
    /// Leading elements of each head that are rotated, in pairs `(i, i + n_rot / 2)`.
    pub n_rot: usize,
    /// Base of the rotation frequencies.
    pub rope_base: f32,
    /// Epsilon of every layer norm.
    pub norm_eps: f32,
    /// Whether attention and feed-forward both read the block's input, rather than one after the other.
    pub parallel_residual: bool,
}

impl Hparams {
    /// Width of an attention head.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// Sets `general.architecture` and the keys of this architecture.
    pub fn to_metadata(&self, metadata: &mut Metadata) {
        metadata.insert(keys::ARCHITECTURE, ARCH);
        let counts = [
            (CONTEXT_LENGTH, self.n_ctx),
            (EMBEDDING_LENGTH, self.n_embd),
            (BLOCK_COUNT, self.n_layer),
            (FEED_FORWARD_LENGTH, self.n_ff),
            (HEAD_COUNT, self.n_head),
            (HEAD_COUNT_KV, self.n_head),
            (ROPE_DIMENSION_COUNT, self.n_rot),
            (VOCAB_SIZE, self.n_vocab),
        ];
        for (key, n) in counts {
            // Saturating, so that a count no reader accepts stays one.
            metadata.insert(key, u32::try_from(n).unwrap_or(u32::MAX));
        }
        metadata.insert(ROPE_FREQ_BASE, self.rope_base);
        metadata.insert(LAYER_NORM_EPSILON, self.norm_eps);
        metadata.insert(PARALLEL_RESIDUAL, self.parallel_residual);
    }

    /// Reads and checks the keys of this architecture.
    ///
    /// Three may be absent, as the loader of llama.cpp allows: `rope.dimension_count` (the whole head),
    /// `rope.freq_base` (10000) and `vocab_size` (the number of tokens).
    ///
    /// # Errors
    /// If the file is of another architecture, is one part of a split model, or a value is absent, of the wrong type
    /// or not one that a model can have.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, Error> {
        check_architecture(metadata)?;
        let n_embd = count(metadata, EMBEDDING_LENGTH)?;
        let n_head = count(metadata, HEAD_COUNT)?;
        let norm_eps = metadata.f32(LAYER_NORM_EPSILON)?;
        let parallel_residual = metadata.bool(PARALLEL_RESIDUAL)?;
        let read = Self {
            n_layer: count(metadata, BLOCK_COUNT)?,
            n_embd,
            n_head,
            n_ff: count(metadata, FEED_FORWARD_LENGTH)?,
            n_vocab: vocab_size(metadata)?,
            n_ctx: count(metadata, CONTEXT_LENGTH)?,
            n_rot: match metadata.u32(ROPE_DIMENSION_COUNT)? {
                Some(n) => n as usize,
                None => n_embd.checked_div(n_head).unwrap_or(0),
            },
            rope_base: metadata.f32(ROPE_FREQ_BASE)?.unwrap_or(DEFAULT_ROPE_BASE),
            norm_eps: norm_eps.ok_or_else(|| Error::missing_key(LAYER_NORM_EPSILON, POSITIVE))?,
            parallel_residual: parallel_residual.ok_or_else(|| Error::missing_key(PARALLEL_RESIDUAL, "a bool"))?,
        };
        read.check()?;
        check_kv_heads(metadata, n_head)?;
        check_scaling(metadata)?;
        Ok(read)
    }

    /// Checks that these can be the values of a model: what is read from a file has passed, and what has not passed
    /// must not size anything, [`tensors`](super::tensors) included.
    ///
    /// # Errors
    /// Names the metadata key of the value that no model has.
    pub fn check(&self) -> Result<(), Error> {
        let counts = [
            (BLOCK_COUNT, self.n_layer, MAX_LAYERS),
            (EMBEDDING_LENGTH, self.n_embd, MAX_WIDTH),
            (HEAD_COUNT, self.n_head, MAX_WIDTH),
            (FEED_FORWARD_LENGTH, self.n_ff, MAX_WIDTH),
            (VOCAB_SIZE, self.n_vocab, MAX_VOCAB),
            (CONTEXT_LENGTH, self.n_ctx, MAX_CONTEXT),
        ];
        for (key, n, max) in counts {
            if !(1..=max).contains(&n) {
                return Err(Error::key(key, n.to_string(), format!("an integer from 1 to {max}")));
            }
        }
        if !self.n_embd.is_multiple_of(self.n_head) {
            let wanted = format!("a divisor of the embedding length {}", self.n_embd);
            return Err(Error::key(HEAD_COUNT, self.n_head.to_string(), wanted));
        }
        let (n_rot, head_dim) = (self.n_rot, self.head_dim());
        if n_rot == 0 || n_rot > head_dim || !n_rot.is_multiple_of(2) {
            let wanted = format!("an even count from 2 to the head width {head_dim}");
            return Err(Error::key(ROPE_DIMENSION_COUNT, format!("{n_rot} rotated elements"), wanted));
        }
        for (key, x) in [(ROPE_FREQ_BASE, self.rope_base), (LAYER_NORM_EPSILON, self.norm_eps)] {
            if !(x > 0.0 && x.is_finite()) {
                return Err(Error::key(key, x.to_string(), POSITIVE));
            }
        }
        Ok(())
    }
}

/// What the two floats must be.
const POSITIVE: &str = "a positive finite float";

fn check_architecture(metadata: &Metadata) -> Result<(), Error> {
    let wanted = format!("'{ARCH}'");
    match metadata.str(keys::ARCHITECTURE)? {
        Some(ARCH) => {}
        Some(other) => return Err(Error::key(keys::ARCHITECTURE, quoted(other), wanted)),
        None => return Err(Error::missing_key(keys::ARCHITECTURE, wanted)),
    }
    match metadata.u32(keys::SPLIT_COUNT)? {
        None | Some(0 | 1) => Ok(()),
        Some(n) => Err(Error::key(keys::SPLIT_COUNT, format!("one of {n} parts of a model"), "a whole model")),
    }
}

/// A required count.
fn count(metadata: &Metadata, key: &str) -> Result<usize, Error> {
    let n = metadata.u32(key)?.ok_or_else(|| Error::missing_key(key, "an integer"))?;
    Ok(n as usize)
}

fn check_kv_heads(metadata: &Metadata, n_head: usize) -> Result<(), Error> {
    match metadata.u32(HEAD_COUNT_KV)? {
        Some(n) if n as usize != n_head => {
            let wanted = format!("{n_head}, the number of query heads");
            Err(Error::key(HEAD_COUNT_KV, n.to_string(), wanted))
        }
        _ => Ok(()),
    }
}

fn check_scaling(metadata: &Metadata) -> Result<(), Error> {
    match metadata.str(ROPE_SCALING_TYPE)? {
        None | Some("none") => Ok(()),
        Some(other) => Err(Error::key(ROPE_SCALING_TYPE, quoted(other), "'none'")),
    }
}

fn vocab_size(metadata: &Metadata) -> Result<usize, Error> {
    let tokens = metadata.strings(keys::TOKENS)?.map(<[String]>::len);
    let declared = metadata.u32(VOCAB_SIZE)?.map(|n| n as usize);
    match (declared, tokens) {
        (Some(n), Some(t)) if n != t => {
            Err(Error::key(VOCAB_SIZE, n.to_string(), format!("{t}, the number of tokens")))
        }
        (Some(n), _) | (None, Some(n)) => Ok(n),
        (None, None) => Err(Error::missing_key(VOCAB_SIZE, "it or a list of tokens")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn pythia_70m() -> Hparams {
        Hparams {
            n_layer: 6,
            n_embd: 512,
            n_head: 8,
            n_ff: 2048,
            n_vocab: 50304,
            n_ctx: 2048,
            n_rot: 16,
            rope_base: 10000.0,
            norm_eps: 1e-5,
            parallel_residual: true,
        }
    }

    fn metadata() -> Metadata {
        let mut m = Metadata::new();
        pythia_70m().to_metadata(&mut m);
        m
    }

    #[test]
    fn round_trips() {
        assert_eq!(metadata().iter().next(), Some((keys::ARCHITECTURE, &Value::from(ARCH))));
        assert_eq!(Hparams::from_metadata(&metadata()), Ok(pythia_70m()));
    }

    #[test]
    fn reads_what_other_converters_write() {
        let mut m = metadata();
        m.remove(ROPE_FREQ_BASE);
        m.remove(HEAD_COUNT_KV);
        m.remove(VOCAB_SIZE);
        m.insert(BLOCK_COUNT, 6u64);
        m.insert(keys::TOKENS, vec![String::new(); 50304]);
        assert_eq!(Hparams::from_metadata(&m), Ok(pythia_70m()));
        m.remove(ROPE_DIMENSION_COUNT);
        assert_eq!(Hparams::from_metadata(&m).unwrap().n_rot, 64);
    }

    #[test]
    fn refuses_values_no_model_has() {
        // key, value (none: the key is removed), what the message must say besides the key
        let cases: Vec<(&str, Option<Value>, &str)> = vec![
            (keys::ARCHITECTURE, None, "no such key, wanted 'gptneox'"),
            (keys::ARCHITECTURE, Some("llama".into()), "found 'llama'"),
            (keys::ARCHITECTURE, Some(7u32.into()), "wanted a string"),
            (BLOCK_COUNT, None, "no such key"),
            (BLOCK_COUNT, Some(0u32.into()), "found 0, wanted an integer from 1 to 512"),
            (BLOCK_COUNT, Some(513u32.into()), "found 513"),
            (BLOCK_COUNT, Some(u32::MAX.into()), "found 4294967295"),
            (BLOCK_COUNT, Some("6".into()), "found string '6'"),
            (BLOCK_COUNT, Some(6f32.into()), "found f32 6"),
            (HEAD_COUNT, Some(0u32.into()), "found 0"),
            (HEAD_COUNT, Some(7u32.into()), "a divisor of the embedding length 512"),
            (HEAD_COUNT_KV, Some(2u32.into()), "the number of query heads"),
            (EMBEDDING_LENGTH, Some(0u32.into()), "found 0"),
            (FEED_FORWARD_LENGTH, None, "no such key"),
            (ROPE_DIMENSION_COUNT, Some(0u32.into()), "found 0 rotated"),
            (ROPE_DIMENSION_COUNT, Some(15u32.into()), "an even count"),
            (ROPE_DIMENSION_COUNT, Some(66u32.into()), "the head width 64"),
            (ROPE_SCALING_TYPE, Some("yarn".into()), "found 'yarn'"),
            (ROPE_FREQ_BASE, Some(0f32.into()), "positive"),
            (ROPE_FREQ_BASE, Some((-1f32).into()), "positive"),
            (ROPE_FREQ_BASE, Some(f32::NAN.into()), "found NaN"),
            (ROPE_FREQ_BASE, Some(f32::INFINITY.into()), "found inf"),
            (LAYER_NORM_EPSILON, None, "no such key"),
            (LAYER_NORM_EPSILON, Some(0f32.into()), "positive"),
            (LAYER_NORM_EPSILON, Some((-1e-5f32).into()), "positive"),
            (LAYER_NORM_EPSILON, Some(f32::NAN.into()), "positive"),
            (CONTEXT_LENGTH, Some(0u32.into()), "found 0"),
            (CONTEXT_LENGTH, Some((1u32 << 31).into()), "found 2147483648"),
            (PARALLEL_RESIDUAL, None, "no such key"),
            (PARALLEL_RESIDUAL, Some(1u32.into()), "wanted a bool"),
            (VOCAB_SIZE, None, "a list of tokens"),
            (VOCAB_SIZE, Some((1u32 << 25).into()), "found 33554432"),
            (keys::SPLIT_COUNT, Some(3u16.into()), "one of 3 parts"),
        ];
        for (key, value, wanted) in cases {
            let mut m = metadata();
            match value.clone() {
                Some(value) => m.insert(key, value),
                None => drop(m.remove(key)),
            }
            let line = Hparams::from_metadata(&m).unwrap_err().to_string();
            assert!(line.starts_with(&format!("key '{key}'")) && line.contains(wanted), "{value:?}: {line}");
        }
    }

    #[test]
    fn vocabulary_sizes_must_agree() {
        let mut m = metadata();
        m.insert(keys::TOKENS, vec![String::new(); 3]);
        let line = Hparams::from_metadata(&m).unwrap_err().to_string();
        assert_eq!(line, "key 'gptneox.vocab_size': found 50304, wanted 3, the number of tokens");
    }
}
