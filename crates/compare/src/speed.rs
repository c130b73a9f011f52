//! Measures speed and memory of each level, in separate processes.

use crate::cache::folder::{Folder, SPEEDS, program_id, read_json, write_json};
use crate::facts::Facts;
use crate::measure::{Measured, measure};
use crate::report::Speed;
use crate::{Candidate, Error, Observer, Stage, Worker};
use pythia_model::Options;
use pythia_runtime::machine::cpu_name;
use pythia_runtime::{Arithmetic, Device};
use pythia_task::Cancel;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const FORMAT: &str = "pythia-speeds/2";

/// Measurements older than this are repeated, because the machine may be in another state.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The speeds of all files.
pub(crate) struct Speeds {
    /// In the order of the files.
    pub(crate) files: Vec<Speed>,
    /// Whether each was measured in a separate process.
    pub(crate) process_per_level: bool,
}

/// Measurements of a run that was stopped.
pub(crate) struct KeptSpeeds {
    /// The file that holds them, if there is a cache.
    path: Option<PathBuf>,
    kept: Kept,
}

#[derive(Deserialize, Serialize)]
struct Kept {
    format: String,
    /// The setting that the measurements depend on.
    setting: String,
    levels: Vec<KeptLevel>,
}

#[derive(Deserialize, Serialize)]
struct KeptLevel {
    /// The digest of the level.
    id: String,
    when: SystemTime,
    measured: Measured,
}

impl KeptLevel {
    /// Whether it is recent. A date in the future does not count.
    fn is_recent(&self) -> bool {
        self.when.elapsed().is_ok_and(|age| age <= MAX_AGE)
    }
}

impl KeptSpeeds {
    /// Reads the measurements in `folder` for this setting. Empty if `afresh`.
    pub(crate) fn open(folder: Option<&Folder>, device: &Device, options: &Options, afresh: bool) -> Self {
        let path = folder.map(|folder| folder.path().join(SPEEDS));
        let Arithmetic { activations, kv_cache, .. } = Arithmetic::of(options);
        // `None` means that each file uses its own.
        let gelu = options.gelu;
        let Options { threads, isa, .. } = options;
        let (program, cpu, device) = (program_id(), cpu_name(), device.argument());
        let setting = format!("{program}, {cpu}, {device}, {threads}, {isa:?}, {activations}, {gelu:?}, {kv_cache}");
        let kept = path.as_deref().filter(|_| !afresh).and_then(read_json::<Kept>);
        let kept = kept.filter(|kept| kept.format == FORMAT && kept.setting == setting);
        let mut kept = kept.unwrap_or_else(|| Kept { format: FORMAT.to_owned(), setting, levels: Vec::new() });
        kept.levels.retain(KeptLevel::is_recent);
        Self { path, kept }
    }

    fn get(&self, id: &str) -> Option<Measured> {
        self.kept.levels.iter().find(|level| level.id == id).map(|level| level.measured.clone())
    }

    /// Keeps a measurement. Errors are ignored.
    fn put(&mut self, id: String, measured: Measured) {
        self.kept.levels.push(KeptLevel { id, when: SystemTime::now(), measured });
        if let Some(path) = &self.path {
            let _ = write_json(path, &self.kept);
        }
    }

    /// Removes all, because they belong to one run, which has ended.
    pub(crate) fn forget(self) {
        if let Some(path) = self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What is measured, and how.
pub(crate) struct Measurement<'a> {
    pub(crate) device: &'a Device,
    pub(crate) options: &'a Options,
    /// `None` to measure in this process.
    pub(crate) worker: Option<&'a Worker>,
    pub(crate) cancel: &'a Cancel,
    pub(crate) observer: &'a dyn Observer,
}

impl Measurement<'_> {
    /// Measures one file after the other, except for those in `kept`.
    pub(crate) fn run(
        &self,
        candidates: &[Candidate],
        facts: &[Facts],
        kept: &mut KeptSpeeds,
    ) -> Result<Speeds, Error> {
        let n = candidates.len();
        let n_known = facts.iter().filter(|facts| kept.get(&facts.id()).is_some()).count();
        let progress = self.observer.begin(Stage::Measure);
        progress.expect(Some(n as u64));
        if n_known > 0 {
            self.observer.note(&format!(
                "speeds of {n_known} of {n} files were measured by an earlier run that was stopped (--fresh measures \
                 them again)"
            ));
        }
        let mut worker = self.worker;
        let mut speeds = Vec::new();
        for (i, (Candidate { name, path, .. }, facts)) in candidates.iter().zip(facts).enumerate() {
            if self.cancel.is_raised() {
                return Err(Error::Cancelled);
            }
            progress.advance(name, 0);
            let known = kept.get(&facts.id());
            let whence = if known.is_some() { "measured by an earlier run" } else { "speed and memory" };
            self.observer.step(&format!("level {} of {n}: {name}: {whence}", i + 1));
            let measured = match known {
                Some(measured) => measured,
                None => self.one(&mut worker, path, |measured| kept.put(facts.id(), measured))?,
            };
            speeds.push(measured.speed());
            progress.advance(name, 1);
        }
        Ok(Speeds { files: speeds, process_per_level: worker.is_some() })
    }

    /// Measures a file with the worker and keeps the result. Without a worker, or if it cannot be started, measures in
    /// this process.
    fn one(
        &self,
        worker: &mut Option<&Worker>,
        path: &Path,
        mut keep: impl FnMut(Measured),
    ) -> Result<Measured, Error> {
        if let Some(program) = *worker {
            match program.measure(self.device, path, self.options, self.cancel)? {
                Ok(measured) => {
                    keep(measured.clone());
                    return Ok(measured);
                }
                Err(error) => {
                    self.observer.warn(&format!("cannot start a process per level ({error}); memory is less exact"));
                    *worker = None;
                }
            }
        }
        measure(self.device, path, self.options, self.cancel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_of_the_last_day_are_recent() {
        let measured = serde_json::json!({ "prefill": [1.0], "decode_seconds": [1.0] });
        let measured: Measured = serde_json::from_value(measured).unwrap();
        let level = |when| KeptLevel { id: String::new(), when, measured: measured.clone() };
        let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
        assert!(level(now - hour).is_recent());
        assert!(!level(now - 25 * hour).is_recent());
        assert!(!level(now + hour).is_recent());
    }
}
