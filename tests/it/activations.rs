//! `pythia-run activations` and `pythia_inside::export`: the values are those of a pass over each text alone, and a run
//! that is stopped anywhere goes on to the same bytes.

use crate::common::{self, Outcome, PYTHIA_RUN, checkpoint, file, gguf, names, printed, python, run_model};
use half::{bf16, f16};
use pythia_inside::export::{
    Dtype, Format, Input, Kind, Options, Positions, Request, SHARD_BYTES, Summary, Tally, export,
};
use pythia_inside::{Array, Cache, Change, Changes, Error, Selection, run_with_cache};
use pythia_model::Model;
use pythia_runtime::{Text, Tokenizer};
use pythia_task::{Cancel, Progress};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PROGRAM: &str = "pythia-run";

/// A model, its tokenizer and what a test asks of them.
struct Case {
    model: Arc<Model>,
    tokenizer: Tokenizer,
    options: Options,
}

impl Case {
    fn open(path: &Path, hooks: &[&str]) -> Self {
        let model = Model::open(path, &pythia_model::Options::default()).unwrap();
        let tokenizer = Tokenizer::from_gguf(&model.gguf().metadata).unwrap();
        let options = Options {
            selection: Selection::parse(hooks, model.hparams()).unwrap(),
            positions: Positions::all(),
            dtype: Dtype::F32,
            format: Format::Safetensors,
            window: model.hparams().n_ctx,
            bos: None,
            shard_bytes: SHARD_BYTES,
            max_sequences: None,
        };
        Self { model, tokenizer, options }
    }

    fn q8(hooks: &[&str]) -> Self {
        Self::open(&gguf("Q8_0"), hooks)
    }

    fn run(&self, text: &Text, kind: Kind, folder: &Path) -> Result<Summary, Error> {
        self.run_with(text, kind, folder, &Cancel::new(), &())
    }

    fn run_with(
        &self,
        text: &Text,
        kind: Kind,
        folder: &Path,
        cancel: &Cancel,
        progress: &dyn Progress,
    ) -> Result<Summary, Error> {
        let request =
            Request { options: &self.options, model_files: Vec::new(), program: "a test", force: false, cancel };
        export(&self.model, &self.tokenizer, &Input { text, kind }, folder, &request, progress)
    }

    /// What a pass over these tokens alone shows.
    fn cache(&self, ids: &[u32]) -> Cache {
        run_with_cache(&self.model, ids, &self.options.selection, &Cancel::new()).unwrap()
    }
}

/// A list of token ids per line.
fn ids(texts: &[Vec<u32>]) -> Text {
    let line = |ids: &Vec<u32>| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    Text::literal(&texts.iter().map(line).collect::<Vec<_>>().join("\n"), "ids")
}

/// Token ids without a meaning, `n` of them.
fn some_ids(n: usize, seed: u32) -> Vec<u32> {
    (0..n as u32).map(|i| i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) % 4090).collect()
}

/// The arrays of all shards: bytes and shape by name. Arrays with a row per position are joined.
struct Arrays(BTreeMap<String, (Vec<usize>, Vec<u8>)>);

impl Arrays {
    fn read(folder: &Path, summary: &Summary) -> Self {
        let mut all: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
        for shard in &summary.shards {
            let bytes = fs::read(folder.join(&shard.file)).unwrap();
            assert_eq!(bytes.len() as u64, shard.bytes);
            let tensors = SafeTensors::deserialize(&bytes).unwrap();
            for (name, view) in tensors.tensors() {
                let start = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
                assert!(start.is_multiple_of(view.dtype().bitsize() / 8), "{name} is aligned");
                match all.get_mut(&name) {
                    None => drop(all.insert(name, (view.shape().to_vec(), view.data().to_vec()))),
                    Some((shape, data)) => {
                        shape[0] += view.shape()[0];
                        data.extend_from_slice(view.data());
                    }
                }
            }
        }
        Self(all)
    }

    fn numbers<const N: usize, T>(&self, name: &str, number: fn([u8; N]) -> T) -> Vec<T> {
        let (_, data) = self.0.get(name).unwrap_or_else(|| panic!("an array {name}"));
        data.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)).collect()
    }

    fn i32(&self, name: &str) -> Vec<i32> {
        self.numbers(name, i32::from_le_bytes)
    }

    fn i64(&self, name: &str) -> Vec<i64> {
        self.numbers(name, i64::from_le_bytes)
    }

    fn f32(&self, name: &str) -> Array {
        Array { shape: self.0[name].0.clone(), data: self.numbers(name, f32::from_le_bytes) }
    }
}

