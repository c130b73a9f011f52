//! Looking into a pass changes nothing and shows the same however it is run; editing changes what it says and no more.

use pythia_convert::{Level, Request, RunOptions, plan, run};
use pythia_kernels::{Activations, IsaLevel, KvType};
use pythia_model::backend::{Batch, RowSpan};
use pythia_model::hook::{self, RowsMut, Width};
use pythia_model::{ContextShape, Edits, Hook, Hooks, Model, Options, Site, Span, Values};
use pythia_task::Cancel;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// CI runs these tests on an emulated processor as well, some hundred times slower.
const EMULATED: bool = cfg!(target_arch = "aarch64");
/// Positions.
const N: usize = if EMULATED { 18 } else { 70 };
/// Where edits begin.
const FROM: usize = N / 2 + 5;

/// The shipped checkpoint as Q4_K_M.
fn file() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hooks.gguf");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/pythia-docs-6m");
        let checkpoint = pythia_convert::CheckpointSource::open(&source).unwrap();
        let files = vec![("Q4_K_M".parse::<Level>().unwrap(), path.clone())];
        let cancel = Cancel::new();
        let options = RunOptions {
            threads: 2,
            force: true,
            allow_nonfinite: false,
            sha256: false,
            cancel: &cancel,
            progress: &(),
        };
        run(&checkpoint, &plan(&checkpoint, &Request { files, ..Request::default() }).unwrap(), &options).unwrap();
        path
    })
}

fn open(options: &Options) -> Arc<Model> {
    Model::open(file(), options).unwrap()
}

/// All values by the name of their hook: a row per position, or per head and query.
type Record = BTreeMap<String, Vec<Vec<f32>>>;

/// Records what `wants` says.
struct Recorder<F> {
    wants: F,
    heads: usize,
    record: Record,
}

impl<F: Fn(Hook) -> bool> Hooks for Recorder<F> {
    fn sees(&self, hook: Hook) -> bool {
        (self.wants)(hook)
    }

    fn see(&mut self, hook: Hook, batch: Batch<'_>, values: Values<'_>) {
        let rows = self.record.entry(hook.to_string()).or_default();
        match values {
            Values::Rows(values) => {
                assert_eq!(values.iter().len(), batch.tokens.len());
                rows.extend(values.iter().map(<[f32]>::to_vec));
            }
            Values::Weights(weights) => {
                assert_eq!(hook.site.width(), Width::Keys);
                let &[RowSpan { rows: n, first_position, .. }] = batch.spans else { panic!("one sequence") };
                // By query, then head, without the keys that nobody sees: the same however the batch is cut.
                for query in 0..n {
                    for head in 0..self.heads {
                        let row = &weights[(head * n + query) * (first_position + n)..][..first_position + n];
                        let (seen, unseen) = row.split_at(first_position + query + 1);
                        let blank = if hook.site == Site::Pattern { 0.0 } else { f32::NEG_INFINITY };
                        assert!(unseen.iter().all(|&weight| weight == blank));
                        rows.push(seen.to_vec());
                    }
                }
            }
        }
    }
}

fn tokens(model: &Model) -> Vec<u32> {
    (0..N).map(|i| ((i * i * 31 + i * 7) % (model.hparams().n_vocab - 1)) as u32).collect()
}

/// Bits of all logits, and what was recorded.
fn run_recorded(model: &Arc<Model>, batch: usize, wants: impl Fn(Hook) -> bool) -> (Vec<u32>, Record) {
    let hparams = model.hparams();
    let mut context = model.context(ContextShape { n_seq: 1, n_ctx: N, n_batch: batch }).unwrap();
    let mut sequence = context.sequence().unwrap();
    let mut recorder = Recorder { wants, heads: hparams.n_head, record: Record::new() };
    let mut bits = Vec::new();
    for tokens in tokens(model).chunks(batch) {
        let mut spans = [Span { sequence: &mut sequence, tokens }];
        context.forward_seen(&mut spans, &mut recorder).unwrap();
        bits.extend(logits(&mut context, tokens.len()));
    }
    (bits, recorder.record)
}

fn logits(context: &mut pythia_model::Context, n: usize) -> Vec<u32> {
    let mut logits = vec![0.0; n * context.model().hparams().n_vocab];
    context.logits(0..n, &mut logits).unwrap();
    logits.into_iter().map(f32::to_bits).collect()
}

