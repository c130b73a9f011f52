//! `config.json` of a GPT-NeoX model, as Transformers 4 and 5 write it.

mod adapter;
mod fields;

pub(crate) use adapter::{AdapterConfig, Names};

use crate::error::{Error, excerpt};
use fields::Fields;
use pythia_text::read_text;
use std::path::Path;

/// Maximum size of a config. Real ones are far smaller.
const CONFIG_LIMIT_BYTES: u64 = 1 << 20;

/// The `model_type` of all Pythia models.
pub const MODEL_TYPE: &str = "gpt_neox";

/// The keys of the rotary settings in each generation of Transformers. All that are present must agree.
///
/// Transformers 4 writes the first of each row, 5 the last. A config that both have written, or that was edited, may
/// have several.
const ROTARY_PCT_KEYS: &[&str] = &[
    "rotary_pct",
    "partial_rotary_factor",
    "rope_scaling.partial_rotary_factor",
    "rope_parameters.partial_rotary_factor",
];
const ROPE_BASE_KEYS: &[&str] =
    &["rotary_emb_base", "rope_theta", "rope_scaling.rope_theta", "rope_parameters.rope_theta"];
/// The two spellings of the scaling method, in both possible places.
const ROPE_TYPE_KEYS: &[&str] =
    &["rope_scaling.type", "rope_scaling.rope_type", "rope_parameters.type", "rope_parameters.rope_type"];
const ROPE_FACTOR_KEYS: &[&str] = &["rope_scaling.factor", "rope_parameters.factor"];

/// Default of Transformers for GPT-NeoX.
mod default {
    pub(super) const ROTARY_PCT: f64 = 0.25;
    pub(super) const ROPE_BASE: f64 = 10000.0;
    pub(super) const NORM_EPS: f64 = 1e-5;
}

/// The activation between the two feed-forward matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HiddenAct {
    /// `x * Phi(x)` by the error function: what Pythia was trained with.
    GeluErf,
    /// The tanh approximation.
    GeluTanh,
}

impl HiddenAct {
    /// The activation of this Transformers name.
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "gelu" | "gelu_python" => Some(Self::GeluErf),
            "gelu_new" | "gelu_fast" | "gelu_accurate" | "gelu_pytorch_tanh" | "gelu_python_tanh" => {
                Some(Self::GeluTanh)
            }
            _ => None,
        }
    }
}

/// A checked `config.json`. Counts are at least 1.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Transformer blocks (`num_hidden_layers`).
    pub n_layer: usize,
    /// Width of the residual stream (`hidden_size`), a multiple of `n_head`.
    pub n_embd: usize,
    /// Attention heads (`num_attention_heads`).
    pub n_head: usize,
    /// Width of the feed-forward layer (`intermediate_size`; four times `n_embd` where the config does not say).
    pub n_ff: usize,
    /// Rows of the embedding (`vocab_size`), padding included.
    pub n_vocab: usize,
    /// Longest context trained for (`max_position_embeddings`).
    pub n_ctx: usize,
    /// The share of each head that is rotated.
    pub rotary_pct: f64,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    /// Divisor of the rotary frequencies: linear scaling, 1 without.
    pub rope_factor: f32,
    /// The epsilon of every LayerNorm.
    pub norm_eps: f32,
    /// Whether attention and feed-forward both read the block's input (Pythia), instead of one after the other.
    pub parallel_residual: bool,
    /// The activation of the feed-forward layer.
    pub hidden_act: HiddenAct,
    /// Whether the output matrix may be the embedding.
    pub tie_word_embeddings: bool,
    /// Whether the attention matrices have biases.
    pub attention_bias: bool,
    /// `quant_method` of a `quantization_config`, if there is one: the tool that packed the weights.
    pub quantization: Option<String>,
    /// `bos_token_id`, if it is given.
    pub bos_token: Option<u32>,
    /// `eos_token_id`, or the first of them.
    pub eos_token: Option<u32>,
    /// The stated element type of the weights (`torch_dtype`, `dtype`). Only for information; the tensors decide.
    pub stated_dtype: Option<String>,
}

