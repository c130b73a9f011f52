//! Activations of texts of any length, in files.
//!
//! Texts are cut into sequences, each of which a model runs from its start. The values at the selected hooks go to
//! shards: files of bounded size that appear whole or not at all, a few sequences at a time in memory. `manifest.json`
//! lists them; it is valid at any time. A run that was stopped goes on after the last whole shard.
//!
//! Arrays of a shard, `n` sequences with `rows` exported positions together:
//!
//! - `offsets` `[n + 1]`, i64: the rows of sequence `i` are `offsets[i]..offsets[i + 1]`;
//! - `texts` `[n]`, i64: which text of the input a sequence is of, counted from 0;
//! - `tokens` and `positions` `[rows]`, i32: the token of a row, and its position in its sequence;
//! - a name such as `blocks.0.hook_resid_post`, `[rows, ...]`: the values at a hook;
//! - `blocks.0.attn.hook_pattern/SEQUENCE` and the like, `[n_head, positions, tokens]`: scores and patterns, an array per
//!   sequence, by its number in the export;
//! - `tokens/SEQUENCE` `[tokens]`, i32: with these, if not all positions are exported, the tokens that the keys are of.
//!
//! The bits are those of [`run_with_cache`](crate::run_with_cache), whatever the batch, the number of threads and the ISA.

mod dtype;
mod folder;
mod layout;
mod manifest;
mod npz;
mod plan;
mod positions;
mod run;
mod safetensors;
mod source;

pub use dtype::{Dtype, Tally};
pub use layout::Format;
pub use manifest::{ModelFile, Shard};
pub use positions::Positions;
pub use source::{Input, Kind};

use crate::{Error, Reach, Selection};
use layout::Layout;
use manifest::{HookFacts, Identity, ModelFacts, OptionFacts, SourceFacts};
use plan::{Columns, Plan, Planner, size};
use pythia_convert::output::AtomicFile;
use pythia_convert::provenance::sha256_file;
use pythia_gguf::FileType;
use pythia_model::hook::Width;
use pythia_model::{Hook, Model};
use pythia_runtime::{Arithmetic, Tokenizer};
use pythia_schema::Hparams;
use pythia_task::{Cancel, Progress};
use serde_json::Value;
use source::{Cut, Sequences};
use std::path::Path;
use std::sync::Arc;

/// The size of a shard unless a caller has a reason for another.
pub const SHARD_BYTES: u64 = 1_000_000_000;

/// What is exported, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which hooks.
    pub selection: Selection,
    /// Which positions of every sequence.
    pub positions: Positions,
    /// Type of the values.
    pub dtype: Dtype,
    /// Container of the shards.
    pub format: Format,
    /// Tokens of a sequence at most, with the one it begins with. Longer texts are cut.
    pub window: usize,
    /// A token that every sequence begins with.
    pub bos: Option<u32>,
    /// Bytes of the values of a shard at most.
    pub shard_bytes: u64,
    /// Only so many sequences.
    pub max_sequences: Option<u64>,
}

/// A request.
#[derive(Debug)]
pub struct Request<'a> {
    /// What, and how.
    pub options: &'a Options,
    /// The files of the model, with digests: what tells it from another.
    pub model_files: Vec<ModelFile>,
    /// The program that asks, and its version.
    pub program: &'a str,
    /// How far the patches reach, if the model has some.
    pub reach: &'a Reach,
    /// Replaces another export.
    pub force: bool,
    /// Stops it.
    pub cancel: &'a Cancel,
}

/// What an export holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// All shards, in order.
    pub shards: Vec<Shard>,
    /// How many of them were there before.
    pub reused: usize,
    /// Sequences without tokens.
    pub empty: u64,
    /// Sequences that have tokens, but none at the exported positions.
    pub without_rows: u64,
    /// Tokens that were run.
    pub tokens_run: u64,
}

impl Summary {
    /// Values that a reader should know about.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.shards.iter().for_each(|shard| tally.add(shard.tally));
        tally
    }
}

