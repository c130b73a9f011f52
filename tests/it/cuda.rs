//! The GPU against the processor: the same bits, on the shipped checkpoint at every level, through the library and
//! through the programs. Runs where there is a GPU, or the emulated driver of `tools/cuda_emulator.sh`; elsewhere it
//! says SKIPPED, unless `PYTHIA_REQUIRE=cuda`.

use crate::common::{Outcome, PYTHIA_RUN, checkpoint, data, quant, run_model, scratch};
use pythia_cuda::Device;
use pythia_inside::{Ablation, Change, Changes, Selection, lens, list, run_with_cache};
use pythia_model::backend::Largest;
use pythia_model::{
    Activations, Context, ContextShape, Gelu, Hook, KvType, Model, Options, Prediction, Sequence, Span,
};
use pythia_task::Cancel;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A level of every tensor type, and those whose mixes differ most.
const LEVELS: &str = "F32,F16,BF16,Q8_0,Q6_K,Q5_K_M,Q5_1,Q5_0,Q4_K_M,Q4_1,Q4_0,IQ4_NL,IQ4_XS,Q3_K_M,Q2_K,IQ3_S";
/// Those that need an importance matrix.
const WEIGHTED: &str = "IQ3_XXS,IQ2_M,IQ2_XS,IQ2_XXS";

/// The GPU that all tests share; `None`, loudly, without one.
fn gpu() -> Option<Arc<Device>> {
    static GPU: OnceLock<Result<Arc<Device>, String>> = OnceLock::new();
    match GPU.get_or_init(|| Device::open(0).map(Arc::new).map_err(|e| e.to_string())) {
        Ok(device) => Some(Arc::clone(device)),
        Err(why) => {
            assert_ne!(std::env::var("PYTHIA_REQUIRE").as_deref(), Ok("cuda"), "{why}");
            let test = std::thread::current();
            let _ = writeln!(std::io::stderr(), "SKIPPED {}: no CUDA device ({why})", test.name().unwrap_or("?"));
            None
        }
    }
}

fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = scratch().join("cuda");
        std::fs::create_dir_all(&folder).unwrap();
        let (source, imatrix) = (checkpoint().display().to_string(), data("goldens/imatrix.gguf"));
        let output = folder.display().to_string();
        quant(&folder, ["convert", &source, "-t", LEVELS, "--force", "-o", &output]).ok();
        let imatrix = imatrix.display().to_string();
        quant(&folder, ["convert", &source, "-t", WEIGHTED, "--imatrix", &imatrix, "--force", "-o", &output]).ok();
        folder
    })
}

fn file(level: &str) -> PathBuf {
    folder().join(format!("pythia-docs-6m-{level}.gguf"))
}

fn open(gpu: &Arc<Device>, path: &Path, options: &Options) -> (Arc<Model>, Arc<Model>) {
    let cpu = Model::open(path, options).unwrap();
    (cpu, pythia_cuda::open(gpu, path, options).unwrap())
}

/// Ids that visit the whole vocabulary.
fn tokens(n: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * i * 31 + i * 7) % 4000) as u32).collect()
}

/// Logits and predictions of the rows of the last batch, as bits.
fn answers(context: &mut Context, n: usize) -> (Vec<u32>, Vec<(u64, u32, u64)>) {
    let n_vocab = context.model().hparams().n_vocab;
    let mut logits = vec![0.0; n * n_vocab];
    context.logits(0..n, &mut logits).unwrap();
    let mut predictions = vec![Prediction::default(); n];
    context.predictions(0..n, &tokens(n), &mut predictions).unwrap();
    let bits = |p: Prediction| (p.log_likelihood.to_bits(), p.best, p.best_log_likelihood.to_bits());
    (logits.into_iter().map(f32::to_bits).collect(), predictions.into_iter().map(bits).collect())
}

/// Runs the same spans on both and compares all that can be asked.
fn agree(on: &mut [(Context, Vec<Sequence>); 2], tokens: &[(usize, &[u32])], what: &str) {
    let n = tokens.iter().map(|(_, tokens)| tokens.len()).sum();
    let [cpu, gpu] = on.each_mut().map(|(context, sequences)| {
        let mut sequences: Vec<_> = sequences.iter_mut().map(Some).collect();
        let span = |&(i, tokens): &(usize, _)| Span { sequence: sequences[i].take().unwrap(), tokens };
        context.forward(&mut tokens.iter().map(span).collect::<Vec<_>>()).unwrap();
        answers(context, n)
    });
    assert!(cpu.0 == gpu.0, "{what}: logits differ");
    assert!(cpu.1 == gpu.1, "{what}: predictions differ");
}

