//! Importance matrices as the runtime collects them: against their definition, against transformers, and the same bits
//! however they are computed.

use crate::common;
use pythia_calibrate::imatrix::{Request, collect};
use pythia_gguf::{Gguf, Imatrix};
use pythia_kernels::IsaLevel;
use pythia_model::backend::Batch;
use pythia_model::{Activations, ContextShape, Hook, Hooks, KvType, Model, Options, Span, Values};
use pythia_runtime::{Error, TokenStream, Tokenizer};
use pythia_task::{Cancel, Progress};
use pythia_tensor::TensorType;
use safetensors::SafeTensors;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn open(level: &str, options: &Options) -> Arc<Model> {
    Model::open(&common::gguf(level), options).unwrap()
}

/// The held-out text.
fn tokens(model: &Model) -> Vec<u32> {
    let text = std::fs::read_to_string(common::checkpoint().join("heldout.txt")).unwrap();
    Tokenizer::from_gguf(&model.gguf().metadata).unwrap().encode(text.trim_end_matches('\n')).unwrap()
}

fn request(n_ctx: usize) -> Request {
    Request { n_ctx, n_batch: 512, max_chunks: None, dataset: "heldout.txt".to_owned(), cancel: Cancel::new() }
}

fn all(model: &Arc<Model>, tokens: &[u32], request: &Request) -> Imatrix {
    collect(model, request, &mut TokenStream::of_ids(tokens), &()).unwrap()
}

/// An F32 tensor of the F32 file.
fn weights(gguf: &Gguf, bytes: &[u8], name: &str) -> Vec<f64> {
    let tensor = gguf.tensor(name).unwrap();
    assert_eq!(tensor.ty.known(), Some(TensorType::F32));
    gguf.data(bytes, tensor).as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
}

#[test]
fn sums_of_the_first_block_are_those_of_its_definition() {
    let model = open("F32", &Options::default());
    let (bytes, gguf) = (std::fs::read(common::gguf("F32")).unwrap(), model.gguf());
    let tokens = tokens(&model);
    let imatrix = all(&model, &tokens, &Request { max_chunks: Some(3), ..request(100) });
    assert_eq!((imatrix.chunk_count, imatrix.chunk_size), (3, 100));
    assert_eq!(imatrix.datasets, ["heldout.txt"]);

    // With a parallel residual, both read the embedding.
    let embedding = weights(gguf, &bytes, "token_embd.weight");
    for (matrix, norm) in [("attn_qkv", "attn_norm"), ("ffn_up", "ffn_norm")] {
        let [gamma, beta] = ["weight", "bias"].map(|part| weights(gguf, &bytes, &format!("blk.0.{norm}.{part}")));
        let cols = gamma.len();
        let mut want = vec![0.0; cols];
        for &token in &tokens[..300] {
            let x = &embedding[token as usize * cols..][..cols];
            let mean = x.iter().sum::<f64>() / cols as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / cols as f64;
            let scale = 1.0 / (variance + f64::from(model.hparams().norm_eps)).sqrt();
            for (i, want) in want.iter_mut().enumerate() {
                *want += ((x[i] - mean) * scale * gamma[i] + beta[i]).powi(2);
            }
        }
        let entry = imatrix.entry(&format!("blk.0.{matrix}.weight")).unwrap();
        assert_eq!(entry.counts(), [300.0]);
        assert_eq!(entry.sums().len(), cols);
        for (got, want) in entry.sums().iter().zip(want) {
            assert!((f64::from(*got) / want - 1.0).abs() < 1e-5, "{matrix}: {got}, wanted {want}");
        }
    }
}

/// Rows that enter the output matrix.
struct OutputInput(Vec<f32>);

impl Hooks for OutputInput {
    fn sees(&self, hook: Hook) -> bool {
        hook.matrix().is_some_and(|matrix| matrix.gguf() == "output.weight")
    }

    fn see(&mut self, _: Hook, _: Batch<'_>, values: Values<'_>) {
        let Values::Rows(rows) = values else { panic!("rows") };
        rows.iter().for_each(|row| self.0.extend_from_slice(row));
    }
}

/// What is observed for the output matrix is what the logits are made of, and looking changes nothing.
#[test]
fn observed_inputs_times_the_output_matrix_are_the_logits() {
    let model = open("F32", &Options::default());
    let tokens = &tokens(&model)[..40];
    let n_vocab = model.hparams().n_vocab;
    let logits = |seen: Option<&mut OutputInput>| {
        let mut context = model.context(ContextShape { n_seq: 1, n_ctx: 40, n_batch: 40 }).unwrap();
        let mut sequence = context.sequence().unwrap();
        let mut spans = [Span { sequence: &mut sequence, tokens }];
        match seen {
            None => context.forward(&mut spans).unwrap(),
            Some(seen) => context.forward_seen(&mut spans, seen).unwrap(),
        }
        let mut logits = vec![0.0; 40 * n_vocab];
        context.logits(0..40, &mut logits).unwrap();
        logits
    };
    let mut input = OutputInput(Vec::new());
    let observed = logits(Some(&mut input));
    assert!(observed == logits(None));
    let OutputInput(rows) = input;
    assert_eq!(rows.len(), 40 * model.hparams().n_embd);

    let bytes = std::fs::read(common::gguf("F32")).unwrap();
    let output = weights(model.gguf(), &bytes, "output.weight");
    let cols = model.hparams().n_embd;
    for (row, logits) in rows.chunks_exact(cols).zip(observed.chunks_exact(n_vocab)).step_by(13) {
        for (weights, &got) in output.chunks_exact(cols).zip(logits).step_by(101) {
            let want: f64 = weights.iter().zip(row).map(|(w, x)| w * f64::from(*x)).sum();
            assert!((f64::from(got) - want).abs() < 1e-4, "{got}, wanted {want}");
        }
    }
}

