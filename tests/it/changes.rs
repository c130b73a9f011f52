//! Ablation, steering and patching by options of the command line.

use crate::common::{file, gguf, run_model};
use pythia_gguf::Metadata;
use pythia_inside::{Selection, run_with_cache};
use pythia_model::{Model, Options};
use pythia_task::Cancel;
use pythia_tensor::TensorType;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

const TEXT: &str = "A trait is a collection of methods defined for an unknown type. ";

fn model() -> Arc<Model> {
    Model::open(&gguf("Q8_0"), &Options::default()).unwrap()
}

/// Writes tensors of floats.
fn save(path: &Path, tensors: &[(&str, Vec<usize>, Vec<f32>)]) {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(.., data)| data.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes);
    let views =
        views.map(|((name, shape, _), bytes)| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None::<HashMap<String, String>>, path).unwrap();
}

/// What `perplexity --json` says with these options.
fn perplexity(folder: &Path, options: &[&str]) -> Value {
    let text = TEXT.repeat(40);
    let mut args = vec!["perplexity", "-m", gguf_name(), "-p", &text, "-c", "64", "--json", "-q"];
    args.extend(options);
    serde_json::from_str(&run_model(folder, args).ok()).unwrap()
}

fn gguf_name() -> &'static str {
    gguf("Q8_0").to_str().unwrap().to_owned().leak()
}

fn ppl(report: &Value) -> f64 {
    report["perplexity"]["value"].as_f64().unwrap()
}

#[test]
fn numbers_of_a_changed_model_say_so_and_are_others() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let n_embd = model().hparams().n_embd;
    std::fs::write(folder.join("mean.txt"), TEXT).unwrap();
    let ramp = |scale: f32| (0..n_embd).map(|i| scale * ((i % 7) as f32 - 3.0)).collect::<Vec<f32>>();
    save(&folder.join("v.safetensors"), &[("direction", vec![n_embd], ramp(1.0))]);
    save(
        &folder.join("layers.safetensors"),
        &[("layers.1", vec![1, n_embd], ramp(1.0)), ("blocks.2.hook_resid_post", vec![n_embd], ramp(0.5))],
    );
    let plain = perplexity(folder, &[]);
    assert!(plain["run"]["changes"].is_null());
    let cases: &[(&[&str], &[&str])] = &[
        (&["--ablate-head", "1.0,2.3"], &["head 1.0 set to zero", "head 2.3 set to zero"]),
        (&["--ablate-mlp", "0"], &["mlp 0 set to zero"]),
        (&["--ablate-head", "1.0", "--ablate-to-mean", "mean.txt"], &["head 1.0 set to its mean over mean.txt"]),
        (&["--steer", "v.safetensors:1:0.5"], &["v.safetensors times 0.5 added after block 1"]),
        (
            &["--steer", "layers.safetensors::-0.25"],
            &[
                "layers.safetensors times -0.25 added after block 1",
                "layers.safetensors times -0.25 added after block 2",
            ],
        ),
        (&["--steer", "layers.safetensors:2"], &["layers.safetensors times 1 added after block 2"]),
    ];
    let mut seen = vec![ppl(&plain)];
    for (options, told) in cases {
        let report = perplexity(folder, options);
        assert_eq!(report["run"]["changes"], serde_json::json!(told), "{options:?}");
        assert!(!seen.contains(&ppl(&report)), "{options:?}: another number");
        seen.push(ppl(&report));
    }
    let mut args = vec!["generate", "-m", gguf_name(), "-p", TEXT, "-n", "8", "--ablate-mlp", "0,1"];
    let changed = run_model(folder, &args);
    assert!(changed.stderr.contains("changed: mlp 0 set to zero; mlp 1 set to zero\n"), "{}", changed.stderr);
    args.truncate(args.len() - 2);
    assert_ne!(run_model(folder, &args).ok(), changed.ok());
}

