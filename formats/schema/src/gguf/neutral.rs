//! Keys that would change what a model computes, and the values at which they do not.
//!
//! llama.cpp reads these for every architecture, or for relatives of this one. A file in which one of them says
//! something else is another model than the one that the forward pass here computes, so it is refused by name.
//!
//! Not in the table, because they change nothing without a key that is: `rope.scaling.original_context_length` and
//! `rope.scaling.yarn_beta_*` (settings of YaRN), `rope.scaling.finetuned` (how the model was made).

use crate::{ARCH, Hparams};
use pythia_gguf::{Array, Error, Metadata, Value};

/// The values of a key that change nothing.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// 0, false, or nothing but that in an array; an array of no elements.
    Zero,
    /// 1.
    One,
    /// A factor: 1, or 0 for "not set".
    Factor,
    /// True.
    True,
    /// The width of a head.
    HeadWidth,
    /// The width of the residual stream, or 0 for "not set".
    Width,
    /// What scores are multiplied by: one over the root of the width of a head, or 0 for "not set".
    ScoreScale,
    /// The name of the activation that the model has.
    Activation,
}

/// A key without the architecture's prefix; `*` at the end stands for any ending.
const KEYS: &[(&str, Rule)] = &[
    ("attention.causal", Rule::True),
    ("attention.clamp_kqv", Rule::Zero),
    ("attention.compress_*", Rule::Zero),
    ("attention.group_norm_epsilon", Rule::Zero),
    ("attention.group_norm_groups", Rule::Zero),
    ("attention.indexer.*", Rule::Zero),
    ("attention.key_length", Rule::HeadWidth),
    ("attention.key_length_swa", Rule::HeadWidth),
    ("attention.kv_lora_rank", Rule::Zero),
    ("attention.layer_norm_rms_epsilon", Rule::Zero),
    ("attention.max_alibi_bias", Rule::Zero),
    ("attention.output_scale", Rule::Factor),
    ("attention.q_lora_rank", Rule::Zero),
    ("attention.recurrent_layers", Rule::Zero),
    ("attention.relative_buckets_count", Rule::Zero),
    ("attention.scale", Rule::ScoreScale),
    ("attention.shared_kv_layers", Rule::Zero),
    ("attention.sliding_window", Rule::Zero),
    ("attention.sliding_window_pattern", Rule::Zero),
    ("attention.temperature_*", Rule::Zero),
    ("attention.value_length", Rule::HeadWidth),
    ("attention.value_length_swa", Rule::HeadWidth),
    ("attention.value_scale", Rule::Factor),
    ("attn_logit_softcapping", Rule::Zero),
    ("classifier.output_labels", Rule::Zero),
    ("decoder_block_count", Rule::Zero),
    ("embedding_length_out", Rule::Width),
    ("embedding_length_per_layer_input", Rule::Zero),
    ("embedding_scale", Rule::Factor),
    ("expert_*", Rule::Zero),
    ("final_logit_softcapping", Rule::Zero),
    ("full_attention_interval", Rule::Zero),
    ("hidden_activation", Rule::Activation),
    ("hyper_connection.*", Rule::Zero),
    ("leading_dense_block_count", Rule::Zero),
    ("logit_scale", Rule::Factor),
    ("nextn_predict_layers", Rule::Zero),
    ("pooling_type", Rule::Zero),
    ("rescale_every_n_layers", Rule::Zero),
    ("residual_scale", Rule::Factor),
    ("rope.dimension_sections", Rule::Zero),
    ("rope.scaling.alpha", Rule::Factor),
    ("rope.scaling.attn_factor", Rule::One),
    ("rope.scaling.yarn_attn_factor", Rule::One),
    ("rope.scaling.yarn_ext_factor", Rule::Zero),
    ("rope.scaling.yarn_log_multiplier", Rule::Zero),
    ("router_logit_softcapping", Rule::Zero),
    ("ssm.*", Rule::Zero),
    ("swin_norm", Rule::Zero),
    ("token_shift_count", Rule::Zero),
];

