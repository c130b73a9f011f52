//! What a sweep computes is what the library of comparisons computes.

use super::{STEPS, family, open, plan, quant, results, text, values};
use crate::common::data;
use pythia_compare::{Base, CheckpointBase, Comparison, Observer, Request, Stage};
use pythia_runtime::{Device, Text};
use pythia_sweep::run::{Options, Part, Summary, run};
use pythia_sweep::{CellResult, Sweep};
use pythia_task::{Cancel, Progress};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts stages of scoring, and the chunks in them.
#[derive(Default)]
struct Counted {
    groups: AtomicU64,
    chunks: Arc<AtomicU64>,
}

struct Chunks(Arc<AtomicU64>);

impl Progress for Chunks {
    fn advance(&self, _: &str, units: i64) {
        self.0.fetch_add(units.unsigned_abs(), Ordering::Relaxed);
    }
}

impl Observer for Counted {
    fn begin(&self, stage: Stage) -> Box<dyn Progress + '_> {
        let Stage::Score { .. } = stage else { return Box::new(()) };
        self.groups.fetch_add(1, Ordering::Relaxed);
        Box::new(Chunks(Arc::clone(&self.chunks)))
    }
}

/// Runs a part of the sweep in `folder` in this process.
fn run_here(sweep: &Sweep, part: Part, observer: &dyn Observer) -> Summary {
    let device = Device::cpu();
    #[cfg(feature = "hub")]
    let hub = pythia_hub::Settings::from_env(|name| (name == "HF_HOME").then(|| "/nowhere".into())).unwrap();
    let options = Options {
        part,
        threads: 2,
        device: &device,
        scratch: None,
        keeps_work: false,
        evicts: false,
        retries_failed: false,
        waits: true,
        works: Vec::new(),
        program: "test".to_owned(),
        cancel: Cancel::new(),
        observer,
        downloads: &|| Arc::new(()),
        #[cfg(feature = "hub")]
        hub: &hub,
    };
    run(sweep, &options).unwrap()
}

/// The values of a comparison of one checkpoint: level, negative log-likelihood, divergence.
fn compared(folder: &Path, step: u64) -> Vec<(String, f64, Option<f64>)> {
    let path = folder.join(format!("pythia-docs-1m/step{step}"));
    let base = CheckpointBase { path, ..CheckpointBase::default() };
    let request = Request {
        levels: ["Q4_0", "Q2_K"].map(|level| level.parse().unwrap()).to_vec(),
        max_chunks: Some(3),
        cache: Some(folder.join("compare")),
        ..Request::new(Base::Checkpoint(base), Text::open(&text(folder)).unwrap())
    };
    let report = Comparison::prepare(request).unwrap().run(&Device::cpu(), &()).unwrap();
    let mut rows: Vec<_> = report
        .entries
        .iter()
        .map(|entry| {
            let name = if entry.against_base.is_none() { "base" } else { &entry.level };
            (name.to_owned(), entry.perplexity.value, entry.against_base.map(|against| against.kld_mean.value))
        })
        .collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows
}

#[test]
fn a_sweep_has_the_values_of_comparisons_and_runs_the_base_once() {
    let dir = tempfile::tempdir().unwrap();
    plan(dir.path(), &[]);
    let sweep = open(dir.path());
    let counted = Counted::default();
    let summary = run_here(&sweep, Part::All, &counted);
    assert_eq!(summary, Summary { done: 9, groups: 3, ..Summary::default() });
    // One pass over the text for each checkpoint: all levels see the windows side by side with the base.
    assert_eq!(counted.groups.load(Ordering::Relaxed), 3);
    assert_eq!(counted.chunks.load(Ordering::Relaxed), 9);
    let all = results(&sweep);
    for step in STEPS {
        let mut rows: Vec<_> = all
            .iter()
            .filter(|result| result.of.step == Some(step))
            .map(|result| {
                let text = result.done().unwrap().text.as_ref().unwrap();
                let kld = text.against_base.map(|against| against.kld_mean.value);
                (result.of.level.clone(), text.perplexity.value, kld)
            })
            .collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(rows, compared(dir.path(), step), "step {step}");
    }
    // What training does: the text becomes likelier, and rounding hurts more.
    let value = |level: &str, of: fn(&CellResult) -> f64| -> Vec<f64> {
        let rows = |step| all.iter().find(move |r| r.of.level == level && r.of.step == Some(step));
        STEPS.iter().map(|&step| of(rows(step).unwrap())).collect()
    };
    let perplexity = value("base", |r| r.done().unwrap().text.as_ref().unwrap().perplexity.value);
    assert!(perplexity.is_sorted_by(|a, b| a > b), "{perplexity:?}");
    let kld = value("Q2_K", |r| r.done().unwrap().text.as_ref().unwrap().against_base.unwrap().kld_mean.value);
    assert!(kld.is_sorted_by(|a, b| a < b), "{kld:?}");
    // Nothing is left to do, and no file of the work.
    let again = run_here(&sweep, Part::All, &counted);
    assert_eq!(again, Summary { known: 9, ..Summary::default() });
    assert_eq!(counted.groups.load(Ordering::Relaxed), 3);
    let left = std::fs::read_dir(dir.path().join("sweep/work")).unwrap().count();
    assert_eq!(left, 0, "converted files are removed");
}