/// Bit for bit.
fn assert_same(found: &[f32], wanted: &[f32], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let at = found.iter().zip(wanted).position(|(a, b)| a.to_bits() != b.to_bits());
    assert_eq!(at, None, "{what}");
}

/// Some rows of an array `[n, ...]`.
fn rows_of(array: &Array, rows: &[usize]) -> Vec<f32> {
    let width = array.data.len() / array.shape[0];
    rows.iter().flat_map(|row| array.data[row * width..][..width].iter().copied()).collect()
}

/// The shipped model with a context that is longer than a batch.
fn long_model(folder: &Path) -> PathBuf {
    let path = folder.join("long.gguf");
    let longer = |metadata: &mut pythia_gguf::Metadata| metadata.insert("gptneox.context_length", 1300u32);
    fs::write(&path, file::with_metadata(&fs::read(gguf("Q8_0")).unwrap(), longer)).unwrap();
    path
}

/// Checks a whole export of these texts, each of one sequence, against passes over each alone.
fn check_against_passes(case: &Case, texts: &[Vec<u32>], folder: &Path, summary: &Summary) {
    let arrays = Arrays::read(folder, summary);
    let mut first_row = 0;
    let (tokens, places) = (arrays.i32("tokens"), arrays.i32("positions"));
    for (i, ids) in texts.iter().enumerate() {
        let positions = case.options.positions.of(ids.len());
        let rows = first_row..first_row + positions.len();
        first_row = rows.end;
        let chosen: Vec<i32> = positions.iter().map(|&at| ids[at] as i32).collect();
        assert_eq!(tokens[rows.clone()], chosen, "text {i}");
        assert!(places[rows.clone()].iter().map(|&at| at as usize).eq(positions.iter().copied()), "text {i}");
        if positions.is_empty() {
            continue;
        }
        for (hook, array) in &case.cache(ids).into_iter().collect::<Vec<_>>() {
            let name = hook.to_string();
            if let Some((shape, _)) = arrays.0.get(&name) {
                let found = arrays.f32(&name);
                assert_eq!(shape[1..], array.shape[1..], "{name}");
                let found = rows_of(&found, &rows.clone().collect::<Vec<_>>());
                assert_same(&found, &rows_of(array, &positions), &format!("{name} of text {i}"));
            } else {
                let found = arrays.f32(&format!("{name}/{i}"));
                let n_head = array.shape[0];
                assert_eq!(found.shape, [n_head, positions.len(), ids.len()], "{name}");
                let queries = (0..n_head).flat_map(|head| positions.iter().map(move |at| head * ids.len() + at));
                let flat = Array { shape: vec![n_head * ids.len(), ids.len()], data: array.data.clone() };
                assert_same(&found.data, &rows_of(&flat, &queries.collect::<Vec<_>>()), &format!("{name} of text {i}"));
            }
        }
        if !case.options.positions.is_all() && arrays.0.keys().any(|name| name.contains("hook_pattern")) {
            let keys = arrays.i32(&format!("tokens/{i}"));
            assert!(keys.iter().map(|&id| id as u32).eq(ids.iter().copied()), "the keys of text {i}");
        }
    }
    assert_eq!(tokens.len(), first_row, "no more rows");
}

#[test]
fn every_hook_has_the_bits_of_a_pass_over_each_text_alone() {
    let case = Case::q8(&["*"]);
    // Short ones that share batches, of many lengths, out of order, and one that fills a batch.
    let lengths = [7, 1, 40, 300, 16, 17, 2, 33, 512, 5, 130, 64];
    let texts: Vec<Vec<u32>> = lengths.iter().enumerate().map(|(i, &n)| some_ids(n, i as u32)).collect();
    let dir = tempfile::tempdir().unwrap();
    let summary = case.run(&ids(&texts), Kind::Ids, dir.path()).unwrap();
    assert_eq!((summary.shards.len(), summary.tally()), (1, Tally::default()));
    assert_eq!(summary.tokens_run, lengths.iter().sum::<usize>() as u64);
    check_against_passes(&case, &texts, dir.path(), &summary);
    let arrays = Arrays::read(dir.path(), &summary);
    assert_eq!(arrays.0.len(), 4 + case.options.selection.hooks().len() - 12 + 12 * texts.len());
    let offsets = arrays.i64("offsets");
    assert_eq!((offsets.len(), offsets[0]), (texts.len() + 1, 0));
    assert!(offsets.windows(2).map(|pair| pair[1] - pair[0]).eq(lengths.iter().map(|&n| n as i64)));
    assert!(arrays.i64("texts").iter().copied().eq(0..texts.len() as i64));
}

