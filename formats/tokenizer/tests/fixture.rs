//! The tokenizers of real models.

use pythia_tokenizer::{ForModel, TokenKind, TokenizerFile};
use std::path::Path;

#[test]
fn the_tokenizer_in_the_repository_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let model = ForModel { n_vocab: 4096, bos: Some(0), eos: Some(0) };
    let file = TokenizerFile::find(&folder, &model).unwrap().unwrap();
    assert_eq!((file.notes(), file.is_built), (Vec::new(), false));
    let vocab = file.vocab;
    assert_eq!(vocab.huggingface_json, std::fs::read_to_string(folder.join("tokenizer.json")).ok());
    assert_eq!((vocab.bos, vocab.eos, vocab.unk), (Some(0), Some(0), Some(0)));
    assert_eq!((vocab.tokens.len(), vocab.kinds.len()), (4096, 4096));
    assert_eq!(vocab.tokens[..3], ["<|endoftext|>", "<|padding|>", "!"]);
    assert_eq!((vocab.tokens[4072].as_str(), vocab.tokens[4094].as_str()), (" ".repeat(24).as_str(), "  "));
    assert_eq!(vocab.tokens[4095], "[PAD4095]");
    for (id, kind) in vocab.kinds.iter().enumerate() {
        let wanted = match id {
            0..2 => TokenKind::Control,
            2..4072 => TokenKind::Normal,
            4072..4095 => TokenKind::UserDefined,
            _ => TokenKind::Unused,
        };
        assert_eq!(*kind, wanted, "id {id}");
    }
    assert_eq!(vocab.merges[..3], ["Ġ Ġ", "Ġ t", "i n"]);
    // One merge for every piece that is not a byte or special.
    assert_eq!(vocab.merges.len(), 4072 - 2 - 256);
}

/// The tokenizer of the published models is not part of the repository.
#[test]
fn the_published_tokenizer_is_read() {
    let Some(folder) = std::env::var_os("PYTHIA_GOLDENS") else {
        eprintln!("SKIPPED: PYTHIA_GOLDENS does not name the folder of models/gpt-neox-20b/tokenizer.json");
        return;
    };
    let path = Path::new(&folder).join("models/gpt-neox-20b/tokenizer.json");
    let model = ForModel { n_vocab: 50304, bos: Some(0), eos: Some(0) };
    let absent = path.with_file_name("tokenizer_config.json");
    let vocab = TokenizerFile::open(&path, &absent, &model).unwrap().vocab;
    assert_eq!((vocab.bos, vocab.eos, vocab.unk), (Some(0), Some(0), None));
    assert_eq!((vocab.tokens.len(), vocab.merges.len()), (50304, 50009));
    let count = |kind| vocab.kinds.iter().filter(|k| **k == kind).count();
    assert_eq!([TokenKind::Control, TokenKind::UserDefined, TokenKind::Unused].map(count), [2, 23, 27]);
    assert_eq!(vocab.kinds[50253..50255], [TokenKind::Normal, TokenKind::UserDefined]);
    assert_eq!(vocab.tokens[50277], "[PAD50277]");
}
