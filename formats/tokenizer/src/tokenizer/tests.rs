use super::*;
use crate::{ForModel, TokenizerExtras, TokenizerFile};
use proptest::prelude::*;
use std::path::Path;
use std::sync::LazyLock;

/// The vocabulary of the test model, as the converter writes it: 4,095 tokens and one row of padding.
fn vocab() -> Vocab {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"));
    let model = ForModel { n_vocab: 4096, bos: None, eos: None };
    TokenizerFile::find(folder, &model).unwrap().expect("the test model is part of the repository").vocab
}

/// By the embedded JSON, and by the keys alone.
static BOTH: LazyLock<[Tokenizer; 2]> = LazyLock::new(|| {
    let vocab = vocab();
    [Tokenizer::from_vocab(&vocab).unwrap(), Tokenizer::rebuilt(&vocab).unwrap()]
});

#[test]
fn sizes_and_special_tokens() {
    for t in BOTH.iter() {
        assert_eq!((t.n_tokens(), t.eos()), (4095, Some(0)));
        assert_eq!(t.encode("x<|endoftext|>y").unwrap(), [89, 0, 90]);
        assert_eq!(t.decode(&[89, 0, 90], false), "x<|endoftext|>y");
        assert_eq!(t.decode(&[89, 0, 90], true), "xy");
        assert_eq!(t.decode(&[4095, 9999], false), "", "padding is no text");
        assert!(t.is_special(0) && !t.is_special(4094) && !t.is_special(4095));
    }
}

#[test]
fn a_rebuilt_json_makes_the_same_tokenizer() {
    let vocab = vocab();
    assert_eq!(Tokenizer::json(&vocab).ok(), vocab.huggingface_json);
    let bare = Vocab { huggingface_json: None, ..vocab.clone() };
    let json = Tokenizer::json(&bare).unwrap();
    assert_ne!(Some(&json), vocab.huggingface_json.as_ref());
    let again = Tokenizer::from_vocab(&Vocab { huggingface_json: Some(json), ..vocab }).unwrap();
    let text = "caf\u{e9} e\u{301}   fn main() {\n        x<|endoftext|>y\u{a0}\t7's";
    assert_eq!(again.encode(text).unwrap(), BOTH[0].encode(text).unwrap());
    assert!(again.is_special(0) && again.n_tokens() == 4095);
}

/// What `dequantize` writes, `convert` reads.
#[test]
fn a_rebuilt_json_that_would_be_too_large_is_refused() {
    let mut long = Vocab { huggingface_json: None, ..vocab() };
    // A quote takes two bytes there.
    long.tokens.extend((0..100).map(|i| "\"".repeat(60_000 + i)));
    long.kinds.resize(long.tokens.len(), TokenKind::Normal);
    let line = Tokenizer::json(&long).unwrap_err().to_string();
    assert!(line.contains("tokenizer.huggingface.json") && line.contains("of JSON"), "{line}");
}

#[test]
fn what_a_file_says_cannot_reach_the_terminal() {
    let line = |vocab: &Vocab| Tokenizer::rebuilt(vocab).unwrap_err().to_string();
    let message = line(&Vocab { pre: "\u{1b}[31m\u{7f}".to_owned(), ..vocab() });
    assert!(message.contains(r"'\u{1b}[31m\u{7f}'"), "{message}");
    let message = line(&Vocab { pre: "x".repeat(9999), ..vocab() });
    assert!(message.chars().count() < 500, "{message}");
}

#[test]
fn vocabularies_that_do_not_hold_together_are_refused() {
    let error = |change: &dyn Fn(&mut Vocab)| {
        let mut vocab = vocab();
        change(&mut vocab);
        let error = Tokenizer::from_checked(&vocab).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        assert!(Tokenizer::from_vocab(&vocab).is_err());
        error
    };
    assert!(error(&|v| v.tokens[5] = "zz".to_owned()).contains("token 5 is"));
    assert!(error(&|v| v.tokens.truncate(4090)).contains("is an added token, by tokenizer.ggml.token_type it is none"));
    assert!(error(&|v| v.tokens.truncate(4000)).contains("tokenizer.ggml.tokens has 4000"));
    assert!(error(&|v| v.merges.truncate(3000)).contains("tokenizer.ggml.merges has 3000"));
    assert!(error(&|v| v.huggingface_json = Some("{".to_owned())).starts_with("tokenizer.huggingface.json: "));
    let rebuilt = |change: &dyn Fn(&mut Vocab)| {
        error(&|v| {
            v.huggingface_json = None;
            change(v);
        })
    };
    assert!(rebuilt(&|v| v.pre = "llama-bpe".to_owned()).contains("llama-bpe"));
    assert!(rebuilt(&|v| v.merges[7] = "ab".to_owned()).contains("merge 7"));
    assert!(rebuilt(&|v| v.merges[7] = "a b c".to_owned()).contains("merge 7"));
    assert!(rebuilt(&|v| v.merges[7] = "q\u{e9}q zzz".to_owned()).starts_with("tokenizer.ggml.merges: "));
    // Both halves are tokens, what they make is longer than any: the crate would panic.
    let longest = vocab().tokens.into_iter().filter(|t| t.is_ascii()).max_by_key(String::len).unwrap();
    assert!(rebuilt(&|v| v.merges[7] = format!("{longest} {longest}")).contains("is no token"));
}

