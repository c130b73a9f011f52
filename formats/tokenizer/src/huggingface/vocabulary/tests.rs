use super::*;
use crate::alphabet::text_letters;
use serde_json::{Map, Value, json};

/// The 243 byte tokens from id 2 on, `Ġt` = 245, and two added tokens: 0 is special, 247 is a run of spaces.
fn small() -> Value {
    let mut vocab: Map<String, Value> =
        text_letters().enumerate().map(|(i, (_, c))| (c.to_string(), json!(i + 2))).collect();
    vocab.insert("<|end|>".into(), json!(0));
    vocab.insert("Ġt".into(), json!(245));
    json!({
        "added_tokens": [
            {"id": 0, "content": "<|end|>", "special": true, "normalized": false, "lstrip": false, "rstrip": false,
             "single_word": false},
            {"id": 247, "content": "  ", "special": false, "normalized": true, "lstrip": false, "rstrip": false,
             "single_word": false},
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["Ġ t"], "unk_token": null},
    })
}

fn parse(document: &Value) -> Result<TokenizerFile, String> {
    TokenizerFile::parse(Path::new("tokenizer.json"), document.to_string(), 250).map_err(|e| e.to_string())
}

/// `small()` with the value at each JSON pointer replaced.
fn edited(edits: &[(&str, Value)]) -> Value {
    let mut document = small();
    for (pointer, value) in edits {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match document.pointer_mut(parent).unwrap() {
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value.clone(),
            object => object[key] = value.clone(),
        }
    }
    document
}

#[test]
fn tokens_are_dense_and_padded() {
    let tokenizer = parse(&small()).unwrap();
    assert_eq!((tokenizer.vocab.tokens.len(), tokenizer.vocab.kinds.len()), (250, 250));
    let row = |id: usize| (tokenizer.vocab.tokens[id].as_str(), tokenizer.vocab.kinds[id]);
    assert_eq!(row(0), ("<|end|>", TokenKind::Control));
    assert_eq!(row(1), ("[PAD1]", TokenKind::Unused));
    assert_eq!(row(2), ("Ā", TokenKind::Normal));
    assert_eq!(row(245), ("Ġt", TokenKind::Normal));
    assert_eq!(row(246), ("[PAD246]", TokenKind::Unused));
    assert_eq!(row(247), ("  ", TokenKind::UserDefined));
    assert_eq!(row(249), ("[PAD249]", TokenKind::Unused));
    assert_eq!(tokenizer.vocab.merges, ["Ġ t"]);
    assert_eq!(tokenizer.vocab.huggingface_json, Some(small().to_string()));
}

#[test]
fn what_is_unusual_about_matching_is_listed() {
    let usual = parse(&small()).unwrap();
    assert_eq!(usual.vocab.extras, TokenizerExtras::default());
    let edits = [
        ("/normalizer", json!(null)),
        ("/added_tokens/0/normalized", json!(true)),
        ("/added_tokens/0/lstrip", json!(true)),
        ("/added_tokens/1/normalized", json!(false)),
        ("/added_tokens/1/rstrip", json!(true)),
        ("/added_tokens/1/single_word", json!(true)),
        ("/post_processor", json!({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}]})),
    ];
    let unusual = parse(&edited(&edits)).unwrap();
    let (lstrip, both) = (vec![0], vec![0, 247]);
    let (rstrip, single_word) = (vec![247], vec![247]);
    let extras = TokenizerExtras { unnormalized: true, lstrip, rstrip, single_word, other_text: both };
    assert_eq!(unusual.vocab.extras, extras);
}

#[test]
fn both_forms_of_merges_mean_the_same() {
    let pairs = parse(&edited(&[("/model/merges", json!([["Ġ", "t"]]))])).unwrap();
    assert_eq!(pairs.vocab.merges, parse(&small()).unwrap().vocab.merges);
}

