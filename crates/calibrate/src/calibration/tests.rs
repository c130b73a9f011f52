//! Files against their definition, and the same bytes however they came to be.

use super::*;
use crate::network::testing::Autograd;
use crate::network::{Network, Observer};
use collect::{Collector, Request};
use pythia_convert::CheckpointSource;
use pythia_gguf::Layout;
use pythia_kernels::{Cpu, IsaLevel};
use pythia_schema::Kind;
use pythia_task::{Cancel, ErrorKind, Progress};
use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use totals::Totals;

const N_CTX: usize = 8;
const WINDOWS: usize = 5;

struct Setup {
    source: CheckpointSource,
    folder: TempDir,
    tokens: Vec<u32>,
    request: Request,
}

impl Setup {
    fn new(parallel: bool) -> Self {
        let goldens = Autograd::open();
        let (source, folder) = goldens.checkpoint(parallel);
        let request = Request {
            n_ctx: N_CTX,
            seed: 7,
            inputs: true,
            model: "tiny".to_owned(),
            text: "random.txt".to_owned(),
            program: "tests 1".to_owned(),
            cancel: Cancel::new(),
        };
        Self { source, folder, tokens: goldens.ids("tokens")[..N_CTX * WINDOWS].to_vec(), request }
    }

    fn network(&self, level: Option<IsaLevel>, threads: usize) -> Network<'_> {
        Network::open(&self.source, Arc::new(Cpu::new(threads, level).unwrap()), None).unwrap()
    }

    fn collector<'n, 's>(&self, network: &'n Network<'s>, group: usize) -> Collector<'n, 's> {
        Collector::new(network, &self.request, self.tokens.clone()).unwrap().in_groups_of(group)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The file of a run in one go.
    fn write(&self, name: &str) -> PathBuf {
        let network = self.network(None, 2);
        self.collector(&network, 2).run(&()).unwrap().write(&self.path(name), false, &()).unwrap();
        self.path(name)
    }

    fn bytes(&self, level: Option<IsaLevel>, threads: usize, group: usize) -> Vec<u8> {
        let network = self.network(level, threads);
        self.collector(&network, group).run(&()).unwrap().write(&self.path("bytes.gguf"), true, &()).unwrap();
        fs::read(self.path("bytes.gguf")).unwrap()
    }
}

/// Outer products in f64.
#[derive(Default)]
struct Products {
    gradients: HashMap<TensorId, Vec<f64>>,
    inputs: HashMap<TensorId, Vec<f64>>,
}

fn outer(sums: &mut Vec<f64>, x: &[f32]) {
    let cols = x.len() / N_CTX;
    sums.resize(cols * cols, 0.0);
    for row in x.chunks_exact(cols) {
        for (i, a) in row.iter().enumerate() {
            for (j, b) in row.iter().enumerate() {
                sums[i * cols + j] += f64::from(*a) * f64::from(*b);
            }
        }
    }
}

impl Observer for Products {
    fn input(&mut self, id: TensorId, x: &[f32]) {
        outer(self.inputs.entry(id).or_default(), x);
    }

    fn gradient(&mut self, ids: &[TensorId], g: &[f32]) {
        ids.iter().for_each(|&id| outer(self.gradients.entry(id).or_default(), g));
    }
}

fn assert_near(name: &str, got: &[f32], sums: &[f64]) {
    let largest = sums.iter().fold(0.0, |max: f64, sum| max.max(sum.abs()));
    assert_eq!(got.len(), sums.len(), "{name}");
    for (got, sum) in got.iter().zip(sums) {
        let tokens = (N_CTX * WINDOWS) as f64;
        assert!((f64::from(*got) - sum / tokens).abs() < 1e-5 * largest / tokens, "{name}: {got}, {}", sum / tokens);
    }
}

