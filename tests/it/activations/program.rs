//! What the program says, and what it refuses.

use super::{PROGRAM, activations, manifest};
use crate::common::{checkpoint, gguf, names};
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;

#[test]
fn the_program_says_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let lines =
        "{\"text\": \"One text.\"}\r\n\n{\"text\": \"Another one, which is longer.\", \"n\": 2}\n{\"text\": [1, 2, 3]}";
    fs::write(dir.path().join("a.jsonl"), lines).unwrap();
    let outcome = activations(dir.path(), &["--jsonl", "a.jsonl", "--hooks", "layers.3,layers.3.mlp", "-o", "out"]);
    assert_eq!(outcome.stderr, "");
    let said = outcome.ok();
    for part in ["folder    out", "files     1, ", "hooks     2", "sequences 3", "(positions: all)"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(names(&dir.path().join("out")), ["activations-00000.safetensors", "manifest.json"]);
    let manifest = manifest(&dir.path().join("out"));
    assert_eq!((&manifest["format"], &manifest["complete"]), (&"pythia-activations/1".into(), &true.into()));
    assert_eq!(manifest["hooks"][0]["shape"], serde_json::json!(["rows", 256]));
    assert_eq!(manifest["source"], serde_json::json!({"kind": "jsonl", "name": "a.jsonl", "field": "text"}));
    let digest = |bytes: &[u8]| pythia_text::hex(&<sha2::Sha256 as sha2::Digest>::digest(bytes));
    let shard = fs::read(dir.path().join("out/activations-00000.safetensors")).unwrap();
    assert_eq!(manifest["shards"][0]["sha256"], digest(&shard));
    assert_eq!(manifest["model"]["files"][0]["sha256"], digest(&fs::read(gguf("Q8_0")).unwrap()));
    let (_, metadata) = SafeTensors::read_metadata(&shard).unwrap();
    let facts = metadata.metadata().as_ref().unwrap();
    assert_eq!((facts["level"].as_str(), facts["activations"].as_str()), ("Q8_0", "int8"));
    assert_eq!(facts["hooks"], "blocks.3.hook_mlp_out,blocks.3.hook_resid_post");

    // The same command finds all of it; another one does not, unless it is forced.
    let again = ["--jsonl", "a.jsonl", "--hooks", "layers.3,layers.3.mlp", "-o", "out", "--json"];
    let report: Value = serde_json::from_str(&activations(dir.path(), &again).ok()).unwrap();
    assert_eq!((&report["reused"], &report["tokens_run"], &report["sequences"]), (&1.into(), &0.into(), &3.into()));
    let other = ["--ids", "1,2,3", "--hooks", "logits", "-o", "out", "--positions", "-1", "-q"];
    activations(dir.path(), &other).fails(PROGRAM, 2, &["out: holds another export: source.kind", "--force"]);
    activations(dir.path(), &[&other[..], &["--force"]].concat()).ok();
    let shard = fs::read(dir.path().join("out/activations-00000.safetensors")).unwrap();
    assert_eq!(SafeTensors::deserialize(&shard).unwrap().tensor("logits").unwrap().shape(), [1, 4096]);

    let list = activations(dir.path(), &["--hooks", "list"]).ok();
    assert_eq!(list.lines().count(), 6 * 16 + 3);
    assert!(list.contains(&format!("{:32} gpt_neox.layers.3.mlp ", "blocks.3.hook_mlp_out")), "{list}");
}

