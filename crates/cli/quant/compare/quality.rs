//! Perplexity of every level and its distance from the base.

use super::super::cache::folder::Folder;
use super::facts::Facts;
use super::journals::Journals;
use super::{Args, Contestant};
use crate::exit::{self, Failure};
use crate::progress::{Bar, Log, Unit};
use crate::report::{AgainstBase, Estimate, Memory, Protocol};
use pythia_gguf::{Metadata, keys};
use pythia_model::{Model, Options};
use pythia_runtime::device::CPU;
use pythia_runtime::eval::{self, Observer, Progress, Request};
use pythia_runtime::machine::Machine;
use pythia_runtime::{Arithmetic, Device, Text, Tokenizer};
use pythia_schema::Hparams;
use pythia_task::Cancel;
use std::ops::ControlFlow;
use std::path::Path;

/// What the text told about all files.
pub(super) struct Qualities {
    /// What was scored.
    pub(super) protocol: Protocol,
    /// Where it ran.
    pub(super) machine: Machine,
    /// How the base ran.
    pub(super) arithmetic: Arithmetic,
    /// The base, then the levels.
    pub(super) levels: Vec<Quality>,
}

/// What the text told about one file.
pub(super) struct Quality {
    pub(super) memory: Memory,
    pub(super) perplexity: Estimate,
    /// `None` for the base.
    pub(super) against_base: Option<AgainstBase>,
}

/// Which tokens are scored.
fn protocol(n_ctx: usize) -> eval::Protocol {
    eval::Protocol::Llama { n_ctx }
}

/// A chunk that is too short is refused before anything is opened.
pub(super) fn check_chunk(args: &Args) -> Result<(), Failure> {
    if args.n_ctx > 0 {
        protocol(args.n_ctx).check()?;
    }
    Ok(())
}

/// Tokens in a chunk.
fn n_ctx(args: &Args, base: &Hparams) -> usize {
    if args.n_ctx == 0 { base.n_ctx } else { args.n_ctx }
}

/// Whether the base, of which only the metadata is there as yet, can be scored on the text: then in chunks of so many
/// tokens.
pub(super) fn check(args: &Args, base: &Metadata, text: &Text) -> Result<usize, Failure> {
    let locate = |error| exit::locate(error, &args.source, text);
    let model = hparams(&args.source, base)?;
    let n_ctx = n_ctx(args, &model);
    check_context(n_ctx, &args.source, &model)?;
    let protocol = protocol(n_ctx);
    protocol.check()?;
    let tokenizer = Tokenizer::from_gguf(base).map_err(locate)?;
    let mut tokens = text.tokens(&tokenizer, exit::catch_interrupts())?;
    protocol.check_length(&mut tokens).map_err(locate)?;
    Ok(n_ctx)
}

/// The same for a level: it must have the base's vocabulary, and be able to hold a chunk.
pub(super) fn check_level(args: &Args, base: &Metadata, path: &Path, level: &Metadata) -> Result<(), Failure> {
    let (level, base) = (hparams(path, level)?, hparams(&args.source, base)?);
    let (found, wanted) = (level.n_vocab, base.n_vocab);
    if found != wanted {
        let file = path.display();
        return Err(Failure::data(format_args!("{file}: vocabulary of {found} rows, wanted the base's {wanted}")));
    }
    check_context(n_ctx(args, &base), path, &level)
}

fn check_context(n_ctx: usize, path: &Path, model: &Hparams) -> Result<(), Failure> {
    if n_ctx > model.n_ctx {
        let (wanted, file) = (model.n_ctx, path.display());
        return Err(Failure::usage(format_args!(
            "--ctx: found {n_ctx}, wanted at most {wanted}, the context of {file}"
        )));
    }
    Ok(())
}

fn hparams(path: &Path, metadata: &Metadata) -> Result<Hparams, Failure> {
    Hparams::from_metadata(metadata).map_err(|e| Failure::data(format_args!("{}: {e}", path.display())))
}

/// A text, and how it is run through the files.
pub(super) struct Evaluation<'a> {
    pub(super) args: &'a Args,
    pub(super) device: &'a Device,
    /// Tokens in a chunk.
    pub(super) n_ctx: usize,
    pub(super) options: &'a Options,
    pub(super) text: &'a Text,
    pub(super) log: &'a Log,
}

