//! A calibration of an open model on a text, from the settings to the metrics.

use super::{Collected, Collector, Estimate, Request, check_n_ctx, windows};
use crate::Error;
use crate::network::Network;
use pythia_convert::{Provenance, Source};
use pythia_gguf::keys;
use pythia_kernels::Cpu;
use pythia_model::Gelu;
use pythia_runtime::{Text, Tokenizer};
use pythia_task::{Cancel, Progress};
use std::path::Path;
use std::sync::Arc;

/// Tokens of a window, where the model's context is not shorter and the settings name no length.
const N_CTX: usize = 512;

/// Which part of a text is read, and how.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Tokens per window; 0 for the model's context. `None` for 512, or the model's context if that is shorter.
    pub n_ctx: Option<usize>,
    /// The first windows of the text, this many at most.
    pub windows: usize,
    /// Seed of the labels that are drawn from the model's predictions.
    pub seed: u64,
    /// Whether the second moments of the inputs are collected too.
    pub inputs: bool,
}

impl Settings {
    /// Windows of the default settings.
    pub const WINDOWS: usize = 64;

    fn n_ctx(&self, longest: usize) -> usize {
        match self.n_ctx {
            None => longest.min(N_CTX),
            Some(0) => longest,
            Some(n_ctx) => n_ctx,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { n_ctx: None, windows: Self::WINDOWS, seed: 0, inputs: false }
    }
}

/// What is calibrated, and how.
pub struct Job<'a> {
    /// The model.
    pub source: &'a dyn Source,
    /// Where it is from.
    pub provenance: &'a Provenance,
    /// Its name, for the file.
    pub name: &'a str,
    /// Its path, for errors.
    pub path: &'a Path,
    /// The text.
    pub text: &'a Text,
    /// Which part of it is read, and how.
    pub settings: Settings,
    /// Threads; 0 for one per core. They change no bit of the result.
    pub threads: usize,
    /// Form of GELU; `None` for what the model says.
    pub gelu: Option<Gelu>,
    /// The program, for the file.
    pub program: String,
    /// Raised to stop.
    pub cancel: Cancel,
}

/// What a job came to.
pub struct Done {
    /// The metrics, to be written.
    pub collected: Collected,
    /// What the run took.
    pub estimate: Estimate,
    /// Tokens of the text, if it was read to its end.
    pub text_tokens: Option<usize>,
    /// Threads that computed.
    pub threads: usize,
}

impl Job<'_> {
    /// Runs it. `prepare` may look at the run before it begins, and have it keep its state. `progress` counts tokens.
    ///
    /// # Errors
    /// If the model or the text cannot be read, `prepare` fails, or the run is cancelled.
    pub fn run<E: From<Error>>(
        &self,
        prepare: impl FnOnce(&mut Collector<'_, '_>) -> Result<(), E>,
        progress: &dyn Progress,
    ) -> Result<Done, E> {
        let located = |error: Error| match error {
            Error::Text(error) => Error::Text(error.located(self.path, self.text)),
            error => error,
        };
        let cpu = Arc::new(Cpu::new(self.threads, None).map_err(|problem| Error::Cpu(problem.to_string()))?);
        let network = Network::open(self.source, cpu, self.gelu)?;
        let n_ctx = self.settings.n_ctx(network.hparams().n_ctx);
        check_n_ctx(n_ctx, network.hparams().n_ctx)?;
        let tokenizer = self.tokenizer()?;
        let mut stream = self.text.tokens(&tokenizer, &self.cancel).map_err(|error| located(error.into()))?;
        let tokens = windows(&mut stream, network.hparams().n_vocab, n_ctx, self.settings.windows).map_err(located)?;
        let request = Request {
            n_ctx,
            seed: self.settings.seed,
            inputs: self.settings.inputs,
            model: self.name.to_owned(),
            text: self.text.name(),
            program: self.program.clone(),
            cancel: self.cancel.clone(),
        };
        let mut collector = Collector::new(&network, &request, tokens).map_err(located)?;
        prepare(&mut collector)?;
        let estimate = *collector.estimate();
        let collected = collector.run(progress)?;
        Ok(Done { collected, estimate, text_tokens: stream.total(), threads: network.cpu().threads() })
    }

    fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let metadata = self.source.metadata(self.provenance)?;
        let wrong = |problem: String| Error::Tokenizer { path: self.path.to_owned(), problem };
        if metadata.get(keys::TOKENS).is_none() {
            return Err(wrong("no tokenizer, wanted one to read the text with".to_owned()));
        }
        Tokenizer::from_gguf(&metadata).map_err(|error| wrong(error.to_string()))
    }
}