#[test]
fn metrics_and_moments_are_means_of_outer_products() {
    for parallel in [true, false] {
        let setup = Setup::new(parallel);
        let file = Calibration::open(&setup.write("c.gguf")).unwrap();
        assert_eq!((file.n_ctx(), file.tokens()), (N_CTX, &setup.tokens[..]));
        let provenance = file.provenance();
        assert_eq!((provenance.windows, provenance.seed, &*provenance.text), (WINDOWS, 7, "random.txt"));
        assert_eq!(file.sha256().len(), 64);

        let network = setup.network(None, 1);
        assert_eq!(provenance.fingerprint, network.fingerprint().unwrap());
        assert!(file.is_of(&network).unwrap());
        let other = Setup::new(!parallel);
        assert!(!file.is_of(&other.network(None, 1)).unwrap(), "the same weights in another order");
        let (head, mut products) = (network.head().unwrap(), Products::default());
        for (window, tokens) in setup.tokens.chunks(N_CTX).enumerate() {
            let labels = crate::network::Labels::Sampled { seed: 7, first: (window * N_CTX) as u64 };
            crate::network::testing::differentiate(&network, &head, tokens, labels, &mut products);
        }
        let embedding = TensorId::weight(Kind::TokenEmbd, None);
        assert_near("embedding", &file.embedding_metric().unwrap().values, &products.gradients[&embedding]);
        let mut kinds = 0;
        for id in format::matrices(2) {
            assert_near("moment", &file.input_moment(id).unwrap().unwrap(), &products.inputs[&id]);
            if id.layer.is_some() {
                let blocks = file.output_metric(id).unwrap();
                assert_eq!((blocks.len(), blocks[0].first_row), (1, 0));
                assert_near("metric", &blocks[0].values, &products.gradients[&id]);
                kinds += 1;
            }
        }
        assert_eq!(kinds, 8);
        let output = TensorId::weight(Kind::Output, None);
        assert_eq!(file.output_metric(output).unwrap_err().kind(), ErrorKind::Usage);
        let norm = TensorId::weight(Kind::AttnNorm, Some(0));
        assert!(file.output_metric(norm).is_err() && file.input_moment(embedding).is_err());
    }
}

#[test]
fn bytes_depend_neither_on_the_processor_nor_on_groups() {
    let setup = Setup::new(false);
    let want = setup.bytes(Some(IsaLevel::Scalar), 1, WINDOWS);
    for &level in IsaLevel::ALL.iter().filter(|level| level.is_supported()) {
        assert!(setup.bytes(Some(level), 3, 2) == want, "{level}");
    }
    assert!(setup.bytes(None, 1, 1) == want);
}

#[test]
fn a_large_metric_is_block_diagonal() {
    assert_eq!(format::blocks(2500).collect::<Vec<_>>(), [0..1024, 1024..2048, 2048..2500]);
    let setup = Setup::new(true);
    let network = setup.network(None, 1);
    let mut header = format::Header {
        hparams: network.hparams().clone(),
        provenance: Calibration::open(&setup.write("c.gguf")).unwrap().provenance().clone(),
        n_ctx: 2,
        inputs: false,
        tokens: vec![1, 2],
    };
    (header.hparams.n_embd, header.hparams.n_layer) = (512, 1);
    let mut totals = Totals::new(Arc::clone(network.shared_cpu()), &header);
    let g: Vec<f32> = (0..2 * 1536).map(|i| (i % 7) as f32 - 3.0).collect();
    let id = TensorId::weight(Kind::AttnQkv, Some(0));
    totals.gradient(&[id], &g);
    let squares = totals.by_name();
    for (name, first, rows) in
        [("blk.0.attn_qkv.weight.out_metric.0", 0, 1024), ("blk.0.attn_qkv.weight.out_metric.1", 1024, 512)]
    {
        let square = squares[name];
        assert_eq!(square.rows, rows);
        for (i, j) in [(0, 0), (3, 500), (500, 3), (511, 510)] {
            let at = |row: usize, i: usize| g[row * 1536 + first + i];
            assert_eq!(square.sums[i * rows + j], at(0, i) * at(0, j) + at(1, i) * at(1, j), "{name} {i} {j}");
        }
    }
}

/// Cancels after some reports.
struct After<'a>(&'a Cancel, AtomicUsize);

impl Progress for After<'_> {
    fn advance(&self, _item: &str, _units: i64) {
        if self.1.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.raise();
        }
    }
}