impl Evaluation<'_> {
    /// Runs the base (the first) and the levels over the text, but for what `folder` has the scores of.
    pub(super) fn run(
        &self,
        contestants: &[Contestant],
        facts: &[Facts],
        folder: Option<&Folder>,
    ) -> Result<Qualities, Failure> {
        let Self { args, device, n_ctx, options, text, log } = *self;
        let protocol = protocol(n_ctx);
        let (base, levels) = contestants.split_first().ok_or_else(|| Failure::usage("nothing to compare"))?;
        let base_model = device.open(&base.path, options)?;
        let locate = |error| exit::locate(error, &base.path, text);
        let tokenizer = Tokenizer::from_gguf(&base_model.gguf().metadata).map_err(locate)?;
        let max_windows = args.chunks.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let cancel = exit::catch_interrupts();
        let request = Request { tokenizer: &tokenizer, protocol, max_windows, cancel };
        let groups = groups(device, &base_model, levels, facts.get(1..).unwrap_or_default());
        let text_sha256 = text.sha256(exit::catch_interrupts())?;
        let ids: Vec<String> = facts.iter().map(Facts::id).collect();
        let mut journals = Journals::open(folder, &self.setting(&base_model, &text_sha256), &ids, args.fresh);
        self.say_what_is_known(journals.known().min(max_windows.unwrap_or(usize::MAX)), contestants.len());
        let mut watch = Watch::new(&base.name, groups.len(), args.quiet, log);
        let mut rows = Vec::new();
        let mut scored = None;
        for group in groups {
            let models = group.iter().map(|level| device.open(&level.path, options)).collect::<Result<Vec<_>, _>>()?;
            for (level, model) in group.iter().zip(&models) {
                warn_of_other_names(&base_model, level, model);
                warn_of_other_gelu(&base_model, level, model);
            }
            let models: Vec<&Model> = models.iter().collect();
            let mut tokens = text.tokens(&tokenizer, exit::catch_interrupts())?;
            let mut store = journals.group(1 + rows.len());
            let comparison = eval::compare(&base_model, &models, &request, &mut tokens, &mut store, &mut watch);
            let comparison = comparison.map_err(locate)?;
            let levels = models.iter().zip(&comparison.levels);
            rows.extend(levels.map(|(model, level)| quality(model, &level.perplexity, Some(&level.against_base))));
            scored = Some(comparison.base);
            watch.group += 1;
        }
        let scored = scored.ok_or_else(|| Failure::usage("nothing to compare"))?;
        rows.insert(0, quality(&base_model, &scored, None));
        let protocol = Protocol {
            name: protocol.name().to_owned(),
            text: text.name(),
            text_form: text.form(),
            text_sha256,
            n_ctx,
            chunks: scored.windows,
            tokens_scored: scored.scored as u64,
        };
        let arithmetic = Arithmetic::of(base_model.options());
        Ok(Qualities { protocol, machine: Machine::of(&base_model), arithmetic, levels: rows })
    }

    /// What scores depend on beside the files. Device and instruction set are among it, though they should not matter:
    /// a comparison is how one would find out.
    fn setting(&self, model: &Model, text_sha256: &str) -> String {
        let Arithmetic { activations, kv_cache, .. } = Arithmetic::of(self.options);
        // The file's own is part of the file.
        let gelu = self.options.gelu;
        let (device, isa, protocol) = (model.device(), model.isa_name(), protocol(self.n_ctx));
        let text_options = self.args.text_options;
        format!("{device}, {isa}, {activations}, {gelu:?}, {kv_cache}, {protocol:?}, {text_sha256}, {text_options:?}")
    }

    fn say_what_is_known(&self, known: usize, n_files: usize) {
        if known > 0 {
            self.args
                .note(format_args!("chunks 1 to {known} were scored by an earlier run (--fresh scores them again)"));
        }
        self.log.line(format_args!("perplexity and divergence of {n_files} files"));
    }
}

/// Share of the memory the system calls available that mapped weights may take.
const MEMORY_SHARE: f64 = 0.75;

