//! A model, with what can be asked of it.

use crate::change::Vector;
use crate::drafting::{DraftArgs, Drafter};
use crate::error::Problem;
use crate::generation::{Generation, check_n_ctx};
use crate::ids::{self, Tokens, encode};
use crate::names::Names;
use crate::options::How;
use crate::text::{TextArg, text};
use crate::{change, object, work};
use numpy::{PyArray1, PyArray2};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pythia_convert::check_gguf;
use pythia_eval::{Asks, Reply, Subject};
use pythia_inside::{Reach, Selection, lens, list};
use pythia_model::Model as Weights;
use pythia_runtime::draft::DraftSource;
use pythia_runtime::eval::{self, Protocol, Request};
use pythia_runtime::{Arithmetic, GenerateOptions, Sampling, Tokenizer, prompt, whole};
use std::path::PathBuf;
use std::sync::Arc;

/// A model from a GGUF file, open on the processor or a GPU.
///
/// Weights are read in the mapped file, or with `mmap=False` in a copy in memory, which generates tokens of most quantized
/// types faster. `mmap=None` makes a copy if that is faster and takes at most half of the available memory. Results have
/// the same bits wherever the weights are, with any number of `threads` and on any instruction set (`isa`). They depend on
/// `activations` ("int8", rounded before products with quantized weights, or "f32", which takes about three times as long),
/// `gelu` ("erf" or "tanh", by default what the file says) and `kv` (the type of keys and values in the cache, "f16", "f32"
/// or "q8_0", bytes with scales). `device` is "cpu", "cuda", "cuda:N" or "auto".
///
/// Where a method takes `tokens`, they are a str, which is tokenized as it is, or token ids: a sequence of int or an
/// array of one dimension.
#[pyclass(frozen, module = "pythia_quant")]
pub(crate) struct Model {
    path: PathBuf,
    model: Arc<Weights>,
    tokenizer: Arc<Tokenizer>,
    /// Of all its patches.
    reach: Vec<Reach>,
}

impl Model {
    /// The error with the file or the text before it, if one of them is at fault.
    fn located(&self, error: pythia_runtime::Error, text: &str) -> Problem {
        error.located(&self.path, text).into()
    }

    /// The ids of tokens that run as one sequence: all positions of patches must be among them.
    fn ids(&self, py: Python<'_>, tokens: Tokens) -> PyResult<Vec<u32>> {
        let ids = || {
            let ids = tokens.ids(&self.tokenizer)?;
            self.check_reach(ids.len(), "the text")?;
            Ok(ids)
        };
        py.detach(ids).map_err(|problem: Problem| problem.raise(py))
    }

    fn check_reach(&self, tokens: usize, what: &str) -> Result<(), Problem> {
        self.reach.iter().try_for_each(|reach| Ok(reach.check(tokens, what)?))
    }

    /// The same for what has run.
    fn check_run(&self) -> Result<(), Problem> {
        self.reach.iter().try_for_each(|reach| Ok(reach.check_scored("the longest text")?))
    }

    /// Another form of the model, with the same file and tokenizer.
    fn view(&self, model: Arc<Weights>) -> Self {
        let (path, tokenizer, reach) = (self.path.clone(), Arc::clone(&self.tokenizer), self.reach.clone());
        Self { path, model, tokenizer, reach }
    }

    /// Drafts of this model for texts of `tokenizer`.
    pub(crate) fn as_draft(&self, tokenizer: &Tokenizer) -> Result<DraftSource, Problem> {
        DraftSource::model(Arc::clone(&self.model), &self.tokenizer, tokenizer)
            .map_err(|error| Problem::data(format_args!("{}: {error}", pythia_text::path(&self.path))))
    }

    /// The replies to requests.
    fn answer(&self, py: Python<'_>, asks: Vec<Asks>, draft: DraftArgs) -> PyResult<Vec<Vec<Reply>>> {
        work::run(py, |cancel| {
            let drafting = draft.checked(&self.tokenizer)?;
            let subject = Subject::new(Arc::clone(&self.model), Arc::clone(&self.tokenizer));
            let mut subject = subject.drafted_by(drafting);
            let replies = subject.answer(asks, cancel, &()).map_err(Problem::from)?;
            self.check_run()?;
            Ok::<_, Problem>(replies)
        })
    }
}

