//! The runtime against Hugging Face transformers in float32: same tokens, same likelihoods, same text. The file is F32,
//! and so are activations and cache.

mod variants;

use crate::common;
use pythia_model::{Activations, ContextShape, KvType, Model, Options, Span};
use pythia_runtime::eval::{
    Observer, Perplexity, Protocol, Qualities, Request, State, Store, TokenScore, compare, perplexity,
};
use pythia_runtime::{Finish, GenerateOptions, TextReader, TokenStream, Tokenizer, generate};
use pythia_task::Cancel;
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

struct Setup {
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    goldens: Value,
}

impl Setup {
    fn new() -> Self {
        let options = Options { activations: Activations::F32, kv: KvType::F32, ..Options::default() };
        let model = Model::open(&common::gguf("F32"), &options).unwrap();
        let tokenizer = Arc::new(Tokenizer::from_gguf(&model.gguf().metadata).unwrap());
        let goldens = serde_json::from_slice(&std::fs::read(common::data("goldens/hf_f32.json")).unwrap()).unwrap();
        Self { model, tokenizer, goldens }
    }

    /// The held-out text.
    fn tokens(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(common::checkpoint().join("heldout.txt")).unwrap();
        self.tokenizer.encode(text.trim_end_matches('\n')).unwrap()
    }