#[test]
fn a_text_that_takes_several_batches_has_the_bits_of_one_pass() {
    let dir = tempfile::tempdir().unwrap();
    let hooks = ["blocks.2.*", "blocks.5.hook_resid_post", "ln_final.hook_normalized", "logits"];
    let mut case = Case::open(&long_model(dir.path()), &hooks);
    let texts = [some_ids(1300, 1), some_ids(513, 2), some_ids(20, 3)];
    for positions in ["all", "0,3,511:514,-1", "600:700:7"] {
        case.options.positions = positions.parse().unwrap();
        let folder = dir.path().join(positions.replace(':', "-"));
        let summary = case.run(&ids(&texts), Kind::Ids, &folder).unwrap();
        check_against_passes(&case, &texts, &folder, &summary);
        let unseen = if positions == "600:700:7" { 2 } else { 0 };
        assert_eq!(summary.without_rows, unseen, "{positions}");
        let run = if positions == "600:700:7" { 699 } else { 1833 };
        assert_eq!(summary.tokens_run, run, "{positions}: what follows the last position is not run");
    }
}

#[test]
fn positions_are_counted_in_each_text() {
    let mut case = Case::q8(&["blocks.3.attn.hook_pattern", "blocks.*.hook_mlp_out", "logits"]);
    let texts = [some_ids(9, 1), some_ids(3, 2), some_ids(100, 3), some_ids(1, 4)];
    let dir = tempfile::tempdir().unwrap();
    for positions in ["last", "0,5,-1", "2:", "::3"] {
        case.options.positions = positions.parse().unwrap();
        let folder = dir.path().join(positions.replace(':', "-"));
        let summary = case.run(&ids(&texts), Kind::Ids, &folder).unwrap();
        check_against_passes(&case, &texts, &folder, &summary);
    }
}

#[test]
fn a_long_text_is_cut_into_windows_and_each_begins_with_bos_if_asked() {
    let text = Text::open(&checkpoint().join("heldout.txt")).unwrap();
    let mut case = Case::q8(&["layers.4"]);
    let all = case.tokenizer.encode(&text.reader().unwrap().read_all(usize::MAX).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for bos in [None, Some(0)] {
        case.options.bos = bos;
        (case.options.window, case.options.max_sequences) = (100, Some(7));
        let folder = dir.path().join(format!("{bos:?}"));
        let summary = case.run(&text, Kind::Text, &folder).unwrap();
        let step = if bos.is_some() { 99 } else { 100 };
        let window = |ids: &[u32]| bos.into_iter().chain(ids.iter().copied()).collect();
        let windows: Vec<Vec<u32>> = all.chunks(step).take(7).map(window).collect();
        check_against_passes(&case, &windows, &folder, &summary);
        assert_eq!(Arrays::read(&folder, &summary).i64("texts"), [0; 7]);
    }
    // Without a limit the last window is what is left.
    (case.options.bos, case.options.max_sequences) = (None, None);
    case.options.window = 512;
    case.options.positions = Positions::last();
    let folder = dir.path().join("whole");
    let summary = case.run(&text, Kind::Text, &folder).unwrap();
    let arrays = Arrays::read(&folder, &summary);
    assert_eq!(arrays.i32("tokens").len(), all.len().div_ceil(512));
    assert_eq!(*arrays.i32("tokens").last().unwrap(), *all.last().unwrap() as i32);
    assert_eq!(*arrays.i32("positions").last().unwrap() as usize, (all.len() - 1) % 512);
}

#[test]
fn halves_are_rounded_from_the_same_values() {
    let mut case = Case::q8(&["blocks.1.hook_resid_post", "blocks.1.attn.hook_attn_scores"]);
    let texts = [some_ids(30, 1), some_ids(11, 2)];
    let dir = tempfile::tempdir().unwrap();
    let mut export = |dtype: Dtype, name: &str| {
        case.options.dtype = dtype;
        let folder = dir.path().join(name);
        let summary = case.run(&ids(&texts), Kind::Ids, &folder).unwrap();
        assert_eq!(summary.tally(), Tally::default(), "masked scores are infinite by intent");
        Arrays::read(&folder, &summary)
    };
    let (exact, half, brain) = (export(Dtype::F32, "a"), export(Dtype::F16, "b"), export(Dtype::Bf16, "c"));
    for name in ["blocks.1.hook_resid_post", "blocks.1.attn.hook_attn_scores/1"] {
        let exact = exact.f32(name).data;
        let round = |to: fn(f32) -> [u8; 2]| exact.iter().flat_map(|&x| to(x)).collect::<Vec<u8>>();
        assert!(half.0[name].1 == round(|x| f16::from_f32(x).to_le_bytes()), "{name} as f16");
        assert!(brain.0[name].1 == round(|x| bf16::from_f32(x).to_le_bytes()), "{name} as bf16");
    }
}

/// Raises its flag when so many tokens are done.
struct StopAt {
    left: AtomicU64,
    cancel: Cancel,
}

impl Progress for StopAt {
    fn advance(&self, _: &str, tokens: i64) {
        let tokens = tokens as u64;
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(tokens)).is_err() {
            self.cancel.raise();
        }
    }
}

