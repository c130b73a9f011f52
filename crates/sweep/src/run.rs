//! Runs a sweep, or a part of it: group after group, until every cell has a result.

use crate::classify::Stop;
use crate::group::{self, Group};
use crate::lease::{Holder, Lease, Taken};
use crate::manifest::{Cell, Source};
use crate::result::{CellResult, FORMAT, Outcome, Run};
use crate::spec::Measure;
use crate::{CellId, Error, ErrorClass, Shard, Sweep, assign};
use pythia_compare::Observer;
use pythia_eval::Work;
use pythia_runtime::Device;
use pythia_task::{Cancel, Progress};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time between two looks at groups that other runners work on.
const POLL: Duration = Duration::from_secs(1);

/// A file of this name in the work folder of a group says that a run has downloaded the checkpoint, and is to remove it.
#[cfg(feature = "hub")]
const DOWNLOADED: &str = "downloaded";

/// Which cells a run computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Every cell.
    All,
    /// The groups of a shard.
    Shard(Shard),
    /// A group, by the start of its id.
    Group(String),
    /// A cell.
    Cell(CellId),
}

/// How a part is run.
pub struct Options<'a> {
    /// Which cells.
    pub part: Part,
    /// Threads; 0 for one per core.
    pub threads: usize,
    /// The device that models run on.
    pub device: &'a Device,
    /// Folder for converted files and scores; `None` for one in the sweep.
    pub scratch: Option<PathBuf>,
    /// Whether converted files and scores stay there.
    pub keeps_work: bool,
    /// Whether checkpoints are removed from the Hub's cache that this run has downloaded into it.
    pub evicts: bool,
    /// Whether cells are computed again that failed for good.
    pub retries_failed: bool,
    /// Whether to wait for groups that other runners work on.
    pub waits: bool,
    /// The documents of the tasks, if the sweep has some.
    pub works: Vec<Work>,
    /// The program, with its version.
    pub program: String,
    /// Raised to stop. Windows that are scored are kept.
    pub cancel: Cancel,
    /// Receives warnings and the progress of a group.
    pub observer: &'a dyn Observer,
    /// Makes what receives the progress of a download.
    pub downloads: &'a dyn Fn() -> Arc<dyn Progress>,
    /// The Hub.
    #[cfg(feature = "hub")]
    pub hub: &'a pythia_hub::Settings,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Cells that had a result before.
    pub known: usize,
    /// Cells that were computed, or that have the same files as one that was.
    pub done: usize,
    /// Cells that failed, now or before, by class.
    pub failed: BTreeMap<ErrorClass, usize>,
    /// Cells that other runners work on.
    pub elsewhere: usize,
    /// Groups of which something was computed.
    pub groups: usize,
}

impl Summary {
    /// Whether every cell has its values.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.elsewhere == 0
    }

    /// Whether the same command may get further later.
    pub fn may_pass(&self) -> bool {
        self.elsewhere > 0 || self.failed.keys().any(|class| class.may_pass())
    }
}

/// Computes the cells of a part that have no valid result. A failed cell gets a result too, which says why.
///
/// # Errors
/// If the request does not fit the sweep, a text has changed, results cannot be written, or the run is cancelled.
pub fn run(sweep: &Sweep, options: &Options<'_>) -> Result<Summary, Error> {
    check_texts(sweep, &options.cancel)?;
    let mut groups = groups(sweep, &options.part)?;
    let runner = Runner { sweep, options, this: Holder::this() };
    let leases = sweep.lease_folder();
    fs::create_dir_all(&leases).map_err(Error::io(&leases))?;
    let mut summary = Summary::default();
    let n = groups.len();
    let mut done = 0;
    loop {
        let mut busy = Vec::new();
        for group in std::mem::take(&mut groups) {
            if options.cancel.is_raised() {
                return Err(Error::Cancelled);
            }
            let first = summary.groups + done == 0;
            match runner.group(group, &mut summary, (done, n))? {
                Some(holder) => {
                    if first {
                        options.observer.note(&format!("others work here too: {holder}"));
                    }
                    busy.push(group);
                }
                None => done += 1,
            }
        }
        if busy.is_empty() {
            return Ok(summary);
        }
        if !options.waits {
            summary.elsewhere = busy.iter().map(|&group| runner.wanted(group).len()).sum();
            return Ok(summary);
        }
        if groups.is_empty() {
            thread::sleep(POLL);
        }
        groups = busy;
    }
}

