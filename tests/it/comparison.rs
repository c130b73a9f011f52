//! A comparison driven as a library, on the checkpoint in `data/`: without a command line, in this process.

use crate::common;
use crate::quantizer::Shrinking;
use pythia_compare::report::{Entry, Files};
use pythia_compare::{Base, CheckpointBase, Comparison, Observer, Report, Request, Rounding, Stage};
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

    fn step(&self, line: &str) {
        self.push(line.to_owned());
    }

    fn begin(&self, stage: Stage) -> Box<dyn Progress + '_> {
        self.push(format!("{stage:?}"));
        Box::new(self.clone())
    }
}

impl Progress for Heard {
    fn stage(&self, name: &str) {
        self.push(format!("stage {name}"));
    }

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
    let written = Files::create(&folder, &()).unwrap().write(&report, false).unwrap();
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

/// Every level plainly, with an importance matrix, and by a quantizer.
fn request_of_series(cache: &Path, levels: &[&str], quantizer: Shrinking) -> Request {
    let quantizers = vec![Rounding::Plain, Rounding::Imatrix, Rounding::By(Arc::new(quantizer))];
    let imatrix = Some(common::data("goldens/imatrix.gguf"));
    Request { quantizers, imatrix, ..request(cache, levels) }
}

#[test]
fn levels_are_rounded_in_several_ways_and_set_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Heard::default();
    let levels = ["Q8_0", "Q4_0", "IQ2_XS"];
    let mut comparison = Comparison::prepare(request_of_series(dir.path(), &levels, Shrinking::default())).unwrap();
    let report = comparison.run(&Device::cpu(), &heard).unwrap();
    let names: Vec<&str> = report.entries.iter().map(|entry| entry.name.as_str()).collect();
    // No importance matrix changes Q8_0, and IQ2_XS is not made without importances.
    let wanted = [
        "F16",
        "Q8_0",
        "Q8_0 shrinking",
        "Q4_0",
        "Q4_0 imatrix",
        "Q4_0 shrinking",
        "IQ2_XS imatrix",
        "IQ2_XS shrinking",
    ];
    assert_eq!(names, wanted);
    assert!(heard.has("making 3 levels: F16, Q8_0, Q4_0") && heard.has("making 2 levels: Q4_0, IQ2_XS"));
    assert!(heard.has("making 3 levels by shrinking: Q8_0, Q4_0, IQ2_XS") && heard.has("stage quantizing IQ2_XS"));

    let side_by_side = report.side_by_side.as_ref().unwrap();
    assert_eq!(side_by_side.series, ["plain", "imatrix", "shrinking"]);
    let q4 = &side_by_side.levels[1];
    assert_eq!((q4.level.as_str(), q4.klds.iter().flatten().count()), ("Q4_0", 3));
    let [plain, shrinking] = [0, 2].map(|at| q4.klds[at].as_ref().unwrap());
    assert_eq!(shrinking.of_first, Some(shrinking.kld / plain.kld));
    assert!(plain.of_first.is_none() && shrinking.kld > plain.kld, "smaller weights are worse: {q4:?}");
    assert!(report.answer.sentences[1].starts_with("shrinking: mean KLD is "), "{:?}", report.answer.sentences);
    let entry = report.entries.iter().find(|entry| entry.name == "Q4_0 shrinking").unwrap();
    assert_eq!((entry.level.as_str(), entry.series.as_deref()), ("Q4_0", Some("shrinking")));
    assert_eq!((&entry.quantizer.as_ref().unwrap().name, &entry.imatrix), (&"shrinking".to_owned(), &None));
    assert_eq!(entry.kld_of_first_series, shrinking.of_first);
    comparison.finish();

    // The same again needs no file; a quantizer that says something else of itself has files of its own.
    let again = Heard::default();
    let request = request_of_series(dir.path(), &levels, Shrinking::default());
    Comparison::prepare(request).unwrap().convert(&again).unwrap();
    assert!(again.has("8 of 8 files are there"));
    let other = Heard::default();
    let request = request_of_series(dir.path(), &levels, Shrinking::with_vectors());
    Comparison::prepare(request).unwrap().convert(&other).unwrap();
    assert!(other.has("5 of 8 files are there"));
}

#[test]
fn ways_to_round_must_fit_the_request() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |request: Request| {
        let error = Comparison::prepare(request).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage);
        error.to_string()
    };
    let series = || request_of_series(dir.path(), &["Q4_0"], Shrinking::default());
    let without = refused(Request { imatrix: None, ..series() });
    assert_eq!(without, "--quantizer imatrix needs an importance matrix (--imatrix)");
    let unused = refused(Request { quantizers: vec![Rounding::Plain], ..series() });
    assert_eq!(unused, "--imatrix is for the quantizer imatrix, which --quantizer does not name");
    let twice = refused(Request { quantizers: vec![Rounding::Plain; 2], imatrix: None, ..series() });
    assert_eq!(twice, "the quantizer plain was named twice, wanted each once");
    let files = vec![common::gguf("Q8_0")];
    let base = Base::Gguf(common::gguf("F16"));
    let none = refused(Request { base, levels: Vec::new(), files, imatrix: None, ..series() });
    assert_eq!(none, "--quantizer is used for converting levels, but --type names none");
}
