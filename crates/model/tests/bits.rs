//! One answer everywhere: the logits of the shipped checkpoint, at every level, as a digest that is the same on every
//! ISA, with any number of threads and however tokens are split over calls.
//!
//! The digests in the table are the contract across machines: x86-64 and AArch64 must both give them.

use pythia_checkpoint::Checkpoint;
use pythia_convert::{ImatrixFile, Level, Request, RunOptions, plan, run};
use pythia_kernels::{Activations, Gelu, IsaLevel, KvType};
use pythia_model::{ContextShape, Model, Options, Span};
use pythia_task::Cancel;
use sha2::{Digest, Sha256};
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
    let checkpoint = Checkpoint::open(&source).unwrap();
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
    let mut sha = Sha256::new();
    for span in tokens(n_vocab)[..n_tokens].chunks(batch) {
        context.forward(&[Span { sequence: 1, tokens: span }]).unwrap();
        let mut logits = vec![f32::NAN; span.len() * n_vocab];
        context.logits(0..span.len(), &mut logits).unwrap();
        logits.iter().for_each(|x| sha.update(x.to_bits().to_le_bytes()));
    }
    sha.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
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
        for (gelu, kv) in [(Gelu::Tanh, KvType::F16), (Gelu::Erf, KvType::F32)] {
            let options = |isa, threads| Options { threads, isa: Some(isa), activations, gelu: Some(gelu), kv };
            let best = IsaLevel::detect();
            let want = digest(q4_0, &options(best, 1), 96, 96);
            for level in supported() {
                assert_eq!(digest(q4_0, &options(level, 3), 96, 41), want, "{level} {activations:?} {gelu:?} {kv:?}");
            }
        }
    }
}

/// Two sequences in one batch give what each gives alone.
#[test]
fn sequences_do_not_see_each_other() {
    let path = &files()[3];
    let model = Model::open(path, &Options::default()).unwrap();
    let n_vocab = model.hparams().n_vocab;
    let ids = tokens(n_vocab);
    let last_logits = |spans: &[Span<'_>], row: usize| {
        let mut context = model.context(ContextShape { n_seq: 2, n_ctx: 64, n_batch: 64 }).unwrap();
        context.forward(spans).unwrap();
        let mut logits = vec![0.0; n_vocab];
        context.logits(row..row + 1, &mut logits).unwrap();
        logits
    };
    let (a, b) = (&ids[..20], &ids[100..131]);
    let together = [Span { sequence: 1, tokens: a }, Span { sequence: 0, tokens: b }];
    assert_eq!(last_logits(&together, 19), last_logits(&[Span { sequence: 0, tokens: a }], 19));
    assert_eq!(last_logits(&together, 50), last_logits(&[Span { sequence: 1, tokens: b }], 30));
}

#[test]
fn requests_beyond_the_context_are_refused_and_change_nothing() {
    let model = Model::open(&files()[3], &Options::default()).unwrap();
    let mut context = model.context(ContextShape { n_seq: 1, n_ctx: 8, n_batch: 6 }).unwrap();
    context.forward(&[Span { sequence: 0, tokens: &[1, 2, 3] }]).unwrap();
    let refused: &[&[Span<'_>]] = &[
        &[Span { sequence: 1, tokens: &[1] }],
        &[Span { sequence: 0, tokens: &[1, 2, 3, 4, 5, 6] }],
        &[Span { sequence: 0, tokens: &[4096] }],
        &[Span { sequence: 0, tokens: &[1] }, Span { sequence: 0, tokens: &[1] }],
    ];
    for spans in refused {
        assert!(context.forward(spans).is_err());
        assert_eq!(context.len(0), 3);
    }
    context.truncate(0, 1);
    assert_eq!(context.len(0), 1);
    assert!(model.context(ContextShape { n_seq: 0, n_ctx: 8, n_batch: 6 }).is_err());
    assert!(model.context(ContextShape { n_seq: usize::MAX, n_ctx: 8, n_batch: 6 }).is_err());
}