/// A run whose values are all put back is the same run; and those of a position of another text make the run of that text.
#[test]
fn patches_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = model();
    let tokenizer = pythia_runtime::Tokenizer::from_gguf(&model.gguf().metadata).unwrap();
    let ids = tokenizer.encode(TEXT).unwrap();
    let selection = Selection::parse(&["blocks.2.hook_resid_post", "blocks.0.attn.hook_z"], model.hparams()).unwrap();
    let cache = run_with_cache(&model, &ids, &selection, &Cancel::new()).unwrap();
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> =
        cache.iter().map(|(hook, array)| (hook.to_string(), array.shape.clone(), array.data.clone())).collect();
    let tensors: Vec<_> =
        tensors.iter().map(|(name, shape, data)| (name.as_str(), shape.clone(), data.clone())).collect();
    save(&folder.join("run.safetensors"), &tensors);
    let generate = |options: &[&str]| {
        let mut args = vec!["generate", "-m", gguf_name(), "-p", TEXT, "-n", "12", "--json"];
        args.extend(options);
        serde_json::from_str::<Value>(&run_model(folder, args).ok()).unwrap()
    };
    let plain = generate(&[]);
    let own = generate(&[
        "--patch",
        "layers.2=run.safetensors",
        "--patch",
        "blocks.0.attn.hook_z=run.safetensors",
        "--patch-positions",
        "1,3",
    ]);
    assert_eq!(own["ids"], plain["ids"], "its own values");
    assert_eq!(
        own["run"]["changes"],
        serde_json::json!([
            "blocks.2.hook_resid_post at positions 1, 3 from run.safetensors",
            "blocks.0.attn.hook_z at positions 1, 3 from run.safetensors"
        ])
    );
    // The last block's output of another text: what follows is what follows that text.
    let last = format!("blocks.{}.hook_resid_post", model.hparams().n_layer - 1);
    let prompts = [TEXT, "The borrow checker says that a value lives "].map(|text| tokenizer.encode(text).unwrap());
    let n = prompts[0].len().min(prompts[1].len());
    let [text, other] = prompts.map(|ids| tokenizer.decode(&ids[..n], false));
    let ids = tokenizer.encode(&other).unwrap();
    assert_eq!(ids.len(), n);
    let selection = Selection::parse(&[&last], model.hparams()).unwrap();
    let cache = run_with_cache(&model, &ids, &selection, &Cancel::new()).unwrap();
    let array = cache.iter().next().unwrap().1;
    save(&folder.join("other.safetensors"), &[(&last, array.shape.clone(), array.data.clone())]);
    let first = |text: &str, options: &[&str]| {
        let mut args = vec!["generate", "-m", gguf_name(), "-p", text, "-n", "1", "--json"];
        args.extend(options);
        serde_json::from_str::<Value>(&run_model(folder, args).ok()).unwrap()["ids"].clone()
    };
    let patch = format!("{last}=other.safetensors");
    assert_eq!(first(&text, &["--patch", &patch]), first(&other, &[]));
    assert_ne!(first(&text, &[]), first(&other, &[]), "there is something to see");
}

