//! A comparison from the request to the report.

use crate::cache::folder::Folder;
use crate::facts::{self, Facts};
use crate::prepare::{Prepared, prepare};
use crate::quality::{Evaluation, Qualities, Quality};
use crate::report::{self, Answer, Entry, FileDigest, Provenance, Report, Scored, SideBySide, Speed, Tasks};
use crate::speed::{KeptSpeeds, Measurement};
use crate::{Error, Observer, Request, Rounding, tasks};
use pythia_runtime::Device;
use pythia_runtime::eval::{AgainstBase, Estimate, WindowSums};
use pythia_runtime::machine::Machine;
use std::path::{Path, PathBuf};

/// A checked request, with facts about its files.
pub struct Comparison {
    request: Request,
    prepared: Prepared,
    /// The cache folder, once it is in use.
    folder: Option<Folder>,
    /// What was measured, until the report is where it should be.
    speeds: Option<KeptSpeeds>,
}

/// A file of a comparison.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name in the report.
    pub name: String,
    /// The type that it states, such as `Q4_0`; otherwise its own name.
    pub level: String,
    /// How it was rounded: the name of a [`Rounding`], or what a file says of itself.
    pub series: String,
    /// Its path, also if it is not converted yet.
    pub path: PathBuf,
}

/// How good the files of a comparison are.
#[derive(Clone, Debug)]
pub struct Scores {
    /// Where they ran.
    pub machine: Machine,
    /// What was scored.
    pub protocol: Scored,
    /// The base, then the others.
    pub files: Vec<FileScore>,
    /// The same files in the tasks of the request, if there are any.
    pub tasks: Option<Tasks>,
}

/// How good a file is.
#[derive(Clone, Debug)]
pub struct FileScore {
    /// Its level.
    pub level: String,
    /// How it was rounded; see [`Candidate::series`].
    pub series: String,
    /// Its files, with their digests.
    pub files: Vec<FileDigest>,
    /// Bits of all tensor data per parameter.
    pub bits_per_weight: f64,
    /// The same over the transformer blocks alone.
    pub bits_per_weight_blocks: f64,
    /// Mean negative log-likelihood of a scored token, in nats.
    pub nll: Estimate,
    /// `exp` of it.
    pub perplexity: Estimate,
    /// The distance to the base; `None` for the base itself.
    pub against_base: Option<AgainstBase>,
    /// Sums over each chunk of the text.
    pub chunks: Vec<WindowSums>,
}

impl Comparison {
    /// Checks a request and plans. Nothing is written.
    ///
    /// # Errors
    /// If a file or the text cannot be read or does not fit, or there is nothing to compare.
    pub fn prepare(request: Request) -> Result<Self, Error> {
        let prepared = prepare(&request)?;
        Ok(Self { request, prepared, folder: None, speeds: None })
    }

    /// The base, then the others.
    pub fn candidates(&self) -> &[Candidate] {
        &self.prepared.candidates
    }

    /// The files of the source. A report must not replace them.
    pub fn inputs(&self) -> &[PathBuf] {
        &self.prepared.inputs
    }

    /// Converts the levels that the cache lacks. [`run`](Self::run) does this if it was not done before.
    ///
    /// # Errors
    /// If a level cannot be converted, or the cache cannot be used. Nothing is left behind.
    pub fn convert(&mut self, observer: &dyn Observer) -> Result<(), Error> {
        let prepared = &mut self.prepared;
        let Some(path) = prepared.cache_path.clone().filter(|_| self.folder.is_none()) else { return Ok(()) };
        let folder = Folder::open(path, &prepared.path, observer);
        self.folder = match &prepared.made {
            Some(made) => {
                let folder = folder?;
                made.fill(&folder, &self.request, observer)?;
                Some(folder)
            }
            // No cache is needed.
            None => folder.ok(),
        };
        // Unmaps the files of the source.
        prepared.made = None;
        Ok(())
    }

