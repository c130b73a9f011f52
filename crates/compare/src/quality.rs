//! Scores every file: perplexity, and divergence from the base.

use crate::cache::folder::Folder;
use crate::facts::Facts;
use crate::journals::Journals;
use crate::report::{Memory, Scored};
use crate::{Candidate, Error, Observer, Request, Stage};
use pythia_gguf::{Metadata, keys};
use pythia_model::Model;
use pythia_runtime::device::CPU;
use pythia_runtime::eval::{self, AgainstBase, Estimate, WindowSums};
use pythia_runtime::machine::Machine;
use pythia_runtime::{Arithmetic, Device, Tokenizer};
use pythia_schema::Hparams;
use pythia_task::Progress;
use std::path::Path;
use std::sync::Arc;

/// The results of all files.
pub(crate) struct Qualities {
    /// What was scored.
    pub(crate) scored: Scored,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// How the base ran.
    pub(crate) arithmetic: Arithmetic,
    /// Of the base, then of the others.
    pub(crate) files: Vec<Quality>,
}

/// The results of one file.
pub(crate) struct Quality {
    pub(crate) memory: Memory,
    /// Mean negative log-likelihood of a scored token.
    pub(crate) nll: Estimate,
    /// Sums over each chunk.
    pub(crate) chunks: Vec<WindowSums>,
    pub(crate) perplexity: Estimate,
    /// `None` for the base.
    pub(crate) against_base: Option<AgainstBase>,
}

/// Which tokens are scored.
fn protocol(n_ctx: usize) -> eval::Protocol {
    eval::Protocol::Llama { n_ctx }
}

/// Checks [`Request::n_ctx`]. [`Comparison::prepare`](crate::Comparison::prepare) does this too. A program calls it before
/// it reads a text or downloads a checkpoint.
///
/// # Errors
/// If no token of so short a chunk could be scored.
pub fn check_n_ctx(n_ctx: usize) -> Result<(), Error> {
    if n_ctx > 0 {
        protocol(n_ctx).check()?;
    }
    Ok(())
}

/// Tokens in a chunk.
fn n_ctx(request: &Request, base: &Hparams) -> usize {
    if request.n_ctx == 0 { base.n_ctx } else { request.n_ctx }
}

/// Checks that the base can be scored on the text, from its metadata alone, and returns the tokens per chunk. `source`
/// is its source.
pub(crate) fn check(request: &Request, source: &Path, base: &Metadata) -> Result<usize, Error> {
    let text = &request.text;
    let model = hparams(source, base)?;
    let n_ctx = n_ctx(request, &model);
    check_context(n_ctx, source, &model)?;
    let protocol = protocol(n_ctx);
    protocol.check()?;
    let tokenizer = Tokenizer::from_gguf(base).map_err(|e| pythia_runtime::Error::from(e).located(source, text))?;
    let mut tokens = text.tokens(&tokenizer, &request.cancel)?;
    protocol.check_length(&mut tokens).map_err(|error| error.located(source, text))?;
    Ok(n_ctx)
}

/// The same for another file, which must have the base's vocabulary and a context of at least a chunk.
pub(crate) fn check_file(
    request: &Request,
    (source, base): (&Path, &Metadata),
    (path, file): (&Path, &Metadata),
) -> Result<(), Error> {
    let (file, base) = (hparams(path, file)?, hparams(source, base)?);
    let (found, wanted) = (file.n_vocab, base.n_vocab);
    if found != wanted {
        let problem = format!("vocabulary of {found} rows, wanted the base's {wanted}");
        return Err(Error::File { path: path.to_owned(), problem });
    }
    check_context(n_ctx(request, &base), path, &file)
}

fn check_context(n_ctx: usize, path: &Path, model: &Hparams) -> Result<(), Error> {
    if n_ctx > model.n_ctx {
        let (wanted, file) = (model.n_ctx, path.display());
        return Err(Error::Request(format!("--ctx: found {n_ctx}, wanted at most {wanted}, the context of {file}")));
    }
    Ok(())
}

fn hparams(path: &Path, metadata: &Metadata) -> Result<Hparams, Error> {
    Hparams::from_metadata(metadata).map_err(|source| Error::Gguf { path: path.to_owned(), source })
}

