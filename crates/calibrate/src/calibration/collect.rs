//! Runs a model forward and backward over windows of a text, and writes what was summed.

use super::estimate::Estimate;
use super::format::{self, Header, Provenance};
use super::totals::Totals;
use super::windows::check_n_ctx;
use crate::Error;
use crate::network::{Labels, Network, Observer, Workspace};
use pythia_convert::output::AtomicFile;
use pythia_gguf::{Gguf, Layout, Metadata};
use pythia_kernels::Gelu;
use pythia_schema::{Hparams, Kind, TensorId};
use pythia_task::{Cancel, Progress};
use pythia_tensor::FileMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a calibration is made.
#[derive(Clone, Debug)]
pub struct Request {
    /// Tokens of a window. Windows are disjoint, and each starts with an empty context.
    pub n_ctx: usize,
    /// Seed of the labels.
    pub seed: u64,
    /// Whether second moments of the inputs of every matrix are collected too.
    pub inputs: bool,
    /// Name of the model, for the file.
    pub model: String,
    /// Name of the text, for the file.
    pub text: String,
    /// Program and version, for the file.
    pub program: String,
    /// Raised by the caller to stop. It is looked at between layers.
    pub cancel: Cancel,
}

/// The least time between two saved states, and how many times longer than the saving itself it is.
const SAVE_AFTER: Duration = Duration::from_secs(60);
const SAVE_SHARE: u32 = 20;

