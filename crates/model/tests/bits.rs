//! One answer everywhere: the logits of the shipped checkpoint, at every level, as a digest that is the same on every
//! ISA, with any number of threads and however tokens are split over calls.
//!
//! The digests in the table are the contract across machines: x86-64 and AArch64 must both give them.

use pythia_convert::{ImatrixFile, Level, Request, RunOptions, plan, run};
use pythia_kernels::{Activations, Gelu, IsaLevel, KvType};
use pythia_model::backend::Batch;
use pythia_model::{
    Budget, Context, ContextShape, Error, Hook, Hooks, Model, Options, Residence, Sequence, Site, Span, Values,
};
use pythia_task::Cancel;
use sha2::{Digest, Sha256};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Positions of the longest runs.
const TOKENS: usize = 512;
/// Positions of the runs that the scalar oracle takes part in.
const SHORT: usize = 72;

/// Level, positions, and the first 16 hex digits of the SHA-256 of all their logits.
const DIGESTS: &[(&str, usize, &str)] = &[
    ("F32", SHORT, "34038bf0e1e2d3e0"),
    ("F16", SHORT, "34038bf0e1e2d3e0"),
    ("BF16", SHORT, "61ae43ec09952d0e"),
    ("Q8_0", SHORT, "5abf3ed1e5c06a44"),
    ("Q8_0", TOKENS, "6cc24b92268a130a"),
    ("Q6_K", SHORT, "8cd2ca0ea1272eb7"),
    ("Q5_1", SHORT, "e35df0dcf6c37b5a"),
    ("Q5_K_M", SHORT, "d74ed49a95b80838"),
    ("Q4_K_M", SHORT, "5f438f7691533605"),
    ("IQ4_NL", SHORT, "d837b3531e9a4b79"),
    ("IQ4_XS", SHORT, "936e8a3cee89f9a9"),
    ("Q3_K_M", SHORT, "4952655dd8cd20ed"),
    ("Q2_K", SHORT, "187420a35f122123"),
    ("IQ3_XXS", SHORT, "bf3cdf577153226f"),
    ("IQ2_M", SHORT, "dcfa49f37916dc49"),
    ("IQ2_XS", SHORT, "bd3d17fa3277c12c"),
    ("IQ2_XXS", SHORT, "c0524bbe24b48629"),
    ("Q5_0", SHORT, "a674c81f7849b9f2"),
    ("Q4_1", SHORT, "e2ef6e8fe4ac76d8"),
    ("Q4_0", SHORT, "e964f28c522bf287"),
    ("Q4_0", TOKENS, "d1f8d37bdeae7507"),
];

/// The shipped checkpoint at every level of the table, in its order. Converted once: that takes longer than some tests.
fn files() -> &'static [PathBuf] {
    static FILES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    FILES.get_or_init(|| convert(Path::new(env!("CARGO_TARGET_TMPDIR"))))
}

fn convert(folder: &Path) -> Vec<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/pythia-docs-6m");
    let checkpoint = pythia_convert::CheckpointSource::open(&source).unwrap();
    let imatrix = ImatrixFile::open(&source.with_file_name("goldens").join("imatrix.gguf")).unwrap();
    let path = |name: &str| folder.join(format!("{name}.gguf"));
    let mut names: Vec<_> = DIGESTS.iter().map(|(name, ..)| *name).collect();
    names.dedup();
    let files = names.iter().map(|name| (name.parse::<Level>().unwrap(), path(name)));
    let (weighted, plain): (Vec<_>, Vec<_>) = files.partition(|(level, _)| level.needs_importance());
    let cancel = Cancel::new();
    let options =
        RunOptions { threads: 2, force: true, allow_nonfinite: false, sha256: false, cancel: &cancel, progress: &() };
    for (files, imatrix) in [(plain, None), (weighted, Some(imatrix))] {
        let request = Request { files, imatrix, ..Request::default() };
        run(&checkpoint, &plan(&checkpoint, &request).unwrap(), &options).unwrap();
    }
    DIGESTS.iter().map(|(name, ..)| path(name)).collect()
}