/// Two chunks of 512 tokens: attention, residuals and all.
#[test]
fn sums_of_every_matrix_are_those_of_transformers() {
    let options = Options { activations: Activations::F32, kv: KvType::F32, ..Options::default() };
    let model = open("F32", &options);
    let tokens = tokens(&model);
    let imatrix = all(&model, &tokens, &Request { max_chunks: Some(2), ..request(512) });
    let bytes = std::fs::read(common::data("goldens/hf_imatrix.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(imatrix.entries.len(), golden.len());
    for entry in &imatrix.entries {
        let want = golden.tensor(entry.name()).unwrap();
        let (want, _) = want.data().as_chunks();
        assert_eq!(entry.sums().len(), want.len());
        for (column, (got, want)) in entry.sums().iter().zip(want).enumerate() {
            let want = f32::from_le_bytes(*want);
            let name = entry.name();
            assert!((got / want - 1.0).abs() < 2e-5, "column {column} of {name}: {got}, transformers has {want}");
        }
    }
}

/// The order is that of a forward pass, where llama.cpp sorts by name.
#[test]
fn the_matrices_are_those_of_llama_cpps_file() {
    let golden = Imatrix::parse(&std::fs::read(common::data("goldens/imatrix.gguf")).unwrap()).unwrap();
    let model = open("F32", &Options::default());
    let tokens = tokens(&model);
    let ours = all(&model, &tokens, &Request { max_chunks: Some(1), ..request(512) });
    let matrices = ["attn_qkv", "attn_output", "ffn_up", "ffn_down"];
    let blocks = (0..model.hparams().n_layer).flat_map(|i| matrices.map(|matrix| format!("blk.{i}.{matrix}.weight")));
    let names: Vec<String> = blocks.chain(["output.weight".to_owned()]).collect();
    assert_eq!(ours.entries.iter().map(|entry| entry.name().to_owned()).collect::<Vec<_>>(), names);
    assert_eq!(golden.entries.len(), names.len());
    for entry in &ours.entries {
        let golden = golden.entry(entry.name()).unwrap_or_else(|| panic!("llama.cpp has no {}", entry.name()));
        assert_eq!((entry.cols(), entry.counts().len()), (golden.cols(), golden.counts().len()), "{}", entry.name());
    }
}

#[test]
fn bits_depend_on_neither_threads_nor_batches_nor_instructions() {
    for level in ["F32", "Q4_0"] {
        let run = |isa, threads, n_batch| {
            let model = open(level, &Options { isa, threads, ..Options::default() });
            let tokens = tokens(&model);
            all(&model, &tokens, &Request { n_batch, max_chunks: Some(2), ..request(80) }).to_gguf().unwrap()
        };
        let want = run(None, 1, 80);
        for (threads, n_batch) in [(2, 1), (3, 7), (4, 64), (2, usize::MAX)] {
            assert!(run(None, threads, n_batch) == want, "{level}: {threads} threads, batches of {n_batch}");
        }
        for &isa in IsaLevel::ALL.iter().filter(|isa| isa.is_supported()) {
            assert!(run(Some(isa), 2, 33) == want, "{level}: {isa}");
        }
    }
}

#[test]
fn impossible_requests_are_refused() {
    let model = open("Q8_0", &Options::default());
    let tokens = tokens(&model);
    let error = |tokens: &[u32], request: Request| {
        let mut tokens = TokenStream::of_ids(tokens);
        collect(&model, &request, &mut tokens, &()).unwrap_err().to_string()
    };
    assert!(error(&tokens[..511], request(512)).starts_with("the text has 511 tokens"));
    assert!(error(&tokens, request(0)).starts_with("ctx: found 0, wanted 1 to 512"));
    assert!(error(&tokens, request(513)).starts_with("ctx: found 513"));
    assert!(error(&tokens, Request { n_batch: 0, ..request(512) }).starts_with("batch: found 0"));
    let mut foreign = tokens.clone();
    foreign[700] = 4096;
    assert!(error(&foreign, request(512)).contains("token id 4096"));

    let watch = Watch { total: tokens.len() / 32, chunks: AtomicUsize::new(0), cancel: Cancel::new() };
    let run = || {
        let request = Request { cancel: watch.cancel.clone(), ..request(32) };
        collect(&model, &request, &mut TokenStream::of_ids(&tokens), &watch)
    };
    assert!(matches!(run(), Err(Error::Cancelled)));
    assert_eq!(watch.chunks.load(Ordering::Relaxed), 2);
    // The request is still raised: no chunk ends.
    assert!(matches!(run(), Err(Error::Cancelled)));
    assert_eq!(watch.chunks.load(Ordering::Relaxed), 2);
}

/// Stops a collection after its second chunk.
struct Watch {
    total: usize,
    chunks: AtomicUsize,
    cancel: Cancel,
}

impl Progress for Watch {
    fn expect(&self, total: Option<u64>) {
        assert_eq!(total, Some(self.total as u64));
    }

    fn advance(&self, _item: &str, chunks: i64) {
        assert_eq!(chunks, 1);
        if self.chunks.fetch_add(1, Ordering::Relaxed) == 1 {
            self.cancel.raise();
        }
    }
}