/// Bits of all logits, without hooks.
fn run_plain(model: &Arc<Model>, batch: usize) -> Vec<u32> {
    let mut context = model.context(ContextShape { n_seq: 1, n_ctx: N, n_batch: batch }).unwrap();
    let mut sequence = context.sequence().unwrap();
    let mut bits = Vec::new();
    for tokens in tokens(model).chunks(batch) {
        context.forward(&mut [Span { sequence: &mut sequence, tokens }]).unwrap();
        bits.extend(logits(&mut context, tokens.len()));
    }
    bits
}

/// All hooks; those of one block where that would take too long.
fn some_hooks(model: &Model) -> impl Iterator<Item = Hook> + use<> {
    Hook::all(model.hparams()).into_iter().filter(|hook| !EMULATED || hook.layer.is_none_or(|layer| layer == 1))
}

fn same(a: &Record, b: &Record) -> bool {
    let bits = |rows: &Vec<Vec<f32>>| rows.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
    a.keys().eq(b.keys()) && a.iter().all(|(name, rows)| bits(rows) == bits(&b[name]))
}

#[test]
fn looking_changes_nothing_and_shows_the_same_bits_everywhere() {
    for activations in [Activations::Int8, Activations::F32] {
        for kv in [KvType::F16, KvType::Q8_0, KvType::F32] {
            let options = Options { activations, kv, threads: 2, ..Options::default() };
            let model = open(&options);
            let plain = run_plain(&model, N);
            let (bits, all) = run_recorded(&model, N, |_| true);
            assert!(bits == plain, "{activations:?} {kv:?}");
            let names: Vec<String> = Hook::all(model.hparams()).iter().map(ToString::to_string).collect();
            let mut found: Vec<String> = all.keys().cloned().chain(["logits".to_owned()]).collect();
            found.sort();
            assert_eq!(
                found,
                {
                    let mut names = names;
                    names.sort();
                    names
                },
                "every hook is shown, once per position"
            );
            for (threads, batch) in [(1, 7), (3, 1)] {
                let model = open(&Options { threads, ..options.clone() });
                let (bits, record) = run_recorded(&model, batch, |_| true);
                assert!(bits == plain && same(&record, &all), "{activations:?} {kv:?} {threads} {batch}");
            }
            for level in IsaLevel::ALL.iter().copied().filter(|level| level.is_supported() && !EMULATED) {
                let model = open(&Options { isa: Some(level), ..options.clone() });
                let (bits, record) = run_recorded(&model, N, |_| true);
                assert!(bits == plain && same(&record, &all), "{activations:?} {kv:?} {level}");
            }
        }
    }
}

#[test]
fn one_hook_alone_shows_what_it_shows_among_all() {
    let model = open(&Options::default());
    let (plain, all) = run_recorded(&model, N, |_| true);
    for hook in some_hooks(&model).filter(|hook| hook.site != Site::Logits) {
        let (bits, record) = run_recorded(&model, N, |other| other == hook);
        assert!(bits == plain, "{hook}");
        let only: Record = [(hook.to_string(), all[&hook.to_string()].clone())].into();
        assert!(same(&record, &only), "{hook}");
        assert_eq!(Hook::from_name(&hook.to_string()), Some(hook));
    }
    for wrong in
        ["blocks.01.hook_resid_post", "blocks.x.hook_z", "blocks.0.hook_embed", "hook_resid_pre", "blocks.1", ""]
    {
        assert_eq!(Hook::from_name(wrong), None, "{wrong}");
    }
}

/// The residual stream is the sum of what is added to it, to the last bit.
#[test]
fn the_residual_stream_adds_up() {
    let model = open(&Options::default());
    let (_, record) = run_recorded(&model, N, |_| true);
    let value = |layer: usize, name: &str| &record[&format!("blocks.{layer}.{name}")];
    for layer in 0..model.hparams().n_layer {
        for row in 0..N {
            let [pre, attn, mlp, post] = ["hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post"]
                .map(|name| &value(layer, name)[row]);
            assert!(
                pre.iter().zip(attn).zip(mlp).zip(post).all(|(((pre, attn), mlp), post)| pre + attn + mlp == *post)
            );
        }
        if layer > 0 {
            assert!(value(layer - 1, "hook_resid_post") == value(layer, "hook_resid_pre"));
        }
    }
    assert!(record["hook_embed"] == *value(0, "hook_resid_pre"));
}