/// Checks every key of the file that the table knows.
///
/// # Errors
/// Names the first one that changes the meaning of the model.
pub(super) fn check(metadata: &Metadata, hparams: &Hparams) -> Result<(), Error> {
    for (key, value) in metadata.iter() {
        let Some(rule) = rule_of(key) else { continue };
        if !rule.allows(value, hparams) {
            return Err(Error::key(key, value.describe(), rule.wanted(hparams)));
        }
    }
    Ok(())
}

fn rule_of(key: &str) -> Option<Rule> {
    let name = key.strip_prefix(ARCH)?.strip_prefix('.')?;
    let is_it = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    KEYS.iter().find(|(pattern, _)| is_it(pattern)).map(|(_, rule)| *rule)
}

impl Rule {
    fn allows(self, value: &Value, hparams: &Hparams) -> bool {
        let all_in = |wanted: &[f64]| all(value, &|x| wanted.contains(&x));
        match self {
            Self::Zero => all_in(&[0.0]),
            Self::One => all_in(&[1.0]),
            Self::Factor => all_in(&[0.0, 1.0]),
            Self::True => *value == Value::Bool(true),
            Self::HeadWidth => all_in(&[hparams.head_dim() as f64]),
            Self::Width => all_in(&[0.0, hparams.n_embd as f64]),
            Self::ScoreScale => {
                let scale = score_scale(hparams);
                // Written as an f32, computed in either width.
                all(value, &|x| x == 0.0 || (x - scale).abs() <= 1e-6 * scale)
            }
            Self::Activation => matches!(value, Value::String(name) if name == activation(hparams)),
        }
    }

    fn wanted(self, hparams: &Hparams) -> String {
        match self {
            Self::Zero => "0 or no such key".to_owned(),
            Self::One | Self::Factor => "1".to_owned(),
            Self::True => "true".to_owned(),
            Self::HeadWidth => format!("{}, the width of a head", hparams.head_dim()),
            Self::Width => format!("{}, the embedding length", hparams.n_embd),
            Self::ScoreScale => {
                format!("{}, one over the root of the head width {}", score_scale(hparams), hparams.head_dim())
            }
            Self::Activation => format!("'{}'", activation(hparams)),
        }
    }
}

fn score_scale(hparams: &Hparams) -> f64 {
    1.0 / (hparams.head_dim() as f64).sqrt()
}

/// The activation of the feed-forward network by the name that converters write.
fn activation(hparams: &Hparams) -> &'static str {
    if hparams.gelu_tanh { "gelu_pytorch_tanh" } else { "gelu" }
}

