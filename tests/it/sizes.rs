//! Every size of the suite, as `pythia-run info` and `pythia-quant inspect` see it: parameters to the last one, and the
//! vocabularies that differ. The files have whole headers and no weights: holes, which take no room on disk.

use crate::common::{gguf, quant, run_model, scratch};
use pythia_gguf::{Gguf, Layout, keys};
use pythia_schema::{Hparams, tensors};
use pythia_tensor::TensorType;
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// `name, n_layer, n_embd, n_head, n_vocab`, then parameters in all and without embeddings, by the model cards (the two
/// smallest: by the same count).
const SUITE: [(&str, usize, usize, usize, usize, u64, u64); 10] = [
    ("14m", 6, 128, 4, 50304, 14_067_712, 1_189_888),
    ("31m", 6, 256, 8, 50304, 30_494_720, 4_739_072),
    ("70m", 6, 512, 8, 50304, 70_426_624, 18_915_328),
    ("160m", 12, 768, 12, 50304, 162_322_944, 85_056_000),
    ("410m", 24, 1024, 16, 50304, 405_334_016, 302_311_424),
    ("1b", 16, 2048, 8, 50304, 1_011_781_632, 805_736_448),
    ("1.4b", 24, 2048, 16, 50304, 1_414_647_808, 1_208_602_624),
    ("2.8b", 32, 2560, 32, 50304, 2_775_208_960, 2_517_652_480),
    ("6.9b", 32, 4096, 32, 50432, 6_857_302_016, 6_444_163_072),
    ("12b", 36, 5120, 40, 50688, 11_846_072_320, 11_327_027_200),
];

/// A Q4_0 file of these hyper-parameters, with the metadata of the tests' model otherwise and zeros for weights.
fn write_hollow(path: &Path, hparams: &Hparams) {
    let mut metadata = Gguf::parse(&fs::read(gguf("Q4_0")).unwrap()).unwrap().metadata;
    hparams.to_metadata(&mut metadata);
    let mut tokens = metadata.strings(keys::TOKENS).unwrap().unwrap().to_vec();
    let mut types = metadata.i32s(keys::TOKEN_TYPE).unwrap().unwrap();
    tokens.extend((tokens.len()..hparams.n_vocab).map(|id| format!("[PAD{id}]")));
    types.resize(hparams.n_vocab, 5);
    metadata.insert(keys::TOKENS, tokens);
    metadata.insert(keys::TOKEN_TYPE, types);
    let entries = tensors(hparams).into_iter().map(|spec| {
        let ty = if spec.id.is_matrix() { TensorType::Q4_0 } else { TensorType::F32 };
        let dims = spec.dims();
        (spec.gguf, ty, dims)
    });
    let layout = Layout::new(&metadata, entries.collect()).unwrap();
    let mut file = File::create(path).unwrap();
    file.write_all(layout.header()).unwrap();
    file.set_len(layout.total_bytes()).unwrap();
}

#[test]
fn every_size_has_the_parameters_of_its_model_card() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let model = Gguf::parse(&fs::read(gguf("Q4_0")).unwrap()).unwrap().metadata;
    let model = Hparams::from_metadata(&model).unwrap();
    for (name, n_layer, n_embd, n_head, n_vocab, total, inner) in SUITE {
        let path = dir.path().join(format!("{name}.gguf"));
        let n_rot = n_embd / n_head / 4;
        let hparams = Hparams { n_layer, n_embd, n_head, n_ff: 4 * n_embd, n_vocab, n_ctx: 2048, n_rot, ..model };
        write_hollow(&path, &hparams);
        let path = path.to_str().unwrap();

        let info: Value = serde_json::from_str(&run_model(dir.path(), ["info", "-m", path, "--json"]).ok()).unwrap();
        assert_eq!((&info["parameters"], &info["parameters_non_embedding"]), (&total.into(), &inner.into()), "{name}");
        let shape = ["n_layer", "n_embd", "n_head", "n_vocab", "n_ctx"].map(|key| info[key].as_u64().unwrap() as usize);
        assert_eq!(shape, [n_layer, n_embd, n_head, n_vocab, 2048], "{name}");
        let n_bytes = fs::metadata(path).unwrap().len();
        assert_eq!(info["file_bytes"], n_bytes, "{name}");
        // 4.5 bits per weight and a little, and offsets beyond 32 bits for the largest.
        assert!((4.5..5.0).contains(&(8.0 * n_bytes as f64 / total as f64)) || n_embd < 512, "{name}: {n_bytes}");

        let file: Value = serde_json::from_str(&quant(dir.path(), ["inspect", path, "--json"]).ok()).unwrap();
        assert_eq!(file["sizes"]["parameters"], total, "{name}");
        assert_eq!(file["sizes"]["parameters_non_embedding"], inner, "{name}");
        assert_eq!(file["metadata"]["tokenizer.ggml.tokens"]["len"], n_vocab, "{name}");
        fs::remove_file(path).unwrap();
    }
}