/// What leaves the last block, put back through the last norm and the output matrix, gives the logits, and the batch is
/// still there afterwards.
#[test]
fn a_projection_of_what_left_the_last_block_is_the_logits() {
    for activations in [Activations::Int8, Activations::F32] {
        let model = open(&Options { activations, ..Options::default() });
        let last = Hook { site: Site::ResidPost, layer: Some(model.hparams().n_layer - 1) };
        let (n_embd, n_vocab) = (model.hparams().n_embd, model.hparams().n_vocab);
        let mut context = model.context(ContextShape { n_seq: 1, n_ctx: N, n_batch: 32 }).unwrap();
        let mut sequence = context.sequence().unwrap();
        let mut recorder =
            Recorder { wants: |hook| hook == last, heads: model.hparams().n_head, record: Record::new() };
        let tokens = &tokens(&model)[..18];
        context.forward_seen(&mut [Span { sequence: &mut sequence, tokens }], &mut recorder).unwrap();
        let wanted = logits(&mut context, 18);
        // Twice, so that they are more rows than a batch.
        let hidden = recorder.record[&last.to_string()].concat().repeat(2);
        let mut out = vec![0.0; 36 * n_vocab];
        context.project(&hidden, &mut out).unwrap();
        let bits: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
        assert!(bits == [wanted.clone(), wanted.clone()].concat(), "{activations:?}");
        assert!(logits(&mut context, 18) == wanted, "{activations:?}");
        // A row alone, and of other values: the first position's with its sign changed.
        let negative: Vec<f32> = hidden[..n_embd].iter().map(|x| -x).collect();
        let mut other = vec![0.0; n_vocab];
        context.project(&negative, &mut other).unwrap();
        assert!(other != out[..n_vocab]);
        let cancel = Cancel::new();
        let mut context = context.cancelled_by(cancel.clone());
        cancel.raise();
        assert!(context.project(&negative, &mut other).is_err());
    }
}

/// Zeroes a part of the columns at a hook, from a position on.
struct Zero {
    hook: Hook,
    cols: std::ops::Range<usize>,
    from: usize,
}

impl Edits for Zero {
    fn changes(&self, hook: Hook) -> bool {
        hook == self.hook
    }

    fn change(&self, _: Hook, batch: Batch<'_>, mut rows: RowsMut<'_>) {
        for row in 0..batch.tokens.len() {
            if hook::place(batch, row).1 >= self.from {
                rows.row(row)[self.cols.clone()].fill(0.0);
            }
        }
    }

    fn descriptions(&self) -> Vec<String> {
        Vec::new()
    }

    fn digest(&self) -> String {
        String::new()
    }
}

#[test]
fn an_edit_changes_what_it_says_and_what_follows_from_it() {
    let model = open(&Options::default());
    let (plain, before) = run_recorded(&model, N, |_| true);
    let n_vocab = model.hparams().n_vocab;
    for hook in some_hooks(&model).filter(|hook| hook.site.can_change()) {
        let cols = before[&hook.to_string()][0].len();
        let zero = Zero { hook, cols: 3..cols / 2, from: FROM };
        let edited = model.edited(Arc::new(zero));
        let (bits, after) = run_recorded(&edited, N, |_| true);
        assert!(bits[..FROM * n_vocab] == plain[..FROM * n_vocab], "{hook}: nothing changes before it");
        assert!(bits[FROM * n_vocab..] != plain[FROM * n_vocab..], "{hook}");
        for (position, (row, old)) in after[&hook.to_string()].iter().zip(&before[&hook.to_string()]).enumerate() {
            let zeroed = |col: usize| position >= FROM && (3..cols / 2).contains(&col);
            assert!(
                row.iter().zip(old).enumerate().all(|(col, (x, old))| *x == if zeroed(col) { 0.0 } else { *old }),
                "{hook}"
            );
        }
        assert!(run_plain(&edited, 7) == bits, "{hook}: however the batch is cut, and with nobody looking");
    }
    assert!(run_plain(&model, N) == plain, "the model itself is as it was");
}