/// Downloads the checkpoints of a part into the Hub's cache, where runs without a connection find them.
///
/// # Errors
/// If one cannot be downloaded, or the run is cancelled.
#[cfg(feature = "hub")]
pub fn prefetch(
    sweep: &Sweep,
    part: &Part,
    hub: &pythia_hub::Settings,
    cancel: &Cancel,
    progress: &dyn Fn() -> Arc<dyn Progress>,
) -> Result<usize, Error> {
    let mut n = 0;
    for group in groups(sweep, part)? {
        if let Source::Hub { repo, commit } = &sweep.manifest().groups[group].checkpoints[0].source {
            pythia_hub::fetch(hub, &hub_id(repo, commit)?, cancel, progress())?;
            n += 1;
        }
    }
    Ok(n)
}

/// The groups of a part, in the order of the manifest.
fn groups(sweep: &Sweep, part: &Part) -> Result<Vec<usize>, Error> {
    let manifest = sweep.manifest();
    let all = 0..manifest.groups.len();
    Ok(match part {
        Part::All => all.collect(),
        Part::Shard(shard) => {
            let shards = assign(&manifest.groups, shard.count);
            all.filter(|&group| shards[group] == shard.index).collect()
        }
        Part::Group(id) => {
            let found: Vec<usize> = all.filter(|&group| manifest.groups[group].group.starts_with(id)).collect();
            match found.len() {
                1 => found,
                n => {
                    return Err(Error::Request(format!(
                        "--group: {n} groups have ids that begin with {id}, wanted one"
                    )));
                }
            }
        }
        Part::Cell(id) => {
            let cell = manifest.cells.iter().find(|cell| cell.id == *id);
            let missing = || Error::Request(format!("--cell: no cell of this sweep has the id {id}"));
            vec![cell.ok_or_else(missing)?.group]
        }
    })
}

/// Texts may not have changed: ids of cells have their digests.
fn check_texts(sweep: &Sweep, cancel: &Cancel) -> Result<(), Error> {
    let spec = &sweep.manifest().spec;
    let measured = spec.measures.iter().filter_map(|measure| match measure {
        Measure::Text { text, .. } => Some(text),
        Measure::Tasks { .. } => None,
    });
    for text in measured.chain(&spec.calibration) {
        let path = sweep.resolve(&text.path);
        let found = pythia_convert::provenance::sha256_file(&path, cancel)?;
        if found != text.sha256 {
            let shown = pythia_text::path(&path);
            return Err(Error::Data(format!("{shown}: has changed since the sweep was planned; plan another one")));
        }
    }
    Ok(())
}

#[cfg(feature = "hub")]
fn hub_id(repo: &str, commit: &str) -> Result<pythia_hub::ModelId, Error> {
    let text = format!("{repo}@{commit}");
    pythia_hub::ModelId::parse(&text)?.ok_or_else(|| Error::Data(format!("{text}: not an id of the Hub")))
}

/// A run.
struct Runner<'a> {
    sweep: &'a Sweep,
    options: &'a Options<'a>,
    this: Holder,
}

/// Where a checkpoint is now.
struct Located {
    path: PathBuf,
    /// To be removed afterwards.
    #[cfg(feature = "hub")]
    downloaded: Option<(pythia_hub::ModelId, String)>,
}