/// Exports activations to `folder`. If it holds the beginning of the same export, goes on after it. Progress counts
/// tokens.
///
/// # Errors
/// If an option is out of its range, the input cannot be read to its end, has no tokens, a text that is too large for a
/// shard or none that is as long as the patches want it, the folder holds something else or a shard that is damaged, the
/// system refuses a file, the device failed, or `cancel` is raised. Shards that are whole stay, with a manifest that lists
/// them.
pub fn export(
    model: &Arc<Model>,
    tokenizer: &Tokenizer,
    input: &Input<'_>,
    folder: &Path,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Summary, Error> {
    let Request { options, cancel, .. } = *request;
    let hparams = model.hparams();
    check(options, hparams)?;
    request.reach.check(options.window, "a window")?;
    model.check_shows(options.selection.hooks())?;
    let columns = Columns::new(&options.selection, hparams, options.dtype, options.positions.clone());
    let cut = Cut { window: options.window, bos: options.bos, n_vocab: hparams.n_vocab };
    let sequences = Sequences::new(input, tokenizer, cut, cancel)?;
    let mut planner = Planner::new(sequences, &columns, options);
    // Before anything is touched: an input that cannot be used replaces nothing.
    let mut next = planner.next()?;
    let identity = identity(model, input, request, &columns);
    let mut export = Export {
        model,
        request,
        columns: &columns,
        identity: &identity,
        folder,
        runner: run::Runner::new(model, options.window, cancel),
        summary: Summary::default(),
        rows: 0,
        longest: 0,
    };
    export.check_input(&planner, next.as_ref(), input)?;
    let ready = folder::prepare(folder, &identity, request.force, cancel)?;
    export.summary.reused = ready.shards.len();
    if let Some(plan) = &next {
        note_size(plan, &columns, planner.estimate(), progress);
    }
    let (mut known, mut made, _lock) = (ready.shards.into_iter(), Some(ready.made), ready.lock);
    while let Some(plan) = next {
        progress.expect(planner.estimate());
        export.count(&plan);
        match known.next() {
            Some(shard) => export.reuse(&plan, shard, progress)?,
            None => {
                let shard = export.shard(&plan, progress)?;
                export.summary.shards.push(shard);
                manifest::write(folder, &identity, &export.summary.shards, false)?;
                if let Some(made) = made.take() {
                    made.keep()?;
                }
            }
        }
        // Its tokens are no longer needed.
        drop(plan);
        next = planner.next()?;
        export.check_input(&planner, next.as_ref(), input)?;
    }
    if known.next().is_some() {
        return Err(changed(folder, export.summary.shards.len()));
    }
    // A text that has grown makes an export that was complete go on.
    if !ready.complete || export.summary.shards.len() > export.summary.reused {
        manifest::write(folder, &identity, &export.summary.shards, true)?;
    }
    Ok(export.summary)
}

/// An export that is going on.
struct Export<'a> {
    model: &'a Arc<Model>,
    request: &'a Request<'a>,
    columns: &'a Columns,
    identity: &'a Identity,
    folder: &'a Path,
    runner: run::Runner,
    summary: Summary,
    /// Rows of the shards by now.
    rows: usize,
    /// Tokens of the longest sequence by now.
    longest: usize,
}