#[test]
fn control_vectors_are_read_as_llama_cpp_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let h = model().hparams().clone();
    let direction = |layer: usize, n: usize| -> (file::Entry, Vec<u8>) {
        let values = (0..n).flat_map(|i| ((i * layer % 5) as f32 / 8.0).to_le_bytes()).collect();
        ((format!("direction.{layer}"), TensorType::F32, vec![n as u64]), values)
    };
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "controlvector");
    let write = |name: &str, tensors: Vec<(file::Entry, Vec<u8>)>| {
        std::fs::write(folder.join(name), file::build(&metadata, tensors)).unwrap();
    };
    write("cv.gguf", (1..h.n_layer).map(|layer| direction(layer, h.n_embd)).collect());
    write("zero.gguf", vec![direction(0, h.n_embd)]);
    let named = |name: &str, x: f32| -> (file::Entry, Vec<u8>) {
        let values = (0..h.n_embd).flat_map(|_| x.to_le_bytes()).collect();
        ((name.to_owned(), TensorType::F32, vec![h.n_embd as u64]), values)
    };
    write("twice.gguf", vec![named("direction.1", 1.0), named("direction.01", 1.0)]);
    write("inf.gguf", vec![named("direction.2", f32::INFINITY)]);
    write("short.gguf", vec![direction(1, h.n_embd - 32)]);
    let told = |options: &[&str]| perplexity(folder, options)["run"]["changes"].as_array().unwrap().len();
    assert_eq!(told(&["--control-vector", "cv.gguf"]), h.n_layer - 1);
    assert_eq!(told(&["--control-vector-scaled", "cv.gguf:-0.5", "--control-vector-layer-range", "2", "3"]), 2);
    // The same as by --steer.
    let vector: Vec<f32> = (0..h.n_embd).map(|i| (i % 5) as f32 / 8.0).collect();
    save(&folder.join("v.safetensors"), &[("v", vec![h.n_embd], vector)]);
    let one = perplexity(folder, &["--control-vector-scaled", "cv.gguf:2", "--control-vector-layer-range", "1", "1"]);
    assert_eq!(ppl(&one), ppl(&perplexity(folder, &["--steer", "v.safetensors:1:2"])));
    let fails = |options: &[&str], parts: &[&str]| {
        let mut args = vec!["perplexity", "-m", gguf_name(), "-p", TEXT];
        args.extend(options);
        run_model(folder, args).fails("pythia-run", 65, parts);
    };
    fails(&["--control-vector", "zero.gguf"], &["zero.gguf", "direction.0", "no direction for block 0"]);
    fails(&["--control-vector", "short.gguf"], &["short.gguf", "direction.1", "found shape [224], wanted [256]"]);
    fails(&["--control-vector", "twice.gguf"], &["twice.gguf: two vectors for block 1"]);
    let inf = ["inf.gguf: tensor 'direction.2': found inf at element 0, wanted finite numbers"];
    fails(&["--control-vector", "inf.gguf"], &inf);
    run_model(
        folder,
        [
            "perplexity",
            "-m",
            gguf_name(),
            "-p",
            TEXT,
            "--control-vector",
            "cv.gguf",
            "--control-vector-layer-range",
            "3",
            "1",
        ],
    )
    .fails("pythia-run", 2, &["3 is after 1"]);
    fails(&["--control-vector", gguf_name()], &["this is no control vector"]);
}

