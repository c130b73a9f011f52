//! Computes the cells of a group: one checkpoint, all recipes side by side, measure after measure.

use crate::classify::{Fault, Stop};
use crate::manifest::Cell;
use crate::prepare::{Preparation, Prepared};
use crate::result::{CellResult, Done, FORMAT, Failed, FileFacts, Named, Outcome, Run, TextScore};
use crate::run::Options;
use crate::spec::{Measure, PLAIN, Recipe, TextFile};
use crate::{Error, ErrorClass, Sweep};
use pythia_compare::{Base, CheckpointBase, Comparison, FileScore, Request, Scores};
use pythia_runtime::Text;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The cells of a group that this process has the lease of.
pub(crate) struct Job<'a> {
    pub(crate) sweep: &'a Sweep,
    pub(crate) options: &'a Options<'a>,
    /// Index of the group.
    pub(crate) index: usize,
    /// Its checkpoint on this machine.
    pub(crate) path: PathBuf,
    /// For converted files and scores.
    pub(crate) work: PathBuf,
    /// Where and when.
    pub(crate) run: Run,
    /// When it began.
    pub(crate) start: Instant,
    /// Processor time of the program then.
    pub(crate) cpu_start: f64,
}

/// What is computed together: recipes on a measure. Indices of the manifest.
struct Batch {
    measure: usize,
    recipes: Vec<usize>,
}