/// Where the state of a run is kept that will write `output`: `OUTPUT.partial`.
pub fn partial_path(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// A calibration that is being made.
///
/// The model runs over groups of windows. The input of every layer is kept until the way back; what is inside of a
/// layer is computed again there. So memory does not depend on the length of the text: see [`Estimate`].
pub struct Collector<'n, 's> {
    network: &'n Network<'s>,
    header: Header,
    totals: Totals,
    estimate: Estimate,
    cancel: Cancel,
    /// Where the state is kept.
    partial: Option<PathBuf>,
    /// When and in what time it was saved last.
    saved: (Instant, Duration),
}

impl<'n, 's> Collector<'n, 's> {
    /// A calibration of `tokens`, which are [whole windows](super::windows()).
    ///
    /// # Errors
    /// If windows are longer than the model's context, tokens are no whole windows or not in the vocabulary, or
    /// weights cannot be read.
    pub fn new(network: &'n Network<'s>, request: &Request, tokens: Vec<u32>) -> Result<Self, Error> {
        let hparams = network.hparams();
        let n_ctx = request.n_ctx;
        check_n_ctx(n_ctx, hparams.n_ctx)?;
        if tokens.is_empty() || !tokens.len().is_multiple_of(n_ctx) {
            let problem = format!("found {}, wanted whole windows of {n_ctx}", tokens.len());
            return Err(Error::Setting { name: "tokens", problem });
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= hparams.n_vocab) {
            return Err(pythia_runtime::Error::TokenOutOfRange { token, n_vocab: hparams.n_vocab }.into());
        }
        let windows = tokens.len() / n_ctx;
        let header = Header {
            hparams: Hparams { gelu_tanh: network.gelu_form() == Gelu::Tanh, ..hparams.clone() },
            provenance: Provenance {
                model: request.model.clone(),
                fingerprint: network.fingerprint()?,
                text: request.text.clone(),
                tokens_sha256: format::tokens_sha256(&tokens),
                seed: request.seed,
                windows,
                program: request.program.clone(),
            },
            n_ctx,
            inputs: request.inputs,
            tokens,
        };
        Ok(Self {
            network,
            totals: Totals::new(Arc::clone(network.shared_cpu()), &header),
            estimate: Estimate::new(hparams, n_ctx, windows, request.inputs),
            header,
            cancel: request.cancel.clone(),
            partial: None,
            saved: (Instant::now(), Duration::ZERO),
        })
    }

    /// What it takes.
    pub fn estimate(&self) -> &Estimate {
        &self.estimate
    }

    /// Windows of the text.
    pub fn windows(&self) -> usize {
        self.header.provenance.windows
    }

    /// Computes this many windows at a time instead of the estimate's number. No result depends on it.
    #[must_use]
    pub fn in_groups_of(mut self, windows: usize) -> Self {
        self.estimate.group = windows.max(1);
        self
    }

    /// Keeps the state in the file at `partial` from time to time and when the run is cancelled. If there is such a
    /// file already, the run goes on from its state, to the same bits. Returns the number of windows that are complete
    /// in that state; of the ones after them it may have parts.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, or was begun with another model, text or setting. With `force`, it is
    /// replaced then.
    pub fn keep_state(&mut self, partial: PathBuf, force: bool) -> Result<Option<usize>, Error> {
        let exists = partial.symlink_metadata().is_ok();
        let resumed = if exists { self.resume(&partial) } else { Ok(()) };
        self.partial = Some(partial);
        match resumed {
            Err(_) if force => {
                self.totals = Totals::new(Arc::clone(self.network.shared_cpu()), &self.header);
                Ok(None)
            }
            resumed => resumed.map(|()| exists.then(|| self.totals.windows())),
        }
    }

    fn resume(&mut self, path: &Path) -> Result<(), Error> {
        let map = FileMap::open(path).map_err(|source| Error::Io { path: path.to_owned(), action: "open", source })?;
        let malformed = |source| Error::File { path: path.to_owned(), source };
        let gguf = Gguf::parse(&map).map_err(malformed)?;
        let header = Header::from_metadata(&gguf.metadata, format::PARTIAL).map_err(malformed)?;
        if let Some(key) = header.difference(&self.header) {
            return Err(Error::OtherRun { path: path.to_owned(), key });
        }
        format::check_tensors(&gguf, &header).map_err(malformed)?;
        self.totals.restore(&gguf, &map, self.windows()).map_err(malformed)
    }

    /// Runs over all windows that are not in the totals yet. `progress` counts tokens.
    ///
    /// # Errors
    /// If weights cannot be read, activations or gradients are not finite, the state cannot be saved, or it is
    /// cancelled.
    pub fn run(mut self, progress: &dyn Progress) -> Result<Collected, Error> {
        progress.expect(Some(self.header.tokens.len() as u64));
        progress.advance("", (self.totals.windows() * self.header.n_ctx) as i64);
        self.saved.0 = Instant::now();
        let result = self.all_groups(progress);
        if let (Err(Error::Cancelled), Some(_)) = (&result, &self.partial) {
            self.save(progress)?;
        }
        result?;
        self.totals.check()?;
        Ok(Collected { header: self.header, totals: self.totals, partial: self.partial })
    }

    fn all_groups(&mut self, progress: &dyn Progress) -> Result<(), Error> {
        let mut buffers = Buffers::default();
        let windows = self.windows();
        while self.totals.windows() < windows {
            let first = self.totals.windows();
            self.group(first..windows.min(first + self.estimate.group), &mut buffers, progress)?;
        }
        Ok(())
    }

    /// Forward and backward over some windows.
    fn group(&mut self, windows: Range<usize>, buffers: &mut Buffers, progress: &dyn Progress) -> Result<(), Error> {
        let (network, n_ctx) = (self.network, self.header.n_ctx);
        let n_layer = network.hparams().n_layer;
        let positions = windows.start * n_ctx..windows.end * n_ctx;
        let Buffers { inputs, h, dh, work } = buffers;
        inputs.resize_with(n_layer, Vec::new);
        self.totals.first_window = windows.start;
        let mut steps = Steps { progress, tokens: positions.len(), steps: 2 * n_layer + 1, done: 0 };

        network.embed(&self.header.tokens[positions.clone()], h)?;
        for (layer, input) in inputs.iter_mut().enumerate() {
            self.pause(progress)?;
            input.clone_from(h);
            network.forward(&network.block(layer)?, n_ctx, h);
            steps.advance(&format!("layer {layer} forward"));
        }
        self.pause(progress)?;
        let labels = Labels::Sampled { seed: self.header.provenance.seed, first: positions.start as u64 };
        network.head_backward(&network.head()?, labels, h, dh, &mut self.totals)?;
        steps.advance("head");
        for (layer, input) in inputs.iter().enumerate().rev() {
            self.pause(progress)?;
            network.backward(&network.block(layer)?, n_ctx, input, dh, work, &mut self.totals);
            steps.advance(&format!("layer {layer} backward"));
        }
        self.totals.gradient(&[TensorId::weight(Kind::TokenEmbd, None)], dh);
        Ok(())
    }

    /// Between two layers: stops if it is cancelled, and saves the state if that is due.
    fn pause(&mut self, progress: &dyn Progress) -> Result<(), Error> {
        if self.cancel.is_raised() {
            return Err(Error::Cancelled);
        }
        let due = SAVE_AFTER.max(self.saved.1 * SAVE_SHARE);
        if self.partial.is_some() && self.saved.0.elapsed() > due { self.save(progress) } else { Ok(()) }
    }

    fn save(&mut self, progress: &dyn Progress) -> Result<(), Error> {
        let Some(partial) = &self.partial else { return Ok(()) };
        let start = Instant::now();
        self.totals.check()?;
        let mut metadata = self.header.to_metadata(format::PARTIAL);
        format::put_done(&mut metadata, self.totals.done());
        write(partial, &metadata, &self.header, &self.totals, |sum| sum, progress)?.commit(true)?;
        self.saved = (Instant::now(), start.elapsed());
        Ok(())
    }
}

/// Activations of a group, reused by the next one.
#[derive(Default)]
struct Buffers {
    /// The input of every layer.
    inputs: Vec<Vec<f32>>,
    h: Vec<f32>,
    dh: Vec<f32>,
    work: Workspace,
}

/// Progress within a group: its tokens in as many parts as it has steps.
struct Steps<'p> {
    progress: &'p dyn Progress,
    tokens: usize,
    steps: usize,
    done: usize,
}

