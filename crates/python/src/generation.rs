//! A text in the making, as an iterator.

use crate::error::Problem;
use crate::{object, work};
use pyo3::prelude::*;
use pythia_model::{Context, ContextShape, Model};
use pythia_runtime::{Error, Finish, GenerateOptions, Generator, Scheduler, Tokenizer};
use pythia_task::Cancel;
use std::sync::Arc;

/// A text in the making: an iterator over its pieces, each a str that is not empty.
#[pyclass(module = "pythia_quant")]
pub(crate) struct Generation {
    context: Context,
    /// Raised by Ctrl-C, and for good: the text ends then.
    cancel: Cancel,
    scheduler: Scheduler,
    generator: Generator,
    /// Whether tokens are drafted.
    has_draft: bool,
    /// Bytes of the text that were returned.
    shown: usize,
}

impl Generation {
    /// Begins a text. The context is as long as it can become, at most `n_ctx`.
    pub(crate) fn new(
        model: &Arc<Model>,
        tokenizer: &Arc<Tokenizer>,
        prompt: &[u32],
        options: &GenerateOptions,
        n_ctx: usize,
    ) -> Result<Self, Error> {
        let n_ctx = options.n_ctx(prompt.len(), n_ctx);
        let cancel = Cancel::new();
        let shape = ContextShape { n_seq: 1, n_ctx, n_batch: options.n_batch(prompt.len()) };
        let context = model.context(shape)?.cancelled_by(cancel.clone());
        let generator = Generator::new(&context, tokenizer, prompt, options)?;
        let has_draft = options.draft.is_some();
        Ok(Self { context, cancel, scheduler: Scheduler::new(), generator, has_draft, shown: 0 })
    }

    /// Generates until there is new text, or the end.
    fn advance(&mut self) -> Result<(), Error> {
        while self.generator.finish().is_none() && self.generator.text().len() == self.shown {
            // One token, so that pieces, and what `stop` leaves of a text, are the same with a draft.
            self.scheduler.step_one(&mut self.context, &mut [&mut self.generator])?;
        }
        match self.generator.finish() {
            Some(&Finish::NotFinite { position }) => Err(Error::NotFinite { position }),
            _ => Ok(()),
        }
    }
}

#[pymethods]
impl Generation {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<String>> {
        let cancel = self.cancel.clone();
        let result = work::run_until(py, &cancel, |_| self.advance());
        if let Err(error) = result {
            self.generator.interrupt();
            return Err(error);
        }
        let piece = self.generator.text()[self.shown..].to_owned();
        self.shown += piece.len();
        Ok((!piece.is_empty()).then_some(piece))
    }

    /// Ends the text here.
    fn stop(&mut self) {
        self.generator.interrupt();
    }

    /// The text so far. Also that which was held back for a stop string, once the text has ended.
    #[getter]
    fn text(&self) -> &str {
        self.generator.text()
    }

    /// Every token generated so far, also those of a stop string and the end-of-text token.
    #[getter]
    fn ids(&self) -> Vec<u32> {
        self.generator.ids().to_vec()
    }

    /// Why the text ended, once it has: "eos", "stop", "length", "context" or "interrupted".
    #[getter]
    fn finish(&self) -> Option<&'static str> {
        self.generator.finish().map(Finish::name)
    }

    /// The stop string that ended it.
    #[getter]
    fn stopped_by(&self) -> Option<&str> {
        match self.generator.finish() {
            Some(Finish::Stop(text)) => Some(text),
            _ => None,
        }
    }

    /// What came of drafts so far: a dict with `drafts` (those that were checked), `drafted_tokens`, `accepted_tokens`,
    /// `acceptance` (their ratio), `mean_accepted` (accepted tokens of each draft) and `seconds` (which drafting took). None
    /// without a draft.
    #[getter]
    fn draft<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.has_draft.then(|| object::json(py, &self.generator.draft_stats())).transpose()
    }

    fn __repr__(&self) -> String {
        let state = self.finish().map_or_else(|| "going on".to_owned(), |finish| format!("finish={finish:?}"));
        format!("<Generation of {} tokens, {state}>", self.generator.ids().len())
    }
}

/// The longest context that may be asked for is the model's.
pub(crate) fn check_n_ctx(model: &Model, asked: Option<usize>) -> Result<usize, Problem> {
    let trained = model.hparams().n_ctx;
    match asked {
        None | Some(0) => Ok(trained),
        Some(n) if n <= trained => Ok(n),
        Some(n) => Err(Problem::usage(format_args!("ctx: found {n}, wanted at most the model's {trained}"))),
    }
}