    fn perplexity(&self, protocol: Protocol, tokens: &[u32], observer: &mut dyn Observer) -> Perplexity {
        let request = Request { tokenizer: &self.tokenizer, protocol, max_windows: None, cancel: &Cancel::new() };
        perplexity(&self.model, &request, &mut TokenStream::of_ids(tokens), observer).unwrap()
    }
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn assert_close(got: f64, want: &Value, relative: f64) {
    let want = want.as_f64().unwrap();
    assert!((got / want - 1.0).abs() < relative, "{got}, Hugging Face has {want}");
}

#[test]
fn token_ids_are_equal() {
    let setup = Setup::new();
    let tokens = setup.tokens();
    assert_eq!(tokens.len() as u64, setup.goldens["n_tokens"].as_u64().unwrap());
    let first = ids(&setup.goldens["first_ids"]);
    assert_eq!(tokens[..first.len()], first);
}

/// Collects likelihoods in the order of the text.
struct Collect(Vec<f64>);

impl Observer for Collect {
    fn token(&mut self, _: usize, _: u32, nll: f64) {
        self.0.push(nll);
    }
}

#[test]
fn likelihoods_of_single_tokens_are_equal() {
    let setup = Setup::new();
    let mut nlls = Collect(Vec::new());
    // Disjoint windows of which all but the first token are scored, as the golden values were made.
    let protocol = Protocol::HfStride { window: 512, stride: 512 };
    setup.perplexity(protocol, &setup.tokens()[..1024], &mut nlls);
    let chunks = setup.goldens["nll_first_chunks"].as_array().unwrap();
    let want = chunks.iter().flat_map(|chunk| chunk.as_array().unwrap()).map(|nll| nll.as_f64().unwrap());
    let want: Vec<f64> = want.collect();
    assert_eq!((want.len(), nlls.0.len()), (1022, 1022));
    let largest = want.iter().zip(&nlls.0).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(largest <= 1e-4, "largest difference {largest}");
    println!("largest difference of a negative log-likelihood: {largest:.2e} nats");
}

#[test]
fn perplexity_as_llama_cpp_scores_is_equal() {
    let setup = Setup::new();
    let result = setup.perplexity(Protocol::Llama { n_ctx: 512 }, &setup.tokens(), &mut ());
    let want = &setup.goldens["llama_protocol"];
    assert_eq!((result.windows, result.scored), (168, 42_840));
    assert_close(result.nll.value, &want["mean_nll"], 1e-6);
    assert_close(result.perplexity.value, &want["ppl"], 1e-6);
    assert_close(result.perplexity.se, &want["stderr"], 1e-5);
}

#[test]
fn perplexity_as_hugging_face_scores_is_equal() {
    let setup = Setup::new();
    let result = setup.perplexity(Protocol::HfStride { window: 512, stride: 256 }, &setup.tokens(), &mut ());
    let want = &setup.goldens["hf_stride"];
    assert_eq!(result.scored as u64, want["scored"].as_u64().unwrap());
    assert_close(result.perplexity.value, &want["ppl"], 1e-6);
    assert_close(result.bits_per_byte, &want["bits_per_byte"], 1e-6);
}

#[test]
fn greedy_continuations_are_identical() {
    let setup = Setup::new();
    let greedy = setup.goldens["greedy"].as_array().unwrap();
    assert_eq!(greedy.len(), 8);
    for golden in greedy {
        let text = golden["prompt"].as_str().unwrap();
        let prompt = setup.tokenizer.encode(text).unwrap();
        assert_eq!(prompt, ids(&golden["prompt_ids"]), "{text:?}");
        let mut context = setup.model.context(ContextShape { n_seq: 1, n_ctx: 128, n_batch: 16 }).unwrap();
        let options = GenerateOptions { max_new_tokens: Some(64), ..GenerateOptions::default() };
        let mut shown = String::new();
        let generation = generate(&mut context, &setup.tokenizer, &prompt, &options, &mut |piece| {
            shown += piece;
            ControlFlow::Continue(())
        });
        let generation = generation.unwrap();
        assert_eq!(generation.ids, ids(&golden["ids"]), "{text:?}");
        assert_eq!(generation.text, golden["text"].as_str().unwrap(), "{text:?}");
        assert_eq!((generation.finish, shown), (Finish::Length, generation.text), "{text:?}");
    }
}

#[test]
fn logits_are_equal() {
    let setup = Setup::new();
    let bytes = std::fs::read(common::data("goldens/hf_f32_logits.safetensors")).unwrap();
    let goldens = SafeTensors::deserialize(&bytes).unwrap();
    let integers = |name| -> Vec<usize> {
        let (values, _) = goldens.tensor(name).unwrap().data().as_chunks::<8>();
        values.iter().map(|&b| i64::from_le_bytes(b) as usize).collect()
    };
    let tokens: Vec<u32> = integers("input_ids").into_iter().map(|id| id as u32).collect();
    assert_eq!(tokens, setup.tokens()[..512]);
    let mut context = setup.model.context(ContextShape { n_seq: 1, n_ctx: 512, n_batch: 512 }).unwrap();
    let mut sequence = context.sequence().unwrap();
    context.forward(&mut [Span { sequence: &mut sequence, tokens: &tokens }]).unwrap();
    let (want, _) = goldens.tensor("logits").unwrap().data().as_chunks::<4>();
    let want: Vec<f32> = want.iter().map(|&b| f32::from_le_bytes(b)).collect();
    let mut got = vec![0.0; setup.model.hparams().n_vocab];
    let mut largest = 0.0f32;
    for (&position, want) in integers("positions").iter().zip(want.chunks_exact(got.len())) {
        context.logits(position..position + 1, &mut got).unwrap();
        largest = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(largest, f32::max);
    }
    assert!(largest <= 1e-3, "largest difference {largest}");
    println!("largest difference of a logit: {largest:.2e}");
}

/// A text that is read as it is scored, of unknown length, against its tokens all at once.
#[test]
fn a_text_read_on_the_way_gives_the_same_bits() {
    let setup = Setup::new();
    let text = std::fs::read_to_string(common::checkpoint().join("heldout.txt")).unwrap();
    let text = &text[..text.floor_char_boundary(12_000)];
    let tokens = setup.tokenizer.encode(text).unwrap();
    for protocol in [Protocol::Llama { n_ctx: 64 }, Protocol::HfStride { window: 64, stride: 48 }] {
        for max_windows in [None, Some(3)] {
            let request = Request { tokenizer: &setup.tokenizer, protocol, max_windows, cancel: &Cancel::new() };
            let score = |mut tokens: TokenStream<'_>| {
                let p = perplexity(&setup.model, &request, &mut tokens, &mut ()).unwrap();
                (p.nll, p.perplexity, p.bytes, p.scored, p.windows)
            };
            let read = TokenStream::new(&setup.tokenizer, TextReader::new(text.as_bytes()));
            assert_eq!(score(read), score(TokenStream::of_ids(&tokens)), "{protocol:?}");
        }
    }
}