#[test]
fn what_is_wrong_is_said_in_a_line_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    write("empty", b"");
    write("newline", b"\n");
    write("bytes", b"some text \xff and more");
    write("field.jsonl", b"{\"text\": \"x\"}\n{\"body\": \"y\", \"n\": 1}\n");
    write("number.jsonl", b"{\"text\": 3}\n");
    write("words.jsonl", b"{\"text\": [1, \"a\"]}\n");
    write("broken.jsonl", b"{\"text\": \"x\"\n");
    write("bytes.jsonl", b"{\"text\": \"x\"}\n{\"text\": \"\xff\"}\n");
    write("large.ids", b"1 2 3\n4 5000\n");
    write("word.ids", b"1 2 x\n");
    write("text", b"A text.");
    write("long.jsonl", &vec![b'x'; (8 << 20) + 70_000]);
    let heldout = checkpoint().join("heldout.txt");
    let heldout = heldout.to_str().unwrap();
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["-f", "empty"], 65, &["empty: has no tokens"]),
        (&["-f", "newline"], 65, &["newline: has no tokens"]),
        (&["-f", "none"], 74, &["none: No such file"]),
        (&["-f", "bytes"], 65, &["bytes: not UTF-8 at byte 10"]),
        (&["--jsonl", "empty"], 65, &["empty: has no tokens"]),
        (&["--jsonl", "field.jsonl"], 65, &["field.jsonl: line 2: has no field 'text'; found 'body', 'n'"]),
        (&["--jsonl", "number.jsonl"], 65, &["number.jsonl: line 1: 'text' is neither a text nor a list"]),
        (&["--jsonl", "words.jsonl"], 65, &["words.jsonl: line 1: ", "wanted a text or ids"]),
        (&["--jsonl", "broken.jsonl"], 65, &["broken.jsonl: line 1: not the JSON expected"]),
        (&["--jsonl", "bytes.jsonl"], 65, &["bytes.jsonl: not UTF-8 at byte 24"]),
        (&["--jsonl", "long.jsonl"], 65, &["long.jsonl: line 1: found more than 8388608 bytes, wanted at most"]),
        (&["--ids", "large.ids"], 65, &["large.ids: line 2: token id 5000, wanted one below 4096"]),
        (&["--ids", "1,4096"], 65, &["--ids: line 1: token id 4096, wanted one below 4096"]),
        (&["--ids", "word.ids"], 65, &["word.ids: line 1: found 'x', wanted token ids"]),
        (&["--ids", ""], 65, &["--ids: has no tokens"]),
        (&["--ids", "99999999999"], 65, &["--ids: line 1: found '99999999999'"]),
        (&["--ids", "1,2", "--positions", "7"], 65, &["--ids: has no tokens at the positions"]),
        (&["--ids", "1,2", "--positions", "1-2"], 2, &["found '1-2', wanted all, last, or a list"]),
        (&["--ids", "1,2", "--format", "npz", "--dtype", "bf16"], 2, &["dtype: NumPy has no bf16"]),
        (&["--ids", "1,2", "-c", "513"], 2, &["window: found 513 tokens, wanted 1 to the model's context of 512"]),
        (&["--ids", "1,2", "-c", "1", "--bos"], 2, &["window: found 1 tokens, wanted 2"]),
        (&["--ids", "1,2", "--jsonl", "field.jsonl"], 2, &["cannot be used with"]),
        (&["--ids", "1,2", "--field", "x"], 2, &["--field", "cannot be used with"]),
        (&["--field", "x"], 2, &["--jsonl <FILE>"]),
        (&["--ids", "1,2", "--shard-size", "1K"], 2, &["text 0: its 2 tokens take ", "more than a shard of 1.0 kB"]),
        // 6 layers, 8 heads, 512 x 512 of 4 bytes.
        (
            &["-f", heldout, "--hooks", "blocks.*.attn.hook_pattern", "--shard-size", "40M"],
            2,
            &["its 512 tokens take 5", " MB at these hooks, more than a shard of 40.0 MB", "grow with the square"],
        ),
        (&["--ids", "1,2", "--hooks", "blocks.9.hook_z"], 2, &["hook 'blocks.9.hook_z': the model has none"]),
    ];
    for (args, code, parts) in cases {
        let args = [*args, &["--hooks", "layers.0", "-o", "new/out", "-q"]].concat();
        activations(dir.path(), &args).fails(PROGRAM, *code, parts);
        assert!(!dir.path().join("new").exists(), "{args:?}");
    }
    // A folder of somebody else stays as it is, with --force too.
    fs::create_dir(dir.path().join("theirs")).unwrap();
    fs::write(dir.path().join("theirs/thesis.tex"), "x").unwrap();
    for more in [&[][..], &["--force"]] {
        let args = [&["--ids", "1", "--hooks", "layers.0", "-o", "theirs"], more].concat();
        activations(dir.path(), &args).fails(
            PROGRAM,
            2,
            &["theirs: contains thesis.tex, which is no part of an export"],
        );
    }
    assert_eq!(names(&dir.path().join("theirs")), ["thesis.tex"]);
    fs::remove_file(dir.path().join("theirs/thesis.tex")).unwrap();
    fs::write(dir.path().join("theirs/manifest.json"), "{\"format\": \"x\"}").unwrap();
    let args = ["--ids", "1", "--hooks", "layers.0", "-o", "theirs"];
    activations(dir.path(), &args).fails(
        PROGRAM,
        65,
        &["theirs/manifest.json: not a manifest of pythia-activations/1"],
    );
    activations(dir.path(), &["--ids", "1", "--hooks", "layers.0"]).fails(PROGRAM, 2, &["wanted -o DIR"]);
    activations(dir.path(), &["--ids", "1", "--hooks", "layers.0", "-o", "text"]).fails(PROGRAM, 2, &["not a folder"]);
    // Texts without tokens keep their place.
    write("some.jsonl", b"{\"text\": \"\"}\n{\"text\": \"x\"}\n");
    let outcome = activations(dir.path(), &["--jsonl", "some.jsonl", "--hooks", "layers.0", "-o", "some"]);
    assert_eq!(outcome.stderr, "warning: 1 text without tokens; they have no rows\n");
    assert!(outcome.ok().contains("sequences 2"));
}
