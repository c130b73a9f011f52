//! A comparison from the request to the report.

use crate::cache::folder::Folder;
use crate::facts::{self, Facts};
use crate::levels::Levels;
use crate::prepare;
use crate::quality::{Evaluation, Quality};
use crate::report::{self, Answer, Entry, Origin, Provenance, Report, Speed};
use crate::speed::{KeptSpeeds, Measurement};
use crate::{Error, Observer, Request};
use pythia_runtime::Device;
use std::path::{Path, PathBuf};

/// A request that was checked, with what is known of its files.
pub struct Comparison {
    pub(crate) request: Request,
    /// The checkpoint or file that the base is or is made from.
    pub(crate) path: PathBuf,
    /// Name of the model.
    pub(crate) source: String,
    /// What its base was made from.
    pub(crate) origin: Origin,
    /// The base, then the others.
    pub(crate) candidates: Vec<Candidate>,
    /// Tokens in a chunk.
    pub(crate) n_ctx: usize,
    pub(crate) inputs: Vec<PathBuf>,
    /// The cache folder of the model, if it can have one.
    pub(crate) place: Option<PathBuf>,
    /// Levels that may have to be made.
    pub(crate) made: Option<Levels>,
    /// The cache folder, once it is in use.
    pub(crate) folder: Option<Folder>,
    pub(crate) speeds: Option<KeptSpeeds>,
}

/// A file of a comparison.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name in the report.
    pub name: String,
    /// Where it is, or will be once it is converted.
    pub path: PathBuf,
}

impl Comparison {
    /// Checks a request and plans. Nothing is written.
    ///
    /// # Errors
    /// If a file or the text cannot be read or does not fit, or there is nothing to compare.
    pub fn prepare(request: Request) -> Result<Self, Error> {
        prepare::prepare(request)
    }

    /// The base, then the others.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The files that the base is made from: a report must not replace them.
    pub fn inputs(&self) -> &[PathBuf] {
        &self.inputs
    }

    /// Converts what the cache lacks. [`run`](Self::run) does that too, if it was not done before.
    ///
    /// # Errors
    /// If a level cannot be made, or the cache cannot be used. Nothing is left behind.
    pub fn convert(&mut self, observer: &dyn Observer) -> Result<(), Error> {
        let Some(place) = self.place.clone().filter(|_| self.folder.is_none()) else { return Ok(()) };
        let folder = Folder::open(place, &self.path, observer);
        self.folder = match &self.made {
            Some(made) => {
                let folder = folder?;
                made.fill(&folder, &self.request, observer)?;
                Some(folder)
            }
            // Nothing has to be kept.
            None => folder.ok(),
        };
        // Files that are mapped for it are no longer needed.
        self.made = None;
        Ok(())
    }

    /// Converts what the cache lacks, then measures and scores all files on `device`.
    ///
    /// # Errors
    /// If a level cannot be made, a file cannot be run, the text cannot be read, or the comparison is cancelled. What was
    /// made, measured and scored by then is kept for the next run.
    pub fn run(&mut self, device: &Device, observer: &dyn Observer) -> Result<Report, Error> {
        self.convert(observer)?;
        let Self { request, candidates, folder, n_ctx, .. } = &*self;
        let (folder, options) = (folder.as_ref(), &request.options);
        let facts = facts::read(candidates, folder, &request.cancel)?;
        let sizes = candidates.iter().zip(&facts).map(|(file, facts)| (file.path.as_path(), facts.file_bytes()));
        let device = &device.clone().settle(sizes, options)?;
        let mut kept = KeptSpeeds::open(folder, device, options, request.fresh);
        let (worker, cancel) = (request.worker.as_ref(), &request.cancel);
        let speeds = Measurement { device, options, worker, cancel, observer }.run(candidates, &facts, &mut kept)?;
        let evaluation = Evaluation { request, device, n_ctx: *n_ctx, observer };
        let quality = evaluation.run(candidates, &facts, folder)?;
        let names = candidates.iter().map(|file| file.name.as_str());
        let busy = report::busy(names.zip(&speeds.files));
        let entries = entries(candidates, facts, quality.files, speeds.files);
        let (program, command) = &request.program;
        let report = Report {
            format: report::FORMAT,
            source: self.source.clone(),
            provenance: Provenance::now(program, command, self.origin.clone()),
            machine: quality.machine,
            protocol: quality.scored,
            arithmetic: quality.arithmetic,
            base: candidates.first().map_or_else(String::new, |base| base.name.clone()),
            process_per_level: speeds.process_per_level,
            busy,
            answer: Answer::of(&entries, &request.fit),
            entries,
        };
        self.speeds = Some(kept);
        Ok(report)
    }

    /// Ends it, once the report is where it should be. Speeds are kept until then, so that a run that was stopped goes on;
    /// now they are forgotten, and the next run measures again.
    pub fn finish(self) {
        self.speeds.into_iter().for_each(KeptSpeeds::forget);
    }
}

/// The rows of the report, the largest file first.
fn entries(candidates: &[Candidate], facts: Vec<Facts>, qualities: Vec<Quality>, speeds: Vec<Speed>) -> Vec<Entry> {
    let rows = candidates.iter().zip(facts).zip(qualities).zip(speeds);
    let rows = rows.map(|(((candidate, facts), quality), speed)| Entry {
        name: candidate.name.clone(),
        file: base_name(&candidate.path),
        file_bytes: facts.file_bytes(),
        files: facts.files,
        bits_per_weight: facts.bits_per_weight,
        bits_per_weight_blocks: facts.bits_per_weight_blocks,
        imatrix: facts.variant.imatrix,
        recipe: facts.variant.recipe,
        requantized: facts.variant.requantized,
        memory: quality.memory,
        perplexity: quality.perplexity,
        against_base: quality.against_base,
        speed,
    });
    let mut rows: Vec<Entry> = rows.collect();
    // Stable: among files of one size the base is first, then the order asked for counts.
    rows.sort_by_key(|entry| std::cmp::Reverse(entry.file_bytes));
    rows
}

fn base_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