/// Whether `value` is a number, truth value (1 for true) or array of them that `is_it` accepts, each of them. Nothing is
/// allocated for an array, whose length the file decides.
fn all(value: &Value, is_it: &dyn Fn(f64) -> bool) -> bool {
    match value {
        Value::Bool(v) => is_it(f64::from(u8::from(*v))),
        Value::F32(v) => is_it(f64::from(*v)),
        Value::F64(v) => is_it(*v),
        Value::String(_) => false,
        Value::Array(Array::String(v)) => v.is_empty(),
        Value::Array(array) => (0..array.len()).all(|at| array.get(at).is_some_and(|element| all(&element, is_it))),
        _ => value.integer().is_some_and(|n| is_it(n as f64)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{metadata, pythia_70m};
    use super::*;

    /// A key, a value at which it changes nothing, one at which it does, and what the message says of it.
    #[test]
    fn keys_that_change_the_model_are_refused_by_name() {
        let cases: Vec<(&str, Value, Value, &str)> = vec![
            ("attention.causal", true.into(), false.into(), "found bool false, wanted true"),
            ("attention.clamp_kqv", 0f32.into(), 8f32.into(), "found f32 8, wanted 0"),
            ("attention.key_length", 64u32.into(), 32u32.into(), "found u32 32, wanted 64, the width of a head"),
            ("attention.value_length", 64u64.into(), 128u64.into(), "wanted 64, the width of a head"),
            ("attention.key_length", 64u32.into(), "64".into(), "found string '64'"),
            ("attention.layer_norm_rms_epsilon", 0f32.into(), 1e-5f32.into(), "wanted 0"),
            ("attention.max_alibi_bias", 0f64.into(), 8f32.into(), "found f32 8"),
            (
                "attention.scale",
                0.125f32.into(),
                0.25f32.into(),
                "wanted 0.125, one over the root of the head width 64",
            ),
            ("attention.scale", 0f32.into(), f32::NAN.into(), "found f32 NaN"),
            ("attention.sliding_window", 0u32.into(), 128u32.into(), "wanted 0"),
            ("attention.sliding_window_pattern", vec![false; 6].into(), vec![true, false].into(), "array of 2 bool"),
            ("attn_logit_softcapping", 0f32.into(), 30f32.into(), "wanted 0"),
            ("final_logit_softcapping", 0f32.into(), 30f32.into(), "wanted 0"),
            (
                "classifier.output_labels",
                Vec::<String>::new().into(),
                vec!["no".to_owned()].into(),
                "array of 1 string",
            ),
            ("embedding_length_out", 512u32.into(), 64u32.into(), "wanted 512, the embedding length"),
            ("embedding_scale", 1f32.into(), 12f32.into(), "wanted 1"),
            ("expert_count", 0u32.into(), 8u32.into(), "found u32 8, wanted 0"),
            ("expert_used_count", 0u32.into(), 2u32.into(), "wanted 0"),
            ("hidden_activation", "gelu".into(), "silu".into(), "found string 'silu', wanted 'gelu'"),
            ("logit_scale", 1f32.into(), 0.0625f32.into(), "wanted 1"),
            ("pooling_type", 0u32.into(), 1u32.into(), "wanted 0"),
            ("residual_scale", 0f32.into(), 0.5f32.into(), "wanted 1"),
            ("rope.dimension_sections", vec![0i32; 4].into(), vec![16i32, 24, 24, 0].into(), "array of 4 i32"),
            ("rope.scaling.alpha", 0f32.into(), 1000f32.into(), "wanted 1"),
            ("rope.scaling.attn_factor", 1f32.into(), 1.2f32.into(), "found f32 1.2, wanted 1"),
            ("rope.scaling.yarn_attn_factor", 1f32.into(), 2f32.into(), "wanted 1"),
            ("rope.scaling.yarn_ext_factor", 0f32.into(), 1f32.into(), "wanted 0"),
            ("rope.scaling.yarn_log_multiplier", 0f32.into(), 0.1f32.into(), "wanted 0"),
            ("ssm.inner_size", 0u32.into(), 16u32.into(), "wanted 0"),
        ];
        for (name, neutral, other, wanted) in cases {
            let key = format!("{ARCH}.{name}");
            let mut m = metadata();
            m.insert(key.as_str(), neutral);
            assert_eq!(Hparams::from_metadata(&m), Ok(pythia_70m()), "{key}");
            m.insert(key.as_str(), other);
            let line = Hparams::from_metadata(&m).unwrap_err().to_string();
            assert!(line.starts_with(&format!("key '{key}': ")) && line.contains(wanted), "{line}");
        }
    }

    #[test]
    fn keys_of_other_architectures_and_without_effect_are_let_be() {
        let mut m = metadata();
        m.insert("llama.attention.causal", false);
        m.insert("gptneox.rope.scaling.original_context_length", 2048u32);
        m.insert("gptneox.rope.scaling.finetuned", true);
        assert_eq!(Hparams::from_metadata(&m), Ok(pythia_70m()));
    }
}