/// How the files are scored on a text.
pub(crate) struct Evaluation<'a> {
    pub(crate) request: &'a Request,
    pub(crate) device: &'a Device,
    /// Tokens in a chunk.
    pub(crate) n_ctx: usize,
    pub(crate) observer: &'a dyn Observer,
}

impl Evaluation<'_> {
    /// Runs the base (the first) and the others over the text, except for chunks whose scores are in `folder`.
    pub(crate) fn run(
        &self,
        candidates: &[Candidate],
        facts: &[Facts],
        folder: Option<&Folder>,
    ) -> Result<Qualities, Error> {
        let Self { request, device, n_ctx, observer } = *self;
        let Request { text, options, cancel, .. } = request;
        let protocol = protocol(n_ctx);
        let (base, others) = candidates.split_first().ok_or_else(nothing)?;
        let base_model = device.open(&base.path, options)?;
        let locate = |error: pythia_runtime::Error| error.located(&base.path, text);
        let tokenizer = Tokenizer::from_gguf(&base_model.gguf().metadata).map_err(|e| locate(e.into()))?;
        let max_windows = request.max_chunks;
        let evaluated = eval::Request { tokenizer: &tokenizer, protocol, max_windows, cancel };
        let mut groups = groups(device, &base_model, others, facts.get(1..).unwrap_or_default());
        if groups.is_empty() {
            // The base alone.
            groups.push(others);
        }
        let text_sha256 = text.sha256(cancel)?;
        let ids: Vec<String> = facts.iter().map(Facts::id).collect();
        let mut journals = Journals::open(folder, &self.setting(&base_model, &text_sha256), &ids, request.fresh);
        if journals.are_shared() {
            observer.note("another run keeps the scores of some files; if this one is stopped, it scores those again");
        }
        self.say_what_is_known(journals.known().min(max_windows.unwrap_or(usize::MAX)), candidates.len());
        let mut files = Vec::new();
        let mut scored = None;
        let mut of_base = Vec::new();
        for (i, group) in groups.iter().enumerate() {
            let models = group.iter().map(|file| device.open(&file.path, options)).collect::<Result<Vec<_>, _>>()?;
            for (file, model) in group.iter().zip(&models) {
                warn_of_other_names(&base_model, file, model, observer);
                warn_of_other_gelu(&base_model, file, model, observer);
            }
            let models: Vec<&Arc<Model>> = models.iter().collect();
            let mut tokens = text.tokens(&tokenizer, cancel)?;
            let mut store = journals.group(1 + files.len(), observer);
            let progress = observer.begin(Stage::Score { group: i, n_groups: groups.len() });
            let mut watch = Watch { base: &base.name, progress: &*progress };
            let qualities = eval::compare(&base_model, &models, &evaluated, &mut tokens, &mut store, &mut watch);
            let mut qualities = qualities.map_err(locate)?;
            let mut chunks = std::mem::take(&mut qualities.windows).into_iter();
            of_base = chunks.next().unwrap_or_default();
            files.extend(models.iter().zip(&qualities.others).zip(chunks).map(|((model, other), chunks)| Quality {
                memory: Memory::of(model),
                nll: other.perplexity.nll,
                chunks,
                perplexity: other.perplexity.perplexity,
                against_base: Some(other.against_base),
            }));
            scored = Some(qualities.base);
        }
        let scored = scored.ok_or_else(nothing)?;
        let memory = Memory::of(&base_model);
        let (nll, perplexity) = (scored.nll, scored.perplexity);
        files.insert(0, Quality { memory, nll, chunks: of_base, perplexity, against_base: None });
        let scored = Scored {
            name: protocol.name().to_owned(),
            text: text.name(),
            text_form: text.form(),
            text_sha256,
            n_ctx,
            chunks: scored.windows,
            tokens_scored: scored.scored as u64,
        };
        let arithmetic = Arithmetic::of(base_model.options());
        Ok(Qualities { scored, machine: Machine::of(&base_model), arithmetic, files })
    }

    /// Everything except the files that scores depend on. It includes the device and the instruction set, although they
    /// should not matter, because a comparison could reveal that they do.
    fn setting(&self, model: &Model, text_sha256: &str) -> String {
        let Request { text, options, .. } = self.request;
        let Arithmetic { activations, kv_cache, .. } = Arithmetic::of(options);
        // The file's own is part of the file.
        let gelu = options.gelu;
        let (device, isa, protocol) = (model.device(), model.isa_name(), protocol(self.n_ctx));
        let unix_text = text.form().left_out;
        format!(
            "{device}, {isa}, {activations}, {gelu:?}, {kv_cache}, {protocol:?}, {text_sha256}, \
             TextOptions {{ unix_text: {unix_text} }}"
        )
    }

    fn say_what_is_known(&self, known: usize, n_files: usize) {
        if known > 0 {
            self.observer.note(&format!("chunks 1 to {known} were scored by an earlier run"));
        }
        self.observer.step(&format!("perplexity and divergence of {n_files} files"));
    }
}