/// Whole messages: what the keys mean is exactly one thing.
#[test]
fn a_json_of_other_steps_is_refused_by_name() {
    let split = "\"pre_tokenizer\": {\n    \"type\": \"ByteLevel\"";
    let cases = [
        ("\"NFC\"", "\"NFKC\"", false, "normalizer is NFKC, the GGUF keys mean NFC"),
        ("\"NFC\"", "\"NFKC\"", true, "normalizer is NFKC, the GGUF keys mean none"),
        ("\"type\": \"NFC\"", "", false, "normalizer has no type, the GGUF keys mean NFC"),
        (split, "\"pre_tokenizer\": {\"type\": 7", false, "pre_tokenizer has no type, the GGUF keys mean ByteLevel"),
        (
            split,
            "\"pre_tokenizer\": {\"type\": \"Split\"",
            false,
            "pre_tokenizer is Split, the GGUF keys mean ByteLevel",
        ),
        ("\"version\": \"1.0\"", "\"version\": \"2.0\"", false, "version is 2.0, only 1.0 is supported"),
        (
            "\"use_regex\": true",
            "\"use_regex\": 1",
            false,
            "pre_tokenizer.use_regex is 1, tokenizer.ggml.pre 'olmo' means true",
        ),
        ("\"dropout\": null", "\"dropout\": 0.5", false, "model.dropout is 0.5, the GGUF keys mean none"),
    ];
    for (found, replacement, unnormalized, wanted) in cases {
        let mut vocab = changed(found, replacement);
        vocab.extras.unnormalized = unnormalized;
        assert_eq!(Tokenizer::from_vocab(&vocab).unwrap_err().to_string(), format!("{DIFFERS}{wanted}"));
    }
    assert!(Tokenizer::from_vocab(&changed("\"dropout\": null", "\"dropout\": 0.0")).is_ok());
}

/// Other readers keep the last of two equal keys, or count on from the last id.
#[test]
fn a_json_that_can_be_read_in_two_ways_is_refused() {
    for (found, replacement, wanted) in [
        ("\"vocab\": {", "\"vocab\": {\"x\": 9, ", "not the JSON expected: \"x\" comes twice at line "),
        ("\"id\": 0,", "", "not the JSON expected: missing field `id` at line "),
    ] {
        let line = Tokenizer::from_vocab(&changed(found, replacement)).unwrap_err().to_string();
        assert!(line.starts_with(&format!("{DIFFERS}{wanted}")), "{line}");
    }
}

/// The embedded text with a piece of it replaced.
fn changed(found: &str, replacement: &str) -> Vocab {
    let json = vocab().huggingface_json.unwrap();
    let changed = json.replacen(found, replacement, 1);
    assert_ne!(changed, json, "{found} is not in the file");
    Vocab { huggingface_json: Some(changed), ..vocab() }
}

const DIFFERS: &str = "tokenizer.huggingface.json: ";