/// A context on both, with all its sequences.
fn contexts(models: &(Arc<Model>, Arc<Model>), shape: ContextShape) -> [(Context, Vec<Sequence>); 2] {
    [&models.0, &models.1].map(|model| {
        let context = model.context(shape).unwrap();
        let sequences = (0..shape.n_seq).map(|_| context.sequence().unwrap()).collect();
        (context, sequences)
    })
}

#[test]
fn every_level_has_the_bits_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    for level in LEVELS.split(',').chain(WEIGHTED.split(',')) {
        let models = open(&gpu, &file(level), &Options::default());
        let mut both = contexts(&models, ContextShape { n_seq: 1, n_ctx: 64, n_batch: 40 });
        let text = tokens(48);
        // A prompt long enough for the tensor cores, one that is not, then token by token: run, recorded, repeated.
        for (i, span) in [0..40, 40..43, 43..44, 44..45, 45..46, 46..47].into_iter().enumerate() {
            agree(&mut both, &[(0, &text[span])], &format!("{level}, call {i}"));
        }
    }
}

#[test]
fn every_mode_has_the_bits_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    let text = tokens(24);
    for (activations, gelu, kv) in [
        (Activations::F32, Gelu::Erf, KvType::F16),
        (Activations::Int8, Gelu::Tanh, KvType::F16),
        (Activations::Int8, Gelu::Erf, KvType::F32),
        (Activations::F32, Gelu::Tanh, KvType::F32),
    ] {
        let options = Options { activations, gelu: Some(gelu), kv, ..Options::default() };
        let models = open(&gpu, &file("Q4_K_M"), &options);
        let mut both = contexts(&models, ContextShape { n_seq: 1, n_ctx: 64, n_batch: 20 });
        for span in [0..20, 20..21, 21..22, 22..23] {
            agree(&mut both, &[(0, &text[span])], &format!("{options:?}"));
        }
    }
}

#[test]
fn many_sequences_share_batches() {
    let Some(gpu) = gpu() else { return };
    let models = open(&gpu, &file("Q8_0"), &Options::default());
    let mut both = contexts(&models, ContextShape { n_seq: 4, n_ctx: 100, n_batch: 70 });
    let text = tokens(100);
    agree(&mut both, &[(2, &text[..33]), (0, &text[..1]), (3, &text[5..38])], "prompts of three sequences");
    for i in 0..4 {
        agree(&mut both, &[(3, &text[i..i + 1]), (0, &text[9..10]), (2, &text[20..21])], "one token of each");
    }
    agree(&mut both, &[(1, &text[..60]), (0, &text[..2])], "a new one beside an old one");
    for (_, sequences) in &mut both {
        sequences[1].truncate(30);
    }
    agree(&mut both, &[(1, &text[40..41]), (2, &text[1..2])], "after a truncation");
    for (context, sequences) in &mut both {
        sequences.pop();
        sequences.push(context.fork(&sequences[2], 35).unwrap());
    }
    agree(&mut both, &[(3, &text[70..90]), (2, &text[1..2])], "after a fork");
}

#[test]
fn candidates_are_the_largest_logits() {
    let Some(gpu) = gpu() else { return };
    let (_, model) = open(&gpu, &file("Q4_0"), &Options::default());
    let mut context = model.context(ContextShape { n_seq: 1, n_ctx: 16, n_batch: 8 }).unwrap();
    let mut sequence = context.sequence().unwrap();
    context.forward(&mut [Span { sequence: &mut sequence, tokens: &tokens(5) }]).unwrap();
    let mut logits = vec![0.0; model.hparams().n_vocab];
    context.logits(4..5, &mut logits).unwrap();
    for (n, k) in [(logits.len(), 1), (logits.len(), 40), (1000, 7), (3, 10)] {
        let mut sorted: Vec<f32> = logits[..n].to_vec();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let least = sorted[k.min(n) - 1];
        let first = (0..).zip(&logits[..n]).find(|(_, x)| **x == sorted[0]).map(|(id, &x)| vec![(id, x)]).unwrap();
        let want: Vec<(u32, f32)> =
            (0..).zip(&logits[..n]).filter(|(_, x)| **x >= least).map(|(id, &x)| (id, x)).collect();
        assert_eq!(context.largest(4, n, Largest::First).unwrap(), Some(first), "of {n}");
        assert_eq!(context.largest(4, n, Largest::Top(k)).unwrap(), Some(want), "{k} of {n}");
    }
}

