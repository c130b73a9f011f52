//! What it costs to keep the values at hooks of the shipped model: passes over 512 tokens, with a new context each time.
//!
//! `plain` keeps nothing; what the others take beyond it is the price of their hooks.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pythia_convert::{CheckpointSource, Level, Request, RunOptions, plan, run};
use pythia_inside::{Selection, run_with_cache};
use pythia_model::{ContextShape, Model, Options, Span};
use pythia_task::Cancel;
use std::path::Path;

const TOKENS: usize = 512;

fn caches(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pythia-docs-6m");
    let checkpoint = CheckpointSource::open(&checkpoint).expect("the shipped checkpoint");
    let files = vec![("Q8_0".parse::<Level>().expect("a level"), path.clone())];
    let plan = plan(&checkpoint, &Request { files, ..Request::default() }).expect("a plan");
    let cancel = Cancel::new();
    let options =
        RunOptions { threads: 2, force: false, allow_nonfinite: false, sha256: false, cancel: &cancel, progress: &() };
    run(&checkpoint, &plan, &options).expect("a file");
    let model = Model::open(&path, &Options::default()).expect("a model");
    let n_vocab = model.hparams().n_vocab;
    let ids: Vec<u32> = (0..TOKENS).map(|i| (i * 7919 % n_vocab) as u32).collect();
    let mut group = c.benchmark_group("cache");
    group.bench_function("plain", |b| {
        b.iter(|| {
            let shape = ContextShape { n_seq: 1, n_ctx: TOKENS, n_batch: TOKENS };
            let mut context = model.context(shape).expect("a context");
            let mut sequence = context.sequence().expect("a sequence");
            context.forward(&mut [Span { sequence: &mut sequence, tokens: &ids }]).expect("a pass");
        });
    });
    for selector in [
        "blocks.*.hook_resid_post",
        "blocks.*.mlp.hook_post",
        "blocks.*.attn.hook_pattern",
        "hook_embed,blocks.*,ln_final.*",
    ] {
        let selection = Selection::parse(&[selector], model.hparams()).expect("hooks of the model");
        group.bench_function(BenchmarkId::from_parameter(selector), |b| {
            b.iter(|| run_with_cache(&model, &ids, &selection, &cancel).expect("a pass"));
        });
    }
    group.finish();
}

criterion_group!(benches, caches);
criterion_main!(benches);
