//! The GGUF side: hyperparameters as metadata, and the tensors of a file by the table.

mod bind;
mod neutral;

pub use bind::bind;

use crate::{ARCH, Hparams};
use pythia_gguf::{Error, Metadata, keys};

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
const ROPE_SCALING_FACTOR: &str = "gptneox.rope.scaling.factor";
/// What [`ROPE_SCALING_FACTOR`] was called before there were several methods.
const ROPE_SCALE_LINEAR: &str = "gptneox.rope.scale_linear";
const VOCAB_SIZE: &str = "gptneox.vocab_size";

/// Which GELU the model was trained with, string: `erf` (exact, and meant where there is no such key) or `tanh`. Of this
/// project: llama.cpp has no key for it and computes tanh.
const GELU: &str = "pythia_quant.gelu";

/// What a loader assumes when `rope.freq_base` is absent, as it is in files of llama.cpp's converter.
const DEFAULT_ROPE_BASE: f32 = 10000.0;

/// llama.cpp's limit.
const MAX_LAYERS: usize = 512;
// Far above any model of this architecture, and low enough that no product of two of them, times the size of an
// element, wraps 64 bits.
const MAX_WIDTH: usize = 1 << 20;
const MAX_VOCAB: usize = 1 << 24;
const MAX_CONTEXT: usize = 1 << 24;

impl Hparams {
    /// Sets `general.architecture` and the keys of this architecture. Keys of what Pythia does not have, a scaled
    /// rotation and the tanh form of GELU, are set only where the model has it.
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
        if self.rope_factor != 1.0 {
            metadata.insert(ROPE_SCALING_TYPE, LINEAR);
            metadata.insert(ROPE_SCALING_FACTOR, self.rope_factor);
        }
        metadata.insert(LAYER_NORM_EPSILON, self.norm_eps);
        metadata.insert(PARALLEL_RESIDUAL, self.parallel_residual);
        if self.gelu_tanh {
            metadata.insert(GELU, TANH);
        }
    }

    /// Reads and checks the keys of this architecture.
    ///
    /// Three may be absent, as the loader of llama.cpp allows: `rope.dimension_count` (the whole head),
    /// `rope.freq_base` (10000) and `vocab_size` (the number of tokens). So may those of linear scaling (none) and of
    /// the form of GELU (exact).
    ///
    /// # Errors
    /// If the file is of another architecture, is one part of a split model, or a value is absent, of the wrong type
    /// or not one that a model can have; if a key asks for something that this architecture is not computed with.
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
            rope_factor: rope_factor(metadata)?,
            norm_eps: norm_eps.ok_or_else(|| Error::missing_key(LAYER_NORM_EPSILON, POSITIVE))?,
            parallel_residual: parallel_residual.ok_or_else(|| Error::missing_key(PARALLEL_RESIDUAL, "a bool"))?,
            gelu_tanh: gelu_tanh(metadata)?,
        };
        read.check()?;
        check_kv_heads(metadata, n_head)?;
        neutral::check(metadata, &read)?;
        Ok(read)
    }

    /// Checks that these can be the values of a model: what is read from a file has passed, and what has not passed
    /// must not size anything, [`tensors`](crate::tensors()) included.
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
        let floats = [
            (ROPE_FREQ_BASE, self.rope_base),
            (ROPE_SCALING_FACTOR, self.rope_factor),
            (LAYER_NORM_EPSILON, self.norm_eps),
        ];
        for (key, x) in floats {
            if !(x > 0.0 && x.is_finite()) {
                return Err(Error::key(key, x.to_string(), POSITIVE));
            }
        }
        Ok(())
    }
}

/// What every float must be.
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

/// What the frequencies are divided by. Read as llama.cpp does: under either name, 0 for "not set", and linear where
/// there is no type. It prefers the newer name and ignores a factor where the type is "none"; files that contradict
/// themselves so are refused.
fn rope_factor(metadata: &Metadata) -> Result<f32, Error> {
    let stated = |key| metadata.f32(key).map(|factor| factor.map(|factor| if factor == 0.0 { 1.0 } else { factor }));
    let (factor, older) = (stated(ROPE_SCALING_FACTOR)?, stated(ROPE_SCALE_LINEAR)?);
    if let (Some(factor), Some(older)) = (factor, older)
        && factor != older
    {
        return Err(Error::key(
            ROPE_SCALE_LINEAR,
            older.to_string(),
            format!("{factor} as in '{ROPE_SCALING_FACTOR}'"),
        ));
    }
    let factor = factor.or(older).unwrap_or(1.0);
    match metadata.str(ROPE_SCALING_TYPE)? {
        None | Some(LINEAR) => Ok(factor),
        Some(NONE) if factor == 1.0 => Ok(factor),
        Some(NONE) => Err(Error::key(ROPE_SCALING_TYPE, quoted(NONE), format!("'{LINEAR}' for a factor of {factor}"))),
        Some(other) => Err(Error::key(ROPE_SCALING_TYPE, quoted(other), format!("'{NONE}' or '{LINEAR}'"))),
    }
}

