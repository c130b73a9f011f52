//! Against transformers, and the same bits however it is computed.

use super::*;
use pythia_convert::CheckpointSource;
use pythia_kernels::IsaLevel;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

pub(super) fn data(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data")).join(name)
}

pub(super) fn cpu(level: Option<IsaLevel>, threads: usize) -> Arc<Cpu> {
    Arc::new(Cpu::new(threads, level).unwrap())
}

/// The elements of a golden tensor, as numbers of eight or four bytes.
pub(super) fn integers(goldens: &SafeTensors<'_>, name: &str) -> Vec<u32> {
    let (values, _) = goldens.tensor(name).unwrap().data().as_chunks::<8>();
    values.iter().map(|&b| i64::from_le_bytes(b) as u32).collect()
}

pub(super) fn floats(goldens: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let (values, _) = goldens.tensor(name).unwrap().data().as_chunks::<4>();
    values.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// The largest difference.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn hidden_states_and_logits_are_those_of_transformers() {
    let bytes = std::fs::read(data("goldens/hf_f32_logits.safetensors")).unwrap();
    let goldens = SafeTensors::deserialize(&bytes).unwrap();
    let source = CheckpointSource::open(&data("pythia-docs-6m")).unwrap();
    let network = Network::open(&source, cpu(None, 2), None).unwrap();
    // The golden positions are spread over a window of 512. What comes later does not matter to the earlier ones.
    let n_ctx = 130;
    let tokens = &integers(&goldens, "input_ids")[..n_ctx];
    let width = network.hparams().n_embd;
    let positions: Vec<usize> = integers(&goldens, "positions").into_iter().map(|at| at as usize).collect();
    let positions: Vec<usize> = positions.into_iter().filter(|&at| at < n_ctx).collect();
    assert!(positions.len() > 2);
    let check = |name: &str, rows: &[f32], width: usize, tolerance: f32| {
        for (row, &at) in positions.iter().enumerate() {
            let want = &floats(&goldens, name)[row * width..][..width];
            let found = distance(&rows[at * width..][..width], want);
            assert!(found < tolerance, "{name}, position {at}: {found}");
        }
    };

    let mut h = Vec::new();
    network.embed(tokens, &mut h).unwrap();
    for layer in 0..network.hparams().n_layer {
        check(&format!("hidden_{layer}"), &h, width, 1e-4);
        network.forward(&network.block(layer).unwrap(), n_ctx, &mut h);
    }
    let (mut normal, mut logits) = (Vec::new(), Vec::new());
    network.layer_norm(&network.output_norm().unwrap(), &h, &mut normal);
    check(&format!("hidden_{}", network.hparams().n_layer), &normal, width, 1e-4);
    let output = network.output().unwrap();
    network.linear(&output, &normal, &mut logits);
    check("logits", &logits, output.rows, 1e-3);
}