impl Runner<'_> {
    /// The cells of a group that are in the part.
    fn cells(&self, group: usize) -> impl Iterator<Item = &Cell> {
        self.sweep.manifest().cells_of(group).iter().filter(|cell| match &self.options.part {
            Part::Cell(id) => cell.id == *id,
            _ => true,
        })
    }

    /// Those without a valid result. Those that failed for good are not among them, unless asked for.
    fn wanted(&self, group: usize) -> Vec<Cell> {
        let is_wanted = |cell: &&Cell| match self.sweep.result(cell.id).map(|result| result.outcome) {
            None => true,
            Some(Outcome::Done(_)) => false,
            Some(Outcome::Failed(failed)) => failed.class.may_pass() || self.options.retries_failed,
        };
        self.cells(group).filter(is_wanted).copied().collect()
    }

    /// Computes what a group lacks. Returns who else works on it, if somebody does.
    fn group(&self, group: usize, summary: &mut Summary, place: (usize, usize)) -> Result<Option<String>, Error> {
        let before = self.wanted(group);
        let lease = if before.is_empty() {
            None
        } else {
            match Lease::take(&self.sweep.lease_path(group), &self.this)? {
                Taken::Held(lease) => Some(lease),
                Taken::ByOther(Some(holder)) => return Ok(Some(format!("process {} on {}", holder.pid, holder.host))),
                Taken::ByOther(None) => return Ok(Some("another runner".to_owned())),
            }
        };
        if lease.is_some() {
            // Another runner may just have finished.
            let mut wanted = self.wanted(group);
            self.copy(group, &mut wanted)?;
            if !wanted.is_empty() {
                summary.groups += 1;
                self.compute(group, &wanted, place)?;
            }
        }
        drop(lease);
        for cell in self.cells(group) {
            match self.sweep.result(cell.id).map(|result| result.outcome) {
                Some(Outcome::Failed(error)) => *summary.failed.entry(error.class).or_default() += 1,
                Some(Outcome::Done(_)) if before.contains(cell) => summary.done += 1,
                Some(Outcome::Done(_)) => summary.known += 1,
                None => return Err(Error::Data(format!("{}: its result has gone", self.sweep.name(cell)))),
            }
        }
        Ok(None)
    }

    /// Copies results of checkpoints with the same files to those of `wanted` that lack them, which leaves the rest.
    fn copy(&self, group: usize, wanted: &mut Vec<Cell>) -> Result<(), Error> {
        let mut left = Vec::new();
        for cell in wanted.drain(..) {
            let same = |other: &&Cell| {
                other.recipe == cell.recipe && other.measure == cell.measure && other.checkpoint != cell.checkpoint
            };
            let twins = self.sweep.manifest().cells_of(group).iter().filter(same);
            let found = twins.filter_map(|twin| self.sweep.result(twin.id)).find_map(|result| match result.outcome {
                Outcome::Done(done) => Some((done, result.run)),
                Outcome::Failed(_) => None,
            });
            let Some((mut done, run)) = found else {
                left.push(cell);
                continue;
            };
            done.computed_at = group::computed_at(self.sweep, &cell);
            let (of, outcome) = (group::named(self.sweep, &cell), Outcome::Done(done));
            self.sweep.write_result(&CellResult { format: FORMAT.to_owned(), cell: cell.id, of, outcome, run }, &())?;
        }
        *wanted = left;
        Ok(())
    }

    /// Computes cells of a group.
    fn compute(&self, group: usize, wanted: &[Cell], (done, n): (usize, usize)) -> Result<(), Error> {
        let options = self.options;
        let manifest = self.sweep.manifest();
        let (start, cpu_start) = (Instant::now(), cpu_seconds());
        let first = &manifest.groups[group].checkpoints[0];
        let others = match manifest.groups[group].checkpoints.len() {
            1 => String::new(),
            others => format!(" and {} with the same files", others - 1),
        };
        let (model, revision) = (&first.model, &first.revision);
        options.observer.step(&format!("checkpoint {} of {n}: {model}@{revision}{others}", done + 1));
        pythia_runtime::machine::reset_peak_rss();
        let work = self.work(group);
        let located = match self.locate(group) {
            Ok(located) => located,
            Err(Stop::Cancelled) => return Err(Error::Cancelled),
            Err(Stop::Fault(fault)) => {
                return self.open(group, PathBuf::new(), work, start, cpu_start).fail(wanted, &fault);
            }
        };
        let mut open = self.open(group, located.path.clone(), work.clone(), start, cpu_start);
        open.compute(wanted)?;
        #[cfg(feature = "hub")]
        if let Some((id, commit)) = located.downloaded.filter(|_| options.evicts) {
            pythia_hub::evict(options.hub, &id, &commit)?;
        }
        if !options.keeps_work {
            // What is left there is only space.
            let _ = fs::remove_dir_all(&work);
            let _ = work.parent().filter(|_| options.scratch.is_none()).map(fs::remove_dir);
        }
        Ok(())
    }

    fn open(&self, index: usize, path: PathBuf, work: PathBuf, start: Instant, cpu_start: f64) -> Group<'_> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let run = Run {
            program: self.options.program.clone(),
            host: self.this.host.clone(),
            device: self.options.device.argument(),
            isa: String::new(),
            threads: self.options.threads,
            started: pythia_show::iso_time(since),
            group_seconds: 0.0,
            group_cpu_seconds: 0.0,
            peak_rss_bytes: 0,
        };
        Group { sweep: self.sweep, options: self.options, index, path, work, run, start, cpu_start }
    }

    /// Where converted files and scores of a group are.
    fn work(&self, group: usize) -> PathBuf {
        let id = &self.sweep.manifest().groups[group].group;
        match &self.options.scratch {
            Some(scratch) => scratch.join(format!("pythia-sweep-{id}")),
            None => self.sweep.folder().join("work").join(id),
        }
    }

    /// Finds or downloads the checkpoint of a group.
    fn locate(&self, group: usize) -> Result<Located, Stop> {
        let manifest = self.sweep.manifest();
        match &manifest.groups[group].checkpoints[0].source {
            Source::Folder { path } => {
                let path = self.sweep.resolve(path);
                self.check_files(group, &path)?;
                Ok(Located {
                    path,
                    #[cfg(feature = "hub")]
                    downloaded: None,
                })
            }
            #[cfg(feature = "hub")]
            Source::Hub { repo, commit } => {
                let id = hub_id(repo, commit).map_err(|e| Stop::fault(ErrorClass::Request, e.to_string()))?;
                let (cancel, progress) = (&self.options.cancel, (self.options.downloads)());
                let snapshot = pythia_hub::fetch(self.options.hub, &id, cancel, progress)?;
                // A run that is killed leaves this to the next one.
                let marker = self.work(group).join(DOWNLOADED);
                if snapshot.downloaded && self.options.evicts {
                    let written = fs::create_dir_all(self.work(group)).and_then(|()| fs::write(&marker, ""));
                    written
                        .map_err(|e| Stop::fault(ErrorClass::System, format!("{}: {e}", pythia_text::path(&marker))))?;
                }
                let downloaded = (snapshot.downloaded || marker.exists()).then(|| (id, commit.clone()));
                Ok(Located { path: snapshot.path, downloaded })
            }
            #[cfg(not(feature = "hub"))]
            Source::Hub { repo, .. } => {
                let problem = format!("{repo}: to use models of the Hub, build the program with the feature `hub`");
                Err(Stop::fault(ErrorClass::Request, problem))
            }
        }
    }

    /// Files of a folder may not have changed since the plan: the results would carry the wrong digests.
    fn check_files(&self, group: usize, folder: &Path) -> Result<(), Stop> {
        for file in &self.sweep.manifest().groups[group].files {
            let path = folder.join(&file.name);
            let found = pythia_convert::provenance::sha256_file(&path, &self.options.cancel)?;
            if file.digest != format!("sha256:{found}") {
                let shown = pythia_text::path(&path);
                let problem = format!("{shown}: has changed since the sweep was planned; plan another one");
                return Err(Stop::fault(ErrorClass::Corrupt, problem));
            }
        }
        Ok(())
    }
}

/// Processor time of this program so far, in seconds; 0 if the system does not tell.
pub(crate) fn cpu_seconds() -> f64 {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    }
    #[cfg(not(unix))]
    0.0
}
