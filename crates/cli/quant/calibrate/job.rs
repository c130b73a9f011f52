//! A calibration of an open model: for `calibrate` itself, and for commands that quantize with one of their own.

use crate::exit::{self, Failure};
use crate::progress::{Bar, Unit};
use crate::quant::PROGRAM;
use pythia_calibrate::calibration::{Collected, Collector, Estimate, Request, check_n_ctx, windows};
use pythia_calibrate::network::Network;
use pythia_convert::{Provenance, Source};
use pythia_gguf::keys;
use pythia_kernels::Cpu;
use pythia_model::Gelu;
use pythia_runtime::{Text, Tokenizer};
use std::path::Path;
use std::sync::Arc;

/// Windows of a text, unless a command line says otherwise.
const WINDOWS: u64 = 64;
/// Tokens of a window then, where the model's context is not shorter.
const N_CTX: usize = 512;

/// Which part of a text is read, and how.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(in crate::quant) struct Settings {
    /// Tokens per window; 0 for the model's context length [default: 512, or the model's context if that is shorter]
    #[arg(short = 'c', long = "ctx", visible_alias = "ctx-size", value_name = "N")]
    n_ctx: Option<usize>,
    /// Use the first N windows of the text
    #[arg(long, visible_alias = "chunks", value_name = "N", default_value_t = WINDOWS)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    windows: u64,
    /// Seed of the labels that are drawn from the model's predictions
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Collect the second moments of the inputs of every matrix too; several times larger for wide models
    #[arg(long)]
    pub(super) inputs: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { n_ctx: None, windows: WINDOWS, seed: 0, inputs: false }
    }
}

impl Settings {
    fn n_ctx(&self, longest: usize) -> usize {
        match self.n_ctx {
            None => longest.min(N_CTX),
            Some(0) => longest,
            Some(n_ctx) => n_ctx,
        }
    }
}

/// What is calibrated, and how.
pub(in crate::quant) struct Job<'a> {
    pub(in crate::quant) source: &'a dyn Source,
    pub(in crate::quant) provenance: &'a Provenance,
    /// Name of the model, for the file.
    pub(in crate::quant) name: &'a str,
    /// The model in errors.
    pub(in crate::quant) path: &'a Path,
    pub(in crate::quant) text: &'a Text,
    pub(in crate::quant) settings: Settings,
    pub(in crate::quant) threads: usize,
    pub(in crate::quant) gelu: Option<Gelu>,
    pub(in crate::quant) quiet: bool,
}

/// What a job came to.
pub(in crate::quant) struct Done {
    pub(in crate::quant) collected: Collected,
    pub(super) estimate: Estimate,
    /// Tokens of the text, if it was read to its end.
    pub(super) text_tokens: Option<usize>,
    pub(super) threads: usize,
}

impl Job<'_> {
    /// Runs it. `prepare` may look at the run before it begins, and have it keep its state.
    ///
    /// # Errors
    /// If the model or the text cannot be read, `prepare` fails, or the user stops it.
    pub(in crate::quant) fn run(
        &self,
        prepare: impl FnOnce(&mut Collector<'_, '_>) -> Result<(), Failure>,
    ) -> Result<Done, Failure> {
        let cancel = exit::catch_interrupts();
        let located = |error: pythia_calibrate::Error| match error {
            pythia_calibrate::Error::Text(error) => exit::locate(error, self.path, self.text),
            error => error.into(),
        };
        let cpu = Arc::new(Cpu::new(self.threads, None).map_err(Failure::usage)?);
        let network = Network::open(self.source, cpu, self.gelu)?;
        let n_ctx = self.settings.n_ctx(network.hparams().n_ctx);
        check_n_ctx(n_ctx, network.hparams().n_ctx)?;
        let max = usize::try_from(self.settings.windows).unwrap_or(usize::MAX);
        let tokenizer = self.tokenizer()?;
        let mut stream = self.text.tokens(&tokenizer, cancel)?;
        let tokens = windows(&mut stream, network.hparams().n_vocab, n_ctx, max).map_err(located)?;
        let request = Request {
            n_ctx,
            seed: self.settings.seed,
            inputs: self.settings.inputs,
            model: self.name.to_owned(),
            text: self.text.name(),
            program: format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION")),
            cancel: cancel.clone(),
        };
        let mut collector = Collector::new(&network, &request, tokens).map_err(located)?;
        prepare(&mut collector)?;
        let estimate = *collector.estimate();
        let bar = Bar::new(0, Unit::Items("tokens"), self.quiet);
        bar.message("calibrating");
        let collected = collector.run(&bar);
        drop(bar);
        Ok(Done { collected: collected?, estimate, text_tokens: stream.total(), threads: network.cpu().threads() })
    }

    fn tokenizer(&self) -> Result<Tokenizer, Failure> {
        let metadata = self.source.metadata(self.provenance)?;
        let shown = pythia_text::path(self.path);
        if metadata.get(keys::TOKENS).is_none() {
            return Err(Failure::data(format_args!("{shown}: no tokenizer, wanted one to read the text with")));
        }
        Tokenizer::from_gguf(&metadata).map_err(|error| Failure::data(format_args!("{shown}: {error}")))
    }
}