impl Job<'_> {
    /// Computes `wanted`, cells of the group, and writes their results.
    pub(crate) fn compute(&mut self, wanted: &[Cell]) -> Result<(), Error> {
        let mut prepared = Prepared::default();
        batches(wanted).iter().try_for_each(|batch| self.batch(batch, wanted, &mut prepared))
    }

    /// Writes why all of `wanted` failed.
    pub(crate) fn fail(&mut self, wanted: &[Cell], fault: &Fault) -> Result<(), Error> {
        batches(wanted).iter().try_for_each(|batch| self.write_fault(batch, wanted, fault))
    }

    /// Computes a batch. If it fails, each recipe is tried without the others, so that a level that cannot be made does
    /// not stand in the way of the rest.
    fn batch(&mut self, batch: &Batch, wanted: &[Cell], prepared: &mut Prepared) -> Result<(), Error> {
        let recipes = |batch: &Batch| -> Vec<Recipe> {
            batch.recipes.iter().map(|&recipe| self.sweep.manifest().spec.recipes[recipe].clone()).collect()
        };
        match self.scores(batch.measure, &recipes(batch), prepared) {
            Ok(scores) => self.write(batch, wanted, &scores),
            Err(Stop::Cancelled) => Err(Error::Cancelled),
            Err(Stop::Fault(fault)) if fault.class.may_pass() || batch.recipes.len() == 1 => {
                self.write_fault(batch, wanted, &fault)
            }
            Err(Stop::Fault(fault)) => {
                // If the base fails, all do.
                let base = self.scores(batch.measure, &[Recipe::base()], prepared);
                match base {
                    Err(Stop::Cancelled) => return Err(Error::Cancelled),
                    Err(Stop::Fault(_)) => return self.write_fault(batch, wanted, &fault),
                    Ok(_) => {}
                }
                let alone = |&recipe: &usize| Batch { measure: batch.measure, recipes: vec![recipe] };
                batch.recipes.iter().map(alone).try_for_each(|one| self.batch(&one, wanted, prepared))
            }
        }
    }

    /// Scores the base and these recipes on a measure.
    fn scores(&self, measure: usize, recipes: &[Recipe], prepared: &mut Prepared) -> Result<Scores, Stop> {
        let spec = &self.sweep.manifest().spec;
        let mut request = match &spec.measures[measure] {
            Measure::Text { text, n_ctx, max_chunks } => {
                Request { n_ctx: *n_ctx, max_chunks: *max_chunks, ..self.request(text)? }
            }
            Measure::Tasks { .. } => {
                // Tasks need no text, and a comparison needs one: the shortest chunk there is.
                let shortest = spec.texts().min_by_key(|(_, n_ctx)| *n_ctx);
                let (text, n_ctx) =
                    shortest.ok_or_else(|| Stop::fault(ErrorClass::Request, "the sweep has no text"))?;
                Request { n_ctx, max_chunks: Some(1), tasks: self.options.works.clone(), ..self.request(text)? }
            }
        };
        let mut levels = Vec::new();
        let mut quantizers: Vec<&str> = Vec::new();
        for recipe in recipes.iter().filter(|recipe| !recipe.is_base()) {
            let level = recipe.level.parse().map_err(|e| Stop::fault(ErrorClass::Request, format!("{e}")))?;
            if !levels.contains(&level) {
                levels.push(level);
            }
            if !quantizers.contains(&recipe.quantizer.as_str()) {
                quantizers.push(&recipe.quantizer);
            }
        }
        request.levels = levels;
        if quantizers.iter().any(|&name| name != PLAIN) {
            Preparation { job: self }.put(&quantizers, prepared, &mut request)?;
        }
        let mut comparison = Comparison::prepare(request)?;
        Ok(comparison.score(self.options.device, self.options.observer)?)
    }

    /// A request for a comparison on a text.
    pub(crate) fn request(&self, text: &TextFile) -> Result<Request, Stop> {
        let spec = &self.sweep.manifest().spec;
        let wrong = |problem: String| Stop::fault(ErrorClass::Request, problem);
        let level =
            spec.base_level.as_ref().map(|level| level.parse()).transpose().map_err(|e| wrong(format!("{e}")))?;
        let (name, owner, revision) = self.name();
        let base =
            CheckpointBase { path: self.path.clone(), level, name, owner, revision, ..CheckpointBase::default() };
        Ok(Request {
            options: self.model_options()?,
            base_alone: true,
            cache: Some(self.work.clone()),
            program: (self.options.program.clone(), Vec::new()),
            cancel: self.options.cancel.clone(),
            ..Request::new(Base::Checkpoint(base), open(self.sweep, text)?)
        })
    }

    /// How models run.
    pub(crate) fn model_options(&self) -> Result<pythia_model::Options, Stop> {
        let spec = &self.sweep.manifest().spec;
        let wrong = |problem: String| Stop::fault(ErrorClass::Request, problem);
        Ok(pythia_model::Options {
            threads: self.options.threads,
            activations: pythia_runtime::parse_activations(&spec.activations).map_err(wrong)?,
            gelu: spec.gelu.as_deref().map(pythia_runtime::parse_gelu).transpose().map_err(wrong)?,
            ..pythia_model::Options::default()
        })
    }

    /// Name, owner and revision of the checkpoint that is read.
    fn name(&self) -> (Option<String>, Option<String>, Option<String>) {
        let first = &self.sweep.manifest().groups[self.index].checkpoints[0];
        let owner = match &first.source {
            crate::manifest::Source::Hub { repo, .. } => repo.split_once('/').map(|(owner, _)| owner.to_owned()),
            crate::manifest::Source::Folder { .. } => None,
        };
        (Some(format!("{}-{}", first.model, first.revision)), owner, Some(first.revision.clone()))
    }

    /// Writes the results of those of `wanted` that are in a batch.
    fn write(&mut self, batch: &Batch, wanted: &[Cell], scores: &Scores) -> Result<(), Error> {
        let (device, isa) = (scores.machine.device.clone(), scores.machine.isa.clone());
        self.run = Run { device, isa, threads: scores.machine.threads, ..self.now() };
        let spec = &self.sweep.manifest().spec;
        if let Measure::Text { text, .. } = &spec.measures[batch.measure] {
            text.check(&scores.protocol.text_sha256)?;
        }
        for cell in batch.cells(wanted) {
            let recipe = self.sweep.manifest().recipe(cell);
            let outcome = match outcome(recipe, &spec.measures[batch.measure], scores, spec.keeps_chunks) {
                Some(done) => {
                    let read = self.sweep.manifest().groups[self.index].checkpoints[0].name();
                    let computed_at = (cell.checkpoint > 0).then_some(read);
                    Outcome::Done(Box::new(Done { computed_at, ..done }))
                }
                None => Outcome::Failed(self.failed(cell, ErrorClass::Request, "no file of this recipe was made")),
            };
            self.write_one(cell, outcome)?;
        }
        Ok(())
    }

    fn write_fault(&mut self, batch: &Batch, wanted: &[Cell], fault: &Fault) -> Result<(), Error> {
        self.run = self.now();
        for cell in batch.cells(wanted) {
            self.write_one(cell, Outcome::Failed(self.failed(cell, fault.class, &fault.message)))?;
        }
        let name = batch.cells(wanted).next().map_or_else(String::new, |cell| self.sweep.manifest().name(cell));
        self.options.observer.warn(&format!("{name}: {}: {}", fault.class.name(), fault.message));
        Ok(())
    }

    fn failed(&self, cell: &Cell, class: ErrorClass, message: &str) -> Failed {
        let before = self.sweep.result(cell.id).and_then(|result| result.failed().map(|failed| failed.attempts));
        Failed { class, message: message.to_owned(), attempts: before.unwrap_or(0) + 1 }
    }

    /// What the group has taken so far.
    fn now(&self) -> Run {
        Run {
            group_seconds: self.start.elapsed().as_secs_f64(),
            group_cpu_seconds: crate::run::cpu_seconds() - self.cpu_start,
            peak_rss_bytes: pythia_runtime::machine::peak_rss().unwrap_or(0),
            ..self.run.clone()
        }
    }

    fn write_one(&self, cell: &Cell, outcome: Outcome) -> Result<(), Error> {
        // A runner that has lost its lease may fail where another one has values by now.
        let has_values = || self.sweep.result(cell.id).is_some_and(|before| before.done().is_some());
        if matches!(outcome, Outcome::Failed(_)) && has_values() {
            return Ok(());
        }
        let (of, run) = (named(self.sweep, cell), self.run.clone());
        self.sweep.write_result(&CellResult { format: FORMAT.to_owned(), cell: cell.id, of, outcome, run }, &())
    }
}

