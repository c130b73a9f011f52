use super::*;
use crate::TokenKind;
use crate::alphabet::text_letters;
use serde_json::Map;
use std::collections::BTreeSet;
use std::fs;
use tempfile::TempDir;

/// Two special pieces, the 243 byte pieces and `Ġt`: ids 0 to 245.
fn vocab() -> Map<String, Value> {
    let bytes = text_letters().map(|(_, c)| c.to_string());
    let pieces = [END.to_owned(), "<|padding|>".to_owned()].into_iter().chain(bytes).chain(["Ġt".to_owned()]);
    pieces.enumerate().map(|(id, piece)| (piece, json!(id))).collect()
}

fn model(n_vocab: usize) -> ForModel {
    ForModel { n_vocab, bos: Some(3), eos: Some(3) }
}

fn folder(files: &[(&str, Value)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("vocab.json"), Value::Object(vocab()).to_string()).unwrap();
    fs::write(dir.path().join("merges.txt"), "#version: 0.2\r\nĠ t\n").unwrap();
    for (name, value) in files {
        fs::write(dir.path().join(name), value.as_str().map_or_else(|| value.to_string(), str::to_owned)).unwrap();
    }
    dir
}

fn build(files: &[(&str, Value)]) -> Result<TokenizerFile, String> {
    let tokenizer = TokenizerFile::from_vocab_files(folder(files).path(), &model(260));
    tokenizer.map(|tokenizer| tokenizer.expect("both files")).map_err(|e| e.to_string())
}

/// The added tokens: id, text, and the flags that are set.
fn added(tokenizer: &TokenizerFile) -> Vec<(u64, String, Vec<String>)> {
    let document: Value = serde_json::from_str(tokenizer.vocab.huggingface_json.as_ref().unwrap()).unwrap();
    let token = |token: &Value| {
        let flags = token.as_object().unwrap().iter().filter(|(_, flag)| **flag == json!(true));
        let flags: BTreeSet<String> = flags.map(|(key, _)| key.clone()).collect();
        (token["id"].as_u64().unwrap(), token["content"].as_str().unwrap().to_owned(), flags.into_iter().collect())
    };
    document["added_tokens"].as_array().unwrap().iter().map(token).collect()
}

fn row(id: u64, text: &str, flags: &[&str]) -> (u64, String, Vec<String>) {
    (id, text.to_owned(), flags.iter().map(|flag| (*flag).to_owned()).collect())
}

