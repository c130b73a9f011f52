use super::*;
use pythia_gguf::Value;

/// The 243 bytes of UTF-8, then `he`, an end-of-text token and padding.
fn small() -> Vocab {
    let mut tokens: Vec<String> = alphabet::text_letters().map(|(_, letter)| letter.to_string()).collect();
    let mut kinds = vec![TokenKind::Normal; 243];
    for (text, kind) in
        [("he", TokenKind::Normal), ("<|endoftext|>", TokenKind::Control), ("[PAD245]", TokenKind::Unused)]
    {
        tokens.push(text.to_owned());
        kinds.push(kind);
    }
    let merges = vec!["h e".to_owned()];
    let (bos, eos, unk) = (Some(244), Some(244), None);
    Vocab {
        tokens,
        kinds,
        merges,
        bos,
        eos,
        unk,
        pre: "olmo".to_owned(),
        extras: TokenizerExtras::default(),
        huggingface_json: None,
    }
}

fn metadata() -> Metadata {
    let mut m = Metadata::new();
    small().to_metadata(&mut m).unwrap();
    m
}

#[test]
fn round_trips_with_and_without_the_json() {
    for huggingface_json in [None, Some("{\"model\": {}}".to_owned())] {
        let vocab = Vocab { huggingface_json, ..small() };
        let mut m = Metadata::new();
        vocab.to_metadata(&mut m).unwrap();
        assert_eq!(Vocab::from_metadata(&m), Ok(vocab));
    }
}

#[test]
fn accepts_what_older_files_leave_out() {
    let mut m = metadata();
    for key in [keys::TOKEN_TYPE, keys::TOKENIZER_PRE, keys::BOS, keys::ADD_BOS, keys::ADD_EOS] {
        assert!(m.remove(key).is_some(), "{key}");
    }
    let vocab = Vocab::from_metadata(&m).unwrap();
    assert_eq!((vocab.pre.as_str(), vocab.bos, vocab.kinds[244]), ("gpt-2", None, TokenKind::Normal));
}

#[test]
fn the_json_makes_bytes_its_own_affair() {
    let mut m = metadata();
    m.insert(keys::TOKENS, vec!["h".to_owned(), "e".to_owned(), "he".to_owned()]);
    m.insert(keys::TOKEN_TYPE, vec![1i32; 3]);
    m.insert(keys::BOS, 0u32);
    m.insert(keys::EOS, 0u32);
    assert!(Vocab::from_metadata(&m).is_err());
    m.insert(keys::HUGGINGFACE_JSON, "{}");
    assert!(Vocab::from_metadata(&m).is_ok());
    // Not the split, which both readers go by.
    m.insert(keys::TOKENIZER_PRE, "llama-bpe");
    assert!(Vocab::from_metadata(&m).unwrap_err().to_string().contains("found 'llama-bpe'"));
}

#[test]
fn what_llama_cpp_cannot_say_round_trips() {
    let extras = TokenizerExtras {
        unnormalized: true,
        lstrip: vec![244],
        rstrip: vec![1, 244],
        single_word: vec![7],
        other_text: vec![244],
    };
    let vocab = Vocab { extras, ..small() };
    let mut m = Metadata::new();
    vocab.to_metadata(&mut m).unwrap();
    assert_eq!(Vocab::from_metadata(&m), Ok(vocab));
    for (key, value, wanted) in [
        (keys::NORMALIZER, Value::from("NFKC"), "found 'NFKC', wanted 'none'"),
        (keys::LSTRIP, vec![246i32].into(), "found 246, wanted ids below 246"),
        (keys::OTHER_TEXT, vec![-1i32].into(), "found -1, wanted ids"),
        (keys::RSTRIP, 1u32.into(), "wanted an array"),
        (keys::RSTRIP, vec![2i32, 2].into(), "wanted each id once, in ascending order"),
    ] {
        let mut m = m.clone();
        m.insert(key, value);
        let line = Vocab::from_metadata(&m).unwrap_err().to_string();
        assert!(line.contains(key) && line.contains(wanted), "{line}");
    }
}

/// A change to a valid vocabulary, and what the error must say.
type Case = (&'static str, fn(&mut Metadata), &'static str);

fn edit_tokens(m: &mut Metadata, edit: impl FnOnce(&mut Vec<String>)) {
    let mut tokens = m.strings(keys::TOKENS).unwrap().unwrap().to_vec();
    edit(&mut tokens);
    m.insert(keys::TOKENS, tokens);
}