/// Ids that visit the whole vocabulary, with repetitions.
fn tokens(n_vocab: usize) -> Vec<u32> {
    (0..TOKENS).map(|i| ((i * i * 31 + i * 7) % (n_vocab - 1)) as u32).collect()
}

fn digest(path: &Path, options: &Options, n_tokens: usize, batch: usize) -> String {
    let model = Model::open(path, options).unwrap();
    let n_vocab = model.hparams().n_vocab;
    let mut context = model.context(ContextShape { n_seq: 2, n_ctx: TOKENS, n_batch: batch }).unwrap();
    let _first = context.sequence().unwrap();
    let mut sequence = context.sequence().unwrap();
    let mut sha = Sha256::new();
    for span in tokens(n_vocab)[..n_tokens].chunks(batch) {
        context.forward(&mut [Span { sequence: &mut sequence, tokens: span }]).unwrap();
        let mut logits = vec![f32::NAN; span.len() * n_vocab];
        context.logits(0..span.len(), &mut logits).unwrap();
        logits.iter().for_each(|x| sha.update(x.to_bits().to_le_bytes()));
    }
    pythia_text::hex(&sha.finalize()[..8])
}

fn supported() -> impl Iterator<Item = IsaLevel> {
    IsaLevel::ALL.iter().copied().filter(|l| l.is_supported())
}

