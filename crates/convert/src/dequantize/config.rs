//! `config.json` and `tokenizer_config.json`, for Transformers 4 and 5 alike.

use pythia_checkpoint::MODEL_TYPE;
use pythia_schema::Hparams;
use pythia_tensor::TensorType;
use pythia_tokenizer::Vocab;
use serde_json::{Value, json};

/// The config of a model.
pub(super) fn model(hparams: &Hparams, vocab: Option<&Vocab>, dtype: TensorType) -> String {
    let rotary_pct = rotary_pct(hparams.n_rot, hparams.head_dim());
    let rope_base = decimal(hparams.rope_base);
    let mut config = json!({
        "architectures": ["GPTNeoXForCausalLM"],
        "attention_bias": true,
        // Null where there is none: silence would mean ids of another vocabulary.
        "bos_token_id": vocab.and_then(|vocab| vocab.bos),
        "eos_token_id": vocab.and_then(|vocab| vocab.eos),
        // Under the one of its names that PyTorch computes in one step.
        "hidden_act": if hparams.gelu_tanh { "gelu_pytorch_tanh" } else { "gelu" },
        "hidden_size": hparams.n_embd,
        "intermediate_size": hparams.n_ff,
        "layer_norm_eps": decimal(hparams.norm_eps),
        "max_position_embeddings": hparams.n_ctx,
        "model_type": MODEL_TYPE,
        "num_attention_heads": hparams.n_head,
        "num_hidden_layers": hparams.n_layer,
        // Transformers 5.
        "rope_parameters": {"partial_rotary_factor": rotary_pct, "rope_theta": rope_base, "rope_type": "default"},
        // Transformers 4.
        "rotary_emb_base": rope_base,
        "rotary_pct": rotary_pct,
        "tie_word_embeddings": false,
        "torch_dtype": match dtype {
            TensorType::F16 => "float16",
            TensorType::BF16 => "bfloat16",
            _ => "float32",
        },
        "use_cache": true,
        "use_parallel_residual": hparams.parallel_residual,
        "vocab_size": hparams.n_vocab,
    });
    if hparams.rope_factor != 1.0 {
        let factor = decimal(hparams.rope_factor);
        config["rope_parameters"]["rope_type"] = json!("linear");
        config["rope_parameters"]["factor"] = json!(factor);
        // Early versions of Transformers 4 want these two fields and no other.
        config["rope_scaling"] = json!({"factor": factor, "type": "linear"});
    }
    indented(&config)
}

/// The config of a tokenizer.
pub(super) fn tokenizer(vocab: &Vocab) -> String {
    let token = |id: Option<u32>| id.and_then(|id| vocab.tokens.get(id as usize));
    indented(&json!({
        "add_prefix_space": false,
        "bos_token": token(vocab.bos),
        "eos_token": token(vocab.eos),
        // The model takes no others, which the class makes unless told.
        "model_input_names": ["input_ids", "attention_mask"],
        // The class that takes tokenizer.json as it is, where GPTNeoXTokenizer of Transformers 5 builds its own.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": token(vocab.unk),
    }))
}

/// The share of a head that rotates its first `n_rot` elements: Transformers multiplies and truncates.
fn rotary_pct(n_rot: usize, head_dim: usize) -> f64 {
    let ratio = n_rot as f64 / head_dim as f64;
    // The quotient is off by half a unit in the last place at most, so one step is enough.
    if ((head_dim as f64 * ratio) as usize) < n_rot { ratio.next_up() } else { ratio }
}

/// A single by way of its shortest decimal form: 1e-5, not 9.999999747378752e-6.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn indented(value: &Value) -> String {
    // Never fails: the keys are strings and the values come from JSON.
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_head_come_back_as_they_were() {
        for head_dim in 2..=512 {
            for n_rot in (2..=head_dim).step_by(2) {
                let pct = rotary_pct(n_rot, head_dim);
                assert_eq!((head_dim as f64 * pct) as usize, n_rot, "{n_rot} of {head_dim}");
                assert!(pct <= 1.0);
            }
        }
        assert_eq!(rotary_pct(16, 64), 0.25);
    }

    #[test]
    fn singles_are_written_as_people_write_them() {
        assert_eq!([1e-5, 10000.0, 0.1].map(decimal), [1e-5, 10000.0, 0.1]);
    }
}
