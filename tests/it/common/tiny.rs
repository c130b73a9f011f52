//! A model and a tokenizer that are as small as they can be.

use pythia_schema::Hparams;
use pythia_tokenizer::{TokenKind, TokenizerExtras, Vocab};
use serde_json::{Map, Value, json};

/// A narrow model of two blocks, for tests to change what they are about.
pub(crate) fn hparams() -> Hparams {
    Hparams {
        n_layer: 2,
        n_embd: 64,
        n_head: 4,
        n_ff: 96,
        n_vocab: 40,
        n_ctx: 32,
        n_rot: 4,
        rope_base: 10000.0,
        rope_factor: 1.0,
        norm_eps: 1e-5,
        parallel_residual: true,
        gelu_tanh: false,
    }
}

/// Every byte, one merge, an end of text; nothing but the keys.
pub(crate) fn vocab() -> Vocab {
    let mut tokens: Vec<String> = (0..=u8::MAX).map(|byte| pythia_tokenizer::byte_char(byte).to_string()).collect();
    tokens.extend(["he".to_owned(), "<|endoftext|>".to_owned()]);
    let end = tokens.len() - 1;
    let mut kinds = vec![TokenKind::Normal; tokens.len()];
    kinds[end] = TokenKind::Control;
    let end = Some(end as u32);
    Vocab {
        tokens,
        kinds,
        merges: vec!["h e".to_owned()],
        bos: end,
        eos: end,
        unk: None,
        pre: "olmo".to_owned(),
        extras: TokenizerExtras::default(),
        huggingface_json: None,
    }
}

/// A `tokenizer.json` whose last token is special.
pub(crate) fn tokenizer_json(tokens: &[String], merges: Value) -> Value {
    let end = tokens.len() - 1;
    let pieces: Map<_, _> = tokens[..end].iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "added_tokens": [{
            "id": end, "content": tokens[end], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "normalizer": {"type": "NFC"}, "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "vocab": pieces, "merges": merges},
    })
}