impl Batch {
    fn cells<'c>(&self, wanted: &'c [Cell]) -> impl Iterator<Item = &'c Cell> {
        let (measure, recipes) = (self.measure, self.recipes.clone());
        wanted.iter().filter(move |cell| cell.measure == measure && recipes.contains(&cell.recipe))
    }
}

/// The cells, by what is computed together. Those of several checkpoints with the same files are computed once.
fn batches(wanted: &[Cell]) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for cell in wanted {
        let place = batches.iter().position(|batch| batch.measure == cell.measure).unwrap_or_else(|| {
            batches.push(Batch { measure: cell.measure, recipes: Vec::new() });
            batches.len() - 1
        });
        if !batches[place].recipes.contains(&cell.recipe) {
            batches[place].recipes.push(cell.recipe);
        }
    }
    batches
}

/// Opens a text of the sweep.
pub(crate) fn open(sweep: &Sweep, text: &TextFile) -> Result<Text, Stop> {
    Ok(Text::open(Path::new(&sweep.resolve(&text.path)))?.as_on_unix(text.unix_text))
}

/// What a cell is, in words.
pub(crate) fn named(sweep: &Sweep, cell: &Cell) -> Named {
    let (checkpoint, recipe) = (sweep.manifest().checkpoint(cell), sweep.manifest().recipe(cell));
    Named {
        model: checkpoint.model.clone(),
        revision: checkpoint.revision.clone(),
        step: checkpoint.step,
        level: recipe.level.clone(),
        quantizer: recipe.quantizer.clone(),
        measure: sweep.manifest().spec.measures[cell.measure].name(),
    }
}

/// The values of a recipe. If its file was not made because another has the same bytes, those of that one.
fn outcome(recipe: &Recipe, measure: &Measure, scores: &Scores, keeps_chunks: bool) -> Option<Done> {
    let is_level = |file: &FileScore| file.level == recipe.level;
    let is_exact = |file: &FileScore| match recipe.is_base() {
        true => file.against_base.is_none(),
        false => file.against_base.is_some() && is_level(file) && file.series == recipe.quantizer,
    };
    let place = scores.files.iter().position(is_exact).or_else(|| scores.files.iter().position(is_level))?;
    let file = &scores.files[place];
    let text = TextScore {
        chunks: scores.protocol.chunks,
        tokens: scores.protocol.tokens_scored,
        nll_sum: file.nll.value * scores.protocol.tokens_scored as f64,
        perplexity: file.perplexity,
        against_base: file.against_base,
        chunk_sums: keeps_chunks.then(|| file.chunks.clone()),
    };
    let tasks = scores.tasks.as_ref().and_then(|tasks| tasks.levels.get(place)).map(|level| level.values.clone());
    let is_text = matches!(measure, Measure::Text { .. });
    let facts = FileFacts {
        level: file.level.clone(),
        files: file.files.clone(),
        bits_per_weight: file.bits_per_weight,
        bits_per_weight_blocks: file.bits_per_weight_blocks,
    };
    let (text, tasks) = (is_text.then_some(text), tasks.filter(|_| !is_text));
    Some(Done { file: facts, text, tasks, computed_at: None })
}