#[test]
fn logits_have_the_same_bits_everywhere() {
    let mut wrong = Vec::new();
    for (path, (name, n_tokens, want)) in files().iter().zip(DIGESTS) {
        // The level in use is what `PYTHIA_ISA` names, else the best of this CPU.
        let in_use = IsaLevel::from_env().unwrap();
        let mut runs = Vec::new();
        let emulated = cfg!(target_arch = "aarch64"); // in CI
        if *n_tokens == SHORT {
            let others = supported().filter(|&level| level != in_use && !(emulated && level == IsaLevel::Scalar));
            runs.push((in_use, 1, SHORT));
            runs.extend((!emulated).then_some((in_use, 4, 7)));
            runs.extend(others.map(|level| (level, 2, 64)));
        } else if emulated {
            // Each number of threads and each batch once.
            runs.extend([(in_use, 1, 1), (in_use, 2, 7), (in_use, 4, 64), (in_use, 2, 512)]);
        } else if in_use == IsaLevel::Scalar {
            runs.push((in_use, 2, 512));
        } else {
            runs.extend([1, 2, 4].into_iter().flat_map(|t| [1, 7, 64, 512].map(|b| (in_use, t, b))));
        }
        for (level, threads, batch) in runs {
            let options = Options { isa: Some(level), threads, ..Options::default() };
            let got = digest(path, &options, *n_tokens, batch);
            if got != *want {
                wrong.push(format!("{name} {level} {threads} threads batch {batch}: {got}, want {want}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_other_modes_are_one_answer_too() {
    let paths = files();
    let q4_0 = paths.last().unwrap();
    for activations in [Activations::Int8, Activations::F32] {
        for (gelu, kv) in [(Gelu::Tanh, KvType::F16), (Gelu::Erf, KvType::Q8_0), (Gelu::Erf, KvType::F32)] {
            let options = |isa, threads| Options {
                threads,
                isa: Some(isa),
                activations,
                gelu: Some(gelu),
                kv,
                ..Options::default()
            };
            let best = IsaLevel::detect();
            let want = digest(q4_0, &options(best, 1), 96, 96);
            for level in supported() {
                assert_eq!(digest(q4_0, &options(level, 3), 96, 41), want, "{level} {activations:?} {gelu:?} {kv:?}");
            }
        }
    }
}

fn context(options: &Options, n_seq: usize) -> Context {
    let model = Model::open(&files()[3], options).unwrap();
    model.context(ContextShape { n_seq, n_ctx: 64, n_batch: 64 }).unwrap()
}

/// Bits of the logits of a row of the last batch.
fn bits(context: &mut Context, row: usize) -> Vec<u32> {
    let mut logits = vec![0.0; context.model().hparams().n_vocab];
    context.logits([row], &mut logits).unwrap();
    logits.into_iter().map(f32::to_bits).collect()
}

/// Appends tokens to a sequence; bits of the logits that follow the last of them.
fn append(context: &mut Context, sequence: &mut Sequence, tokens: &[u32]) -> Vec<u32> {
    context.forward(&mut [Span { sequence, tokens }]).unwrap();
    bits(context, tokens.len() - 1)
}

/// Bits of the logits that follow these tokens in a context of their own.
fn alone(options: &Options, tokens: &[u32]) -> Vec<u32> {
    let mut context = context(options, 1);
    let mut sequence = context.sequence().unwrap();
    append(&mut context, &mut sequence, tokens)
}

/// Two sequences in one batch give what each gives alone.
#[test]
fn sequences_do_not_see_each_other() {
    let options = Options::default();
    let mut context = context(&options, 2);
    let ids = tokens(context.model().hparams().n_vocab);
    let (a, b) = (&ids[..20], &ids[100..131]);
    let [mut first, mut second] = [(); 2].map(|()| context.sequence().unwrap());
    let a_span = Span { sequence: &mut second, tokens: a };
    context.forward(&mut [a_span, Span { sequence: &mut first, tokens: b }]).unwrap();
    assert!(bits(&mut context, 19) == alone(&options, a));
    assert!(bits(&mut context, 50) == alone(&options, b));
}

#[test]
fn forked_and_truncated_sequences_are_what_computing_them_again_gives() {
    for kv in [KvType::F16, KvType::Q8_0, KvType::F32] {
        let options = Options { kv, ..Options::default() };
        let mut context = context(&options, 3);
        let ids = tokens(context.model().hparams().n_vocab);
        let (prefix, a, b) = (&ids[..37], &ids[40..45], &ids[200..207]);
        let (with_a, with_b) = ([prefix, a].concat(), [prefix, b].concat());
        let mut first = context.sequence().unwrap();
        append(&mut context, &mut first, &with_a);

        let mut fork = context.fork(&first, prefix.len()).unwrap();
        assert_eq!((fork.len(), first.len()), (37, 42));
        assert!(append(&mut context, &mut fork, b) == alone(&options, &with_b), "{kv:?}: after the fork");
        // A fork in the middle of a tile, of a fork that has gone on, and the original goes on as well.
        let mut second = context.fork(&fork, 3).unwrap();
        assert!(append(&mut context, &mut second, a) == alone(&options, &[&ids[..3], a].concat()), "{kv:?}");
        assert!(append(&mut context, &mut first, b) == alone(&options, &[&*with_a, b].concat()), "{kv:?}");

        first.truncate(prefix.len());
        assert!(append(&mut context, &mut first, b) == alone(&options, &with_b), "{kv:?}: after the truncation");

        // A freed slot is as good as a new one.
        assert!(context.fork(&first, 1).is_err(), "three sequences are all there are");
        drop(fork);
        let mut again = context.fork(&first, 0).unwrap();
        assert!(append(&mut context, &mut again, a) == alone(&options, a), "{kv:?}: in a slot that was in use");
    }
}

/// Asks to stop as soon as it sees something.
struct Raiser {
    cancel: Cancel,
    seen: usize,
}

impl Hooks for Raiser {
    fn sees(&self, hook: Hook) -> bool {
        hook.site == Site::AttnIn
    }

    fn see(&mut self, _: Hook, _: Batch<'_>, _: Values<'_>) {
        self.seen += 1;
        self.cancel.raise();
    }
}

/// A pass that is cancelled in the middle leaves no rows to read, and the sequence as it was.
#[test]
fn a_cancelled_pass_leaves_nothing_to_read_and_can_be_repeated() {
    let options = Options::default();
    let cancel = Cancel::new();
    let mut context = context(&options, 1).cancelled_by(cancel.clone());
    let ids = tokens(context.model().hparams().n_vocab);
    let mut sequence = context.sequence().unwrap();
    append(&mut context, &mut sequence, &ids[..10]);
    let spans = &mut [Span { sequence: &mut sequence, tokens: &ids[10..15] }];
    let mut raiser = Raiser { cancel, seen: 0 };
    let result = context.forward_seen(spans, &mut raiser);
    assert!(matches!(result, Err(Error::Cancelled)) && raiser.seen > 0, "in the middle of the pass");
    assert_eq!(sequence.len(), 10);
    assert!(catch_unwind(AssertUnwindSafe(|| bits(&mut context, 0))).is_err(), "rows of a cancelled pass");
    let mut context = context.cancelled_by(Cancel::new());
    assert!(append(&mut context, &mut sequence, &ids[10..15]) == alone(&options, &ids[..15]));
}

/// Keys and values that are no numbers do not outlive their sequence.
#[test]
fn a_slot_that_held_nan_gives_the_same_bits() {
    const POISON: u32 = 5;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("poison.gguf");
    let mut bytes = std::fs::read(&files()[0]).unwrap();
    let model = Model::open(&files()[0], &Options::default()).unwrap();
    let embedding = model.gguf().tensors().iter().find(|tensor| tensor.name == "token_embd.weight").unwrap();
    let row_bytes = 4 * embedding.dims[0] as usize;
    let row = &mut bytes[embedding.offset as usize + POISON as usize * row_bytes..][..row_bytes];
    row.as_chunks_mut().0.iter_mut().for_each(|value| *value = f32::NAN.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    for kv in [KvType::F16, KvType::Q8_0, KvType::F32] {
        let model = Model::open(&path, &Options { kv, ..Options::default() }).unwrap();
        let ids: Vec<u32> = tokens(model.hparams().n_vocab)[..40].iter().map(|&id| id.max(POISON + 1)).collect();
        let shape = ContextShape { n_seq: 1, n_ctx: 64, n_batch: 64 };
        let [fresh, reused] = [false, true].map(|poisoned| {
            let mut context = model.context(shape).unwrap();
            if poisoned {
                let mut sequence = context.sequence().unwrap();
                let logits = append(&mut context, &mut sequence, &[POISON; 64]);
                assert!(logits.into_iter().all(|bits| f32::from_bits(bits).is_nan()));
            }
            let mut sequence = context.sequence().unwrap();
            let prompt = append(&mut context, &mut sequence, &ids[..37]);
            let decoded = ids[37..].iter().map(|&id| append(&mut context, &mut sequence, &[id]));
            [vec![prompt], decoded.collect()].concat()
        });
        assert!(fresh.iter().flatten().all(|&bits| f32::from_bits(bits).is_finite()));
        assert!(fresh == reused, "{kv:?}");
    }
}

#[test]
fn a_context_moves_to_another_thread() {
    let options = Options::default();
    let mut context = context(&options, 1);
    let ids = tokens(context.model().hparams().n_vocab);
    let mut sequence = context.sequence().unwrap();
    append(&mut context, &mut sequence, &ids[..10]);
    let rest = ids[10..15].to_vec();
    let there = std::thread::spawn(move || append(&mut context, &mut sequence, &rest));
    assert!(there.join().unwrap() == alone(&options, &ids[..15]));
}

#[test]
fn requests_beyond_the_context_are_refused_and_change_nothing() {
    let model = Model::open(&files()[3], &Options::default()).unwrap();
    let shape = ContextShape { n_seq: 1, n_ctx: 8, n_batch: 6 };
    let (mut context, other) = (model.context(shape).unwrap(), model.context(shape).unwrap());
    let (mut sequence, mut foreign) = (context.sequence().unwrap(), other.sequence().unwrap());
    context.forward(&mut [Span { sequence: &mut sequence, tokens: &[1, 2, 3] }]).unwrap();
    for tokens in [&[1, 2, 3, 4, 5, 6][..], &[4096]] {
        assert!(context.forward(&mut [Span { sequence: &mut sequence, tokens }]).is_err());
        assert_eq!(sequence.len(), 3);
    }
    let spans = &mut [Span { sequence: &mut sequence, tokens: &[1] }, Span { sequence: &mut foreign, tokens: &[1] }];
    assert!(context.forward(spans).is_err(), "a sequence of another context");
    assert_eq!((sequence.len(), foreign.len()), (3, 0));
    assert!(context.fork(&foreign, 0).is_err());
    assert!(context.sequence().is_err(), "one sequence is all there is");
    sequence.truncate(1);
    assert_eq!(sequence.len(), 1);
    assert!(context.fork(&sequence, 2).is_err(), "longer than the sequence");
    drop(sequence);
    assert!(context.sequence().unwrap().is_empty());
    assert!(model.context(ContextShape { n_seq: 0, n_ctx: 8, n_batch: 6 }).is_err());
    assert!(model.context(ContextShape { n_seq: usize::MAX, n_ctx: 8, n_batch: 6 }).is_err());
}

#[test]
fn weights_that_leave_memory_after_use_give_the_same_bits() {
    let path = &files()[0];
    // In two passes: the second reads again what has left.
    let of = |available_bytes| digest(path, &Options { available_bytes, threads: 2, ..Options::default() }, 4, 2);
    assert_eq!(of(Some(2_800_000)), of(None));
}

#[test]
fn weights_in_memory_give_the_same_bits_and_count_for_the_limit() {
    // One token at a time, in tiles and through panels. AArch64 is emulated in CI.
    let ways: &[_] = if cfg!(target_arch = "aarch64") { &[(3, 3)] } else { &[(4, 1), (8, 4), (13, 13)] };
    for (path, &(n_tokens, batch)) in files().iter().flat_map(|path| ways.iter().map(move |way| (path, way))) {
        let of = |residence| digest(path, &Options { residence, threads: 2, ..Options::default() }, n_tokens, batch);
        assert_eq!(of(Residence::Copied), of(Residence::Mapped), "{} batch {batch}", path.display());
    }
    let path = &files()[0];
    let of = |residence| {
        digest(path, &Options { residence, activations: Activations::F32, threads: 2, ..Options::default() }, 4, 2)
    };
    assert_eq!(of(Residence::Copied), of(Residence::Mapped), "f32 activations");
    let bytes = std::fs::metadata(path).unwrap().len();
    let open = |limit| {
        let memory = Some(Budget::new(limit));
        Model::open(path, &Options { residence: Residence::Copied, memory, threads: 1, ..Options::default() })
    };
    let left = open(bytes).unwrap().options().memory.as_ref().unwrap().left();
    assert!(left < 64, "padding behind the last tensor");
    assert_eq!(open(bytes - left).unwrap().options().memory.as_ref().unwrap().left(), 0);
    let error = open(bytes - left - 1).map(drop).unwrap_err().to_string();
    assert!(error.starts_with("a copy of the weights takes "), "{error}");
}

#[test]
fn contexts_share_a_limit_of_memory() {
    let path = &files()[0];
    let shape = ContextShape { n_seq: 1, n_ctx: 64, n_batch: 16 };
    let needed = Model::open(path, &Options::default()).unwrap().context_bytes(shape).unwrap() as u64;
    let budget = Budget::new(2 * needed);
    let options = Options { memory: Some(budget.clone()), threads: 1, ..Options::default() };
    let models = [(); 2].map(|()| Model::open(path, &options).unwrap());
    let contexts = models.each_ref().map(|model| model.context(shape).unwrap());
    let refused = models[0].context(shape).unwrap_err().to_string();
    let end = format!("batches of 16 tokens takes {:.1} kB, wanted at most 0.0 kB", needed as f64 / 1e3);
    assert!(refused.ends_with(&end), "{refused}");
    drop(contexts);
    assert_eq!(budget.left(), 2 * needed);
    assert!(models[1].context(ContextShape { n_seq: 3, ..shape }).is_err());
    models[1].context(shape).unwrap();
}