#[pymethods]
impl Model {
    #[new]
    #[pyo3(signature = (path, *, threads=None, activations="int8", gelu=None, kv="f16", isa=None, device="cpu", mmap=true))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        threads: Option<usize>,
        activations: &str,
        gelu: Option<&str>,
        kv: &str,
        isa: Option<&str>,
        device: &str,
        mmap: Option<bool>,
    ) -> PyResult<Self> {
        let how = How {
            threads,
            activations: activations.to_owned(),
            gelu: gelu.map(str::to_owned),
            kv: kv.to_owned(),
            isa: isa.map(str::to_owned),
            device: device.to_owned(),
            mmap,
        };
        work::run(py, |_| {
            let options = how.options()?;
            check_gguf(&path)?;
            let model = how.device(|_| ())?.open(&path, &options)?;
            let tokenizer = Tokenizer::from_gguf(&model.gguf().metadata)
                .map_err(|error| Problem::data(format_args!("{}: {error}", pythia_text::path(&path))))?;
            Ok::<_, Problem>(Self { path, model, tokenizer: Arc::new(tokenizer), reach: Vec::new() })
        })
    }

    /// The token ids of a text. No special token is added; those in the text are recognised, as in transformers.
    #[pyo3(signature = (text, /))]
    fn tokenize(&self, py: Python<'_>, text: &str) -> PyResult<Vec<u32>> {
        py.detach(|| encode(&self.tokenizer, text)).map_err(|problem| problem.raise(py))
    }

    /// The text of token ids. Bytes that are not UTF-8 become U+FFFD, ids outside the vocabulary are left out.
    #[pyo3(signature = (ids, /, *, skip_special=false))]
    fn detokenize(&self, ids: &Bound<'_, PyAny>, skip_special: bool) -> PyResult<String> {
        Ok(self.tokenizer.decode(&ids::ids(ids)?, skip_special))
    }

    /// The bytes of a token, possibly part of a character; none outside the vocabulary.
    #[pyo3(signature = (id, /))]
    fn token_bytes(&self, id: u32) -> &[u8] {
        self.tokenizer.token_bytes(id)
    }

    /// The logits after each token: float32 of shape [n, n_vocab]. Row i predicts the token at i + 1.
    ///
    /// Rows of the vocabulary from n_tokens on are padding.
    #[pyo3(signature = (tokens, /))]
    fn logits<'py>(&self, py: Python<'py>, tokens: Tokens) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let ids = self.ids(py, tokens)?;
        let logits = work::run(py, |cancel| {
            whole::logits(&self.model, &ids, cancel).map_err(|error| self.located(error, "tokens"))
        })?;
        object::matrix(py, ids.len(), logits)
    }

    /// ln p of each token but the first, given all before it: float64 of shape [n - 1], in nats.
    #[pyo3(signature = (tokens, /))]
    fn log_likelihood<'py>(&self, py: Python<'py>, tokens: Tokens) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let ids = self.ids(py, tokens)?;
        let values = work::run(py, |cancel| {
            whole::log_likelihoods(&self.model, &ids, cancel).map_err(|error| self.located(error, "tokens"))
        })?;
        Ok(PyArray1::from_vec(py, values))
    }

    /// For each pair of a context and a continuation, the sum of the continuation's ln p in nats, and whether greedy
    /// decoding would write it.
    ///
    /// Token rules are those of lm-evaluation-harness: both are encoded together, spaces at the end of the context
    /// count as the continuation's, and an empty context is the token that begins texts. What is too long loses its
    /// start. Pairs run together, and what several begin with is computed once; each gets the bits that it would get
    /// alone.
    #[pyo3(signature = (pairs, /))]
    fn log_likelihoods(&self, py: Python<'_>, pairs: Vec<(String, String)>) -> PyResult<Vec<(f64, bool)>> {
        let asks = pairs.into_iter().map(|(context, continuation)| Asks::LogLikelihood { context, continuation });
        let replies = self.answer(py, asks.collect(), DraftArgs::default())?;
        Ok(replies.iter().flatten().filter_map(Reply::score).map(|it| (it.log_likelihood, it.is_greedy)).collect())
    }

    /// The sum of ln p of all tokens of each text, in nats, in windows as long as the context.
    #[pyo3(signature = (texts, /))]
    fn rolling_log_likelihoods(&self, py: Python<'_>, texts: Vec<String>) -> PyResult<Vec<f64>> {
        let asks = texts.into_iter().map(|text| Asks::Rolling { text, words: 0, bytes: 0 });
        let replies = self.answer(py, asks.collect(), DraftArgs::default())?;
        let sum = |windows: Vec<Reply>| windows.iter().filter_map(Reply::score).map(|it| it.log_likelihood).sum();
        Ok(replies.into_iter().map(sum).collect())
    }

    /// What the model writes after each context, greedily, up to the first of `until`, the end of the text or
    /// `max_new_tokens` (by default 256). Contexts run together. `draft`, `draft_max` and `draft_min` are those of
    /// `generate`: they help where contexts are few.
    #[pyo3(signature = (
        contexts, /, *, until=None, max_new_tokens=None, draft=None, draft_max=None, draft_min=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn generate_until(
        &self,
        py: Python<'_>,
        contexts: Vec<String>,
        until: Option<Vec<String>>,
        max_new_tokens: Option<usize>,
        draft: Option<Drafter>,
        draft_max: Option<usize>,
        draft_min: Option<usize>,
    ) -> PyResult<Vec<String>> {
        let draft = DraftArgs { draft, most: draft_max, least: draft_min };
        let until = until.unwrap_or_default();
        let ask =
            |context| Asks::Generate { context, until: until.clone(), max_tokens: max_new_tokens, answers: Vec::new() };
        let replies = self.answer(py, contexts.into_iter().map(ask).collect(), draft)?;
        Ok(replies.iter().flatten().filter_map(Reply::text).map(str::to_owned).collect())
    }

    /// Continues a prompt: an iterator over the pieces of text as they become certain.
    ///
    /// Without `temperature`, `top_k`, `top_p` and `min_p` it takes the likeliest token each time; a filter alone means
    /// a temperature of 1. The steps are those of transformers' `generate`, and a `seed` gives the same text
    /// everywhere. `max_new_tokens=None` goes on to the end of the context, which `ctx` can shorten. The text ends
    /// before the first of `stop`.
    ///
    /// With `draft`, several tokens are checked per pass: those that a smaller Model with the same vocabulary drafts, or
    /// with "lookup" those that followed the same tokens earlier in the text. The text and its pieces stay the same.
    /// `draft_max` tokens per pass at most (by default 16), `draft_min` at least, also where that takes longer (by default
    /// 0: drafting stops while it does not save time).
    #[pyo3(signature = (
        prompt, /, *, max_new_tokens=128, stop=None, ignore_eos=false, temperature=None, top_k=None, top_p=None,
        min_p=None, repetition_penalty=1.0, penalty_tokens=None, seed=0, ctx=None, draft=None, draft_max=None,
        draft_min=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn generate(
        &self,
        py: Python<'_>,
        prompt: Tokens,
        max_new_tokens: Option<usize>,
        stop: Option<Vec<String>>,
        ignore_eos: bool,
        temperature: Option<f32>,
        top_k: Option<usize>,
        top_p: Option<f32>,
        min_p: Option<f32>,
        repetition_penalty: f32,
        penalty_tokens: Option<usize>,
        seed: u64,
        ctx: Option<usize>,
        draft: Option<Drafter>,
        draft_max: Option<usize>,
        draft_min: Option<usize>,
    ) -> PyResult<Generation> {
        let sampling =
            Sampling { repetition_penalty, penalty_tokens, seed, ..Sampling::asked(temperature, top_k, top_p, min_p) };
        let stop = stop.unwrap_or_default();
        let draft = DraftArgs { draft, most: draft_max, least: draft_min };
        let begin = || {
            let draft = draft.checked(&self.tokenizer)?;
            let options = GenerateOptions { max_new_tokens, stop, ignore_eos, sampling, logit_bias: Vec::new(), draft };
            let ids = match prompt {
                Tokens::Text(text) => self::prompt(&self.tokenizer, &text)?,
                Tokens::Ids(ids) => ids,
            };
            self.check_reach(ids.len(), "the prompt")?;
            let n_ctx = check_n_ctx(&self.model, ctx)?;
            Generation::new(&self.model, &self.tokenizer, &ids, &options, n_ctx)
                .map_err(|error| self.located(error, "the prompt"))
        };
        py.detach(begin).map_err(|problem: Problem| problem.raise(py))
    }

    /// Runs tokens and keeps the values at hooks: a dict of float32 arrays by name, in the order of the pass.
    ///
    /// A hook is named as in TransformerLens (`blocks.3.hook_resid_post`, `blocks.*.attn.hook_pattern`), as a module of
    /// transformers (`gpt_neox.layers.3.mlp`) or as in sparsify (`layers.3.mlp`); `*` stands for any layer or any part
    /// of a name. Keys are the names of TransformerLens. Shapes have no dimension of a batch: [n, n_embd], for heads
    /// [n, n_head, head_dim], for scores and patterns [n_head, n, n], for neurons [n, n_ff], for logits [n, n_vocab].
    #[pyo3(signature = (tokens, /, hooks))]
    fn run_with_cache<'py>(&self, py: Python<'py>, tokens: Tokens, hooks: Names) -> PyResult<Bound<'py, PyDict>> {
        let ids = self.ids(py, tokens)?;
        let cache = work::run(py, |cancel| {
            let selection = Selection::parse(hooks.list(), self.model.hparams())?;
            pythia_inside::run_with_cache(&self.model, &ids, &selection, cancel)
        })?;
        let dict = PyDict::new(py);
        for (hook, array) in cache {
            dict.set_item(hook.to_string(), object::array(py, array.shape, array.data)?)?;
        }
        Ok(dict)
    }

    /// What each layer would predict, if it were the last: the logit lens. The last norm and the output matrix are put on
    /// the residual stream.
    ///
    /// `layers` chooses depths: "embed" is what enters the first block, a number is what leaves that block, and "0,3-5",
    /// "last" and "all" are several. Returns a list of dicts, one per depth and position, the n positions of a depth
    /// together: `hook`, `layer` (None before the first block), `position`, `id` and `token` there, `next_id` and `next`,
    /// the token that follows, with its `rank` (1 is the likeliest) and `log_likelihood` (all four None at the last
    /// position), `entropy` of the prediction, `kl` (the divergence of this prediction from the model's in the end),
    /// `same_top` (whether both have the same likeliest token) and `top`, the likeliest tokens, `top` of them, each a dict
    /// of `id`, `token` and `log_likelihood`. All are in nats. These are the lines of `pythia-run lens --format jsonl`.
    #[pyo3(signature = (tokens, /, *, layers="all", top=5))]
    fn lens<'py>(&self, py: Python<'py>, tokens: Tokens, layers: &str, top: usize) -> PyResult<Bound<'py, PyAny>> {
        let ids = self.ids(py, tokens)?;
        let records = work::run(py, |cancel| {
            let request = lens::Request { hooks: list::stream(layers, self.model.hparams())?, top };
            let lens = lens::lens(&self.model, &ids, &request, cancel, &())?;
            Ok::<_, pythia_inside::Error>(lens::records(&lens, &self.tokenizer).collect::<Vec<_>>())
        })?;
        object::json(py, &records)
    }

    /// A model without some attention heads and MLPs: their outputs are zero, or with `mean`, a text or a path as for
    /// `perplexity`, their mean over the tokens of that text.
    ///
    /// `heads` are pairs (layer, head), whose part of `hook_z` is taken away; `mlps` are layers, whose `hook_mlp_out`
    /// is. Like `steer` and `patch` this returns a Model that shares the weights, on which every method works, and
    /// leaves the model itself as it is. It can be used in a `with` statement. Changes of changed models add up.
    #[pyo3(signature = (heads=None, mlps=None, *, mean=None))]
    fn ablate(
        &self,
        py: Python<'_>,
        heads: Option<Vec<(usize, usize)>>,
        mlps: Option<Vec<usize>>,
        mean: Option<TextArg>,
    ) -> PyResult<Self> {
        let (heads, mlps) = (heads.unwrap_or_default(), mlps.unwrap_or_default());
        let changed =
            work::run(py, |cancel| change::ablate(&self.model, &self.tokenizer, &heads, &mlps, mean, cancel))?;
        Ok(self.view(changed))
    }

    /// A model to whose residual stream `scale * vector` is added after block `layer`, at every position.
    ///
    /// `vector` is an array [n_embd], or the path of a file: safetensors with one tensor, or with one per block
    /// (`blocks.3.hook_resid_post` or `layers.3`), or a control vector of llama.cpp (GGUF). A file that says where its
    /// vectors belong needs no `layer`. See `ablate` for what is returned.
    #[pyo3(signature = (vector, layer=None, scale=1.0))]
    fn steer(&self, py: Python<'_>, vector: &Bound<'_, PyAny>, layer: Option<usize>, scale: f32) -> PyResult<Self> {
        let vector = Vector::extract(vector)?;
        Ok(self.view(work::run(py, |_| change::steer(&self.model, vector, layer, scale))?))
    }

    /// A model that goes on with values of another run: those in `cache`, as `run_with_cache` returns it, at `hooks`,
    /// in the rows of `positions`, by default all that the cache has. `*` stands for the hooks that can change. Tokens,
    /// prompts and texts that are run with it must be long enough for all of the positions, which those of generated tokens
    /// are not. See `ablate` for what is returned.
    #[pyo3(signature = (cache, hooks, positions=None))]
    fn patch(
        &self,
        py: Python<'_>,
        cache: &Bound<'_, PyDict>,
        hooks: Names,
        positions: Option<Vec<usize>>,
    ) -> PyResult<Self> {
        let patches = change::patches(cache, hooks.list(), self.model.hparams())?;
        let (model, reach) = work::run(py, |_| change::patch(&self.model, &patches, positions.as_deref()))?;
        let mut changed = self.view(model);
        changed.reach.push(reach);
        Ok(changed)
    }

    /// What was changed by `ablate`, `steer` and `patch`, a line each.
    #[getter]
    fn changes(&self) -> Vec<String> {
        self.model.edits().map_or_else(Vec::new, |edits| edits.descriptions())
    }

    fn __enter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {}

    /// The perplexity of a text: a str is the text itself, a `pathlib.Path` a file of UTF-8, without its last line end.
    ///
    /// Protocols are "llama" (disjoint windows of `ctx` tokens, by default 512, the second half of each scored, as
    /// llama-perplexity does) and "hf-stride" (windows of `ctx` tokens every `stride`, as in the guide of
    /// transformers). Perplexities of different protocols, windows or texts cannot be compared. `chunks` ends after so
    /// many windows.
    ///
    /// Returns a dict with `perplexity` and `nll` (each a `value` and its standard error `se`), `bits_per_byte`,
    /// `scored`, `bytes`, `windows`, `tokens_per_second` and `protocol`.
    #[pyo3(signature = (text, /, protocol="llama", *, ctx=None, stride=None, chunks=None))]
    fn perplexity<'py>(
        &self,
        py: Python<'py>,
        text: TextArg,
        protocol: &str,
        ctx: Option<usize>,
        stride: Option<usize>,
        chunks: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let result = work::run(py, |cancel| {
            let protocol = Protocol::named(protocol, ctx, stride, self.model.hparams().n_ctx)?;
            let text = self::text(text)?;
            let request = Request { tokenizer: &self.tokenizer, protocol, max_windows: chunks, cancel };
            let mut tokens = text.tokens(&self.tokenizer, cancel)?;
            self.check_reach(protocol.window_tokens(), "a window")?;
            let result = eval::perplexity(&self.model, &request, &mut tokens, &mut ())
                .map_err(|error| self.located(error, &text.to_string()))?;
            self.check_run()?;
            Ok::<_, Problem>(result)
        })?;
        object::json(py, &result)
    }

    /// The file, or the first of a split model.
    #[getter]
    fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// All its files.
    #[getter]
    fn paths(&self) -> Vec<PathBuf> {
        self.model.paths().to_vec()
    }

    /// The model's dimensions as a dict: n_layer, n_embd, n_head, head_dim, n_ff, n_vocab, n_ctx, n_rot and so on.
    #[getter]
    fn hparams<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let hparams = self.model.hparams();
        let dict = PyDict::new(py);
        dict.set_item("n_layer", hparams.n_layer)?;
        dict.set_item("n_embd", hparams.n_embd)?;
        dict.set_item("n_head", hparams.n_head)?;
        dict.set_item("head_dim", hparams.head_dim())?;
        dict.set_item("n_ff", hparams.n_ff)?;
        dict.set_item("n_vocab", hparams.n_vocab)?;
        dict.set_item("n_ctx", hparams.n_ctx)?;
        dict.set_item("n_rot", hparams.n_rot)?;
        dict.set_item("rope_base", hparams.rope_base)?;
        dict.set_item("norm_eps", hparams.norm_eps)?;
        dict.set_item("parallel_residual", hparams.parallel_residual)?;
        Ok(dict)
    }

    /// All metadata of the file. The dict is made anew each time, with the whole vocabulary.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        object::metadata(py, &self.model.gguf().metadata)
    }

    /// Blocks.
    #[getter]
    fn n_layer(&self) -> usize {
        self.model.hparams().n_layer
    }

    /// Width of the residual stream.
    #[getter]
    fn n_embd(&self) -> usize {
        self.model.hparams().n_embd
    }

    /// Attention heads of a block.
    #[getter]
    fn n_head(&self) -> usize {
        self.model.hparams().n_head
    }

    /// Rows of the vocabulary, padding included.
    #[getter]
    fn n_vocab(&self) -> usize {
        self.model.hparams().n_vocab
    }

    /// One more than the highest token id.
    #[getter]
    fn n_tokens(&self) -> usize {
        self.tokenizer.n_tokens()
    }

    /// Tokens that the model can see.
    #[getter]
    fn n_ctx(&self) -> usize {
        self.model.hparams().n_ctx
    }

    /// The token that begins a text.
    #[getter]
    fn bos(&self) -> Option<u32> {
        self.tokenizer.bos()
    }

    /// The token that ends a text.
    #[getter]
    fn eos(&self) -> Option<u32> {
        self.tokenizer.eos()
    }

    /// Size of its files.
    #[getter]
    fn file_bytes(&self) -> u64 {
        self.model.file_bytes()
    }

    /// Where it runs: "cpu", or the name of a GPU.
    #[getter]
    fn device(&self) -> &str {
        self.model.device()
    }

    /// The instruction set in use.
    #[getter]
    fn isa(&self) -> &'static str {
        self.model.isa_name()
    }

    /// Threads in use.
    #[getter]
    fn threads(&self) -> usize {
        self.model.threads()
    }

    /// Activations in products with quantized weights: "int8" or "f32".
    #[getter]
    fn activations(&self) -> &'static str {
        Arithmetic::of(self.model.options()).activations
    }

    /// The form of GELU: "erf" or "tanh".
    #[getter]
    fn gelu(&self) -> &'static str {
        Arithmetic::of(self.model.options()).gelu
    }

    /// The type of keys and values in the cache: "f16", "q8_0" or "f32".
    #[getter]
    fn kv(&self) -> &'static str {
        Arithmetic::of(self.model.options()).kv_cache
    }

    fn __repr__(&self) -> String {
        let hparams = self.model.hparams();
        let path = pythia_text::path(&self.path).to_string();
        let (activations, threads) = (self.activations(), self.threads());
        let changes = self.changes().into_iter().map(|change| format!(", {change}")).collect::<String>();
        format!(
            "<Model {path:?}: {} layers, {} wide, context {}, activations={activations:?}, threads={threads}{changes}>",
            hparams.n_layer, hparams.n_embd, hparams.n_ctx
        )
    }
}