/// Two readers of such a file would have two answers.
#[test]
fn a_json_that_is_another_tokenizer_is_refused() {
    let template = r#"{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}}"#;
    let with_template = format!(r#""post_processor": {template}, "x": {{"#);
    for (found, replacement, wanted) in [
        ("\"NFC\"", "\"NFKC\"", "normalizer is NFKC, the GGUF keys mean NFC"),
        ("\"normalizer\": {", "\"x\": {", "normalizer is none, the GGUF keys mean NFC"),
        (
            "\"pre_tokenizer\": {\n    \"type\": \"ByteLevel\",\n    \"add_prefix_space\": false",
            "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true",
            "pre_tokenizer.add_prefix_space is true, tokenizer.ggml.pre 'olmo' means false",
        ),
        ("\"use_regex\": true", "\"use_regex\": false", "pre_tokenizer.use_regex is false"),
        ("\"post_processor\": {", &with_template, "post_processor adds tokens to a text, tokenizer.ggml.add_bos_token"),
        ("\"byte_fallback\": false", "\"byte_fallback\": true", "model.byte_fallback is true"),
        ("\"ignore_merges\": false", "\"ignore_merges\": true", "model.ignore_merges is true"),
        (
            "\"lstrip\": false",
            "\"lstrip\": true",
            "\"<|endoftext|>\": lstrip is true, by pythia_quant.tokenizer.lstrip",
        ),
        ("\"rstrip\": false", "\"rstrip\": true", "rstrip is true, by pythia_quant.tokenizer.rstrip it is false"),
        ("\"single_word\": false", "\"single_word\": true", "single_word is true"),
        ("\"normalized\": false", "\"normalized\": true", "normalized is true, by pythia_quant.tokenizer.other_text"),
        ("\"special\": true", "\"special\": false", "special is false, by tokenizer.ggml.token_type it is true"),
        ("<|padding|>", "<|other|>", "\"<|other|>\" is an added token, by tokenizer.ggml.token_type it is none"),
    ] {
        let line = Tokenizer::from_vocab(&changed(found, replacement)).unwrap_err().to_string();
        assert!(line.starts_with(DIFFERS) && line.contains(wanted), "{replacement}: {line}");
    }
}

#[test]
fn keys_that_are_another_tokenizer_are_refused() {
    type Change = fn(&mut Vocab);
    let cases: [(Change, &str); 8] = [
        (|v| v.merges.swap(7, 9), "merge 7 is "),
        (|v| drop(v.merges.pop()), " merges, tokenizer.ggml.merges has "),
        (|v| v.merges.push("t h".to_owned()), " merges, tokenizer.ggml.merges has "),
        (
            |v| v.kinds[0] = TokenKind::Normal,
            "\"<|endoftext|>\" is an added token, by tokenizer.ggml.token_type it is none",
        ),
        (|v| v.kinds[0] = TokenKind::UserDefined, "special is true, by tokenizer.ggml.token_type it is false"),
        (
            |v| v.kinds[89] = TokenKind::Control,
            "has no added token \"x\", tokenizer.ggml.token_type has one with id 89",
        ),
        (|v| v.kinds[89] = TokenKind::Unused, "has token 89, \"x\", by tokenizer.ggml.token_type it is unused"),
        (|v| v.kinds[4095] = TokenKind::Normal, "has no token 4095, tokenizer.ggml.tokens has \"[PAD4095]\" there"),
    ];
    for (change, wanted) in cases {
        let mut vocab = vocab();
        change(&mut vocab);
        let line = Tokenizer::from_vocab(&vocab).unwrap_err().to_string();
        assert!(line.starts_with(DIFFERS) && line.contains(wanted), "wanted {wanted}: {line}");
    }
}

/// What llama.cpp's keys cannot say, our own do: both forms give the same ids.
#[test]
fn unusual_tokenizers_are_the_same_in_both_forms() {
    let text = "x  <|endoftext|>  y<|padding|>z e\u{301} <|endoftext|>\u{338}";
    let usual = BOTH[0].encode(text).unwrap();
    type Change = fn(&mut TokenizerExtras);
    let cases: [(&str, &str, Change); 5] = [
        ("\"lstrip\": false", "\"lstrip\": true", |x| x.lstrip = vec![0]),
        ("\"rstrip\": false", "\"rstrip\": true", |x| x.rstrip = vec![0]),
        ("\"single_word\": false", "\"single_word\": true", |x| x.single_word = vec![0]),
        ("\"normalized\": false", "\"normalized\": true", |x| x.other_text = vec![0]),
        ("\"normalizer\": {", "\"normalizer\": null, \"x\": {", |x| x.unnormalized = true),
    ];
    for (found, replacement, change) in cases {
        let mut vocab = changed(found, replacement);
        change(&mut vocab.extras);
        let ids = Tokenizer::from_vocab(&vocab).unwrap().encode(text).unwrap();
        assert_ne!(ids, usual, "{replacement}");
        assert_eq!(Tokenizer::rebuilt(&vocab).unwrap().encode(text).unwrap(), ids, "{replacement}");
    }
}

/// Whatever the embedded text holds, the answer is a tokenizer or an error of one line.
fn survives(json: String) {
    let vocab = Vocab { huggingface_json: Some(json), ..vocab() };
    match Tokenizer::from_vocab(&vocab) {
        Ok(tokenizer) => drop(tokenizer.encode("caf\u{e9}  x<|endoftext|>")),
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

#[test]
fn strange_pipelines_are_survived() {
    let json = vocab().huggingface_json.unwrap();
    for (found, replacement) in [
        ("\"NFC\"", "\"Precompiled\""),
        ("\"type\": \"BPE\"", "\"type\": \"Unigram\""),
        ("\"dropout\": null", "\"dropout\": 2.0"),
        ("\"unk_token\": null", "\"unk_token\": \"nowhere\""),
        ("\"id\": 0", "\"id\": 4294967295"),
        ("\"id\": 4072", "\"id\": 1"),
        ("<|padding|>", ""),
        ("<|padding|>", "<|endoftext|>"),
        ("\"truncation\": null", "\"truncation\": {\"max_length\": 0, \"strategy\": \"LongestFirst\", \"stride\": 9}"),
        ("\"continuing_subword_prefix\": null", "\"continuing_subword_prefix\": \"####\""),
        ("\"merges\": [", "\"merges\": [[\"the\", \"zzz\"], "),
        ("\"merges\": [", "\"merges\": [7, "),
        ("\"merges\": [", "\"merges\": [[], "),
        ("\"merges\": [", "\"merges\": [[\"t\"], "),
        ("\"merges\": [", "\"merges\": [[\"t\", \"h\", \"e\"], "),
        ("\"truncation\": null", "\"model\": null"),
        ("\"lstrip\": false", "\"lstrip\": true"),
        ("\"single_word\": false", "\"single_word\": true"),
    ] {
        let changed = json.replacen(found, replacement, 1);
        assert_ne!(changed, json, "{found} is not in the file");
        survives(changed);
    }
    let array = format!("[\"1.0\", [], null, {json}, {json}, {json}]");
    assert!(embedded::tokenizer(&array, &vocab()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn damaged_json_is_survived(at in 0usize..6_000, from_end in any::<bool>(), byte in 0x20u8..0x7f, cut in any::<bool>()) {
        let mut json = vocab().huggingface_json.unwrap().into_bytes();
        let at = if from_end { json.len() - 1 - at } else { at };
        json[at] = byte;
        if cut {
            json.truncate(at);
        }
        survives(String::from_utf8_lossy(&json).into_owned());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    /// Texts full of what could matter: white space of all kinds, contractions, combining characters, special
    /// tokens and their parts.
    #[test]
    fn cutting_and_rebuilding_change_no_id(parts in prop::collection::vec(prop::sample::select(vec![
        " ", " ", " ", "  ", "\n", "\t", "\r\n", "\u{a0}", "\u{2003}", "a", "b", "the", "7", "'s", "'", "s", "!",
        ".", "\u{301}", "e", "\u{e9}", "\u{1100}", "\u{1161}", "\u{212b}", "<|endoftext|>", "<|", "|>",
        "<|padding|>", "_", "\0", "。", "，", "「", "春", "曉", "か", "\u{3099}", "カ", "\u{3000}", "글", "\u{11ab}",
        "\u{2014}", "\u{2019}", "\u{338}", "<", "=", "\u{feff}", "\u{200b}", "\r", "\u{85}", "\u{b7}", "\u{e01}",
        "\u{e34}", "0", "ll", "re", "'re",
    ]), 0..30)) {
        let text = parts.concat();
        let mut whole = Vec::new();
        BOTH[0].encode_segment(&text, &mut whole).unwrap();
        prop_assert_eq!(&BOTH[1].encode(&text).unwrap(), &whole);
        for tokenizer in BOTH.iter() {
            let everywhere = tokenizer.segments.clone().of_at_least(1);
            let mut cut = Vec::new();
            everywhere.split(&text).try_for_each(|piece| tokenizer.encode_segment(piece?, &mut cut)).unwrap();
            prop_assert_eq!(&cut, &whole);
        }
        // Our own decoder against the crate's.
        prop_assert_eq!(BOTH[0].decode(&whole, false), BOTH[0].inner.decode(&whole, false).unwrap());
    }
}