/// The report of `perplexity`, without what may differ: the device and the times.
fn fixed(outcome: Outcome) -> serde_json::Value {
    let mut json: serde_json::Value = serde_json::from_str(&outcome.ok()).unwrap();
    json.as_object_mut().unwrap().remove("tokens_per_second");
    assert!(json["run"].as_object_mut().unwrap().remove("device").is_some());
    json
}

#[test]
fn the_programs_say_the_same() {
    let Some(_gpu) = gpu() else { return };
    let (folder, model) = (folder(), file("Q4_0").display().to_string());
    let text = folder.join("short.txt");
    let heldout = std::fs::read_to_string(checkpoint().join("heldout.txt")).unwrap();
    let end = heldout.char_indices().nth(700).unwrap().0;
    std::fs::write(&text, &heldout[..end]).unwrap();
    let text = text.display().to_string();
    let perplexity = |device: &str| {
        let args = ["perplexity", &model, "-f", &text, "-c", "48", "--chunks", "2", "--json", "--device", device];
        fixed(run_model(folder, args))
    };
    assert_eq!(perplexity("cuda"), perplexity("cpu"));
    for sampling in [&["--temp", "0"][..], &["--top-k", "40", "--seed", "7"], &["--temp", "1", "--seed", "3"]] {
        let generate = |device: &str| {
            let args = ["generate", &model, "-p", "The license", "-n", "12", "--quiet", "--device", device];
            run_model(folder, args.iter().chain(sampling)).ok()
        };
        assert_eq!(generate("cuda:0"), generate("cpu"), "{sampling:?}");
    }
    let imatrix = |device: &str| {
        let out = folder.join(format!("imatrix-{device}.gguf"));
        let path = out.display().to_string();
        let args =
            ["imatrix", &model, "-f", &text, "-c", "32", "--chunks", "1", "--force", "-o", &path, "--device", device];
        quant(folder, args).ok();
        std::fs::read(out).unwrap()
    };
    assert!(imatrix("cuda") == imatrix("cpu"), "importance matrices differ");
}

/// `pythia-run` with a variable of the environment.
fn run_with(variable: (&str, &str), args: &[&str]) -> Outcome {
    let mut command = std::process::Command::new(PYTHIA_RUN);
    command.args(args).env(variable.0, variable.1).output().unwrap().into()
}

/// Without a compiler for its kernels the GPU is no use: `auto` says so and does without, `cuda` is an error.
#[test]
fn a_gpu_that_cannot_run_the_model_is_not_taken() {
    let Some(_gpu) = gpu() else { return };
    let model = file("Q4_0").display().to_string();
    let generate = |device| ["generate", &model, "-p", "The license", "-n", "4", "--device", device];
    let nowhere = ("PYTHIA_NVRTC", "/nowhere");
    run_with(nowhere, &generate("cuda")).fails("pythia-run", 74, &["no NVRTC", "/nowhere"]);
    let auto = run_with(nowhere, &generate("auto"));
    assert!(auto.stderr.starts_with("device: cpu (no NVRTC"), "{auto:?}");
    assert_eq!(auto.ok(), run_with(nowhere, &generate("cpu")).ok());
}

/// The emulated driver's memory is what a variable says: too little for the weights, then too little for the context.
#[test]
fn what_does_not_fit_is_counted() {
    let Some(gpu) = gpu() else { return };
    if !gpu.describe().unwrap().emulated {
        return;
    }
    let model = file("Q4_0").display().to_string();
    let generate = |device| ["generate", &model, "-p", "The license", "-n", "4", "--device", device];
    for (memory, what) in [("3000000", "the model takes "), ("4300000", "a context of 1 x ")] {
        let memory = ("PYTHIA_EMULATED_MEMORY", memory);
        let told = run_with(memory, &generate("cuda"));
        told.fails("pythia-run", 74, &["cuda:0 ", what, " bytes (", "of its memory are free"]);
        let auto = run_with(memory, &generate("auto"));
        assert!(auto.stderr.starts_with("device: cpu (cuda:0 "), "{auto:?}");
        auto.ok();
    }
}