#[test]
fn what_the_vocabulary_keys_cannot_express_is_refused() {
    let cases = [
        ("/model/type", json!("WordPiece"), r#"model.type: "WordPiece", wanted "BPE""#),
        ("/model/type", json!(null), r#"model.type: missing, wanted "BPE""#),
        ("/version", json!("2.0"), r#"version: "2.0" is not supported, wanted "1.0""#),
        ("/normalizer", json!({"type": "NFKC"}), r#"normalizer: "NFKC" is not supported"#),
        ("/pre_tokenizer", json!({"type": "Metaspace"}), r#"pre_tokenizer: "Metaspace" is not supported"#),
        ("/pre_tokenizer", json!(null), "pre_tokenizer: none is not supported"),
        ("/pre_tokenizer/use_regex", json!(false), "pre_tokenizer.use_regex: false is not supported, wanted true"),
        ("/pre_tokenizer/use_regex", json!(1), "pre_tokenizer.use_regex: 1 is not supported, wanted true"),
        ("/pre_tokenizer/add_prefix_space", json!(true), "pre_tokenizer.add_prefix_space: true"),
        ("/post_processor", json!({"type": "BertProcessing"}), "post_processor: adds tokens"),
        (
            "/post_processor",
            json!({"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing", "single": [
                {"SpecialToken": {"id": "<|end|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}]}),
            "post_processor: adds tokens",
        ),
        ("/decoder", json!({"type": "WordPiece"}), "decoder: \"WordPiece\""),
        ("/decoder", json!([1]), "decoder: \"\" is not supported"),
        ("/model/byte_fallback", json!(true), "model.byte_fallback: is set"),
        ("/model/ignore_merges", json!(true), "model.ignore_merges: is set"),
        ("/model/dropout", json!(0.1), "model.dropout: is set"),
        ("/model/end_of_word_suffix", json!("</w>"), "model.end_of_word_suffix: is set"),
        ("/model/unk_token", json!("<unk>"), r#"model.unk_token: "<unk>" is no token"#),
        ("/model/merges", json!(["Ġ t", ["Ġ", "t"]]), "model.merges: 1 of 2 are pairs and the others strings"),
        ("/model/merges", json!(["Ġt"]), r#"model.merges[0]: "Ġt" is not two pieces"#),
        ("/model/merges", json!(["Ġ t "]), "is not two pieces"),
        ("/model/merges", json!([" t"]), "is not two pieces"),
        ("/model/merges", json!([["Ġ", "t t"]]), "is not two pieces"),
        ("/model/merges", json!(["Ġ t", "q qq"]), r#"model.merges[1]: "q qq" joins or makes a piece that is not"#),
        ("/model/merges", json!(["t Ġ"]), "joins or makes a piece"),
        ("/model/merges", json!([1]), "not the JSON expected"),
        ("/model/vocab", json!([["a", 0.5]]), "not the JSON expected"),
        ("/model/vocab", json!({"a": 1}), "model.vocab: no token 'Ā' for byte 0x00: not byte-level"),
        ("/model/vocab/Ġt", json!(250), r#"model.vocab: "Ġt" has id 250, but vocab_size is 250"#),
        ("/model/vocab/Ġt", json!(-1), "not the JSON expected"),
        ("/model/vocab/Ġt", json!(2), r#"model.vocab: "Ā" and "Ġt" both have id 2"#),
        ("/model/vocab/Ġt", json!(247), r#"model.vocab: "  " and "Ġt" both have id 247"#),
        ("/model/vocab/a b", json!(246), r#"model.vocab: "a b" (id 246) is not in byte-level spelling"#),
        ("/model/vocab/<|end|>", json!(246), r#"added_tokens: "<|end|>" has id 0, but also id 246"#),
        ("/model/vocab/[PAD1]", json!(246), r#"id 1 has no token and "[PAD1]" is taken"#),
        ("/model/vocab/", json!(246), "the token with id 246 is empty"),
        ("/model/vocab/  ", json!(246), "added_tokens: \"  \" has id 247, but also id 246"),
        ("/added_tokens/1/id", json!(0), r#"added_tokens: "<|end|>" and "  " both have id 0"#),
        ("/added_tokens/1/lstrip", json!("no"), "not the JSON expected"),
        ("/added_tokens/1/content", json!("<|end|>"), r#"added_tokens: "<|end|>" has id 247, but also id 0"#),
    ];
    for (pointer, value, wanted) in cases {
        let message = parse(&edited(&[(pointer, value)])).expect_err(wanted);
        assert!(message.contains(wanted), "{pointer}: {message}\nwanted: {wanted}");
        assert!(message.starts_with("tokenizer.json: ") && !message.contains('\n'), "{message}");
    }
}

#[test]
fn a_repeated_piece_is_refused() {
    let text = small().to_string().replacen(r#""vocab":{"#, r#""vocab":{"Ġt":9,"#, 1);
    let message = TokenizerFile::parse(Path::new("t"), text, 250).unwrap_err().to_string();
    assert!(message.contains("\"Ġt\" comes twice"), "{message}");
}

#[test]
fn added_tokens_beyond_the_embedding_are_left_out() {
    let mut document = small();
    let added = document["added_tokens"].as_array_mut().unwrap();
    let mut pad = added[0].clone();
    (pad["id"], pad["content"], pad["special"]) = (json!(250), json!("[PAD]"), json!(true));
    added.push(pad);
    let tokenizer = parse(&document).unwrap();
    assert_eq!(tokenizer.left_out, [(250, "[PAD]".to_owned())]);
    // The vocabulary and the text that is embedded are those of a tokenizer that never had it.
    let without = parse(&small()).unwrap();
    assert_eq!((&tokenizer.vocab.tokens, &tokenizer.vocab.kinds), (&without.vocab.tokens, &without.vocab.kinds));
    let [left, right] = [&tokenizer, &without]
        .map(|file| serde_json::from_str::<Value>(file.vocab.huggingface_json.as_ref().unwrap()).unwrap());
    assert_eq!(left, right);
    // A piece that merges could make is another matter.
    document["model"]["vocab"]["[PAD]"] = json!(250);
    let message = parse(&document).unwrap_err();
    assert!(message.contains("\"[PAD]\" has id 250, but vocab_size is 250"), "{message}");
}