impl Steps<'_> {
    fn advance(&mut self, item: &str) {
        let tokens = |done: usize| (self.tokens * done / self.steps) as i64;
        self.progress.advance(item, tokens(self.done + 1) - tokens(self.done));
        self.done += 1;
    }
}

/// A calibration that is complete.
pub struct Collected {
    header: Header,
    totals: Totals,
    partial: Option<PathBuf>,
}

impl Collected {
    /// What it was made from.
    pub fn provenance(&self) -> &Provenance {
        &self.header.provenance
    }

    /// Tokens that the model has read.
    pub fn tokens(&self) -> usize {
        self.header.tokens.len()
    }

    /// The matrices with a metric, the embedding first, and the trace of it: the mean over tokens of the squared
    /// gradient.
    pub fn traces(&self) -> Vec<(TensorId, f64)> {
        self.totals.traces()
    }

    /// Writes the file `target`, and removes the state that the run has kept. Returns the size of the file. Without
    /// `force`, a file that exists is not replaced.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, target: &Path, force: bool, progress: &dyn Progress) -> Result<u64, Error> {
        let tokens = self.header.tokens.len() as f64;
        let metadata = self.header.to_metadata(format::COMPLETE);
        let mean = |sum: f32| (f64::from(sum) / tokens) as f32;
        let file = write(target, &metadata, &self.header, &self.totals, mean, progress)?;
        let io = |action| move |source| Error::Io { path: target.to_owned(), action, source };
        let n_bytes = file.file().metadata().map_err(io("look at"))?.len();
        file.commit(force)?;
        if let Some(partial) = &self.partial
            && let Err(source) = std::fs::remove_file(partial)
            && source.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Error::Io { path: partial.clone(), action: "remove", source });
        }
        Ok(n_bytes)
    }
}

/// A file with the sums, each changed by `value`, that has not its name yet.
fn write(
    target: &Path,
    metadata: &Metadata,
    header: &Header,
    totals: &Totals,
    value: impl Fn(f32) -> f32,
    progress: &dyn Progress,
) -> Result<AtomicFile, Error> {
    let malformed = |source| Error::File { path: target.to_owned(), source };
    let layout = Layout::new(metadata, format::table(header)).map_err(malformed)?;
    let file = AtomicFile::create(target, layout.total_bytes(), progress)?;
    file.write_at(layout.header(), 0)?;
    let squares = totals.by_name();
    for tensor in layout.tensors() {
        let square = squares.get(&tensor.name).expect("a total for every tensor of the table");
        file.write_at(&format::pack(&square.sums, square.rows, &value), tensor.offset)?;
    }
    Ok(file)
}
