//! A tokenizer that is as small as one can be.

use pythia_tokenizer::{TokenKind, TokenizerExtras, Vocab};
use serde_json::{Map, Value, json};

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
