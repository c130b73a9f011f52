//! Drafts within a limit of memory, and with changed models.

use super::{PROGRAM, draft, json_of, open, run};
use crate::common::{gguf, run_model};
use pythia_inside::{Selection, run_with_cache};
use pythia_model::{BATCH_TOKENS, ContextShape};
use pythia_task::Cancel;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

const TEXT: &str = "The borrow checker";

/// Bytes of a context for texts of `n_ctx` tokens.
fn bytes(path: &Path, n_seq: usize, n_ctx: usize, n_batch: usize) -> usize {
    open(path).0.context_bytes(ContextShape { n_seq, n_ctx, n_batch }).unwrap()
}

#[test]
fn the_context_of_a_draft_counts_as_memory() {
    let (model, file) = (gguf("Q8_0"), draft());
    let n_ctx = open(&model).1.encode(TEXT).unwrap().len() + 20;
    // A token and 16 drafted ones fit a batch.
    let small = bytes(&file, 1, n_ctx, n_ctx);
    let both = bytes(&model, 1, n_ctx, 17) + small;
    let plain = ["-p", TEXT, "-n", "20", "-q"];
    let drafted = [&plain[..], &["--draft", file.to_str().unwrap(), "--draft-min", "3"]].concat();
    let within = |args: &[&str], limit: usize| run(&[args, &["--max-memory", &limit.to_string()]].concat());
    let wanted = run(&plain).ok();
    assert_eq!(within(&drafted, both).ok(), wanted);
    let found = json_of(&[&drafted[..], &["--max-memory", &both.to_string()]].concat());
    assert!(found["draft"]["drafted_tokens"].as_u64().unwrap() > 0, "{found}");
    let context = format!("draft: a context of 1 x {n_ctx} positions");
    within(&drafted, both - 1).fails(PROGRAM, 2, &[&context, "wanted at most"]);
    within(&[&drafted[..], &["--echo"]].concat(), both - 1).fails(PROGRAM, 2, &[&context]);
    within(&plain, both - 1).ok();

    // Several texts take turns where there is no memory for all.
    let many = ["-N", "6", "--temp", "0.8", "--json"];
    let wanted = run(&[&plain[..], &many].concat()).ok();
    let all = |n_seq, texts| bytes(&model, n_seq, n_ctx, BATCH_TOKENS) + texts * small;
    let many = [&drafted[..], &many].concat();
    // A sequence is for copies, if there are several.
    for limit in [all(1, 1), all(4, 3)] {
        assert_eq!(within(&many, limit).ok(), wanted, "{limit}");
    }
    within(&many, all(1, 1) - 1).fails(PROGRAM, 2, &["draft: a context of 1 x "]);
}

/// As many texts as are answered at the same time may have drafts.
#[cfg(feature = "server")]
#[test]
fn a_server_starts_with_memory_for_all_drafts() {
    let (model, file) = (gguf("Q8_0"), draft());
    let own = bytes(&model, 2, 128, 256);
    let limit = (own + 2 * bytes(&file, 1, 128, 128) - 1).to_string();
    let args = ["serve", "--port", "0", "-c", "128", "--parallel", "2", "--max-memory", &limit, "-m"];
    let outcome =
        run_model(Path::new("."), [&args[..], &[model.to_str().unwrap(), "--draft", file.to_str().unwrap()]].concat());
    outcome.fails(PROGRAM, 2, &["draft: 2 times a context of 1 x 128 positions", "wanted at most"]);
}

#[test]
fn changed_models_write_the_same_with_drafts() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (model, tokenizer) = open(&gguf("Q8_0"));
    let save = |name: &str, tensor: &str, shape: Vec<usize>, values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, shape, &bytes).unwrap();
        safetensors::serialize_to_file([(tensor, view)], None::<HashMap<String, String>>, Path::new(&file(name)))
            .unwrap();
    };
    let n_embd = model.hparams().n_embd;
    let ramp: Vec<f32> = (0..n_embd).map(|i| ((i % 7) as f32 - 3.0) * 0.3).collect();
    save("v.safetensors", "direction", vec![n_embd], &ramp);
    let other = tokenizer.encode("A trait is a collection").unwrap();
    let hook = "blocks.2.hook_resid_post";
    let selection = Selection::parse(&[hook], model.hparams()).unwrap();
    let cache = run_with_cache(&model, &other, &selection, &Cancel::new()).unwrap();
    let values = cache.iter().next().unwrap().1;
    save("run.safetensors", hook, values.shape.clone(), &values.data);
    fs::write(file("mean.txt"), "A crate is a compilation unit in Rust.").unwrap();

    let steer = format!("{}:1:0.5", file("v.safetensors"));
    let patch = format!("{hook}={}", file("run.safetensors"));
    let mean = file("mean.txt");
    let changes: [&[&str]; 4] = [
        &["--steer", &steer],
        &["--ablate-head", "1.0,2.3", "--ablate-mlp", "0", "--ablate-to-mean", &mean],
        &["--patch", &patch, "--patch-positions", "1,2"],
        &["--patch", &patch, "--patch-positions", "0", "--steer", &steer, "--ablate-mlp", "4"],
    ];
    let small = draft();
    for change in changes {
        for sampling in [&["--greedy"][..], &["--temp", "0.8", "--seed", "3"]] {
            let common = [&["-p", TEXT, "-n", "24", "--ignore-eos"][..], sampling].concat();
            let changed = [&common[..], change].concat();
            let plain = json_of(&changed);
            assert_ne!(plain["ids"], json_of(&common)["ids"], "{change:?} changes something");
            for draft in [&["--draft", small.to_str().unwrap()][..], &["--draft", "lookup"]] {
                let drafted = json_of(&[&changed[..], draft, &["--draft-min", "4"]].concat());
                assert_eq!(drafted["ids"], plain["ids"], "{change:?} {draft:?}");
                assert_eq!(drafted["run"]["changes"], plain["run"]["changes"]);
            }
            let many = [&changed[..], &["-N", "3", "--json", "-q"]].concat();
            let drafted = [&many[..], &["--draft", small.to_str().unwrap(), "--draft-min", "3"]].concat();
            assert_eq!(run(&drafted).ok(), run(&many).ok(), "{change:?}");
        }
    }
}
