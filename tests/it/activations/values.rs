//! Values are those of a pass over each text alone, on every machine.

use super::{Case, activations, files, ids, manifest, some_ids};
use crate::common::{checkpoint, file, gguf, run_model};
use half::{bf16, f16};
use pythia_inside::export::{Dtype, Kind, Positions, Summary, Tally};
use pythia_inside::{Array, run_with_cache};
use pythia_runtime::Text;
use pythia_task::Cancel;
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

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
        for (hook, array) in &run_with_cache(&case.model, ids, &case.options.selection, &Cancel::new())
            .unwrap()
            .into_iter()
            .collect::<Vec<_>>()
        {
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
        // Not even -q hides it.
        let outcome = run_model(dir.path(), args.iter().chain(&["-o", dtype, "--dtype", dtype, "--force", "-q"]));
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome.stderr
    };
    let line = "warning: 3 values are NaN or infinite: the weights are damaged or overflow\n";
    assert_eq!(run("nan.gguf", "f32"), line);
    for (dtype, warned) in [("f16", true), ("bf16", false), ("f32", false)] {
        let line = "warning: 3 values are too large for f16 and became infinite; --dtype f32 keeps them\n";
        assert_eq!(run("large.gguf", dtype), if warned { line } else { "" });
        assert_eq!(manifest(&dir.path().join(dtype))["shards"][0]["overflowed"], if warned { 3 } else { 0 });
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