fn edit_kinds(m: &mut Metadata, edit: impl FnOnce(&mut Vec<i32>)) {
    let mut kinds = m.i32s(keys::TOKEN_TYPE).unwrap().unwrap();
    edit(&mut kinds);
    m.insert(keys::TOKEN_TYPE, kinds);
}

fn set_merge(m: &mut Metadata, merge: &str) {
    m.insert(keys::MERGES, vec![merge.to_owned()]);
}

const CASES: &[Case] = &[
    ("no tokens key", |m| drop(m.remove(keys::TOKENS)), "tokens': found no such key"),
    ("tokens a string", |m| m.insert(keys::TOKENS, "a b"), "tokens': found string 'a b', wanted an array of strings"),
    ("tokens numbers", |m| m.insert(keys::TOKENS, vec![1u32]), "found array of 1 u32, wanted an array of strings"),
    (
        "zero tokens",
        |m| {
            m.insert(keys::TOKENS, Vec::<String>::new());
            m.insert(keys::TOKEN_TYPE, Vec::<i32>::new());
        },
        "found no tokens",
    ),
    ("duplicate", |m| edit_tokens(m, |t| t[245] = "he".into()), "found tokens 243 and 245 both 'he'"),
    ("kinds f32", |m| m.insert(keys::TOKEN_TYPE, vec![1f32; 246]), "found array of 246 f32"),
    ("kinds short", |m| edit_kinds(m, |k| k.truncate(245)), "found 245 kinds, wanted 246"),
    ("kinds long", |m| edit_kinds(m, |k| k.push(1)), "found 247 kinds, wanted 246"),
    ("kind 0", |m| edit_kinds(m, |k| k[3] = 0), "found kind 0 of token 3"),
    ("kind 7", |m| edit_kinds(m, |k| k[3] = 7), "found kind 7 of token 3"),
    ("scores u8", |m| m.insert(keys::SCORES, vec![0u8; 246]), "found array of 246 u8, wanted array of 246 f32"),
    ("scores short", |m| m.insert(keys::SCORES, vec![0f32; 3]), "found array of 3 f32"),
    ("no merges", |m| drop(m.remove(keys::MERGES)), "merges': found no such key"),
    ("merge without space", |m| set_merge(m, "he"), "found merge 0, 'he', wanted two pieces"),
    ("merge of three", |m| set_merge(m, "h e l"), "found merge 0, 'h e l', wanted two pieces"),
    ("empty left half", |m| set_merge(m, " e"), "wanted two pieces"),
    ("empty right half", |m| set_merge(m, "h "), "wanted two pieces"),
    ("unknown half", |m| set_merge(m, "he lo"), "'lo' is none"),
    ("unknown whole", |m| set_merge(m, "e h"), "'eh' is none"),
    ("bos past the end", |m| m.insert(keys::BOS, 246u32), "bos_token_id': found 246, wanted an id below 246"),
    ("eos -1", |m| m.insert(keys::EOS, u32::MAX), "eos_token_id': found 4294967295"),
    ("unk past the end", |m| m.insert(keys::UNK, 300u32), "unknown_token_id': found 300"),
    ("add bos", |m| m.insert(keys::ADD_BOS, true), "add_bos_token': found true"),
    ("no model", |m| drop(m.remove(keys::TOKENIZER_MODEL)), "model': found no such key"),
    ("other model", |m| m.insert(keys::TOKENIZER_MODEL, "llama"), "model': found 'llama', wanted 'gpt2'"),
    ("other split", |m| m.insert(keys::TOKENIZER_PRE, "llama-bpe"), "pre': found 'llama-bpe', wanted one of 'olmo', "),
    ("byte missing", |m| edit_tokens(m, |t| t[10] = "x y".into()), "found no token for byte 0x0a, 'Ċ'"),
    ("huge token", |m| edit_tokens(m, |t| t[245] = "x".repeat(65536)), "found token 245 of 65536 bytes"),
    (
        "byte token -1",
        |m| {
            edit_tokens(m, |t| t[245] = "<0x-1>".into());
            edit_kinds(m, |k| k[245] = 6);
        },
        "found token 245, '<0x-1>', of kind byte",
    ),
    (
        "byte token ZZ",
        |m| {
            edit_tokens(m, |t| t[245] = "<0xZZ>".into());
            edit_kinds(m, |k| k[245] = 6);
        },
        "found token 245, '<0xZZ>', of kind byte",
    ),
];