/// Levels that fit in memory together with the base, which runs once per group. A level's results do not depend on
/// its group; weights that are read from disk again for every chunk would cost far more than running the base twice.
fn groups<'c>(device: &Device, base: &Model, levels: &'c [Contestant], facts: &[Facts]) -> Vec<&'c [Contestant]> {
    // On a GPU the base is there already.
    let taken = if base.device() == CPU { 0 } else { base.file_bytes() };
    let budget = device.free_memory().map_or(u64::MAX, |bytes| ((bytes + taken) as f64 * MEMORY_SHARE) as u64);
    let sizes: Vec<u64> = facts.iter().map(Facts::file_bytes).collect();
    let mut rest = levels;
    let groups = split_by_size(&sizes, budget.saturating_sub(base.file_bytes())).into_iter().map(|n| {
        let (group, others) = rest.split_at(n);
        rest = others;
        group
    });
    groups.collect()
}

/// Lengths of the shortest list of runs whose sizes sum to at most `budget` each; a size above it is a run of its own.
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

fn quality(model: &Model, perplexity: &eval::Perplexity, against: Option<&eval::AgainstBase>) -> Quality {
    let estimate = |e: eval::Estimate| Estimate { value: e.value, se: e.se };
    Quality {
        memory: Memory::of(model),
        perplexity: estimate(perplexity.perplexity),
        against_base: against.map(|a| AgainstBase {
            perplexity_delta: estimate(a.perplexity_difference),
            perplexity_delta_percent: percent(a.log_perplexity_ratio),
            kld_mean: estimate(a.kld),
            kld_p99: a.kld_p99,
            kld_max: a.kld_max,
            same_top: estimate(a.same_top),
        }),
    }
}

/// By how many percent a ratio, of which this is the logarithm, is above 1; the error is carried over to first order.
fn percent(log_ratio: eval::Estimate) -> Estimate {
    let ratio = log_ratio.value.exp();
    Estimate { value: 100.0 * log_ratio.value.exp_m1(), se: 100.0 * ratio * log_ratio.se }
}

/// Other words for the same ids are no error: converters name padding differently.
fn warn_of_other_names(base: &Model, level: &Contestant, model: &Model) {
    let tokens = |model: &Model| model.gguf().metadata.strings(keys::TOKENS).ok().flatten().map(<[String]>::to_vec);
    if tokens(base) != tokens(model) {
        let file = level.path.display();
        super::super::warn(&format!(
            "{file}: its token texts differ from the base model's; it is scored on the base model's token ids"
        ));
    }
}

/// Each file runs with its own GELU, and files of llama.cpp do not state one.
fn warn_of_other_gelu(base: &Model, level: &Contestant, model: &Model) {
    let gelu = |model: &Model| Arithmetic::of(model.options()).gelu;
    if gelu(model) != gelu(base) {
        let (file, found, wanted) = (level.path.display(), gelu(model), gelu(base));
        super::super::warn(&format!("{file}: GELU by {found}, the base's is by {wanted}; --gelu sets one for all"));
    }
}

/// Shows how far an evaluation is, and stops it on Ctrl-C.
struct Watch<'a> {
    base: &'a str,
    group: usize,
    n_groups: usize,
    bar: Option<Bar>,
    quiet: bool,
    log: &'a Log,
    cancel: &'static Cancel,
}

impl<'a> Watch<'a> {
    fn new(base: &'a str, n_groups: usize, quiet: bool, log: &'a Log) -> Self {
        Self { base, group: 0, n_groups, bar: None, quiet, log, cancel: exit::catch_interrupts() }
    }
}

impl Observer for Watch<'_> {
    fn window(&mut self, progress: &Progress) -> ControlFlow<()> {
        let bar = self.bar.get_or_insert_with(|| Bar::new(0, Unit::Items("chunks"), self.quiet));
        bar.expect(progress.total_windows.map(|total| (total * self.n_groups) as u64));
        bar.advance(1);
        let state = || format!("{} PPL {:.4}", self.base, progress.perplexity);
        bar.message(state());
        self.log.tick(|| {
            let (group, n_groups) = (self.group + 1, self.n_groups);
            let groups = if n_groups > 1 { format!("group {group} of {n_groups}, ") } else { String::new() };
            let total = progress.total_windows.map_or(String::new(), |total| format!(" of {total}"));
            format!("{groups}chunk {}{total}: {}", progress.windows, state())
        });
        if self.cancel.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
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
