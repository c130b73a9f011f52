//! The evaluation plots of the Pythia model card, with results of one's own on the published curves.
//!
//! Five tasks, each against parameters and against training step. Input is what lm-evaluation-harness and this crate
//! write as `results_*.json`; output is one page of HTML without scripts.

mod chart;
mod measured;
mod page;
mod published;

pub use measured::Measured;

/// What the plots show, in their order: the name of the task in results, its name for people, and the accuracy of a
/// random choice, if there is one.
const TASKS: [(&str, &str, Option<f64>); 5] = [
    ("lambada_openai", "LAMBADA (OpenAI)", None),
    ("piqa", "PIQA", Some(0.5)),
    ("winogrande", "WinoGrande", Some(0.5)),
    ("arc_easy", "ARC-easy", Some(0.25)),
    ("sciq", "SciQ", Some(0.25)),
];

/// Largest file of results that is read. 57 tasks of MMLU take 200 kB.
pub const LIMIT_BYTES: u64 = pythia_json::LIMIT_BYTES as u64;

/// Whether the plots show this task.
pub fn shows(task: &str) -> bool {
    TASKS.iter().any(|(name, ..)| *name == task)
}

/// The page with the plots.
pub fn render(results: &[Measured]) -> String {
    page::render(results)
}
