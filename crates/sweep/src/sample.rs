//! Made-up sweeps for tests and for measuring, shaped like real ones.

use crate::Cell;
use crate::manifest::{Checkpoint, Estimate, Group, Manifest, Source, SourceFile};
use crate::result::{self, CellResult, Done, ErrorClass, Failed, FileFacts, Named, Outcome, Run, TextScore};
use crate::spec::{Measure, Recipe, Spec, TextFile};
use pythia_compare::report::{FileDigest, TaskValue};
use pythia_eval::Paired;
use pythia_runtime::eval::{AgainstBase, Estimate as Value};

/// Level, bits per weight, mean divergence at the end of training.
const LEVELS: [(&str, f64, f64); 7] = [
    ("Q8_0", 8.5, 1.4e-4),
    ("Q6_K", 6.6, 6.8e-4),
    ("Q5_K_M", 5.7, 1.7e-3),
    ("Q4_K_M", 4.8, 5.5e-3),
    ("Q4_0", 4.5, 8.3e-3),
    ("Q3_K_M", 3.9, 1.5e-2),
    ("Q2_K", 3.0, 6.8e-2),
];

/// The steps of Pythia: 0, powers of two, then every 1000.
pub(crate) fn pythia_steps() -> Vec<u64> {
    std::iter::once(0).chain((0..10).map(|i| 1 << i)).chain((1..=143).map(|i| 1000 * i)).collect()
}

/// A sweep over models, steps and the first `n_levels` levels from the coarse end, on a text and, if asked for, tasks.
pub(crate) fn manifest(models: &[&str], steps: &[u64], n_levels: usize, has_tasks: bool) -> Manifest {
    let levels = LEVELS[LEVELS.len() - n_levels..].iter();
    let recipe = |level: &str| Recipe { level: level.to_owned(), quantizer: "plain".to_owned() };
    let recipes: Vec<Recipe> = std::iter::once(Recipe::base()).chain(levels.map(|level| recipe(level.0))).collect();
    let text = TextFile {
        name: "heldout.txt".into(),
        path: "../heldout.txt".into(),
        sha256: "b6".repeat(32),
        bytes: 200_000,
        unix_text: false,
    };
    let tasks = Measure::Tasks {
        names: vec!["piqa".into(), "lambada_openai".into()],
        shots: None,
        limit: None,
        data: None,
        sha256: "c7".repeat(32),
    };
    let measures: Vec<Measure> = std::iter::once(Measure::Text { text, n_ctx: 512, max_chunks: None })
        .chain(has_tasks.then_some(tasks))
        .collect();
    let mut groups = Vec::new();
    let mut cells = Vec::new();
    for model in models {
        for &step in steps {
            let id = 1 + groups.len() as u64;
            for measure in 0..measures.len() {
                for recipe in 0..recipes.len() {
                    let number = id << 16 | (measure as u64) << 8 | recipe as u64;
                    let id = format!("{number:016x}").parse().expect("sixteen digits");
                    cells.push(Cell { id, group: groups.len(), checkpoint: 0, recipe, measure });
                }
            }
            let revision = format!("step{step}");
            groups.push(Group {
                group: format!("{id:016x}"),
                checkpoints: vec![Checkpoint {
                    model: (*model).to_owned(),
                    source: Source::Folder { path: format!("../{model}/{revision}") },
                    revision,
                    step: Some(step),
                    warning: None,
                }],
                files: vec![SourceFile {
                    name: "model.safetensors".into(),
                    bytes: 2_893_808,
                    digest: format!("sha256:{id:064x}"),
                    is_weights: true,
                }],
                estimate: Estimate {
                    core_seconds: 100.0,
                    memory_bytes: 20_000_000,
                    disk_bytes: 9_000_000,
                    download_bytes: 0,
                },
            });
        }
    }
    Manifest {
        program: "pythia-quant 0.1.0".into(),
        spec: Spec {
            recipes,
            measures,
            calibration: None,
            base_level: None,
            activations: "int8".into(),
            gelu: None,
            keeps_chunks: false,
        },
        groups,
        cells,
        missing: Vec::new(),
    }
}

/// Results of all cells: the perplexity falls, and the divergence grows.
pub(crate) fn results(manifest: &Manifest) -> Vec<Option<CellResult>> {
    manifest.cells.iter().map(|cell| Some(result(manifest, cell))).collect()
}