fn nothing() -> Error {
    Error::Request("nothing to compare".to_owned())
}

/// Share of available memory that mapped weights may take.
const MEMORY_SHARE: f64 = 0.75;

/// Splits files into groups that fit in memory together with the base, which runs once per group. Results do not depend
/// on the groups. Reading weights from disk again for every chunk would cost far more than running the base twice.
fn groups<'c>(device: &Device, base: &Model, others: &'c [Candidate], facts: &[Facts]) -> Vec<&'c [Candidate]> {
    // On a GPU, the base is already loaded.
    let taken = if base.device() == CPU { 0 } else { base.file_bytes() };
    let budget = device.free_memory().map_or(u64::MAX, |bytes| ((bytes + taken) as f64 * MEMORY_SHARE) as u64);
    let sizes: Vec<u64> = facts.iter().map(Facts::file_bytes).collect();
    let mut rest = others;
    let groups = split_by_size(&sizes, budget.saturating_sub(base.file_bytes())).into_iter().map(|n| {
        let (group, others) = rest.split_at(n);
        rest = others;
        group
    });
    groups.collect()
}

/// Lengths of the fewest runs whose sizes sum to at most `budget` each. A size above it is a separate run.
fn split_by_size(sizes: &[u64], budget: u64) -> Vec<usize> {
    let mut runs: Vec<(usize, u64)> = Vec::new();
    for &size in sizes {
        match runs.last_mut() {
            Some((n, sum)) if sum.saturating_add(size) <= budget => (*n, *sum) = (*n + 1, *sum + size),
            _ => runs.push((1, size)),
        }
    }
    runs.into_iter().map(|(n, _)| n).collect()
}

/// Different texts for the same ids are only a warning, because converters name padding differently.
fn warn_of_other_names(base: &Model, file: &Candidate, model: &Model, observer: &dyn Observer) {
    let tokens = |model: &Model| model.gguf().metadata.strings(keys::TOKENS).ok().flatten().map(<[String]>::to_vec);
    if tokens(base) != tokens(model) {
        let file = file.path.display();
        observer.warn(&format!(
            "{file}: its token texts differ from the base model's; it is scored on the base model's token ids"
        ));
    }
}

/// Each file runs with its own GELU, and files of llama.cpp do not state one.
fn warn_of_other_gelu(base: &Model, file: &Candidate, model: &Model, observer: &dyn Observer) {
    let gelu = |model: &Model| Arithmetic::of(model.options()).gelu;
    if gelu(model) != gelu(base) {
        let (file, found, wanted) = (file.path.display(), gelu(model), gelu(base));
        observer.warn(&format!("{file}: GELU is {found}, but {wanted} in the base; --gelu sets it for all files"));
    }
}

/// Reports the progress of an evaluation.
struct Watch<'a> {
    base: &'a str,
    progress: &'a dyn Progress,
}

impl eval::Observer for Watch<'_> {
    fn window(&mut self, state: &eval::State) {
        self.progress.expect(state.total_windows.map(|total| total as u64));
        self.progress.advance(&format!("{} PPL {:.4}", self.base, state.perplexity), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_fit_the_budget() {
        assert_eq!(split_by_size(&[4, 3, 3, 2], 7), [2, 2]);
        assert_eq!(split_by_size(&[4, 3, 3, 2], 100), [4]);
        assert_eq!(split_by_size(&[4, 9, 1], 5), [1, 1, 1]);
        assert_eq!(split_by_size(&[1, 2], 0), [1, 1]);
        assert_eq!(split_by_size(&[], 5), [0; 0]);
    }
}
