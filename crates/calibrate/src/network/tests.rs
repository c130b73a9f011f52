//! Against transformers, and the same bits however it is computed.

use super::testing::{Autograd, data, differentiate_windows, floats, integers};
use super::*;
use pythia_convert::CheckpointSource;
use pythia_kernels::IsaLevel;
use safetensors::SafeTensors;
use std::collections::BTreeMap;

pub(super) fn cpu(level: Option<IsaLevel>, threads: usize) -> Arc<Cpu> {
    Arc::new(Cpu::new(threads, level).unwrap())
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
    let n_ctx = 64;
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

/// Keeps all gradients, and the number of inputs.
#[derive(Default)]
struct Keep {
    gradients: BTreeMap<String, Vec<f32>>,
    inputs: BTreeMap<String, usize>,
}

impl Observer for Keep {
    fn input(&mut self, id: TensorId, x: &[f32]) {
        self.inputs.insert(id.gguf(), x.len());
    }

    fn gradient(&mut self, ids: &[TensorId], g: &[f32]) {
        ids.iter().for_each(|id| assert_eq!(self.gradients.insert(id.gguf(), g.to_vec()), None));
    }
}

/// All gradients of windows of `n_ctx` tokens.
fn gradients(network: &Network<'_>, n_ctx: usize, tokens: &[u32], labels: Labels<'_>) -> (f64, Keep) {
    let mut keep = Keep::default();
    let likelihood = differentiate_windows(network, &network.head().unwrap(), n_ctx, tokens, labels, &mut keep);
    (likelihood, keep)
}

fn norm(x: impl Iterator<Item = f32>) -> f64 {
    x.map(|x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

fn assert_near(name: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{name}");
    let relative = norm(got.iter().zip(want).map(|(a, b)| a - b)) / norm(want.iter().copied());
    assert!(relative < 1e-5, "{name}: {relative:.1e}");
}

#[test]
fn gradients_are_those_of_autograd() {
    let goldens = Autograd::open();
    let (tokens, labels) = (goldens.ids("tokens"), goldens.ids("labels"));
    for (form, parallel) in [("parallel", true), ("sequential", false)] {
        let (source, _folder) = goldens.checkpoint(parallel);
        let network = Network::open(&source, cpu(None, 2), None).unwrap();
        let (likelihood, keep) = gradients(&network, 20, &tokens, Labels::Given(&labels));
        let want = f64::from(goldens.floats(&format!("{form}.likelihood"))[0]);
        assert!((likelihood / want - 1.0).abs() < 1e-6, "{likelihood}, wanted {want}");
        assert_eq!(keep.gradients.len(), 9);
        for (name, got) in &keep.gradients {
            assert_near(&format!("{form} {name}"), got, &goldens.floats(&format!("{form}.{name}")));
        }
        // A norm of 40 tokens before each of two matrices, attention, GELU; and before the head.
        assert_eq!(keep.inputs["blk.1.ffn_down.weight"], 40 * 48);
        assert_eq!((keep.inputs.len(), keep.inputs["output.weight"]), (9, 40 * 32));
    }
}

/// More positions than have their scores in memory at a time.
#[test]
fn gradients_of_a_long_window_are_those_of_autograd() {
    let goldens = Autograd::open();
    let (tokens, labels) = (goldens.ids("long.tokens"), goldens.ids("long.labels"));
    let (source, _folder) = goldens.checkpoint(true);
    let network = Network::open(&source, cpu(None, 2), None).unwrap();
    let (_, keep) = gradients(&network, tokens.len(), &tokens, Labels::Given(&labels));
    for name in ["token_embd.weight", "blk.0.attn_qkv.weight"] {
        let rows = keep.gradients[name].len() / tokens.len();
        let mut sums = vec![0.0; rows * rows];
        network.cpu().gram(pythia_kernels::MatRef::new(&keep.gradients[name], tokens.len(), rows), &mut sums);
        assert_near(name, &sums, &goldens.floats(&format!("long.{name}")));
    }
}

#[test]
fn bits_depend_neither_on_the_processor_nor_on_the_windows_beside() {
    let goldens = Autograd::open();
    let tokens = goldens.ids("tokens");
    for parallel in [true, false] {
        let (source, _folder) = goldens.checkpoint(parallel);
        let run = |level, threads, windows: std::ops::Range<usize>| {
            let network = Network::open(&source, cpu(Some(level), threads), None).unwrap();
            let labels = Labels::Sampled { seed: 3, first: windows.start as u64 };
            gradients(&network, 20, &tokens[windows], labels).1.gradients
        };
        let want = run(IsaLevel::Scalar, 1, 0..40);
        for &level in IsaLevel::ALL.iter().filter(|level| level.is_supported()) {
            assert!(run(level, 3, 0..40) == want, "{level}");
        }
        let last = run(IsaLevel::Scalar, 2, 20..40);
        assert!(last.iter().all(|(name, g)| *g == want[name][g.len()..]), "one window at a time");
    }
}

/// The likelihood at both sides of an embedding against its gradient: an independent look at the whole chain.
#[test]
fn gradients_are_differences() {
    let goldens = Autograd::open();
    let (tokens, labels) = (goldens.ids("tokens"), goldens.ids("labels"));
    let (tokens, labels) = (&tokens[..20], &labels[..20]);
    for parallel in [true, false] {
        let (source, _folder) = goldens.checkpoint(parallel);
        let network = Network::open(&source, cpu(None, 1), None).unwrap();
        let (_, keep) = gradients(&network, 20, tokens, Labels::Given(labels));
        let gradient = &keep.gradients["token_embd.weight"];
        let likelihood = |moved: f32| {
            // Along the gradient, where the difference is largest.
            let mut h = Vec::new();
            network.embed(tokens, &mut h).unwrap();
            h.iter_mut().zip(gradient).for_each(|(h, g)| *h += moved * g);
            (0..2).for_each(|layer| network.forward(&network.block(layer).unwrap(), 20, &mut h));
            let (head, mut dh) = (network.head().unwrap(), Vec::new());
            network.head_backward(&head, Labels::Given(labels), &h, &mut dh, &mut Keep::default()).unwrap()
        };
        let step = 1e-4;
        let slope = (likelihood(step) - likelihood(-step)) / f64::from(2.0 * step);
        let want = norm(gradient.iter().copied()).powi(2);
        assert!((slope / want - 1.0).abs() < 1e-2, "{slope}, wanted {want}");
    }
}