#[test]
fn wrong_changes_are_refused_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let n = model().hparams().n_embd;
    save(&folder.join("two.safetensors"), &[("a", vec![n], vec![0.0; n]), ("b", vec![n], vec![0.0; n])]);
    save(&folder.join("one.safetensors"), &[("a", vec![n], vec![0.0; n])]);
    save(&folder.join("nan.safetensors"), &[("a", vec![n], vec![f32::NAN; n])]);
    save(&folder.join("big.safetensors"), &[("a", vec![n], vec![2.0; n])]);
    save(&folder.join("wide.safetensors"), &[("layers.1", vec![n + 1], vec![0.0; n + 1])]);
    save(&folder.join("rows.safetensors"), &[("blocks.1.hook_resid_post", vec![2, n], vec![0.0; 2 * n])]);
    std::fs::write(folder.join("text.safetensors"), "not a file of tensors").unwrap();
    std::fs::write(folder.join("empty.txt"), "").unwrap();
    let fails = |options: &[&str], code: i32, parts: &[&str]| {
        let mut args = vec!["perplexity", "-m", gguf_name(), "-p", TEXT];
        args.extend(options);
        run_model(folder, args).fails("pythia-run", code, parts);
    };
    fails(&["--ablate-head", "9.0"], 2, &["layer: found 9, wanted 0 to "]);
    fails(&["--ablate-head", "0.99"], 2, &["head: found 99, wanted 0 to "]);
    fails(&["--ablate-head", "3"], 2, &["LAYER.HEAD"]);
    fails(&["--ablate-mlp", "99"], 2, &["layer: found 99"]);
    fails(&["--ablate-to-mean", "empty.txt"], 2, &["needs --ablate-head or --ablate-mlp"]);
    fails(&["--ablate-mlp", "0", "--ablate-to-mean", "empty.txt"], 65, &["no tokens"]);
    fails(&["--ablate-mlp", "0", "--ablate-to-mean", "none.txt"], 74, &["none.txt"]);
    fails(&["--steer", "two.safetensors:1"], 65, &["two.safetensors", "found several tensors"]);
    fails(&["--steer", "one.safetensors"], 65, &["one.safetensors", "does not say after which block"]);
    fails(&["--steer", "one.safetensors:1:x"], 2, &["found the factor 'x'"]);
    fails(
        &["--steer", "nan.safetensors:1"],
        65,
        &["nan.safetensors: tensor 'a': found NaN at element 0, wanted finite numbers"],
    );
    fails(
        &["--steer", "one.safetensors:1:3e38", "--steer", "big.safetensors:1:3e38"],
        2,
        &["inf, wanted a finite number"],
    );
    fails(&["--steer", "wide.safetensors"], 65, &["wide.safetensors", "layers.1", "found shape"]);
    fails(&["--steer", "wide.safetensors:0"], 65, &["has a vector for block 1 and none for block 0"]);
    fails(&["--steer", "text.safetensors:0"], 65, &["text.safetensors", "no safetensors file"]);
    fails(&["--steer", "missing.safetensors:0"], 74, &["missing.safetensors"]);
    fails(&["--patch", "layers.1"], 2, &["HOOKS=FILE"]);
    fails(&["--patch", "layers.77=rows.safetensors"], 2, &["hook 'layers.77': the model has none"]);
    fails(
        &["--patch", "layers.0=rows.safetensors"],
        65,
        &["rows.safetensors", "has no tensor 'blocks.0.hook_resid_post'"],
    );
    fails(&["--patch", "layers.1=rows.safetensors", "--patch-positions", "5"], 65, &["has no row for position 5"]);
    fails(&["--patch", "layers.1=wide.safetensors"], 65, &["has no tensor"]);
    save(&folder.join("scalar.safetensors"), &[("blocks.1.hook_resid_post", vec![], vec![1.0])]);
    save(&folder.join("none.safetensors"), &[("blocks.1.hook_resid_post", vec![0, n], vec![])]);
    fails(&["--patch", "layers.1=scalar.safetensors"], 65, &["scalar.safetensors", "found shape [], wanted [1, 256]"]);
    fails(
        &["--patch", "layers.1=none.safetensors"],
        65,
        &["none.safetensors", "found shape [0, 256], wanted [1, 256]"],
    );
    fails(
        &["--patch", "layers.1=rows.safetensors", "--patch-positions", "512"],
        2,
        &["position: found 512, wanted 0 to 511"],
    );
    fails(&["--control-vector-layer-range", "1", "3"], 2, &["--control-vector"]);
}

