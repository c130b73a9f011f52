//! Token ids and texts against Hugging Face's own, from an embedded `tokenizer.json` and from the GGUF keys alone.

use crate::common;
use pythia_gguf::{Gguf, keys};
use pythia_runtime::{TextStream, Tokenizer};
use pythia_tokenizer::{ForModel, TokenizerFile};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// Compares ids and decoded text of every line of a golden file.
fn check(goldens: &Path, tokenizer: &Tokenizer) {
    let goldens = std::fs::read_to_string(goldens).unwrap();
    assert!(goldens.lines().count() > 30);
    for line in goldens.lines() {
        let golden: Value = serde_json::from_str(line).unwrap();
        let text = golden["text"].as_str().unwrap();
        let want: Vec<u32> = golden["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids, want, "ids of {text:?}");
        let decoded = golden["decoded"].as_str().unwrap();
        assert_eq!(tokenizer.decode(&ids, false), decoded, "text of the ids of {text:?}");
        let mut stream = TextStream::new();
        let mut streamed: String = ids.iter().map(|&id| stream.push(tokenizer.token_bytes(id))).collect();
        streamed += &stream.finish();
        assert_eq!(streamed, decoded, "streamed text of the ids of {text:?}");
    }
}

#[test]
fn docs_tokenizer_matches_hugging_face() {
    let bytes = std::fs::read(common::gguf("Q4_0")).unwrap();
    let mut metadata = Gguf::parse(&bytes).unwrap().metadata;
    let goldens = common::data("goldens/tokenizer.jsonl");
    check(&goldens, &Tokenizer::from_gguf(&metadata).unwrap());
    // As in a file that llama.cpp's converter made.
    metadata.remove(keys::HUGGINGFACE_JSON).expect("the converter embeds tokenizer.json");
    check(&goldens, &Tokenizer::from_gguf(&metadata).unwrap());
}

#[test]
fn pythia_tokenizer_matches_hugging_face() {
    let (Some(json), Some(goldens)) =
        (common::shared("models/gpt-neox-20b/tokenizer.json"), common::shared("goldens/tokenizer_20b.jsonl"))
    else {
        return;
    };
    let model = ForModel { n_vocab: 50_304, bos: Some(0), eos: Some(0) };
    let file = TokenizerFile::open(&json, &json.with_file_name("tokenizer_config.json"), &model).unwrap();
    let vocab = file.vocab;
    let embedded = Tokenizer::from_vocab(&vocab).unwrap();
    assert_eq!((embedded.n_tokens(), embedded.eos()), (50_277, Some(0)));
    check(&goldens, &embedded);
    check(&goldens, &Tokenizer::rebuilt(&vocab).unwrap());
}

/// Time per byte must not grow with the length of the text.
#[test]
fn long_texts_take_linear_time() {
    let bytes = std::fs::read(common::gguf("Q4_0")).unwrap();
    let tokenizer = Tokenizer::from_gguf(&Gguf::parse(&bytes).unwrap().metadata).unwrap();
    let text = std::fs::read_to_string(common::checkpoint().join("heldout.txt")).unwrap();
    let time = |text: &str| -> Duration {
        let start = Instant::now();
        assert!(tokenizer.encode(text).unwrap().len() > text.len() / 20);
        start.elapsed()
    };
    time(&text);
    // A hundred times the length in quadratic time would take 10,000 times as long; other programs may slow this down.
    let (short, long) = (time(&text[..text.floor_char_boundary(text.len() / 8)]), time(&text.repeat(12)));
    assert!(long < short * 96 * 8, "{short:?} for an eighth of the text, {long:?} for twelve times the text");
    // Nowhere to cut, and one run of white space or of letters.
    time(&"\n".repeat(300_000));
    time(&"word".repeat(100_000));
}