/// Not against Hugging Face but against itself: what a comparison says must be what each file says alone.
#[test]
fn a_comparison_agrees_with_its_parts() {
    let setup = Setup::new();
    let tokens = setup.tokens();
    let protocol = Protocol::Llama { n_ctx: 128 };
    let request = Request { tokenizer: &setup.tokenizer, protocol, max_windows: Some(6), cancel: &Cancel::new() };
    let text = || TokenStream::of_ids(&tokens);
    let open = |level| Model::open(&common::gguf(level), &Options::default()).unwrap();
    let (base, q8, q4) = (open("F32"), open("Q8_0"), open("Q4_0"));
    let all = compare(&base, &[&q4, &base, &q8], &request, &mut text(), &mut (), &mut ()).unwrap();
    let [q4_level, same, q8_level] = all.others[..] else { panic!("three levels") };
    for (model, part) in [(&base, all.base), (&q4, q4_level.perplexity), (&q8, q8_level.perplexity)] {
        let alone = perplexity(model, &request, &mut text(), &mut ()).unwrap();
        assert_eq!((alone.nll, alone.perplexity, alone.bytes), (part.nll, part.perplexity, part.bytes));
        assert_eq!(part.scored, 6 * 63);
    }
    let same = same.against_base;
    assert_eq!((same.kld_mean.value, same.kld_max, same.same_top.value), (0.0, 0.0, 1.0));
    let (q4_far, q8_far) = (q4_level.against_base, q8_level.against_base);
    assert!(
        q4_far.kld_mean.value > 10.0 * q8_far.kld_mean.value && q8_far.kld_mean.value > 1e-5,
        "{} {}",
        q4_far.kld_mean.value,
        q8_far.kld_mean.value
    );
    assert!(q4_far.same_top.value < q8_far.same_top.value && q8_far.same_top.value > 0.97);
    let percentiles =
        [0.0, q4_far.kld_median, q4_far.kld_p90, q4_far.kld_p95, q4_far.kld_p99, q4_far.kld_p999, q4_far.kld_max];
    assert!(percentiles.is_sorted(), "{percentiles:?}");
    let alone = compare(&base, &[&q8], &request, &mut text(), &mut (), &mut ()).unwrap().others[0].against_base;
    assert_eq!(
        (alone.kld_mean, alone.log_perplexity_ratio),
        (q8_far.kld_mean, q8_far.log_perplexity_ratio),
        "whatever runs beside it"
    );
}

/// Scores in memory, and how many were taken in.
#[derive(Default)]
struct Memory {
    scores: HashMap<(usize, usize), Vec<TokenScore>>,
    written: usize,
}

impl Store for Memory {
    fn read(&mut self, model: usize, window: usize) -> Option<Vec<TokenScore>> {
        self.scores.get(&(model, window)).cloned()
    }

    fn write(&mut self, model: usize, window: usize, scores: &[TokenScore]) {
        assert!(self.scores.insert((model, window), scores.to_vec()).is_none(), "scored twice");
        self.written += 1;
    }
}

/// Cancels after so many windows.
struct StopAfter(usize, Cancel);

impl Observer for StopAfter {
    fn window(&mut self, state: &State) {
        if state.windows == self.0 {
            self.1.raise();
        }
    }
}

#[test]
fn a_comparison_that_was_stopped_goes_on_to_the_same_bits() {
    let setup = Setup::new();
    let tokens = setup.tokens();
    let open = |level| Model::open(&common::gguf(level), &Options::default()).unwrap();
    let (base, q8, q4) = (open("F32"), open("Q8_0"), open("Q4_0"));
    // Windows of 128 tokens share batches, those of 512 do not.
    for (n_ctx, n_windows, stop) in [(128, 10, 5), (512, 3, 2)] {
        let protocol = Protocol::Llama { n_ctx };
        let run = |levels: &[&Arc<Model>], store: &mut Memory, stop: usize| {
            let (tokenizer, max_windows, cancel) = (&*setup.tokenizer, Some(n_windows), &Cancel::new());
            let request = Request { tokenizer, protocol, max_windows, cancel };
            let observer = &mut StopAfter(stop, cancel.clone());
            let mut text = TokenStream::of_ids(&tokens);
            compare(&base, levels, &request, &mut text, store, observer)
        };
        let numbers = |comparison: &Qualities| {
            let levels = comparison.others.iter().map(|level| (level.perplexity.nll, level.against_base.kld_mean));
            let far = comparison.others.iter().map(|level| (level.against_base.kld_p99, level.against_base.same_top));
            (comparison.base.nll, levels.collect::<Vec<_>>(), far.collect::<Vec<_>>())
        };
        let whole = run(&[&q8, &q4], &mut Memory::default(), usize::MAX).unwrap();

        let mut store = Memory::default();
        run(&[&q8, &q4], &mut store, stop).unwrap_err();
        let before = store.written;
        assert!(before >= 3 * stop && before < 3 * n_windows, "{before}");
        let resumed = run(&[&q8, &q4], &mut store, usize::MAX).unwrap();
        assert_eq!(numbers(&resumed), numbers(&whole));
        assert_eq!(store.written, 3 * n_windows, "nothing is scored twice");

        let again = run(&[&q8, &q4], &mut store, usize::MAX).unwrap();
        assert_eq!(numbers(&again), numbers(&whole));
        assert_eq!((store.written, again.base.tokens_per_second), (3 * n_windows, 0.0), "nothing has to be run");

        // A further level is run beside the base, and the base's scores may be lost.
        store.scores.retain(|(model, window), _| *model == 1 || (*model == 0 && *window != 1));
        let further = run(&[&q8, &q4], &mut store, usize::MAX).unwrap();
        assert_eq!(numbers(&further), numbers(&whole));
        assert_eq!(store.written, 3 * n_windows + n_windows + 1);
    }
}
