//! Walks over a small model of random weights.

use crate::{Allocate, Error, Report, Settings, Target, Walk, allocate};
use pythia_calibrate::calibration::{Calibration, Collector, Request};
use pythia_calibrate::network::Network;
use pythia_convert::{Budget, CheckpointSource, Level, PassOptions, Source};
use pythia_kernels::{Cpu, IsaLevel};
use pythia_schema::{Kind, TensorId};
use pythia_task::Cancel;
use pythia_tensor::TensorType;
use safetensors::{Dtype, tensor::TensorView};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

const WIDTH: usize = 64;
const N_FF: usize = 128;
const N_VOCAB: usize = 96;
const N_CTX: usize = 32;

/// Numbers around zero that are the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn take(&mut self, n: usize, scale: f32, offset: f32) -> Vec<u8> {
        (0..n).flat_map(|_| (offset + scale * self.next()).to_le_bytes()).collect()
    }
}

/// A checkpoint of two layers.
fn checkpoint(folder: &Path, parallel: bool) -> CheckpointSource {
    let mut numbers = Numbers(1);
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut add = |name: String, shape: Vec<usize>, scale: f32, offset: f32| {
        let data = numbers.take(shape.iter().product(), scale, offset);
        tensors.push((name, shape, data));
    };
    add("gpt_neox.embed_in.weight".into(), vec![N_VOCAB, WIDTH], 1.0, 0.0);
    for layer in 0..2 {
        let name = |part: &str| format!("gpt_neox.layers.{layer}.{part}");
        for (part, rows, cols) in [
            ("attention.query_key_value", 3 * WIDTH, WIDTH),
            ("attention.dense", WIDTH, WIDTH),
            ("mlp.dense_h_to_4h", N_FF, WIDTH),
            ("mlp.dense_4h_to_h", WIDTH, N_FF),
        ] {
            add(name(part) + ".weight", vec![rows, cols], 0.2, 0.0);
            add(name(part) + ".bias", vec![rows], 0.1, 0.0);
        }
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            add(name(norm) + ".weight", vec![WIDTH], 0.5, 1.0);
            add(name(norm) + ".bias", vec![WIDTH], 0.1, 0.0);
        }
    }
    add("gpt_neox.final_layer_norm.weight".into(), vec![WIDTH], 0.5, 1.0);
    add("gpt_neox.final_layer_norm.bias".into(), vec![WIDTH], 0.1, 0.0);
    add("embed_out.weight".into(), vec![N_VOCAB, WIDTH], 0.3, 0.0);
    let views = tensors.iter().map(|(name, shape, data)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), data).expect("a tensor"))
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    let config = format!(
        r#"{{"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "hidden_act": "gelu",
        "hidden_size": {WIDTH}, "intermediate_size": {N_FF}, "layer_norm_eps": 1e-05, "max_position_embeddings": {N_CTX},
        "num_attention_heads": 4, "num_hidden_layers": 2, "rotary_emb_base": 10000, "rotary_pct": 0.25,
        "tie_word_embeddings": false, "use_parallel_residual": {parallel}, "vocab_size": {N_VOCAB}}}"#
    );
    std::fs::write(folder.join("config.json"), config).unwrap();
    CheckpointSource::open(folder).unwrap()
}

fn cpu(threads: usize, level: Option<IsaLevel>) -> Arc<Cpu> {
    Arc::new(Cpu::new(threads, level).unwrap())
}

fn calibration(source: &dyn Source, folder: &Path, windows: usize) -> Calibration {
    let network = Network::open(source, cpu(2, None), None).unwrap();
    let mut numbers = Numbers(5);
    let tokens = (0..windows * N_CTX).map(|_| ((numbers.next() + 1.0) / 2.0 * N_VOCAB as f32) as u32).collect();
    let (model, text, program) = ("random".to_owned(), "numbers".to_owned(), "test".to_owned());
    let request = Request { n_ctx: N_CTX, seed: 0, inputs: false, model, text, program, cancel: Cancel::new() };
    let path = folder.join(format!("calibration-{windows}.gguf"));
    Collector::new(&network, &request, tokens).unwrap().run(&()).unwrap().write(&path, false, &()).unwrap();
    Calibration::open(&path).unwrap()
}