#[test]
fn a_run_goes_on_where_it_was_stopped_to_the_same_bytes() {
    for parallel in [true, false] {
        let setup = Setup::new(parallel);
        let want = fs::read(setup.write("whole.gguf")).unwrap();
        let (target, partial) = (setup.path("c.gguf"), partial_path(&setup.path("c.gguf")));
        let network = setup.network(None, 2);
        // A group has five steps: two layers forward, the head, two layers backward. The first report is of nothing.
        for stop in 1..16 {
            let cancel = Cancel::new();
            let request = Request { cancel: cancel.clone(), ..setup.request.clone() };
            let mut collector = Collector::new(&network, &request, setup.tokens.clone()).unwrap().in_groups_of(2);
            assert_eq!(collector.keep_state(partial.clone(), false).unwrap(), None);
            let stopped = collector.run(&After(&cancel, AtomicUsize::new(stop)));
            assert!(matches!(stopped, Err(Error::Cancelled)), "after {stop}");

            // The next run may have other groups.
            let mut collector = setup.collector(&network, 3);
            let done = collector.keep_state(partial.clone(), false).unwrap();
            assert_eq!(done, Some((stop - 1) / 5 * 2), "after {stop}");
            collector.run(&()).unwrap().write(&target, true, &()).unwrap();
            assert!(fs::read(&target).unwrap() == want, "after {stop}");
            assert!(!partial.exists());
        }
    }
}

#[test]
fn the_state_of_another_run_is_refused() {
    let setup = Setup::new(true);
    let (partial, cancel) = (setup.path("c.gguf.partial"), Cancel::new());
    let network = setup.network(None, 2);
    let request = Request { cancel: cancel.clone(), ..setup.request.clone() };
    let mut collector = Collector::new(&network, &request, setup.tokens.clone()).unwrap().in_groups_of(1);
    collector.keep_state(partial.clone(), false).unwrap();
    collector.run(&After(&cancel, AtomicUsize::new(7))).err().unwrap();

    let fresh = Request { cancel: Cancel::new(), ..request };
    let other_tokens: Vec<u32> = setup.tokens.iter().rev().copied().collect();
    for (request, tokens, key) in [
        (Request { seed: 8, ..fresh.clone() }, &setup.tokens, "calibration.seed"),
        (Request { inputs: false, ..fresh.clone() }, &setup.tokens, "calibration.inputs"),
        (Request { n_ctx: 4, ..fresh.clone() }, &setup.tokens, "calibration.context_length"),
        (fresh.clone(), &other_tokens, "calibration.tokens"),
    ] {
        let mut collector = Collector::new(&network, &request, tokens.clone()).unwrap();
        let error = collector.keep_state(partial.clone(), false).unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(key), "{error}");
        assert_eq!(collector.keep_state(partial.clone(), true).unwrap(), None);
    }
    // Another program may go on; a damaged state is not taken for one.
    let request = Request { program: "tests 2".to_owned(), ..fresh };
    let mut collector = Collector::new(&network, &request, setup.tokens.clone()).unwrap();
    assert_eq!(collector.keep_state(partial.clone(), false).unwrap(), Some(1));
    let bytes = fs::read(&partial).unwrap();
    fs::write(&partial, &bytes[..bytes.len() - 64]).unwrap();
    let mut collector = Collector::new(&network, &request, setup.tokens.clone()).unwrap();
    assert_eq!(collector.keep_state(partial.clone(), false).unwrap_err().kind(), ErrorKind::Data);
    assert_eq!(collector.keep_state(partial, true).unwrap(), None);
    assert!(Calibration::open(&setup.path("none")).is_err());
}

#[test]
fn settings_and_tokens_are_checked() {
    let setup = Setup::new(true);
    let network = setup.network(None, 1);
    let new = |n_ctx, tokens: &[u32]| {
        Collector::new(&network, &Request { n_ctx, ..setup.request.clone() }, tokens.to_vec()).err().unwrap()
    };
    for (error, wanted) in [
        (new(0, &[1, 2]), "ctx: found 0, wanted 1 to 256, the model's context"),
        (new(257, &[1; 257]), "ctx: found 257, wanted 1 to 256, the model's context"),
        (new(2, &[1, 2, 3]), "tokens: found 3, wanted whole windows of 2"),
        (new(2, &[]), "tokens: found 0, wanted whole windows of 2"),
        (new(2, &[1, 40]), "token id 40 is out of range, the model's vocabulary has 40 rows"),
    ] {
        assert_eq!(error.to_string(), wanted);
    }
    let windows =
        |tokens: &[u32], n_ctx, max| windows::windows(&mut pythia_runtime::TokenStream::of_ids(tokens), 40, n_ctx, max);
    assert_eq!(windows(&[1, 2, 3, 4, 5], 2, 9).unwrap(), [1, 2, 3, 4]);
    assert_eq!(windows(&[1, 2, 3, 4, 5], 2, 1).unwrap(), [1, 2]);
    for error in [windows(&[1], 2, 1), windows(&[1, 40], 2, 1), windows(&[1], 0, 1), windows(&[1], 1, 0)] {
        assert!(!error.unwrap_err().to_string().contains('\n'));
    }
}