/// Values of [`ROPE_SCALING_TYPE`].
const LINEAR: &str = "linear";
const NONE: &str = "none";

fn gelu_tanh(metadata: &Metadata) -> Result<bool, Error> {
    match metadata.str(GELU)? {
        None | Some(ERF) => Ok(false),
        Some(TANH) => Ok(true),
        Some(other) => Err(Error::key(GELU, quoted(other), format!("'{ERF}' or '{TANH}'"))),
    }
}

/// Values of [`GELU`].
const ERF: &str = "erf";
const TANH: &str = "tanh";

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

/// Text from a file for a message: in quotes, escaped, cut to 80 characters.
fn quoted(text: &str) -> String {
    pythia_text::quoted(text, '\'', 80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pythia_gguf::Value;

    pub(super) fn pythia_70m() -> Hparams {
        Hparams {
            n_layer: 6,
            n_embd: 512,
            n_head: 8,
            n_ff: 2048,
            n_vocab: 50304,
            n_ctx: 2048,
            n_rot: 16,
            rope_base: 10000.0,
            rope_factor: 1.0,
            norm_eps: 1e-5,
            parallel_residual: true,
            gelu_tanh: false,
        }
    }

    pub(super) fn metadata() -> Metadata {
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
    fn scaled_rotation_and_the_other_gelu_round_trip() {
        let h = Hparams { rope_factor: 2.5, gelu_tanh: true, ..pythia_70m() };
        let mut m = Metadata::new();
        h.to_metadata(&mut m);
        assert_eq!(m.str(ROPE_SCALING_TYPE), Ok(Some("linear")));
        assert_eq!((m.f32(ROPE_SCALING_FACTOR), m.str(GELU)), (Ok(Some(2.5)), Ok(Some("tanh"))));
        assert_eq!(Hparams::from_metadata(&m), Ok(h));
    }

    #[test]
    fn linear_scaling_is_read_as_llama_cpp_reads_it() {
        // type, factor, scale_linear, the factor that is meant or what the message says
        type Case<'a> = (Option<&'a str>, Option<f32>, Option<f32>, Result<f32, &'a str>);
        let cases: [Case<'_>; 14] = [
            (Some("linear"), Some(2.0), None, Ok(2.0)),
            (Some("linear"), None, None, Ok(1.0)),
            (None, Some(2.5), None, Ok(2.5)),
            (None, None, Some(4.0), Ok(4.0)),
            (Some("linear"), None, Some(4.0), Ok(4.0)),
            (None, Some(0.0), None, Ok(1.0)),
            (None, Some(0.0), Some(0.0), Ok(1.0)),
            (Some("none"), Some(1.0), None, Ok(1.0)),
            (None, Some(2.0), Some(2.0), Ok(2.0)),
            (None, Some(2.0), Some(4.0), Err("scale_linear': found 4, wanted 2 as in")),
            (Some("none"), Some(2.0), None, Err("found 'none', wanted 'linear' for a factor of 2")),
            (Some("yarn"), Some(2.0), None, Err("found 'yarn', wanted 'none' or 'linear'")),
            (None, Some(-2.0), None, Err("scaling.factor': found -2, wanted a positive")),
            (None, None, Some(f32::NAN), Err("found NaN, wanted a positive")),
        ];
        for (ty, factor, older, wanted) in cases {
            let mut m = metadata();
            ty.into_iter().for_each(|ty| m.insert(ROPE_SCALING_TYPE, ty));
            factor.into_iter().for_each(|factor| m.insert(ROPE_SCALING_FACTOR, factor));
            older.into_iter().for_each(|factor| m.insert(ROPE_SCALE_LINEAR, factor));
            let found = Hparams::from_metadata(&m).map(|h| h.rope_factor).map_err(|e| e.to_string());
            match (&found, wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(*found, wanted, "{ty:?} {factor:?} {older:?}"),
                (Err(line), Err(wanted)) => assert!(line.contains(wanted), "{line}"),
                _ => panic!("{ty:?} {factor:?} {older:?}: {found:?}"),
            }
        }
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
            (ROPE_SCALING_FACTOR, Some(2u32.into()), "found u32 2, wanted a float"),
            (GELU, Some("quick".into()), "found 'quick', wanted 'erf' or 'tanh'"),
            (GELU, Some(true.into()), "wanted a string"),
            (FEED_FORWARD_LENGTH, Some(vec![2048u32; 6].into()), "found array of 6 u32"),
            (HEAD_COUNT, Some(vec![8u32; 6].into()), "found array of 6 u32"),
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