#[test]
fn two_files_suffice() {
    let tokenizer = build(&[]).unwrap();
    assert_eq!(added(&tokenizer), [row(0, END, &["special"]), row(1, "<|padding|>", &["special"])]);
    assert_eq!(
        (tokenizer.vocab.bos, tokenizer.vocab.eos, tokenizer.vocab.unk),
        (Some(0), Some(0), Some(0)),
        "as the class has it"
    );
    assert_eq!(
        (tokenizer.vocab.tokens.len(), &*tokenizer.vocab.tokens[245], tokenizer.vocab.kinds[246]),
        (260, "Ġt", TokenKind::Unused)
    );
    assert_eq!(tokenizer.vocab.merges, ["Ġ t"]);
    let document: Value = serde_json::from_str(tokenizer.vocab.huggingface_json.as_ref().unwrap()).unwrap();
    assert_eq!(document["normalizer"], json!({"type": "NFC"}));
    assert_eq!(document["model"]["merges"], json!([["Ġ", "t"]]));
    assert!(
        tokenizer.vocab.huggingface_json.as_ref().unwrap().contains(r#""vocab":{"<|endoftext|>":0,"<|padding|>":1,"#),
        "by id"
    );
    let dir = folder(&[]);
    fs::remove_file(dir.path().join("merges.txt")).unwrap();
    assert_eq!(TokenizerFile::from_vocab_files(dir.path(), &model(260)).unwrap(), None);
}

/// What Transformers 5.23 gives the same files.
#[test]
fn added_tokens_get_the_ids_and_flags_of_transformers() {
    let flagged = json!({"__type": "AddedToken", "content": "<c>", "lstrip": true, "rstrip": false, "normalized": false, "single_word": false});
    let tokenizer = build(&[
        (
            "tokenizer_config.json",
            json!({"pad_token": "[PAD]", "additional_special_tokens": ["<|im|>"], "cls_token": flagged, "unk_token": null}),
        ),
        ("added_tokens.json", json!({"  ": 247, "   ": 246})),
    ]);
    let tokenizer = tokenizer.unwrap();
    let wanted = [
        row(0, END, &["special"]),
        row(246, "   ", &["normalized"]),
        row(247, "  ", &["normalized"]),
        row(248, "[PAD]", &["special"]),
        row(249, "<c>", &["lstrip", "special"]),
        row(250, "<|im|>", &["special"]),
    ];
    assert_eq!(added(&tokenizer), wanted);
    assert_eq!((tokenizer.vocab.kinds[247], tokenizer.vocab.kinds[248]), (TokenKind::UserDefined, TokenKind::Control));
    assert_eq!(tokenizer.vocab.unk, None, "null is none");

    // The map of special tokens counts where the config has no list of added ones, and then comes first.
    let map = json!({"eos_token": {"content": "<e>", "rstrip": true, "lstrip": false, "normalized": true, "single_word": false}});
    let tokenizer = build(&[
        ("tokenizer_config.json", json!({"eos_token": "<x>"})),
        ("special_tokens_map.json", map.clone()),
        ("added_tokens.json", json!({"<e>": 246})),
    ]);
    let tokenizer = tokenizer.unwrap();
    assert_eq!(added(&tokenizer)[2], row(246, "<e>", &["special"]), "flags are those of the file of added tokens");
    assert_eq!((tokenizer.vocab.bos, tokenizer.vocab.eos), (Some(0), Some(246)));
    let tokenizer = build(&[("special_tokens_map.json", map.clone())]).unwrap();
    assert_eq!(added(&tokenizer)[2], row(246, "<e>", &["normalized", "rstrip", "special"]));
    let decoder = json!({"0": {"content": END, "special": true}, "246": {"content": "  ", "special": false, "normalized": false}});
    let tokenizer =
        build(&[("tokenizer_config.json", json!({"added_tokens_decoder": decoder})), ("special_tokens_map.json", map)]);
    let rows = added(&tokenizer.unwrap());
    assert_eq!(rows[1..], [row(1, "<|padding|>", &["special"]), row(246, "  ", &[])]);

    // GPT-2's class has neither a normalizer nor a padding token.
    let tokenizer = build(&[("tokenizer_config.json", json!({"tokenizer_class": "GPT2TokenizerFast"}))]).unwrap();
    assert_eq!(added(&tokenizer), [row(0, END, &["special"])]);
    assert!(tokenizer.vocab.huggingface_json.as_ref().unwrap().contains(r#""normalizer":null"#));
}

#[test]
fn a_padding_token_beyond_the_embedding_is_left_out() {
    let dir = folder(&[("tokenizer_config.json", json!({"pad_token": "[PAD]"}))]);
    let tokenizer = TokenizerFile::from_vocab_files(dir.path(), &model(246)).unwrap().unwrap();
    assert_eq!(tokenizer.left_out, [(246, "[PAD]".to_owned())]);
    assert_eq!(added(&tokenizer), [row(0, END, &["special"])]);
    assert!(!tokenizer.vocab.huggingface_json.as_ref().unwrap().contains("[PAD]"));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let config = "tokenizer_config.json";
    for (files, wanted) in [
        (
            &[("added_tokens.json", json!({"<x>": 250}))][..],
            r#"added_tokens.json: "<x>" has id 250 here, but is token 246 of Transformers 5"#,
        ),
        (&[("added_tokens.json", json!({"<x>": 246, "<y>": 246}))], "both have id 246"),
        (&[("added_tokens.json", json!(["<x>"]))], "added_tokens.json: "),
        (
            &[(config, json!({"tokenizer_class": "LlamaTokenizer"}))],
            r#"tokenizer_class: "LlamaTokenizer" is not made from vocab.json"#,
        ),
        (&[(config, json!({"add_prefix_space": true}))], "pre_tokenizer.add_prefix_space: true is not supported"),
        (&[(config, json!({"pad_token": 1}))], "pad_token: wanted the text of a token"),
        (
            &[(config, json!({"added_tokens_decoder": {"x": {"content": "y"}}}))],
            "added_tokens_decoder: wanted an object",
        ),
        (&[(config, json!({"added_tokens_decoder": {"0": "y"}}))], "added_tokens_decoder: wanted an object"),
        (
            &[(config, json!({"a_token": "<a>", "b_token": "<b>"}))],
            "names several tokens that no file of the vocabulary has",
        ),
        (
            &[("special_tokens_map.json", json!({"additional_special_tokens": "x"}))],
            "additional_special_tokens: wanted",
        ),
        (&[("merges.txt", json!("Ġ t\n\n"))], r#"merges.txt: line 2: "" is not two pieces"#),
        (&[("merges.txt", json!("Ġ t t"))], "merges.txt: line 1"),
        (&[("merges.txt", json!("t Ġ"))], "joins or makes a piece that is not in model.vocab"),
        (&[("vocab.json", json!({"a": 0}))], "not byte-level"),
        (&[("vocab.json", json!({"a": -1}))], "vocab.json: "),
    ] {
        let message = build(files).expect_err(wanted);
        assert!(message.contains(wanted) && !message.contains('\n'), "{message}\nwanted: {wanted}");
    }
}