/// A file with changed metadata or tensors.
fn changed(
    setup: &Setup,
    name: &str,
    change: impl Fn(&mut format::Header, &mut Vec<(String, pythia_tensor::TensorType, Vec<u64>)>),
) -> Error {
    let file = Calibration::open(&setup.path("c.gguf")).unwrap();
    let mut header = file.0.header.clone();
    let mut table = format::table(&header);
    change(&mut header, &mut table);
    let layout = Layout::new(&header.to_metadata(format::COMPLETE), table).unwrap();
    let mut bytes = layout.header().to_vec();
    bytes.resize(layout.total_bytes() as usize, 0);
    fs::write(setup.path(name), bytes).unwrap();
    Calibration::open(&setup.path(name)).unwrap_err()
}

#[test]
fn files_of_strangers_are_refused_in_one_line() {
    let setup = Setup::new(true);
    let path = setup.write("c.gguf");
    for (error, part) in [
        (changed(&setup, "a", |header, _| header.n_ctx = 0), "context_length"),
        (changed(&setup, "a", |header, _| header.n_ctx = 257), "context_length"),
        (changed(&setup, "a", |header, _| header.n_ctx = 7), "whole windows of 7"),
        (changed(&setup, "a", |header, _| header.tokens.clear()), "whole windows"),
        (changed(&setup, "a", |header, _| header.tokens[3] = 40), "id 40"),
        (changed(&setup, "a", |header, _| header.tokens[3] ^= 1), "of the tokens"),
        (changed(&setup, "a", |header, _| header.hparams.n_ff = 64), "ffn_up.weight.out_metric.0"),
        // As many tensors as a header can ask for.
        (
            changed(&setup, "a", |header, _| (header.hparams.n_embd, header.hparams.n_layer) = (1 << 20, 512)),
            "528 values",
        ),
        (changed(&setup, "a", |header, _| header.hparams.n_layer = 3), "blk.2.attn_qkv.weight.out_metric.0"),
        (changed(&setup, "a", |_, table| table[0].0.push('x')), "no such tensor"),
        (changed(&setup, "a", |_, table| table[0].2[0] -= 1), "527 values"),
        (changed(&setup, "a", |_, table| table[0].1 = pythia_tensor::TensorType::F16), "type F16"),
        (changed(&setup, "a", |_, table| drop(table.pop())), "output.weight.in_moment"),
    ] {
        let line = error.to_string();
        assert!(error.kind() == ErrorKind::Data && line.contains(part) && !line.contains('\n'), "{part}: {line}");
    }

    let bytes = fs::read(&path).unwrap();
    let reopened = |bytes: &[u8]| {
        fs::write(setup.path("b"), bytes).unwrap();
        Calibration::open(&setup.path("b"))
    };
    for len in [0, 3, 24, 500, bytes.len() - 1] {
        assert!(reopened(&bytes[..len]).is_err(), "{len} bytes");
    }
    // Values are looked at when they are read.
    let tensor =
        Calibration::open(&path).unwrap().0.gguf.tensor("token_embd.weight.out_metric").unwrap().offset as usize;
    for value in [f32::NAN, f32::INFINITY, -1.0] {
        let mut bytes = bytes.clone();
        bytes[tensor..tensor + 4].copy_from_slice(&value.to_le_bytes());
        let error = reopened(&bytes).unwrap().embedding_metric().unwrap_err().to_string();
        assert!(error.contains("row 0, column 0") && !error.contains('\n'), "{error}");
    }
    // Whatever a byte of the header becomes, the file is read or refused.
    let mut refused = 0;
    for at in (0..tensor).step_by(13) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x55;
        match reopened(&bytes) {
            Ok(file) => assert!(file.embedding_metric().is_ok(), "byte {at}"),
            Err(error) => refused += usize::from(!error.to_string().contains('\n')),
        }
    }
    assert!(refused > 50, "{refused}");
    // A model is not a calibration.
    let error = Calibration::open(&setup.path("config.json")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
}