/// The files of a folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    names(folder).into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
}

#[test]
fn a_run_that_is_stopped_anywhere_goes_on_to_the_same_bytes() {
    let mut case = Case::q8(&["blocks.*.hook_mlp_out"]);
    (case.options.window, case.options.max_sequences) = (40, Some(30));
    // Five windows of 40 tokens, 6 layers and 256 columns.
    case.options.shard_bytes = 5 * (40 * (6 * 256 * 4 + 8) + 16);
    let dir = tempfile::tempdir().unwrap();
    let text = Text::open(&checkpoint().join("heldout.txt")).unwrap();
    for format in [Format::Safetensors, Format::Npz] {
        case.options.format = format;
        let whole = dir.path().join(format.extension());
        assert_eq!(case.run(&text, Kind::Text, &whole).unwrap().shards.len(), 6);
        let wanted = files(&whole);
        assert_eq!(wanted.len(), 7);
        for tokens in [0, 200, 300, 450, 800, 1100] {
            let folder = dir.path().join(format!("{tokens}.{}", format.extension()));
            let cancel = Cancel::new();
            let stop = StopAt { left: AtomicU64::new(tokens), cancel: cancel.clone() };
            let error = case.run_with(&text, Kind::Text, &folder, &cancel, &stop).unwrap_err();
            assert_eq!(error.kind(), pythia_task::ErrorKind::Cancelled, "{error}");
            // What is there is whole, and the manifest says so.
            let n_whole = if folder.exists() { names(&folder).len().saturating_sub(1) } else { 0 };
            assert!(n_whole as u64 >= tokens.saturating_sub(200) / 200, "{n_whole} after {tokens}");
            if n_whole > 0 {
                let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
                assert_eq!(manifest["complete"], false);
                assert_eq!(manifest["shards"].as_array().unwrap().len(), n_whole);
            }
            let summary = case.run(&text, Kind::Text, &folder).unwrap();
            assert_eq!(summary.reused, n_whole);
            assert!(files(&folder) == wanted, "after {tokens} tokens");
            // Nothing is left to do.
            let again = case.run(&text, Kind::Text, &folder).unwrap();
            assert_eq!((again.reused, again.tokens_run, again.shards), (6, 0, summary.shards));
        }
    }
}

