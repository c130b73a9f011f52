//! A comparison driven as a library, on the checkpoint in `data/`: without a command line, in this process.

use crate::common;
use pythia_compare::report::{Entry, Files};
use pythia_compare::{Base, CheckpointBase, Comparison, Observer, Report, Request, Stage};
use pythia_runtime::{Device, Text};
use pythia_task::{ErrorKind, Progress};
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Hears everything.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn has(&self, part: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line.contains(part))
    }
}

impl Observer for Heard {
    fn note(&self, line: &str) {
        self.push(line.to_owned());
    }

    fn begin(&self, stage: Stage) -> Box<dyn Progress + '_> {
        self.push(format!("{stage:?}"));
        Box::new(self.clone())
    }
}

impl Progress for Heard {
    fn advance(&self, item: &str, units: i64) {
        self.push(format!("{item} +{units}"));
    }
}

/// Two chunks of the text, with these levels.
fn request(cache: &Path, levels: &[&str]) -> Request {
    let base = CheckpointBase { path: common::checkpoint(), ..CheckpointBase::default() };
    let text = Text::open(&common::checkpoint().join("heldout.txt")).unwrap();
    Request {
        levels: levels.iter().map(|level| level.parse().unwrap()).collect(),
        max_chunks: Some(2),
        cache: Some(cache.to_owned()),
        ..Request::new(Base::Checkpoint(base), text)
    }
}

/// What does not depend on the clock.
fn quality(report: &Report) -> Vec<(String, u64, f64, Option<f64>)> {
    let row = |entry: &Entry| {
        let kld = entry.against_base.map(|against| against.kld_mean.value);
        (entry.name.clone(), entry.file_bytes, entry.perplexity.value, kld)
    };
    report.entries.iter().map(row).collect()
}

#[test]
fn a_comparison_is_a_library() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let mut comparison = Comparison::prepare(request(&cache, &["Q8_0", "Q4_0"])).unwrap();
    let names: Vec<String> = comparison.candidates().iter().map(|candidate| candidate.name.clone()).collect();
    assert_eq!(names, ["F16", "Q8_0", "Q4_0"]);
    assert!(!cache.exists(), "nothing is written before it runs");
    let heard = Heard::default();
    let report = comparison.run(&Device::cpu(), &heard).unwrap();
    for part in ["0 of 3 files are there", "Convert", "blk.0.", "Measure", "Q4_0 +1", "Score", "F16 PPL"] {
        assert!(heard.has(part), "{part} is missing in {heard:?}", heard = heard.0);
    }
    assert!(!report.process_per_level, "there is no worker");
    assert_eq!((report.protocol.chunks, report.protocol.tokens_scored), (2, 2 * 255));
    let rows = quality(&report);
    assert_eq!(rows.iter().map(|row| row.0.clone()).collect::<Vec<_>>(), names);
    let kld = |i: usize| rows[i].3.unwrap();
    assert!(rows[0].3.is_none() && 0.0 < kld(1) && 10.0 * kld(1) < kld(2), "{rows:?}");

    let folder = dir.path().join("report");
    let written = Files::create(&folder).unwrap().write(&report, false).unwrap();
    let json: Value = serde_json::from_slice(&std::fs::read(&written[0]).unwrap()).unwrap();
    assert_eq!(json["levels"][2]["against_base"]["kld_mean"]["value"], kld(2));
    comparison.finish();

    // The next one of a sweep makes what is new, and runs where it is wanted.
    let mut next = Comparison::prepare(request(&cache, &["Q8_0", "Q5_0"])).unwrap();
    let heard = Heard::default();
    let observer = heard.clone();
    let next = std::thread::spawn(move || next.run(&Device::cpu(), &observer).unwrap()).join().unwrap();
    assert!(heard.has("2 of 3 files are there"));
    assert_eq!(quality(&next)[..2], rows[..2], "the same bits, whatever runs beside it");
}

#[test]
fn a_comparison_stops_when_it_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let request = request(dir.path(), &["Q8_0"]);
    let cancel = request.cancel.clone();
    let mut comparison = Comparison::prepare(request).unwrap();
    cancel.raise();
    let error = comparison.run(&Device::cpu(), &()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    let error = Comparison::prepare(Request { n_ctx: 2, ..self::request(dir.path(), &["Q8_0"]) }).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
}