#[test]
fn the_estimate_counts_what_there_is() {
    let setup = Setup::new(true);
    let network = setup.network(None, 1);
    let collector = Collector::new(&network, &setup.request, setup.tokens.clone()).unwrap();
    let estimate = *collector.estimate();
    assert_eq!(estimate.group, WINDOWS);
    let size = fs::metadata(setup.write("c.gguf")).unwrap().len();
    // The header, padding and diagonals come on top.
    assert!(size > estimate.file && size < estimate.file + 20_000, "{size} {}", estimate.file);

    // Sizes of Pythia 1.4b and 6.9b.
    let sizes = |n_embd, n_layer| {
        Estimate::new(
            &pythia_schema::Hparams {
                n_embd,
                n_layer,
                n_ff: 4 * n_embd,
                n_vocab: 50304,
                n_head: 16,
                ..network.hparams().clone()
            },
            512,
            64,
            false,
        )
    };
    let (small, large) = (sizes(2048, 24), sizes(4096, 32));
    assert!((1.6e9..1.9e9).contains(&(small.sums as f64)) && small.memory() < 4 << 30, "{small:?}");
    assert!((4.0e9..5.0e9).contains(&(large.sums as f64)) && large.memory() < 8 << 30, "{large:?}");
    assert!(small.group >= 2 && large.group >= 1);
}

/// What the metric is for: half of `tr(G D H DT)` is the divergence that an error D of a matrix causes, up to terms
/// between positions and the chance of the labels.
#[test]
fn the_metric_predicts_the_divergence_of_an_error() {
    let setup = Setup::new(true);
    let network = setup.network(None, 2);
    let (n_ctx, n_vocab) = (16, network.hparams().n_vocab);
    let mut rng = pythia_runtime::Rng::new(1);
    let tokens: Vec<u32> = (0..200 * n_ctx).map(|_| (rng.next_u64() % n_vocab as u64) as u32).collect();
    let request = Request { n_ctx, ..setup.request.clone() };
    let collector = Collector::new(&network, &request, tokens.clone()).unwrap();
    collector.run(&()).unwrap().write(&setup.path("c.gguf"), false, &()).unwrap();
    let file = Calibration::open(&setup.path("c.gguf")).unwrap();

    let logits = |changed: Option<(Kind, &[f32])>| {
        let (mut h, mut normal, mut logits) = (Vec::new(), Vec::new(), Vec::new());
        network.embed(&tokens, &mut h).unwrap();
        for layer in 0..2 {
            let mut block = network.block(layer).unwrap();
            for linear in [&mut block.qkv, &mut block.attn_output, &mut block.ffn_up, &mut block.ffn_down] {
                if let Some((_, error)) = changed.filter(|(kind, _)| layer == 0 && *kind == linear.id.kind) {
                    linear.weight.iter_mut().zip(error).for_each(|(w, e)| *w += e);
                }
            }
            network.forward(&block, n_ctx, &mut h);
        }
        network.layer_norm(&network.output_norm().unwrap(), &h, &mut normal);
        network.linear(&network.output().unwrap(), &normal, &mut logits);
        network.cpu().softmax(pythia_kernels::SeenRows::all(n_vocab), 1.0, &mut logits);
        logits
    };
    let base = logits(None);
    for kind in [Kind::AttnQkv, Kind::AttnOutput, Kind::FfnUp, Kind::FfnDown] {
        let id = TensorId::weight(kind, Some(0));
        let (metric, moment) = (&file.output_metric(id).unwrap()[0], file.input_moment(id).unwrap().unwrap());
        let (rows, cols) = (metric.rows, moment.len().isqrt());
        let error: Vec<f32> = (0..rows * cols).map(|_| (rng.next_f64() - 0.5) as f32 * 0.01).collect();
        let mut predicted = 0.0;
        for i in 0..rows {
            for j in 0..rows {
                for k in 0..cols {
                    let row = (0..cols).map(|l| moment[k * cols + l] * error[j * cols + l]).sum::<f32>();
                    predicted += f64::from(metric.values[i * rows + j] * error[i * cols + k] * row) / 2.0;
                }
            }
        }
        let changed = logits(Some((kind, &error)));
        let divergence = |(&p, &q): (&f32, &f32)| f64::from(p) * (f64::from(p) / f64::from(q)).ln();
        let measured = base.iter().zip(&changed).map(divergence).sum::<f64>() / tokens.len() as f64;
        assert!((0.6..1.6).contains(&(predicted / measured)), "{id}: predicted {predicted:e}, measured {measured:e}");
    }
}
