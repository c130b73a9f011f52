//! The real checkpoint in the repository.

use pythia_checkpoint::{Checkpoint, Dtype, Error, HiddenAct, to_f32};
use pythia_schema::{Kind, TensorId, TensorSpec, Transform};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/pythia-docs-6m")
}

#[test]
fn the_config_is_read() {
    let checkpoint = Checkpoint::open(&fixture()).unwrap();
    let config = checkpoint.config();
    assert_eq!((config.n_layer, config.n_embd, config.n_head, config.n_ff), (6, 256, 8, 1024));
    assert_eq!((config.n_vocab, config.n_ctx, config.n_rot()), (4096, 512, 8));
    assert_eq!((config.rope_base, config.norm_eps), (10000.0, 1e-5));
    assert_eq!(config.hidden_act, HiddenAct::GeluErf);
    assert!(config.parallel_residual && !checkpoint.tied_head());
}

#[test]
fn every_tensor_has_the_bytes_the_reference_reader_sees() {
    let checkpoint = Checkpoint::open(&fixture()).unwrap();
    let whole = std::fs::read(fixture().join("model.safetensors")).unwrap();
    let reference = SafeTensors::deserialize(&whole).unwrap();
    assert_eq!(checkpoint.tensors().count(), reference.len());
    assert_eq!(checkpoint.tensors().count(), 12 * 6 + 4);
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    for tensor in checkpoint.tensors() {
        let view = reference.tensor(&tensor.name).unwrap();
        assert_eq!((tensor.dtype, tensor.shape.as_slice()), (Dtype::F16, view.shape()));
        assert_eq!(tensor.n_bytes(), view.data().len() as u64);
        // In uneven pieces.
        for first_row in (0..tensor.n_rows()).step_by(100) {
            let n_rows = (tensor.n_rows() - first_row).min(100);
            checkpoint.read_rows(tensor, first_row, n_rows, &mut bytes).unwrap();
            let start = first_row * tensor.row_bytes();
            assert_eq!(bytes, view.data()[start..start + n_rows * tensor.row_bytes()], "{}", tensor.name);
            to_f32(tensor.dtype, &bytes, &mut values);
            assert!(values.iter().all(|value| value.is_finite()), "{}", tensor.name);
        }
    }
}

#[test]
fn resolving_against_another_size_names_the_tensors() {
    let checkpoint = Checkpoint::open(&fixture()).unwrap();
    let spec = |id: TensorId, shape: &[usize]| {
        let transform = Transform::None;
        TensorSpec { id, gguf: id.gguf(), hf: id.hf(), shape: shape.to_vec(), transform }
    };
    let embedding = spec(TensorId::weight(Kind::TokenEmbd, None), &[4096, 512]);
    let absent = spec(TensorId::weight(Kind::FfnUp, Some(6)).bias(), &[2048]);
    let error = checkpoint.resolve(&[embedding, absent]).unwrap_err();
    let Error::Mismatch { problems, .. } = &error else { panic!("{error}") };
    assert_eq!(problems[0], "gpt_neox.embed_in.weight has shape [4096, 256], wanted [4096, 512]");
    assert_eq!(problems[1], "gpt_neox.layers.6.mlp.dense_h_to_4h.bias is missing");
    assert_eq!(problems.len(), 2 + 12 * 6 + 4 - 1);
    assert!(error.to_string().ends_with("and 65 more"), "{error}");
}