/// A patch file with any arrays beside its values.
fn save_patch(path: &Path, values: (&str, Vec<usize>, Vec<f32>), integers: &[(&str, &[i64])]) {
    let bytes: Vec<Vec<u8>> =
        integers.iter().map(|(_, numbers)| numbers.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let floats: Vec<u8> = values.2.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut views = vec![(values.0, TensorView::new(Dtype::F32, values.1, &floats).unwrap())];
    for ((name, numbers), bytes) in integers.iter().zip(&bytes) {
        views.push((name, TensorView::new(Dtype::I64, vec![numbers.len()], bytes).unwrap()));
    }
    safetensors::serialize_to_file(views, None::<HashMap<String, String>>, path).unwrap();
}

#[test]
fn a_patch_file_is_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (hook, z) = ("blocks.1.hook_resid_post", "blocks.1.attn.hook_z");
    let n = model().hparams().n_embd;
    let rows = |rows: usize| (hook, vec![rows, n], vec![0.5; rows * n]);
    let mut spoiled = rows(3);
    spoiled.2[2 * n + 7] = f32::NAN;
    type Index<'a> = &'a [(&'a str, &'a [i64])];
    let cases: &[(_, Index<'_>, &[&str])] = &[
        (rows(3), &[("positions", &[0, 1])], &["found shape [3, 256], wanted [2, 256]"]),
        (rows(3), &[("positions", &[0, 1, 2]), ("tokens", &[5, 6])], &["'tokens': found 2 rows, wanted 3"]),
        (rows(3), &[("offsets", &[0, 2]), ("positions", &[0, 1, 2])], &["'positions': found 3 rows, wanted 2"]),
        (rows(3), &[("offsets", &[0, 3, 2])], &["'offsets': wanted 0 and then where each text ends"]),
        (rows(3), &[("offsets", &[1, 3])], &["'offsets': wanted 0"]),
        (rows(3), &[("offsets", &[0])], &["'offsets': wanted 0"]),
        (rows(3), &[("offsets", &[0, 0, 3])], &["its first text has no rows"]),
        (rows(3), &[("positions", &[0, 0, 1])], &["'positions': those of the first text do not ascend"]),
        (rows(3), &[("positions", &[-1, 0, 1])], &["'positions': found a negative number"]),
        (spoiled, &[], &["'blocks.1.hook_resid_post': found NaN at position 2, element 7, wanted finite numbers"]),
        ((z, vec![3, n], vec![0.5; 3 * n]), &[], &["'blocks.1.attn.hook_z': found shape [3, 256], wanted [3, 8, 32]"]),
        ((z, vec![8, 3, 32], vec![0.5; 3 * n]), &[], &["found shape [8, 3, 32], wanted [8, 8, 32]"]),
        ((z, vec![3, 32, 8], vec![0.5; 3 * n]), &[], &["found shape [3, 32, 8], wanted [3, 8, 32]"]),
    ];
    for (values, integers, parts) in cases {
        let patch = format!("{}=x.safetensors", values.0);
        save_patch(&folder.join("x.safetensors"), values.clone(), integers);
        let args = ["perplexity", "-m", gguf_name(), "-p", TEXT, "--patch", &patch];
        run_model(folder, args).fails("pythia-run", 65, &[&["x.safetensors: "][..], parts].concat());
    }
    // The rows of the first text alone, at the positions that they say.
    let index: Index<'_> = &[("offsets", &[0, 2, 3]), ("positions", &[1, 4, 0]), ("tokens", &[7, 8, 9])];
    save_patch(&folder.join("x.safetensors"), rows(3), index);
    let report = perplexity(folder, &["--patch", "layers.1=x.safetensors"]);
    let told = "blocks.1.hook_resid_post at positions 1, 4 from x.safetensors";
    assert_eq!(report["run"]["changes"], serde_json::json!([told]));
}

/// A patch that no text comes to changes nothing: no number is told as that of a changed model.
#[test]
fn a_patch_beyond_the_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let n = model().hparams().n_embd;
    let hook = "blocks.1.hook_resid_post";
    save(&folder.join("x.safetensors"), &[(hook, vec![50, n], vec![0.5; 50 * n])]);
    let run = |command: &[&str], positions: &str| {
        let changes = ["-m", gguf_name(), "--patch", "layers.1=x.safetensors", "--patch-positions", positions];
        run_model(folder, command.iter().chain(&changes))
    };
    let refused = |command: &[&str], positions: &str, part: &str| {
        run(command, positions).fails("pythia-run", 2, &["position of a patch: found ", part]);
    };
    // Four tokens.
    let text = ["-p", "a b c d", "-q"];
    for command in ["generate", "lens", "attention"] {
        let command = [&[command][..], &text].concat();
        run(&command, "3").ok();
        refused(&command, "3,4", "4, wanted 0 to 3: the ");
    }
    let export = |name: &'static str| ["activations", "--ids", "1,2,3", "--hooks", "layers.2", "-q", "-o", name];
    run(&export("a"), "2").ok();
    refused(&export("b"), "3", "3, wanted 0 to 2: the longest text or window has 3 tokens");
    assert!(!folder.join("b").exists());
    refused(&[&export("b")[..], &["-c", "2"]].concat(), "2", "2, wanted 0 to 1: a window has 2 tokens");
    let long = TEXT.repeat(3);
    let window = ["perplexity", "-p", &long, "-c", "16", "--protocol", "hf-stride"];
    run(&window, "15").ok();
    refused(&window, "16", "16, wanted 0 to 15: a window has 16 tokens");
    let short = ["perplexity", "-p", "a b c d", "-c", "64", "--protocol", "hf-stride", "--nll-out", "nll.jsonl"];
    refused(&short, "40", "40, wanted 0 to 3: the longest window has 4 tokens");
    assert!(!folder.join("nll.jsonl").exists(), "no record of a run that is refused");
}