/// Keeps what it gets.
struct Kept {
    ty: TensorType,
    tensors: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Target for Kept {
    fn ty(&self, id: TensorId) -> Option<TensorType> {
        (id != TensorId::weight(Kind::FfnUp, Some(1))).then_some(self.ty)
    }

    fn matrix(&self, id: TensorId, bytes: &[u8]) -> Result<(), Error> {
        self.tensors.lock().unwrap().insert(id.gguf(), bytes.to_vec());
        Ok(())
    }

    fn vector(&self, id: TensorId, values: &[f32]) -> Result<(), Error> {
        self.matrix(id, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    }
}

fn walk(
    source: &dyn Source,
    cpu: Arc<Cpu>,
    calibration: &Calibration,
    settings: &Settings,
    ty: TensorType,
    cancel: &Cancel,
) -> Result<(Report, BTreeMap<String, Vec<u8>>), Error> {
    let network = Network::open(source, cpu, None).unwrap();
    let target = Kept { ty, tensors: Mutex::default() };
    let walk =
        Walk { network: &network, calibration, settings, target: &target, alternatives: &[], cancel, progress: &() };
    let report = walk.run()?;
    Ok((report, target.tensors.into_inner().unwrap()))
}

#[test]
fn the_bytes_are_the_same_on_every_isa_and_with_any_number_of_threads() {
    for parallel in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let source = checkpoint(folder.path(), parallel);
        let calibration = calibration(&source, folder.path(), 4);
        let settings = Settings { biases: true, ..Settings::default() };
        let run = |cpu| walk(&source, cpu, &calibration, &settings, TensorType::Q4_0, &Cancel::new()).unwrap();
        let (report, wanted) = run(cpu(1, None));
        // All matrices but one, and the biases that changed.
        assert_eq!(report.matrices.len(), 9);
        assert!(wanted.keys().filter(|name| name.ends_with("weight")).count() == 9, "{:?}", wanted.keys());
        for &level in IsaLevel::ALL.iter().filter(|level| level.is_supported()) {
            let (again, found) = run(cpu(3, Some(level)));
            assert!(found == wanted, "{}", level.name());
            assert_eq!(again.divergence, report.divergence);
        }
    }
}

#[test]
fn no_matrix_is_worse_than_plain_and_the_whole_is_better() {
    let folder = tempfile::tempdir().unwrap();
    let source = checkpoint(folder.path(), true);
    let calibration = calibration(&source, folder.path(), 16);
    let settings = Settings::default();
    for ty in [TensorType::Q4_0, TensorType::Q5_1, TensorType::IQ4_NL, TensorType::Q8_0] {
        let (report, _) = walk(&source, cpu(2, None), &calibration, &settings, ty, &Cancel::new()).unwrap();
        assert!(report.matrices.iter().all(|matrix| matrix.measured <= matrix.plain), "{ty}");
        assert!(report.divergence.is_some_and(|divergence| divergence > 0.0), "{ty}");
        assert!(report.measured() < 0.8 * report.plain(), "{ty}: {} {}", report.measured(), report.plain());
    }
}

#[test]
fn one_window_is_enough_and_a_raised_flag_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let source = checkpoint(folder.path(), false);
    let calibration = calibration(&source, folder.path(), 1);
    let cancel = Cancel::new();
    let run = || walk(&source, cpu(2, None), &calibration, &Settings::default(), TensorType::Q5_0, &cancel);
    let (report, _) = run().unwrap();
    assert_eq!(report.divergence, None);
    cancel.raise();
    assert!(matches!(run(), Err(Error::Cancelled)));
}

#[test]
fn an_allocation_keeps_to_its_budget_and_to_what_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let source = checkpoint(folder.path(), true);
    let calibration = calibration(&source, folder.path(), 8);
    let (request, cancel) = (pythia_convert::Request::default(), Cancel::new());
    let options = PassOptions { threads: 2, cancel: &cancel, progress: &() };
    let ask = |budget: &str, max_type: Option<TensorType>, keep: &[&str], tries: usize| {
        let keep = keep.iter().map(|keep| keep.parse().unwrap()).collect();
        let budget: Budget = budget.parse().unwrap();
        let ask = Allocate { level: Level::Q5_0, budget, max_type, keep, tries };
        allocate(&source, &calibration, &Settings::default(), &request, &ask, options)
    };
    let own = ask("same-as Q5_0", None, &[], 3).unwrap();
    assert!(own.n_bytes <= own.level.1, "{own:?}");
    assert!(own.tried >= 1 && own.divergence <= own.level.0, "{own:?}");
    assert_eq!(own.types.len(), 10);
    let large = ask("8.5bpw", Some(TensorType::Q5_1), &["ffn_up"], 1).unwrap();
    for (name, ty) in &large.types {
        let wanted = if name.contains("ffn_up") { TensorType::Q5_0 } else { TensorType::Q5_1 };
        assert_eq!(*ty, wanted, "{name}");
    }
    assert_eq!(large.rules.len(), 8);
    let error = ask("2bpw", None, &[], 1).unwrap_err();
    assert!(error.to_string().starts_with("budget: tensors may take"), "{error}");
}

#[test]
fn the_calibration_of_another_model_is_refused() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let source = checkpoint(folders[0].path(), true);
    let calibration = calibration(&source, folders[0].path(), 1);
    let other = checkpoint(folders[1].path(), true);
    let weights = folders[1].path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let len = bytes.len();
    // A norm's or a bias's last byte, wherever it lies: all vectors are in the fingerprint.
    let at = (0..len).rev().find(|&at| bytes[at] != 0).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    drop(other);
    let other = CheckpointSource::open(folders[1].path()).unwrap();
    let network = Network::open(&other, cpu(1, None), None).unwrap();
    let same = Network::open(&source, cpu(1, None), None).unwrap();
    crate::feedback::check(&same, &calibration).unwrap();
    let error = crate::feedback::check(&network, &calibration).unwrap_err().to_string();
    assert!(error.contains("another model or step") && !error.contains('\n'), "{error}");
}
