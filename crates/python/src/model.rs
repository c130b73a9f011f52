//! A model, with what can be asked of it.

use crate::error::Problem;
use crate::generation::{Generation, check_n_ctx};
use crate::ids::{self, Tokens, encode};
use crate::options::How;
use crate::text::{TextArg, text};
use crate::{object, work};
use numpy::{PyArray1, PyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pythia_convert::check_gguf;
use pythia_eval::{Asks, Reply, Subject};
use pythia_model::Model as Weights;
use pythia_runtime::eval::{self, Protocol, Request};
use pythia_runtime::{Arithmetic, GenerateOptions, Sampling, Tokenizer, prompt, whole};
use std::path::PathBuf;
use std::sync::Arc;

/// See `_native.pyi`.
#[pyclass(frozen, module = "pythia_quant")]
pub(crate) struct Model {
    path: PathBuf,
    model: Arc<Weights>,
    tokenizer: Arc<Tokenizer>,
}

impl Model {
    /// The error with the file or the text before it, if one of them is at fault.
    fn located(&self, error: pythia_runtime::Error, text: &str) -> Problem {
        error.located(&self.path, text).into()
    }

    fn ids(&self, py: Python<'_>, tokens: Tokens) -> PyResult<Vec<u32>> {
        py.detach(|| tokens.ids(&self.tokenizer)).map_err(|problem| problem.raise(py))
    }

    /// The replies to requests.
    fn answer(&self, py: Python<'_>, asks: Vec<Asks>) -> PyResult<Vec<Vec<Reply>>> {
        work::run(py, |cancel| {
            Subject::new(Arc::clone(&self.model), Arc::clone(&self.tokenizer)).answer(asks, cancel, &())
        })
    }
}

#[pymethods]
impl Model {
    #[new]
    #[pyo3(signature = (path, *, threads=None, activations="int8", gelu=None, kv="f16", isa=None, device="cpu"))]
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
    ) -> PyResult<Self> {
        let how = How {
            threads,
            activations: activations.to_owned(),
            gelu: gelu.map(str::to_owned),
            kv: kv.to_owned(),
            isa: isa.map(str::to_owned),
            device: device.to_owned(),
        };
        work::run(py, |_| {
            let options = how.options()?;
            check_gguf(&path)?;
            let model = how.device(|_| ())?.open(&path, &options)?;
            let tokenizer = Tokenizer::from_gguf(&model.gguf().metadata)
                .map_err(|error| Problem::data(format_args!("{}: {error}", pythia_text::path(&path))))?;
            Ok::<_, Problem>(Self { path, model, tokenizer: Arc::new(tokenizer) })
        })
    }

    #[pyo3(signature = (text, /))]
    fn tokenize(&self, py: Python<'_>, text: &str) -> PyResult<Vec<u32>> {
        py.detach(|| encode(&self.tokenizer, text)).map_err(|problem| problem.raise(py))
    }

    #[pyo3(signature = (ids, /, *, skip_special=false))]
    fn detokenize(&self, ids: &Bound<'_, PyAny>, skip_special: bool) -> PyResult<String> {
        Ok(self.tokenizer.decode(&ids::ids(ids)?, skip_special))
    }

    #[pyo3(signature = (id, /))]
    fn token_bytes(&self, id: u32) -> &[u8] {
        self.tokenizer.token_bytes(id)
    }

    #[pyo3(signature = (tokens, /))]
    fn logits<'py>(&self, py: Python<'py>, tokens: Tokens) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let ids = self.ids(py, tokens)?;
        let logits = work::run(py, |cancel| {
            whole::logits(&self.model, &ids, cancel).map_err(|error| self.located(error, "tokens"))
        })?;
        object::matrix(py, ids.len(), logits)
    }

    #[pyo3(signature = (tokens, /))]
    fn log_likelihood<'py>(&self, py: Python<'py>, tokens: Tokens) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let ids = self.ids(py, tokens)?;
        let values = work::run(py, |cancel| {
            whole::log_likelihoods(&self.model, &ids, cancel).map_err(|error| self.located(error, "tokens"))
        })?;
        Ok(PyArray1::from_vec(py, values))
    }

    #[pyo3(signature = (pairs, /))]
    fn log_likelihoods(&self, py: Python<'_>, pairs: Vec<(String, String)>) -> PyResult<Vec<(f64, bool)>> {
        let asks = pairs.into_iter().map(|(context, continuation)| Asks::LogLikelihood { context, continuation });
        let replies = self.answer(py, asks.collect())?;
        Ok(replies.iter().flatten().filter_map(Reply::score).map(|it| (it.log_likelihood, it.is_greedy)).collect())
    }

    #[pyo3(signature = (texts, /))]
    fn rolling_log_likelihoods(&self, py: Python<'_>, texts: Vec<String>) -> PyResult<Vec<f64>> {
        let asks = texts.into_iter().map(|text| Asks::Rolling { text, words: 0, bytes: 0 });
        let replies = self.answer(py, asks.collect())?;
        let sum = |windows: Vec<Reply>| windows.iter().filter_map(Reply::score).map(|it| it.log_likelihood).sum();
        Ok(replies.into_iter().map(sum).collect())
    }

    #[pyo3(signature = (contexts, /, *, until=Vec::new(), max_new_tokens=None))]
    fn generate_until(
        &self,
        py: Python<'_>,
        contexts: Vec<String>,
        until: Vec<String>,
        max_new_tokens: Option<usize>,
    ) -> PyResult<Vec<String>> {
        let ask =
            |context| Asks::Generate { context, until: until.clone(), max_tokens: max_new_tokens, answers: Vec::new() };
        let replies = self.answer(py, contexts.into_iter().map(ask).collect())?;
        Ok(replies.iter().flatten().filter_map(Reply::text).map(str::to_owned).collect())
    }

    #[pyo3(signature = (
        prompt, /, *, max_new_tokens=128, stop=Vec::new(), ignore_eos=false, temperature=None, top_k=None, top_p=None,
        min_p=None, repetition_penalty=1.0, penalty_tokens=None, seed=0, ctx=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn generate(
        &self,
        py: Python<'_>,
        prompt: Tokens,
        max_new_tokens: Option<usize>,
        stop: Vec<String>,
        ignore_eos: bool,
        temperature: Option<f32>,
        top_k: Option<usize>,
        top_p: Option<f32>,
        min_p: Option<f32>,
        repetition_penalty: f32,
        penalty_tokens: Option<usize>,
        seed: u64,
        ctx: Option<usize>,
    ) -> PyResult<Generation> {
        let sampling =
            Sampling { repetition_penalty, penalty_tokens, seed, ..Sampling::asked(temperature, top_k, top_p, min_p) };
        let options = GenerateOptions { max_new_tokens, stop, ignore_eos, sampling, logit_bias: Vec::new() };
        let begin = || {
            let ids = match prompt {
                Tokens::Text(text) => self::prompt(&self.tokenizer, &text)?,
                Tokens::Ids(ids) => ids,
            };
            let n_ctx = check_n_ctx(&self.model, ctx)?;
            Generation::new(&self.model, &self.tokenizer, &ids, &options, n_ctx)
                .map_err(|error| self.located(error, "the prompt"))
        };
        py.detach(begin).map_err(|problem: Problem| problem.raise(py))
    }

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
            eval::perplexity(&self.model, &request, &mut tokens, &mut ())
                .map_err(|error| self.located(error, &text.to_string()))
        })?;
        object::json(py, &result)
    }

    #[getter]
    fn path(&self) -> &std::path::Path {
        &self.path
    }

    #[getter]
    fn paths(&self) -> Vec<PathBuf> {
        self.model.paths().to_vec()
    }

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

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        object::metadata(py, &self.model.gguf().metadata)
    }

    #[getter]
    fn n_layer(&self) -> usize {
        self.model.hparams().n_layer
    }

    #[getter]
    fn n_embd(&self) -> usize {
        self.model.hparams().n_embd
    }

    #[getter]
    fn n_head(&self) -> usize {
        self.model.hparams().n_head
    }

    #[getter]
    fn n_vocab(&self) -> usize {
        self.model.hparams().n_vocab
    }

    #[getter]
    fn n_tokens(&self) -> usize {
        self.tokenizer.n_tokens()
    }

    #[getter]
    fn n_ctx(&self) -> usize {
        self.model.hparams().n_ctx
    }

    #[getter]
    fn bos(&self) -> Option<u32> {
        self.tokenizer.bos()
    }

    #[getter]
    fn eos(&self) -> Option<u32> {
        self.tokenizer.eos()
    }

    #[getter]
    fn file_bytes(&self) -> u64 {
        self.model.file_bytes()
    }

    #[getter]
    fn device(&self) -> &str {
        self.model.device()
    }

    #[getter]
    fn isa(&self) -> &'static str {
        self.model.isa_name()
    }

    #[getter]
    fn threads(&self) -> usize {
        self.model.threads()
    }

    #[getter]
    fn activations(&self) -> &'static str {
        Arithmetic::of(self.model.options()).activations
    }

    #[getter]
    fn gelu(&self) -> &'static str {
        Arithmetic::of(self.model.options()).gelu
    }

    #[getter]
    fn kv(&self) -> &'static str {
        Arithmetic::of(self.model.options()).kv_cache
    }

    fn __repr__(&self) -> String {
        let hparams = self.model.hparams();
        let path = pythia_text::path(&self.path).to_string();
        let (activations, threads) = (self.activations(), self.threads());
        format!(
            "<Model {path:?}: {} layers, {} wide, context {}, activations={activations:?}, threads={threads}>",
            hparams.n_layer, hparams.n_embd, hparams.n_ctx
        )
    }
}