/// `*` stands for what can change; a hook that cannot is named.
#[test]
fn everything_of_another_run_can_be_patched_in() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let other = "The borrow checker says that a value lives ";
    let args = ["activations", "-m", gguf_name(), "--hooks", "*", "-q", "-o", "acts", "-p", other];
    run_model(folder, args).ok();
    let file = "*=acts/activations-00000.safetensors";
    let logits = |text: &str, more: &[&str]| {
        let args = ["generate", "-m", gguf_name(), "-p", text, "-n", "1", "--json"];
        let report: Value = serde_json::from_str(&run_model(folder, args.iter().chain(more)).ok()).unwrap();
        report["ids"].clone()
    };
    // As many tokens.
    let tokenizer = pythia_runtime::Tokenizer::from_gguf(&model().gguf().metadata).unwrap();
    let n = tokenizer.encode(other).unwrap().len();
    let text = "x".repeat(n);
    let text =
        tokenizer.decode(&tokenizer.encode(&TEXT.repeat(2)).unwrap()[..n], false).replace('\u{fffd}', &text[..1]);
    assert_eq!(tokenizer.encode(&text).unwrap().len(), n);
    assert_eq!(logits(&text, &["--patch", file]), logits(other, &[]));
    for name in ["blocks.1.attn.hook_pattern", "blocks.*.attn.hook_rot_q", "logits"] {
        let patch = format!("{name}=acts/activations-00000.safetensors");
        let parts =
            ["can be seen but not changed", "hook_rot_q, attn.hook_rot_k, attn.hook_attn_scores", "all others can"];
        run_model(folder, ["perplexity", "-m", gguf_name(), "-p", TEXT, "--patch", &patch]).fails(
            "pythia-run",
            2,
            &parts,
        );
    }
}

/// The text of a mean can be a pipe, and what is wrong with it says its name.
#[cfg(unix)]
#[test]
fn a_mean_is_over_any_text() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("mean.txt"), TEXT).unwrap();
    std::fs::write(folder.join("bytes.txt"), b"some \xff").unwrap();
    let args = |text: &'static str| {
        ["perplexity", "-m", gguf_name(), "-p", TEXT, "-c", "4", "--ablate-mlp", "1", "--ablate-to-mean", text]
    };
    run_model(folder, args("bytes.txt")).fails("pythia-run", 65, &["bytes.txt: not UTF-8 at byte 5"]);
    let wanted = run_model(folder, args("mean.txt")).ok();
    let fifo = folder.join("fifo");
    std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    let writer = std::thread::spawn(move || std::fs::write(fifo, TEXT).unwrap());
    let found = run_model(folder, args("fifo")).ok();
    writer.join().unwrap();
    let number = |table: &str| table.lines().find(|line| line.starts_with("Final estimate")).unwrap().to_owned();
    assert_eq!(number(&found), number(&wanted));
}