impl Config {
    /// Reads and checks `path`.
    ///
    /// # Errors
    /// If the file cannot be read, is not a GPT-NeoX config, or needs something that this project does not implement.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::parse(path, &read_text(path, CONFIG_LIMIT_BYTES).map_err(Error::read(path))?)
    }

    /// Checks the text of a config; `path` is for messages.
    ///
    /// # Errors
    /// As [`Config::open`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let fields = Fields::parse(path, text)?;
        match fields.text("model_type")? {
            Some(MODEL_TYPE) => {}
            Some(other) => {
                return Err(fields.error("model_type", format!("{}, wanted \"{MODEL_TYPE}\"", excerpt(other))));
            }
            None => return Err(fields.error("model_type", format!("missing, wanted \"{MODEL_TYPE}\""))),
        }
        let n_embd = fields.required_count("hidden_size")?;
        let config = Self {
            n_layer: fields.required_count("num_hidden_layers")?,
            n_embd,
            n_head: fields.required_count("num_attention_heads")?,
            n_ff: fields.count("intermediate_size")?.unwrap_or(n_embd.saturating_mul(4)),
            n_vocab: fields.required_count("vocab_size")?,
            n_ctx: fields.required_count("max_position_embeddings")?,
            rotary_pct: fields.agreed(ROTARY_PCT_KEYS)?.unwrap_or(default::ROTARY_PCT),
            rope_base: rope_base(&fields)?,
            rope_factor: rope_factor(&fields)?,
            norm_eps: norm_eps(&fields)?,
            parallel_residual: fields.flag("use_parallel_residual")?.unwrap_or(true),
            hidden_act: hidden_act(&fields)?,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            attention_bias: fields.flag("attention_bias")?.unwrap_or(true),
            quantization: quantization(&fields)?,
            bos_token: fields.token_id("bos_token_id")?,
            eos_token: fields.token_id("eos_token_id")?,
            stated_dtype: fields.text("dtype")?.or(fields.text("torch_dtype")?).map(str::to_owned),
        };
        config.check(&fields)?;
        Ok(config)
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// Elements of each head that are rotated: even, at least 2, at most [`head_dim`](Self::head_dim).
    pub fn n_rot(&self) -> usize {
        // Truncated as in Transformers. The product was checked to be at most `head_dim`.
        (self.head_dim() as f64 * self.rotary_pct) as usize
    }

    /// The conditions between fields.
    fn check(&self, fields: &Fields<'_>) -> Result<(), Error> {
        if !self.n_embd.is_multiple_of(self.n_head) {
            let reason = format!("{} is not a multiple of num_attention_heads {}", self.n_embd, self.n_head);
            return Err(fields.error("hidden_size", reason));
        }
        // Transformers uses a separate rotary width if the config has one, and can turn the mask off.
        if let Some(found) = fields.count("head_dim")?.filter(|&found| found != self.head_dim()) {
            let reason = format!("{found}, wanted {}, hidden_size / num_attention_heads", self.head_dim());
            return Err(fields.error("head_dim", reason));
        }
        if fields.flag("is_causal")? == Some(false) {
            return Err(
                fields.error("is_causal", "false, wanted true: a model that sees later tokens is not supported")
            );
        }
        // Written so that NaN fails.
        if !(self.rotary_pct > 0.0 && self.rotary_pct <= 1.0) {
            let key = fields.first_present(ROTARY_PCT_KEYS);
            return Err(fields.error(key, format!("{}, wanted more than 0 and at most 1", self.rotary_pct)));
        }
        let n_rot = self.n_rot();
        if n_rot == 0 || !n_rot.is_multiple_of(2) {
            let key = fields.first_present(ROTARY_PCT_KEYS);
            let head_dim = self.head_dim();
            let reason =
                format!("{} of a head of {head_dim} rotates {n_rot} elements, wanted an even number", self.rotary_pct);
            return Err(fields.error(key, reason));
        }
        Ok(())
    }
}

/// The method of a `quantization_config`. Older ones of bitsandbytes do not name it.
fn quantization(fields: &Fields<'_>) -> Result<Option<String>, Error> {
    let method = fields.text("quantization_config.quant_method")?;
    let unnamed = fields.has("quantization_config").then_some("an unnamed method");
    Ok(method.or(unnamed).map(str::to_owned))
}

fn rope_base(fields: &Fields<'_>) -> Result<f32, Error> {
    let base = fields.agreed(ROPE_BASE_KEYS)?.unwrap_or(default::ROPE_BASE);
    let narrowed = base as f32;
    if narrowed > 0.0 && narrowed.is_finite() {
        return Ok(narrowed);
    }
    Err(fields.error(fields.first_present(ROPE_BASE_KEYS), format!("{base}, wanted a positive number")))
}

/// The factor of linear scaling. Other methods are refused by name.
fn rope_factor(fields: &Fields<'_>) -> Result<f32, Error> {
    for key in ["rope_scaling", "rope_parameters"] {
        if let Some(member) = fields.nested_object(key)? {
            let key = format!("{key}.{member}");
            return Err(fields.error(&key, "settings of its own for a kind of layer are not supported"));
        }
    }
    let factor = fields.agreed(ROPE_FACTOR_KEYS)?;
    let factor_key = fields.first_present(ROPE_FACTOR_KEYS);
    match (fields.agreed_text(ROPE_TYPE_KEYS)?, factor) {
        // As Transformers does, whatever the factor is.
        (Some((_, "default")), _) | (None, None) => Ok(1.0),
        (Some((_, "linear")), Some(factor)) => {
            let narrowed = factor as f32;
            if narrowed > 0.0 && narrowed.is_finite() {
                return Ok(narrowed);
            }
            Err(fields.error(factor_key, format!("{factor}, wanted a positive number")))
        }
        (Some((key, "linear")), None) => Err(fields.error(key, "\"linear\", but there is no factor beside it")),
        (Some((key, method)), _) => {
            let reason = format!("{} is not supported, wanted \"default\" or \"linear\"", excerpt(method));
            Err(fields.error(key, reason))
        }
        // Transformers 4 stops at it, 5 ignores it.
        (None, Some(factor)) => {
            Err(fields.error(factor_key, format!("{factor}, but there is no rope_type beside it, wanted \"linear\"")))
        }
    }
}

fn norm_eps(fields: &Fields<'_>) -> Result<f32, Error> {
    const KEY: &str = "layer_norm_eps";
    let eps = fields.number(KEY)?.unwrap_or(default::NORM_EPS);
    let narrowed = eps as f32;
    if narrowed > 0.0 && narrowed.is_finite() {
        return Ok(narrowed);
    }
    Err(fields.error(KEY, format!("{eps}, wanted a positive number")))
}

fn hidden_act(fields: &Fields<'_>) -> Result<HiddenAct, Error> {
    const KEY: &str = "hidden_act";
    let name = fields.text(KEY)?.unwrap_or("gelu");
    HiddenAct::from_name(name)
        .ok_or_else(|| fields.error(KEY, format!("{} is not supported, wanted a form of \"gelu\"", excerpt(name))))
}

#[cfg(test)]
mod tests;
