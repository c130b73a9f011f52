//! Runs a sweep, or a part of it: group after group, until every cell has a result.

use crate::classify::Stop;
use crate::folder;
use crate::job::{self, Job};
use crate::lease::{self, Holder, Lease, Taken};
use crate::manifest::{Cell, Group, Source};
use crate::result::{CellResult, FORMAT, Outcome, Run};
use crate::spec::TextFile;
use crate::{CellId, Error, ErrorClass, Shard, Sweep, assign, id};
use pythia_compare::Observer;
use pythia_eval::Work;
use pythia_runtime::Device;
use pythia_task::{Cancel, ErrorKind, Progress};
use std::collections::BTreeMap;
use std::fs;
use std::io;
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
    /// Cells with results of another version of the program.
    pub of_other_programs: usize,
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
/// If the request does not fit the sweep or this machine, a text has changed, results cannot be written, or the run is
/// cancelled.
pub fn run(sweep: &Sweep, options: &Options<'_>) -> Result<Summary, Error> {
    check_machine(sweep, options)?;
    check_texts(sweep, &options.cancel)?;
    let groups = groups(sweep, &options.part)?;
    let runner = Runner { sweep, options, this: Holder::this(), folder: work_name(sweep) };
    let mut summary = Summary::default();
    let (n, mut done) = (groups.len(), 0);
    let mut busy = Vec::new();
    let mut refused = None;
    for group in groups {
        match runner.group(group, &mut summary, (done, n)) {
            Ok(Visit::Done) => done += 1,
            Ok(Visit::ByOther(_)) => busy.push(group),
            // Something lies where a file of this group should be. It does not stand in the way of others.
            Err(error) if error.kind() == ErrorKind::Io && !error.may_pass() => {
                if refused.is_some() {
                    options.observer.warn(&format!("{}: {error}", runner.name(group)));
                }
                refused.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    let mut is_told = !options.waits;
    while !busy.is_empty() {
        let before = busy.len();
        let mut left = Vec::new();
        for group in busy {
            // A look at the lease costs less than one at all results.
            if options.waits && lease::holder(&sweep.lease_path(group)).is_some() {
                left.push(group);
                continue;
            }
            match runner.group(group, &mut summary, (done, n))? {
                Visit::Done => done += 1,
                Visit::ByOther(who) => {
                    if !options.waits {
                        options.observer.note(&format!("{}: left to {who}", runner.name(group)));
                        summary.elsewhere += runner.wanted(group).len();
                    }
                    left.push(group);
                }
            }
        }
        busy = left;
        if !options.waits {
            break;
        }
        if !is_told && !busy.is_empty() {
            is_told = true;
            options.observer.note(&format!("waiting for other runs, which work on {} checkpoints", busy.len()));
        }
        if options.cancel.is_raised() {
            return Err(Error::Cancelled);
        }
        if busy.len() == before {
            thread::sleep(POLL);
        }
    }
    if let Some(error) = refused {
        return Err(error);
    }
    if summary.of_other_programs > 0 {
        options.observer.note(&format!(
            "{} results are of another version of the program; plan a sweep in another folder to compute all by this one",
            summary.of_other_programs
        ));
    }
    Ok(summary)
}

/// What a whole run needs of the machine. Without it every cell would fail, for a reason that is not the cell's.
fn check_machine(sweep: &Sweep, options: &Options<'_>) -> Result<(), Error> {
    pythia_kernels::Cpu::new(options.threads, None).map_err(|problem| Error::Request(problem.to_string()))?;
    let is_remote = |group: &Group| matches!(group.checkpoints[0].source, Source::Hub { .. });
    if cfg!(not(feature = "hub")) && sweep.manifest().groups.iter().any(is_remote) {
        let problem = "to use models of the Hub, build the program with the feature `hub`";
        return Err(Error::Request(problem.to_owned()));
    }
    Ok(())
}

/// Start of the names of work folders in a scratch folder, which several sweeps may have in common.
fn work_name(sweep: &Sweep) -> String {
    let path = fs::canonicalize(sweep.folder()).unwrap_or_else(|_| sweep.folder().to_owned());
    format!("pythia-sweep-{}", &id::hex_of(&path.to_string_lossy())[..8])
}

/// Downloads the checkpoints of a part that are not done into the Hub's cache, where runs without a connection find them.
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
        let is_done = |cell: &Cell| sweep.result(cell.id).is_some_and(|result| result.done().is_some());
        if sweep.manifest().cells_of(group).iter().all(is_done) {
            continue;
        }
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
    let measured = spec.texts().map(|(text, _)| text);
    measured.chain(&spec.calibration).try_for_each(|text| check_text(sweep, text, cancel))
}

/// Checks one of them.
pub(crate) fn check_text(sweep: &Sweep, text: &TextFile, cancel: &Cancel) -> Result<(), Error> {
    let path = sweep.resolve(&text.path);
    // A pipe would wait for its writer.
    pythia_text::open_regular(&path)
        .map_err(|e| Error::Io { path: path.clone(), source: io::Error::other(e.to_string()) })?;
    text.check(&pythia_convert::provenance::sha256_file(&path, cancel)?)
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
    /// Start of the names of its folders in a scratch folder.
    folder: String,
}

/// What became of a group.
enum Visit {
    /// All of its cells have results.
    Done,
    /// Another runner works on it.
    ByOther(String),
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

    /// Computes what a group lacks.
    fn group(&self, group: usize, summary: &mut Summary, place: (usize, usize)) -> Result<Visit, Error> {
        if self.options.cancel.is_raised() {
            return Err(Error::Cancelled);
        }
        let mut wanted = self.wanted(group);
        // A runner that was killed after the last result has left its files.
        let leaves = !self.options.keeps_work && self.work(group).exists();
        let mut computed = Vec::new();
        if !wanted.is_empty() || leaves {
            let leases = self.sweep.lease_folder();
            fs::create_dir_all(&leases).map_err(Error::io(&leases))?;
            match Lease::take(&self.sweep.lease_path(group), &self.this)? {
                Taken::Held(lease) => {
                    // Another runner may just have finished.
                    wanted = self.wanted(group);
                    computed = wanted.clone();
                    self.copy(group, &mut wanted)?;
                    if wanted.is_empty() {
                        self.clean(group, &lease);
                    } else {
                        summary.groups += 1;
                        self.compute(group, &wanted, place, &lease)?;
                    }
                }
                // It only removes files.
                Taken::ByOther(_) if wanted.is_empty() => {}
                Taken::ByOther(Some(holder)) => {
                    return Ok(Visit::ByOther(format!("process {} on {}", holder.pid, holder.host)));
                }
                Taken::ByOther(None) => return Ok(Visit::ByOther("another run".to_owned())),
            }
        }
        for cell in self.cells(group) {
            let Some(result) = self.sweep.result(cell.id) else {
                return Err(Error::Data(format!("{}: its result has gone", self.sweep.manifest().name(cell))));
            };
            summary.of_other_programs += usize::from(result.run.program != self.options.program);
            match result.outcome {
                Outcome::Failed(error) => *summary.failed.entry(error.class).or_default() += 1,
                Outcome::Done(_) if computed.contains(cell) => summary.done += 1,
                Outcome::Done(_) => summary.known += 1,
            }
        }
        Ok(Visit::Done)
    }

    /// `MODEL@REVISION` of the checkpoint of a group that is read.
    fn name(&self, group: usize) -> String {
        self.sweep.manifest().groups[group].checkpoints[0].name()
    }

    /// Removes the work folder of a group, unless another runner has taken the lease.
    fn clean(&self, group: usize, lease: &Lease) {
        if !self.options.keeps_work && lease.is_held() {
            // What is left there is only space.
            let _ = fs::remove_dir_all(self.work(group));
        }
    }

    /// Copies results of checkpoints with the same files to those of `wanted` that lack them, which leaves the rest.
    fn copy(&self, group: usize, wanted: &mut Vec<Cell>) -> Result<(), Error> {
        let manifest = self.sweep.manifest();
        let mut left = Vec::new();
        for cell in wanted.drain(..) {
            let same = |other: &&Cell| {
                other.recipe == cell.recipe && other.measure == cell.measure && other.checkpoint != cell.checkpoint
            };
            let twins = manifest.cells_of(group).iter().filter(same);
            let mut found = twins.filter_map(|twin| match self.sweep.result(twin.id)? {
                CellResult { outcome: Outcome::Done(done), run, .. } => Some((twin, done, run)),
                CellResult { outcome: Outcome::Failed(_), .. } => None,
            });
            let Some((twin, mut done, run)) = found.next() else {
                left.push(cell);
                continue;
            };
            let read = done.computed_at.take().unwrap_or_else(|| manifest.checkpoint(twin).name());
            done.computed_at = Some(read).filter(|read| *read != manifest.checkpoint(&cell).name());
            let (of, outcome) = (job::named(self.sweep, &cell), Outcome::Done(done));
            self.sweep.write_result(&CellResult { format: FORMAT.to_owned(), cell: cell.id, of, outcome, run }, &())?;
        }
        *wanted = left;
        Ok(())
    }

    /// Computes cells of a group, and removes what that took unless it is to be tried again.
    fn compute(&self, group: usize, wanted: &[Cell], (done, n): (usize, usize), lease: &Lease) -> Result<(), Error> {
        let options = self.options;
        let others = match self.sweep.manifest().groups[group].checkpoints.len() {
            1 => String::new(),
            all => format!(" and {} with the same files", all - 1),
        };
        options.observer.step(&format!("checkpoint {} of {n}: {}{others}", done + 1, self.name(group)));
        pythia_runtime::machine::reset_peak_rss();
        let mut job = self.job(group);
        let located = match self.locate(group) {
            Ok(located) => located,
            Err(Stop::Cancelled) => return Err(Error::Cancelled),
            Err(Stop::Fault(fault)) => return job.fail(wanted, &fault),
        };
        job.path.clone_from(&located.path);
        job.compute(wanted)?;
        let is_for_later = |cell: &Cell| {
            self.sweep.result(cell.id).is_none_or(|result| result.failed().is_some_and(|error| error.class.may_pass()))
        };
        if wanted.iter().any(is_for_later) {
            return Ok(());
        }
        #[cfg(feature = "hub")]
        if let Some((id, commit)) = located.downloaded.filter(|_| options.evicts) {
            match pythia_hub::evict(options.hub, &id, &commit) {
                Ok(_) => _ = fs::remove_file(self.work(group).join(DOWNLOADED)),
                Err(error) => options.observer.warn(&error.to_string()),
            }
        }
        self.clean(group, lease);
        Ok(())
    }

    fn job(&self, index: usize) -> Job<'_> {
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
        let (path, work) = (PathBuf::new(), self.work(index));
        let (start, cpu_start) = (Instant::now(), cpu_seconds());
        Job { sweep: self.sweep, options: self.options, index, path, work, run, start, cpu_start }
    }

    /// Where converted files and scores of a group are.
    fn work(&self, group: usize) -> PathBuf {
        let id = &self.sweep.manifest().groups[group].group;
        match &self.options.scratch {
            Some(scratch) => scratch.join(format!("{}-{id}", self.folder)),
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
            // Checked when the run began.
            #[cfg(not(feature = "hub"))]
            Source::Hub { repo, .. } => Err(Stop::fault(ErrorClass::Request, repo.as_str())),
        }
    }

    /// Files of a folder may not have changed since the plan: the results would carry the wrong digests. No file may have
    /// come that is read instead of them.
    fn check_files(&self, group: usize, folder: &Path) -> Result<(), Stop> {
        let cancel = &self.options.cancel;
        let found = folder::files(folder, cancel).map_err(|error| match error {
            Error::Cancelled => Stop::Cancelled,
            error if error.kind() == ErrorKind::Io => Stop::fault(ErrorClass::System, error.to_string()),
            error => Stop::fault(ErrorClass::Corrupt, error.to_string()),
        })?;
        if found != self.sweep.manifest().groups[group].files {
            let shown = pythia_text::path(folder);
            let problem = format!("{shown}: its files have changed since the sweep was planned; plan another one");
            return Err(Stop::fault(ErrorClass::Corrupt, problem));
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