#[test]
fn refuses_vocabularies_that_do_not_fit_together() {
    for (name, change, wanted) in CASES {
        let mut m = metadata();
        change(&mut m);
        let line = Vocab::from_metadata(&m).unwrap_err().to_string();
        assert!(line.starts_with("key 'tokenizer.ggml.") && line.contains(wanted), "{name}: {line}");
    }
}

/// Changes at and beyond every limit: what is written is read back equal, and what would not be is not written.
#[test]
fn what_is_written_is_read_back() {
    let longest = |n: usize| small_with(|v| v.tokens[245] = "x".repeat(n));
    let added = |n: usize, kind: TokenKind| {
        small_with(|v| {
            // Each of its own first letters.
            let texts = (0..n.div_ceil(60_000)).map(|i| format!("{i:060000}"));
            v.tokens.extend(texts);
            v.kinds.resize(v.tokens.len(), kind);
            let last = v.tokens.last_mut().unwrap();
            last.truncate((n - 1) % 60_000 + 1);
        })
    };
    let control = "<|endoftext|>".len();
    let cases: Vec<(&str, Vocab, &str)> = vec![
        ("as it is", small(), ""),
        ("longest token", longest(MAX_TOKEN_BYTES), ""),
        ("longer", longest(MAX_TOKEN_BYTES + 1), "found token 245 of 65536 bytes"),
        ("added tokens", added(MAX_ADDED_BYTES - control, TokenKind::UserDefined), ""),
        ("more", added(MAX_ADDED_BYTES - control + 1, TokenKind::UserDefined), "found added tokens of 131073 bytes"),
        ("control tokens", added(MAX_ADDED_BYTES - control + 1, TokenKind::Control), "added tokens of 131073 bytes"),
        ("others", added(MAX_ADDED_BYTES + 1, TokenKind::Unused), ""),
        ("over 8 MiB", added(MAX_TEXT_BYTES, TokenKind::Unused), "bytes of text, wanted at most 8388608"),
        ("merges", small_with(|v| v.merges = vec!["h e".to_owned(); MAX_MERGES]), ""),
        ("a merge more", small_with(|v| v.merges = vec!["h e".to_owned(); MAX_MERGES + 1]), "found 524289, wanted"),
        ("id", small_with(|v| v.bos = Some(246)), "found 246"),
        ("json", small_with(|v| v.huggingface_json = Some("[]".to_owned())), ""),
        ("large json", small_with(|v| v.huggingface_json = Some("[0,0]".repeat(600_000))), "more than 1048576 values"),
    ];
    for (name, vocab, wanted) in cases {
        let mut m = Metadata::new();
        match (vocab.to_metadata(&mut m), wanted) {
            (Ok(()), "") => assert!(Vocab::from_metadata(&m).as_ref() == Ok(&vocab), "{name}"),
            (Err(e), wanted) => {
                assert!(!wanted.is_empty() && e.to_string().contains(wanted), "{name}: {e}");
                assert!(m.is_empty(), "{name}: partly written");
            }
            (Ok(()), wanted) => panic!("{name}: written, wanted {wanted}"),
        }
    }
}

fn small_with(change: impl FnOnce(&mut Vocab)) -> Vocab {
    let mut vocab = small();
    change(&mut vocab);
    vocab
}

#[test]
fn kinds_of_any_integer_width_are_read() {
    let mut m = metadata();
    let kinds: Vec<u8> = small().kinds.iter().map(|k| k.id() as u8).collect();
    m.insert(keys::TOKEN_TYPE, Value::from(kinds));
    assert_eq!(Vocab::from_metadata(&m), Ok(small()));
}

#[test]
fn every_name_of_the_splitting_rule_is_accepted() {
    for pre in crate::GPT2_PRE_TOKENIZERS {
        let mut m = metadata();
        m.insert(keys::TOKENIZER_PRE, *pre);
        assert_eq!(Vocab::from_metadata(&m).unwrap().pre, *pre);
    }
    // Files without a name, and files of an empty one.
    assert!([DEFAULT_PRE, ""].iter().all(|pre| crate::GPT2_PRE_TOKENIZERS.contains(pre)));
}