#[test]
fn sums_of_chunks_are_those_of_the_text() {
    let dir = tempfile::tempdir().unwrap();
    plan(dir.path(), &["--steps", "1500", "--chunk-sums"]);
    let sweep = open(dir.path());
    run_here(&sweep, Part::All, &());
    for result in results(&sweep) {
        let text = result.done().unwrap().text.clone().unwrap();
        let sums = text.chunk_sums.unwrap();
        assert_eq!(sums.len(), 3);
        let nll: f64 = sums.iter().map(|sums| sums.nll).sum();
        assert!((nll - text.nll_sum).abs() < 1e-9 * nll, "{nll} {}", text.nll_sum);
        let kld = sums.iter().map(|sums| sums.kld).sum::<f64>() / text.tokens as f64;
        let wanted = text.against_base.map_or(0.0, |against| against.kld_mean.value);
        assert!((kld - wanted).abs() <= 1e-9 * wanted, "{kld} {wanted}");
    }
    let table = quant(dir.path(), &["sweep", "collect", "sweep", "--chunks"]).ok();
    assert_eq!(table.lines().count(), 1 + 9, "{table}");
    assert!(table.starts_with("schema,cell,model,step,revision,level,quantizer,measure,chunk,nll_sum,kld_sum\n"));
}

#[test]
fn a_lost_result_is_computed_again_with_its_base_alone() {
    let dir = tempfile::tempdir().unwrap();
    plan(dir.path(), &["--steps", "1500"]);
    let sweep = open(dir.path());
    run_here(&sweep, Part::All, &());
    let before = values(&sweep);
    let cell = sweep.manifest().cells[2].id;
    let path = sweep.result_path(cell);
    let whole = std::fs::read(&path).unwrap();
    let other = std::fs::read(sweep.result_path(sweep.manifest().cells[0].id)).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"{}", &other] {
        std::fs::write(&path, damaged).unwrap();
        assert!(sweep.result(cell).is_none());
        let summary = run_here(&sweep, Part::Cell(cell), &());
        assert_eq!(summary, Summary { done: 1, groups: 1, ..Summary::default() });
        assert_eq!(values(&sweep), before);
    }
}

#[test]
fn quantizers_are_calibrated_on_each_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    family(dir.path());
    let calibration = data("pythia-docs-6m").join("heldout.txt");
    let args = ["sweep", "plan", "pythia-docs-1m", "-s", "256,1500", "-f"];
    let text = text(dir.path());
    let more = ["-t", "Q4_0,Q8_0", "--chunks", "2", "--quantizer", "plain,imatrix,feedback", "--calibrate"];
    let words = [&args[..], &[text.to_str().unwrap()], &more, &[calibration.to_str().unwrap()]].concat();
    quant(dir.path(), &words).ok();
    let sweep = open(dir.path());
    assert_eq!(run_here(&sweep, Part::All, &()).done, 14);
    for step in [256, 1500] {
        let kld = |quantizer: &str| {
            let all = results(&sweep);
            let of = |r: &&CellResult| r.of.step == Some(step) && r.of.level == "Q4_0" && r.of.quantizer == quantizer;
            let text = all.iter().find(of).unwrap().done().unwrap().text.clone().unwrap();
            text.against_base.unwrap().kld_mean.value
        };
        // Rounding together brings a fraction of the divergence.
        assert!(kld("feedback") < 0.6 * kld("plain"), "{} {}", kld("feedback"), kld("plain"));
        assert_ne!(kld("imatrix"), kld("plain"));
    }
    // Importances change no byte of Q8_0, so there is one file for both.
    let digest = |quantizer: &str| {
        let of = |r: &CellResult| r.of.level == "Q8_0" && r.of.quantizer == quantizer && r.of.step == Some(256);
        results(&sweep).into_iter().find(of).unwrap().done().unwrap().file.files[0].sha256.clone()
    };
    assert_eq!(digest("imatrix"), digest("plain"));
}