impl Export<'_> {
    /// An export without any row is a mistake, and so is a patch that none of the sequences comes to.
    fn check_input(&self, planner: &Planner<'_, '_>, plan: Option<&Plan>, input: &Input<'_>) -> Result<(), Error> {
        if !planner.is_done() {
            return Ok(());
        }
        let sequences = plan.map_or(&[][..], |plan| &plan.sequences);
        if self.rows + plan.map_or(0, |plan| plan.rows) > 0 {
            let longest = sequences.iter().map(|sequence| sequence.tokens.len()).max().unwrap_or(0);
            return self.request.reach.check(longest.max(self.longest), "the longest text or window");
        }
        let problem = match sequences.iter().all(|sequence| sequence.tokens.is_empty()) {
            true => "has no tokens",
            false => "has no tokens at the positions that are wanted",
        };
        Err(Error::Input { place: input.text.to_string(), problem: problem.to_owned() })
    }

    fn count(&mut self, plan: &Plan) {
        self.rows += plan.rows;
        let longest = plan.sequences.iter().map(|sequence| sequence.tokens.len()).max();
        self.longest = self.longest.max(longest.unwrap_or(0));
        for sequence in plan.sequences.iter().filter(|sequence| sequence.rows == 0) {
            match sequence.tokens.is_empty() {
                true => self.summary.empty += 1,
                false => self.summary.without_rows += 1,
            }
        }
    }

    /// Takes over a shard that is there, if it is of the same texts.
    fn reuse(&mut self, plan: &Plan, shard: Shard, progress: &dyn Progress) -> Result<(), Error> {
        let fits = shard.tokens_sha256 == plan.digest() && shard.rows == plan.rows as u64;
        if !fits {
            return Err(changed(self.folder, self.summary.shards.len()));
        }
        progress.advance(&shard.file, shard.tokens as i64);
        self.summary.shards.push(shard);
        Ok(())
    }

    /// Computes a shard.
    fn shard(&mut self, plan: &Plan, progress: &dyn Progress) -> Result<Shard, Error> {
        let Options { format, .. } = *self.request.options;
        let number = self.summary.shards.len();
        let name = folder::shard_name(number, format.extension());
        let layout = Layout::new(format, plan, self.columns, self.model.hparams(), self.metadata(number));
        let file = AtomicFile::create(&self.folder.join(&name), layout.total(), progress)?;
        layout.write_index(plan, self.columns, &file)?;
        let tally = self.runner.run(plan, self.columns, &layout, &file, &|n| progress.advance(&name, n as i64))?;
        layout.finish(&file)?;
        let sha256 = sha256_file(file.temp_path(), self.request.cancel)?;
        if number == 0 {
            // Before the first shard: without a manifest a file of this name is somebody else's.
            manifest::write(self.folder, self.identity, &[], false)?;
        }
        // What a run that was killed between shard and manifest has left is the same shard.
        file.commit(true)?;
        self.summary.tokens_run += plan.tokens();
        Ok(Shard {
            file: name,
            bytes: layout.total(),
            sha256,
            rows: plan.rows as u64,
            first_sequence: plan.sequences.first().map_or(0, |sequence| sequence.number),
            sequences: plan.sequences.len() as u64,
            tokens: plan.tokens(),
            tokens_sha256: plan.digest(),
            tally,
        })
    }

    /// What a shard says about itself without its manifest.
    fn metadata(&self, number: usize) -> Vec<(String, String)> {
        let Identity { format, program, model, changes, changes_sha256, arithmetic, source, options, hooks } =
            self.identity;
        let files = |of: fn(&ModelFile) -> &str| model.files.iter().map(of).collect::<Vec<_>>().join(",");
        let hooks: Vec<&str> = hooks.iter().map(|hook| hook.name.as_str()).collect();
        let text = |text: &str| text.to_owned();
        [
            ("schema", text(format)),
            ("program", program.clone()),
            ("model", files(|file| &file.name)),
            ("model_sha256", files(|file| &file.sha256)),
            ("level", model.level.clone().unwrap_or_default()),
            ("changes", changes.join("; ")),
            ("changes_sha256", changes_sha256.clone().unwrap_or_default()),
            ("activations", text(arithmetic.activations)),
            ("gelu", text(arithmetic.gelu)),
            ("kv_cache", text(arithmetic.kv_cache)),
            ("source", source.name.clone()),
            ("positions", options.positions.clone()),
            ("window", options.window.to_string()),
            ("bos", options.bos.map_or_else(String::new, |id| id.to_string())),
            ("hooks", hooks.join(",")),
            ("shard", number.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

/// Tells how large the export will be about, if that is more than a shard.
fn note_size(first: &Plan, columns: &Columns, estimate: Option<u64>, progress: &dyn Progress) {
    let tokens = first.sequences.iter().map(|sequence| sequence.tokens.len() as u64).sum::<u64>();
    if let Some(all) = estimate.filter(|&all| all > tokens && tokens > 0) {
        let bytes = first.bytes(columns) as f64 / tokens as f64 * all as f64;
        progress.note(&format!("about {all} tokens, {} at these hooks and positions", size(bytes as u64)));
    }
}

fn changed(folder: &Path, shard: usize) -> Error {
    Error::Request(format!(
        "{}: holds another export: the texts of shard {shard} are other ones than here (--force replaces it)",
        pythia_text::path(folder)
    ))
}

/// Checks what does not depend on the input.
fn check(options: &Options, hparams: &Hparams) -> Result<(), Error> {
    let least = 1 + usize::from(options.bos.is_some());
    if !(least..=hparams.n_ctx).contains(&options.window) {
        let (found, most) = (options.window, hparams.n_ctx);
        let problem = format!("found {found} tokens, wanted {least} to the model's context of {most}");
        return Err(Error::Setting { name: "window", problem });
    }
    if let Some(bos) = options.bos.filter(|&id| id as usize >= hparams.n_vocab) {
        let problem = format!("found id {bos}, wanted one below {}, the model's vocabulary", hparams.n_vocab);
        return Err(Error::Setting { name: "bos", problem });
    }
    if options.format == Format::Npz && options.dtype == Dtype::Bf16 {
        let problem = "NumPy has no bf16: wanted f32 or f16 for npz, or safetensors".to_owned();
        return Err(Error::Setting { name: "dtype", problem });
    }
    if options.selection.hooks().is_empty() {
        return Err(Error::Setting { name: "hooks", problem: "none are selected".to_owned() });
    }
    Ok(())
}

fn identity(model: &Model, input: &Input<'_>, request: &Request<'_>, columns: &Columns) -> Identity {
    let hparams = model.hparams();
    let Options { selection, positions, dtype, format, window, bos, shard_bytes, max_sequences } = request.options;
    let field = match &input.kind {
        Kind::JsonLines { field } => Some(field.clone()),
        Kind::Text | Kind::Ids => None,
    };
    Identity {
        format: manifest::FORMAT,
        program: request.program.to_owned(),
        model: ModelFacts {
            files: request.model_files.clone(),
            level: FileType::of(&model.gguf().metadata).map(|level| level.name().to_owned()),
            n_layer: hparams.n_layer,
            n_embd: hparams.n_embd,
            n_head: hparams.n_head,
            n_ff: hparams.n_ff,
            n_vocab: hparams.n_vocab,
        },
        changes: model.edits().map(|edits| edits.descriptions()).unwrap_or_default(),
        changes_sha256: model.edits().map(|edits| edits.digest()),
        arithmetic: Arithmetic::of(model.options()),
        source: SourceFacts { kind: input.kind.name(), name: input.text.name(), field },
        options: OptionFacts {
            positions: positions.to_string(),
            dtype: *dtype,
            format: *format,
            window: *window,
            bos: *bos,
            shard_bytes: *shard_bytes,
            max_sequences: *max_sequences,
        },
        hooks: selection.hooks().iter().map(|&hook| hook_facts(hook, hparams, columns)).collect(),
    }
}

fn hook_facts(hook: Hook, hparams: &Hparams, columns: &Columns) -> HookFacts {
    let n = |n: usize| Value::from(n);
    let name = |name: &str| Value::from(name);
    let shape = match hook.site.width() {
        Width::Heads => vec![name("rows"), n(hparams.n_head), n(hparams.n_embd / hparams.n_head)],
        Width::Keys => vec![n(columns.n_head), name("positions"), name("tokens")],
        Width::Embd => vec![name("rows"), n(hparams.n_embd)],
        Width::Neurons => vec![name("rows"), n(hparams.n_ff)],
        Width::Vocab => vec![name("rows"), n(hparams.n_vocab)],
    };
    HookFacts { name: hook.to_string(), shape }
}