#[test]
fn another_text_or_other_options_do_not_go_on() {
    let mut case = Case::q8(&["blocks.0.hook_mlp_out"]);
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("out");
    case.run(&ids(&[some_ids(20, 1), some_ids(5, 2)]), Kind::Ids, &folder).unwrap();
    let before = files(&folder);
    let text = |seed| ids(&[some_ids(20, 1), some_ids(5, seed)]);
    let refused = |case: &Case, text: &Text, parts: &[&str]| {
        let error = case.run(text, Kind::Ids, &folder).unwrap_err();
        assert_eq!(error.kind(), pythia_task::ErrorKind::Usage);
        for part in parts.iter().chain(&["holds another export: ", "--force replaces it"]) {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(files(&folder) == before);
    };
    refused(&case, &text(3), &["the texts of shard 0"]);
    case.options.window = 100;
    refused(&case, &text(2), &["options.window is 512 there, 100 here"]);
    case.options.window = 512;
    case.options.positions = Positions::last();
    refused(&case, &text(2), &[r#"options.positions is "all" there, "last" here"#]);
    let other = Case::q8(&["blocks.1.hook_mlp_out"]);
    refused(&other, &text(2), &[r#"hooks.name is "blocks.0.hook_mlp_out" there, "blocks.1.hook_mlp_out" here"#]);
    let other = Case::q8(&["blocks.*.hook_mlp_out"]);
    refused(&other, &text(2), &["hooks: 1 there, 6 here"]);
    let other = Case::open(&gguf("F32"), &["blocks.0.hook_mlp_out"]);
    refused(&other, &text(2), &[r#"model.level is "Q8_0" there, "F32" here"#]);

    // A shard that is not what the manifest says is not taken over.
    let case = Case::q8(&["blocks.0.hook_mlp_out"]);
    fs::write(folder.join("activations-00000.safetensors"), "short").unwrap();
    let error = case.run(&text(2), Kind::Ids, &folder).unwrap_err().to_string();
    assert!(error.contains("activations-00000.safetensors: found 5 bytes, wanted the "), "{error}");
}

/// A changed model is told from another one with the same description by its numbers.
#[test]
fn a_model_that_is_changed_otherwise_does_not_go_on() {
    let mut case = Case::q8(&["blocks.2.hook_resid_post"]);
    let plain = Arc::clone(&case.model);
    let steered = |x: f32| {
        let h = plain.hparams();
        let change = Change::steer(h, 1, &vec![x; h.n_embd], 1.0, "v.safetensors").unwrap();
        Changes::new(vec![change]).of(&plain)
    };
    let dir = tempfile::tempdir().unwrap();
    let (folder, text) = (dir.path().join("out"), ids(&[some_ids(20, 1)]));
    case.model = steered(0.5);
    case.run(&text, Kind::Ids, &folder).unwrap();
    assert_eq!(case.run(&text, Kind::Ids, &folder).unwrap().reused, 1);
    case.model = steered(0.25);
    let error = case.run(&text, Kind::Ids, &folder).unwrap_err().to_string();
    assert!(error.contains("holds another export: changes_sha256 is "), "{error}");
    case.model = plain;
    let error = case.run(&text, Kind::Ids, &folder).unwrap_err().to_string();
    assert!(error.contains("holds another export: changes: 1 there, 0 here"), "{error}");
}

/// Two runs would mix their shards, and a file that is read must not be removed.
#[test]
fn a_folder_is_written_by_one_run_and_is_not_read_from() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("out");
    let args = ["--ids", "1,2,3", "--hooks", "layers.3", "-o", "out", "-q"];
    activations(dir.path(), &args).ok();
    let held = fs::File::open(&folder).unwrap();
    if held.try_lock().is_ok() {
        activations(dir.path(), &[&args[..], &["--force"]].concat()).fails(
            PROGRAM,
            2,
            &["out: another run is writing here"],
        );
        held.unlock().unwrap();
    }
    let patch = ["--patch", "layers.3=out/activations-00000.safetensors", "--force"];
    activations(dir.path(), &[&args[..], &patch].concat()).fails(PROGRAM, 2, &["is read, and lies in out"]);
    activations(dir.path(), &args).ok();
    // A manifest of something else is not removed either.
    fs::remove_file(folder.join("activations-00000.safetensors")).unwrap();
    fs::write(folder.join("manifest.json"), r#"{"name": "my web app"}"#).unwrap();
    activations(dir.path(), &[&args[..], &["--force"]].concat()).fails(
        PROGRAM,
        65,
        &["manifest.json: not a manifest of"],
    );
    assert_eq!(names(&folder), ["manifest.json"]);
}

/// Without a manifest nobody knows what later shards are of.
#[test]
fn shards_that_no_manifest_lists_are_not_left_beside_an_export() {
    let mut case = Case::q8(&["blocks.0.hook_mlp_out"]);
    case.options.shard_bytes = 30 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("out");
    let texts = |n: usize| ids(&(0..n).map(|i| some_ids(20, i as u32)).collect::<Vec<_>>());
    assert!(case.run(&texts(4), Kind::Ids, &folder).unwrap().shards.len() > 2);
    fs::remove_file(folder.join("manifest.json")).unwrap();
    let error = case.run(&texts(1), Kind::Ids, &folder).unwrap_err().to_string();
    assert!(error.contains("but no manifest.json that lists it (--force removes what is there)"), "{error}");
    for name in names(&folder).iter().filter(|name| !name.starts_with("activations-00000")) {
        fs::remove_file(folder.join(name)).unwrap();
    }
    case.run(&texts(1), Kind::Ids, &folder).unwrap();
    // A text that has grown: complete again at the end.
    let summary = case.run(&texts(2), Kind::Ids, &folder).unwrap();
    assert!(summary.reused == 1 && summary.shards.len() == 2);
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["complete"], true);
}

/// Runs `activations` with these words after the model.
fn activations(folder: &Path, args: &[&str]) -> Outcome {
    let model = gguf("Q8_0");
    run_model(folder, ["activations", "-m", model.to_str().unwrap()].iter().chain(args))
}

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
    let manifest: Value = serde_json::from_slice(&fs::read(dir.path().join("out/manifest.json")).unwrap()).unwrap();
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

#[test]
fn scores_that_would_be_huge_are_refused_with_their_size() {
    let dir = tempfile::tempdir().unwrap();
    let text = checkpoint().join("heldout.txt");
    let args = ["-f", text.to_str().unwrap(), "--hooks", "blocks.*.attn.hook_pattern", "-o", "out"];
    // 6 layers, 8 heads, 512 x 512 of 4 bytes.
    let args = [&args[..], &["--shard-size", "40M"]].concat();
    let parts = ["its 512 tokens take 50.3 MB at these hooks, more than a shard of 40.0 MB", "grow with the square"];
    activations(dir.path(), &args).fails(PROGRAM, 2, &parts);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn values_that_are_no_numbers_are_exported_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(gguf("F32")).unwrap();
    let header = pythia_gguf::Gguf::parse(&bytes).unwrap();
    let norm = header.tensors().iter().find(|tensor| tensor.name == "blk.3.attn_norm.bias").unwrap().offset as usize;
    bytes[norm..norm + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(dir.path().join("nan.gguf"), &bytes).unwrap();
    bytes[norm..norm + 4].copy_from_slice(&1e6f32.to_le_bytes());
    fs::write(dir.path().join("large.gguf"), &bytes).unwrap();
    let run = |model: &str, dtype: &str| {
        let args = ["activations", "-m", model, "--ids", "5,6,7", "--hooks", "blocks.3.ln1.hook_normalized"];
        let outcome = run_model(dir.path(), args.iter().chain(&["-o", dtype, "--dtype", dtype, "--force"]));
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome.stderr
    };
    let line = "warning: 3 values are NaN or infinite: the weights are damaged or overflow\n";
    assert_eq!(run("nan.gguf", "f32"), line);
    for (dtype, warned) in [("f16", true), ("bf16", false), ("f32", false)] {
        let line = "warning: 3 values are too large for f16 and became infinite; --dtype f32 keeps them\n";
        assert_eq!(run("large.gguf", dtype), if warned { line } else { "" });
        let manifest: Value =
            serde_json::from_slice(&fs::read(dir.path().join(dtype).join("manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest["shards"][0]["overflowed"], if warned { 3 } else { 0 });
    }
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (model, text) = (gguf("Q8_0"), checkpoint().join("heldout.txt"));
    let args = |folder: &'static str| {
        let fixed = [
            "activations",
            "-m",
            model.to_str().unwrap(),
            "-f",
            text.to_str().unwrap(),
            "--hooks",
            "blocks.*.hook_resid_post",
        ];
        let more = ["-c", "128", "--chunks", "200", "--shard-size", "8M", "-q", "-o", folder];
        fixed.iter().chain(&more).map(|&arg| arg.to_owned()).collect::<Vec<_>>()
    };
    run_model(dir.path(), args("whole")).ok();
    let wanted = files(&dir.path().join("whole"));
    assert!(wanted.len() > 10, "{}", wanted.len());
    let folder = dir.path().join("killed");
    let mut kills = 0;
    for shard in [0, 1, 4, 8] {
        let mut command = Command::new(PYTHIA_RUN);
        command.env("PYTHIA_CACHE", common::scratch().join("cache")).args(args("killed")).current_dir(dir.path());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        let begun = |name: &String| name.starts_with(&format!(".activations-{shard:05}"));
        while !(folder.exists() && names(&folder).iter().any(begun)) && child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(60), "shard {shard} is not begun");
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        kills += usize::from(!child.wait().unwrap().success());
    }
    assert!(kills > 0, "all runs ended before they could be killed");
    run_model(dir.path(), args("killed")).ok();
    assert!(files(&folder) == wanted, "{:?}", names(&folder));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_says_how_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (model, text) = (gguf("Q8_0"), checkpoint().join("heldout.txt"));
    let mut command = Command::new(PYTHIA_RUN);
    command.env("PYTHIA_CACHE", common::scratch().join("cache")).current_dir(dir.path());
    command.args([
        "activations",
        "-m",
        model.to_str().unwrap(),
        "-f",
        text.to_str().unwrap(),
        "--hooks",
        "blocks.*.hook_resid_post",
    ]);
    command.args(["--shard-size", "4M", "-o", "out", "-q"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let start = Instant::now();
    while !dir.path().join("out/manifest.json").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no manifest");
        std::thread::sleep(Duration::from_micros(200));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let outcome = Outcome::from(child.wait_with_output().unwrap());
    outcome.stopped(PROGRAM, &["interrupted; the same command goes on after the last whole file"]);
    let left = names(&dir.path().join("out"));
    let manifest: Value = serde_json::from_slice(&fs::read(dir.path().join("out/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["shards"].as_array().unwrap().len(), left.len() - 1, "{left:?}");
}

/// Arrays of an `.npz` file, read without NumPy: the values of every `.npy` by name.
fn unzip(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let number =
        |at: usize, n: usize| bytes[at..at + n].iter().rev().fold(0usize, |x, &byte| x << 8 | usize::from(byte));
    let locator = bytes.len() - 22 - 20;
    assert_eq!((number(bytes.len() - 22, 4), number(locator, 4)), (0x0605_4b50, 0x0706_4b50));
    let end64 = number(locator + 8, 8);
    assert_eq!(number(end64, 4), 0x0606_4b50);
    let (n, mut at) = (number(end64 + 32, 8), number(end64 + 48, 8));
    assert_eq!(at + number(end64 + 40, 8), end64, "the directory ends where its end begins");
    let mut members = BTreeMap::new();
    for _ in 0..n {
        assert_eq!((number(at, 4), number(at + 10, 2)), (0x0201_4b50, 0), "stored");
        let (crc, name, extra) = (number(at + 16, 4), number(at + 28, 2), number(at + 30, 2));
        let name = String::from_utf8(bytes[at + 46..][..name].to_vec()).unwrap();
        let zip64 = at + 46 + name.len();
        assert_eq!((number(zip64, 2), number(zip64 + 4, 8)), (1, number(zip64 + 12, 8)));
        let (size, local) = (number(zip64 + 4, 8), number(zip64 + 20, 8));
        assert_eq!((number(local, 4), number(local + 14, 4)), (0x0403_4b50, crc), "{name}");
        let data = local + 30 + number(local + 26, 2) + number(local + 28, 2);
        let contents = &bytes[data..data + size];
        assert_eq!(crc32fast::hash(contents) as usize, crc, "{name}");
        members.insert(name, contents.to_vec());
        at = zip64 + extra;
    }
    members
}

#[test]
fn npz_holds_what_safetensors_holds() {
    let mut case = Case::q8(&["blocks.2.*", "logits"]);
    let texts = [some_ids(12, 1), some_ids(1, 2), vec![], some_ids(70, 3)];
    let dir = tempfile::tempdir().unwrap();
    case.options.positions = "0,5,-1".parse().unwrap();
    for dtype in [Dtype::F32, Dtype::F16] {
        case.options.dtype = dtype;
        let [plain, zipped] = [Format::Safetensors, Format::Npz].map(|format| {
            case.options.format = format;
            let folder = dir.path().join(format!("{dtype:?}.{}", format.extension()));
            // A line with brackets is a text without tokens.
            let line = |ids: &Vec<u32>| format!("[{}]\n", ids.iter().map(|id| format!("{id} ")).collect::<String>());
            let text: String = texts.iter().map(line).collect();
            let summary = case.run(&Text::literal(&text, "ids"), Kind::Ids, &folder).unwrap();
            assert_eq!(summary.empty, 1);
            (fs::read(folder.join(&summary.shards[0].file)).unwrap(), folder)
        });
        let tensors = SafeTensors::deserialize(&plain.0).unwrap();
        let members = unzip(&zipped.0);
        assert_eq!(members.len(), tensors.len() + 1);
        for (name, view) in tensors.tensors() {
            let npy = &members[&format!("{name}.npy")];
            assert!(npy.starts_with(b"\x93NUMPY\x01\x00") && npy.ends_with(view.data()), "{name}");
            let head = npy.len() - view.data().len();
            assert!(head.is_multiple_of(64) && npy[head - 1] == b'\n', "{name}");
        }
        let facts: Value = serde_json::from_slice(&members["metadata.json"]).unwrap();
        assert_eq!(facts["positions"], "0,5,-1");

        let Some(mut python) = python(&["numpy"]) else { continue };
        let script = "
import sys, numpy, hashlib
z = numpy.load(sys.argv[1])
for name in sorted(z.files):
    if name != 'metadata.json':
        a = z[name]
        print(name, a.dtype, 'x'.join(map(str, a.shape)), hashlib.sha256(a.tobytes()).hexdigest())
";
        let path = zipped.1.join("activations-00000.npz");
        let said = printed(python.args(["-c", script]).arg(path));
        let mut wanted: Vec<String> = tensors
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                let dtype = match view.dtype() {
                    safetensors::Dtype::I64 => "int64",
                    safetensors::Dtype::I32 => "int32",
                    safetensors::Dtype::F16 => "float16",
                    _ => "float32",
                };
                let shape: Vec<String> = view.shape().iter().map(usize::to_string).collect();
                let digest = pythia_text::hex(&<sha2::Sha256 as sha2::Digest>::digest(view.data()));
                format!("{name} {dtype} {} {digest}", shape.join("x"))
            })
            .collect();
        wanted.sort();
        assert!(said.lines().eq(wanted.iter().map(String::as_str)), "{said}");
    }
}

#[test]
fn threads_and_instruction_sets_change_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let text = checkpoint().join("heldout.txt");
    let run = |folder: &str, more: &[&str]| {
        let args = ["-f", text.to_str().unwrap(), "--hooks", "*", "-c", "48", "--chunks", "3", "-q", "-o", folder];
        activations(dir.path(), &[&args[..], more].concat()).ok();
        files(&dir.path().join(folder))
    };
    let wanted = run("a", &[]);
    assert!(run("b", &["-t", "1"]) == wanted);
    assert!(run("c", &["--isa", "scalar", "-t", "3"]) == wanted);
    assert!(run("d", &["--activations", "f32"]) != wanted);
}

/// The size of a shard is a promise about its file, but for the header.
#[test]
fn shards_are_as_large_as_asked_at_most() {
    let mut case = Case::q8(&["layers.0"]);
    case.options.shard_bytes = 300_000;
    let lengths = [100, 200, 50, 290, 10, 10, 10];
    let texts: Vec<Vec<u32>> = lengths.iter().enumerate().map(|(i, &n)| some_ids(n, i as u32)).collect();
    let dir = tempfile::tempdir().unwrap();
    let summary = case.run(&ids(&texts), Kind::Ids, dir.path()).unwrap();
    let sequences: Vec<u64> = summary.shards.iter().map(|shard| shard.sequences).collect();
    assert_eq!(sequences, [1, 2, 1, 3], "{:?}", summary.shards);
    let firsts: Vec<u64> = summary.shards.iter().map(|shard| shard.first_sequence).collect();
    assert_eq!(firsts, [0, 1, 3, 4]);
    assert!(summary.shards.iter().all(|shard| shard.bytes <= 300_000 + 4096), "{:?}", summary.shards);
}