#[test]
fn bench_and_compare_tell_of_the_gpu() {
    let Some(gpu) = gpu() else { return };
    let (folder, model) = (folder(), file("Q4_0").display().to_string());
    let bench = ["bench", &model, "-p", "8", "-n", "2", "-r", "1", "-o", "md", "--device", "cuda"];
    let bench = run_model(folder, bench);
    assert!(bench.stderr.contains(&format!("limits, {}: memory ", gpu.name())), "{bench:?}");
    let table = bench.ok();
    assert!(table.contains(gpu.name()) && table.contains("GB/s") && table.contains("OP/s"), "{table}");

    let text = folder.join("compared.txt");
    let heldout = std::fs::read_to_string(checkpoint().join("heldout.txt")).unwrap();
    std::fs::write(&text, heldout.chars().take(500).collect::<String>()).unwrap();
    let (text, other) = (text.display().to_string(), file("Q4_K_M").display().to_string());
    let compare = |device: &str| {
        let out = folder.join(format!("compare-{device}")).display().to_string();
        let files = ["compare", &model, &other, "-f", &text, "-c", "32", "--chunks", "2", "-o", &out];
        let outcome = quant(folder, files.iter().chain(&["--force", "--json", "--device", device]));
        let mut json: serde_json::Value = serde_json::from_str(&outcome.ok()).unwrap();
        let name = json["machine"]["device"].take();
        for level in json["levels"].as_array_mut().unwrap() {
            let bytes = level["gpu_bytes"].take();
            assert_eq!(bytes.as_u64().is_some_and(|bytes| bytes > 4_000_000), device == "cuda", "{bytes}");
            for measured in ["prefill_tokens_per_second", "decode_tokens_per_second", "peak_rss_bytes"] {
                assert!(level[measured].take().as_f64().is_some_and(|value| value > 0.0), "{measured}");
            }
            // What a device takes beside the file is its own.
            for of_device in ["prefill_spread", "decode_spread", "contention", "memory"] {
                level[of_device].take();
            }
        }
        (name, ["base", "protocol", "arithmetic", "levels"].map(|field| json[field].take()))
    };
    let ((name, on_gpu), (_, on_cpu)) = (compare("cuda"), compare("cpu"));
    assert_eq!(name, gpu.name());
    assert_eq!(on_gpu, on_cpu, "what was measured of the levels does not depend on the device");
}

/// What is seen inside, what comes of changes there, and what the lens reads.
#[test]
fn the_inside_is_that_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    let (cpu, gpu) = open(&gpu, &file("Q4_K_M"), &Options::default());
    let (h, ids, cancel) = (cpu.hparams(), tokens(40), Cancel::new());
    let hooks = |hidden: bool| Hook::all(h).into_iter().filter(move |hook| hook.site.needs_host() == hidden);
    let seen = |model: &Arc<Model>| {
        let cache = run_with_cache(model, &ids, &Selection::of(hooks(false)), &cancel).unwrap();
        let bits = |data: &[f32]| data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        cache.iter().map(|(hook, array)| (hook.to_string(), bits(&array.data))).collect::<Vec<_>>()
    };
    let plain = seen(&cpu);
    assert_eq!(plain.len(), hooks(false).count());
    assert!(plain == seen(&gpu), "hooks");
    let vector: Vec<f32> = (0..h.n_embd).map(|i| (i % 7) as f32 / 4.0).collect();
    let change = |model: &Arc<Model>| {
        let changes = vec![
            Change::ablate_head(h, 1, 2, Ablation::Zero).unwrap(),
            Change::ablate_mlp(h, 0, Ablation::Zero).unwrap(),
            Change::steer(h, 2, &vector, 1.5, "a vector").unwrap(),
        ];
        seen(&Changes::new(changes).of(model))
    };
    let changed = change(&cpu);
    assert!(changed != plain && changed == change(&gpu), "changes");
    let request = lens::Request { hooks: list::stream("all", h).unwrap(), top: 3 };
    let read = |model: &Arc<Model>| format!("{:?}", lens::lens(model, &ids, &request, &cancel, &()).unwrap().depths);
    assert_eq!(read(&cpu), read(&gpu));
    for hook in hooks(true) {
        let error = run_with_cache(&gpu, &ids, &Selection::of([hook]), &cancel).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{hook} can be seen on the processor only, not on ")), "{error}");
    }
}