    /// Converts the levels that the cache lacks, then measures and scores all files on `device`.
    ///
    /// # Errors
    /// If a level cannot be converted, a file cannot be run, the text cannot be read, or the comparison is cancelled.
    /// Results so far are kept for the next run.
    pub fn run(&mut self, device: &Device, observer: &dyn Observer) -> Result<Report, Error> {
        let (facts, device) = self.ready(device, observer)?;
        let device = &device;
        let Self { request, prepared: Prepared { candidates, source, origin, .. }, folder, .. } = &*self;
        let (folder, options) = (folder.as_ref(), &request.options);
        let mut kept = KeptSpeeds::open(folder, device, options, request.fresh);
        let (worker, cancel) = (request.worker.as_ref(), &request.cancel);
        let speeds = Measurement { device, options, worker, cancel, observer }.run(candidates, &facts, &mut kept)?;
        let (quality, tasks) = self.evaluate(&facts, device, observer)?;
        let names = candidates.iter().map(|file| file.name.as_str());
        let busy = report::busy(names.zip(&speeds.files));
        let mut entries = entries(candidates, facts, quality.files, speeds.files);
        // Without a request, what files say of themselves; the others are compared with plain ones.
        let usual = [Rounding::Plain, Rounding::Imatrix];
        let order = if request.quantizers.is_empty() { &usual[..] } else { &request.quantizers };
        let order: Vec<String> = order.iter().map(|rounding| rounding.name().to_owned()).collect();
        let side_by_side = SideBySide::of(&mut entries, &order);
        let (program, command) = &request.program;
        let report = Report {
            format: report::FORMAT,
            source: source.clone(),
            provenance: Provenance::now(program, command, origin.clone()),
            machine: quality.machine,
            protocol: quality.scored,
            arithmetic: quality.arithmetic,
            base: candidates.first().map_or_else(String::new, |base| base.name.clone()),
            process_per_level: speeds.process_per_level,
            busy,
            answer: Answer::of(&entries, &request.fit).with_series(side_by_side.as_ref()),
            side_by_side,
            tasks,
            entries,
        };
        self.speeds = Some(kept);
        Ok(report)
    }

    /// As [`run`](Self::run), without speeds and without a report.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn score(&mut self, device: &Device, observer: &dyn Observer) -> Result<Scores, Error> {
        let (facts, device) = self.ready(device, observer)?;
        let (quality, tasks) = self.evaluate(&facts, &device, observer)?;
        let files = self.prepared.candidates.iter().zip(facts).zip(quality.files);
        let files = files.map(|((candidate, facts), quality)| FileScore {
            level: candidate.level.clone(),
            series: candidate.series.clone(),
            files: facts.files,
            bits_per_weight: facts.bits_per_weight,
            bits_per_weight_blocks: facts.bits_per_weight_blocks,
            nll: quality.nll,
            perplexity: quality.perplexity,
            against_base: quality.against_base,
            chunks: quality.chunks,
        });
        Ok(Scores { machine: quality.machine, protocol: quality.scored, files: files.collect(), tasks })
    }

    /// Converts what the cache lacks. Returns the facts about all files, and the device that all of them run on.
    fn ready(&mut self, device: &Device, observer: &dyn Observer) -> Result<(Vec<Facts>, Device), Error> {
        self.convert(observer)?;
        let candidates = &self.prepared.candidates;
        let facts = facts::read(candidates, self.folder.as_ref(), &self.request.cancel)?;
        let sizes = candidates.iter().zip(&facts).map(|(file, facts)| (file.path.as_path(), facts.file_bytes()));
        let device = device.clone().settle(sizes, &self.request.options)?;
        Ok((facts, device))
    }

    /// Scores all files on the text, and in the tasks.
    fn evaluate(
        &self,
        facts: &[Facts],
        device: &Device,
        observer: &dyn Observer,
    ) -> Result<(Qualities, Option<Tasks>), Error> {
        let Self { request, prepared: Prepared { candidates, n_ctx, .. }, folder, .. } = self;
        let evaluation = Evaluation { request, device, n_ctx: *n_ctx, observer };
        let quality = evaluation.run(candidates, facts, folder.as_ref())?;
        let tasks = tasks::run(request, device, candidates, facts, folder.as_ref(), observer)?;
        Ok((quality, tasks))
    }

    /// Call this after the report was written. Kept speeds, which let a stopped run continue, are then deleted, so that
    /// the next run measures them again.
    pub fn finish(self) {
        self.speeds.into_iter().for_each(KeptSpeeds::forget);
    }
}

/// The rows of the report, the largest file first.
fn entries(candidates: &[Candidate], facts: Vec<Facts>, qualities: Vec<Quality>, speeds: Vec<Speed>) -> Vec<Entry> {
    let rows = candidates.iter().zip(facts).zip(qualities).zip(speeds);
    let rows = rows.map(|(((candidate, facts), quality), speed)| Entry {
        name: candidate.name.clone(),
        level: candidate.level.clone(),
        series: quality.against_base.is_some().then(|| candidate.series.clone()),
        file: base_name(&candidate.path),
        file_bytes: facts.file_bytes(),
        files: facts.files,
        bits_per_weight: facts.bits_per_weight,
        bits_per_weight_blocks: facts.bits_per_weight_blocks,
        imatrix: facts.variant.imatrix,
        quantizer: facts.variant.quantizer,
        recipe: facts.variant.recipe,
        requantized: facts.variant.requantized,
        memory: quality.memory,
        perplexity: quality.perplexity,
        against_base: quality.against_base,
        kld_of_first_series: None,
        speed,
    });
    let mut rows: Vec<Entry> = rows.collect();
    // A stable sort: among files of equal size the base is first, then the requested order.
    rows.sort_by_key(|entry| std::cmp::Reverse(entry.file_bytes));
    rows
}

fn base_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