/// The result of a cell.
pub(crate) fn result(manifest: &Manifest, cell: &Cell) -> CellResult {
    let checkpoint = manifest.checkpoint(cell);
    let recipe = manifest.recipe(cell);
    let step = checkpoint.step.unwrap_or(0) as f64;
    let size = f64::from(checkpoint.model.bytes().fold(7u32, |hash, b| (31 * hash + u32::from(b)) % 97)) / 97.0;
    let trained = step / (step + 300.0);
    let level = LEVELS.iter().find(|level| level.0 == recipe.level);
    let kld = level
        .map_or(0.0, |level| level.2 * (0.5 + size) * (0.003 + 0.997 * trained) * (1.0 + (step / 90_000.0).powi(2)));
    let base = 4200.0 * (1.0 - trained).powf(0.9) + 28.0 + 10.0 * size;
    let ppl = base * kld.exp();
    let against_base = level.map(|_| AgainstBase {
        perplexity_delta: Value { value: ppl - base, se: 0.1 * kld.sqrt() },
        perplexity_delta_percent: Value { value: 100.0 * (ppl / base - 1.0), se: 5.0 * kld.sqrt() / 28.0 },
        kld_mean: Value { value: kld, se: kld * 0.005 },
        kld_p99: kld * 6.3,
        kld_max: kld * 57.0,
        same_top: Value { value: 1.0 - kld.sqrt() * 0.7, se: 0.001 },
        ..AgainstBase::default()
    });
    let is_text = matches!(manifest.spec.measures[cell.measure], Measure::Text { .. });
    let text = is_text.then(|| TextScore {
        chunks: 168,
        tokens: 42_840,
        nll_sum: 42_840.0 * ppl.ln(),
        perplexity: Value { value: ppl, se: ppl * 0.0128 },
        against_base,
        chunk_sums: None,
    });
    let task = |task: &str, metric: &str, is_share: bool, value: f64| TaskValue {
        task: task.into(),
        metric: metric.into(),
        filter: "none".into(),
        shots: 0,
        documents: 500,
        is_share,
        value: value - if is_share { 0.5 * kld } else { -kld },
        stderr: Some(0.02),
        against_base: level.map(|_| Paired {
            difference: -0.5 * kld,
            stderr: Some(0.004),
            mcnemar_p: is_share.then_some(0.5),
            gained: vec![3],
            lost: vec![4, 5],
        }),
    };
    let tasks = || {
        vec![
            task("piqa", "acc", true, 0.5 + 0.15 * trained),
            task("lambada_openai", "perplexity", false, base * 2.0),
            task("lambada_openai", "acc", true, 0.3 * trained),
        ]
    };
    let file = format!("{}-{}.gguf", checkpoint.revision, recipe.level);
    let done = Done {
        file: FileFacts {
            level: level.map_or("F16", |level| level.0).to_owned(),
            files: vec![FileDigest { name: file, bytes: 1_500_000, sha256: format!("{:064x}", cell.group) }],
            bits_per_weight: level.map_or(16.0, |level| level.1),
            bits_per_weight_blocks: level.map_or(16.1, |level| level.1),
        },
        text,
        tasks: (!is_text).then(tasks),
        computed_at: None,
    };
    with(manifest, cell, Outcome::Done(Box::new(done)))
}

/// The result of a cell that failed.
pub(crate) fn failed(manifest: &Manifest, cell: &Cell, class: ErrorClass, message: &str) -> CellResult {
    with(manifest, cell, Outcome::Failed(Failed { class, message: message.to_owned(), attempts: 2 }))
}

fn with(manifest: &Manifest, cell: &Cell, outcome: Outcome) -> CellResult {
    let checkpoint = manifest.checkpoint(cell);
    let recipe = manifest.recipe(cell);
    CellResult {
        format: result::FORMAT.to_owned(),
        cell: cell.id,
        of: Named {
            model: checkpoint.model.clone(),
            revision: checkpoint.revision.clone(),
            step: checkpoint.step,
            level: recipe.level.clone(),
            quantizer: recipe.quantizer.clone(),
            measure: manifest.spec.measures[cell.measure].name(),
        },
        outcome,
        run: Run {
            program: "pythia-quant 0.1.0".into(),
            host: "node7".into(),
            device: "cpu".into(),
            isa: "avx512".into(),
            threads: 4,
            started: "2026-11-30T08:00:00Z".into(),
            group_seconds: 50.0,
            group_cpu_seconds: 190.0,
            peak_rss_bytes: 30_000_000,
        },
    }
}
