//! What a group takes: core-seconds, memory, disk. Rough figures, from sizes alone, so that a user can ask a cluster for
//! the right thing.

use crate::manifest::{Estimate, SourceFile};
use crate::spec::{IMATRIX, Measure, PLAIN, Spec};
use pythia_convert::Level;
use pythia_quantizer::Feedback;

/// Bytes of English per token of the Pythia tokenizer.
const BYTES_PER_TOKEN: u64 = 4;
/// Bytes of a weight in a published checkpoint.
const SOURCE_WEIGHT_BYTES: u64 = 2;
/// Multiplications and additions per second and core, in products with quantized weights, as measured with AVX-512 and
/// AVX2 in docs/performance.md, with room for slower machines.
const FLOPS: f64 = 60e9;
/// Weights that a core encodes per second at one level.
const ENCODED_PER_SECOND: f64 = 25e6;
/// The same where the quantizer rounds them together.
const FEEDBACK_PER_SECOND: f64 = 0.7e6;
/// Times the cost of a forward pass of a window that a calibration takes: forward, backward and the sums.
const CALIBRATION_PASSES: f64 = 12.0;
/// Tokens of a calibration: 64 windows of 512.
const CALIBRATION_TOKENS: f64 = 32768.0;
/// Seconds to start, whatever the size.
const START_SECONDS: f64 = 1.0;
/// Memory besides the files: the program, the buffers of a batch, logits.
const BUFFERS_BYTES: u64 = 300 << 20;

/// The estimate for a checkpoint of these files. `task_tokens` is what a recipe runs for the tasks.
pub(crate) fn estimate(files: &[SourceFile], spec: &Spec, task_tokens: u64) -> Estimate {
    let weight_bytes: u64 = files.iter().filter(|file| file.is_weights).map(|file| file.bytes).sum();
    let weights = weight_bytes / SOURCE_WEIGHT_BYTES;
    let file_bytes: u64 = spec.recipes.iter().map(|recipe| bytes_at(&recipe.level, weights)).sum();
    let tokens: u64 = spec.measures.iter().map(|measure| tokens(measure, task_tokens)).sum();
    let flops_per_token = 2.0 * weights as f64;
    let passes = tokens as f64 * spec.recipes.len() as f64;
    let by_feedback = |quantizer: &str| ![IMATRIX, PLAIN].contains(&quantizer);
    let encoding: f64 = spec
        .recipes
        .iter()
        .map(|recipe| if by_feedback(&recipe.quantizer) { FEEDBACK_PER_SECOND } else { ENCODED_PER_SECOND })
        .map(|rate| weights as f64 / rate)
        .sum();
    let calibrations: f64 = [(IMATRIX, 1.0), (Feedback::NAME, CALIBRATION_PASSES)]
        .iter()
        .filter(|(name, _)| spec.recipes.iter().any(|recipe| recipe.quantizer == *name))
        .map(|(_, passes)| passes * CALIBRATION_TOKENS)
        .sum();
    Estimate {
        core_seconds: START_SECONDS + encoding + (passes + calibrations) * flops_per_token / FLOPS,
        memory_bytes: file_bytes + BUFFERS_BYTES,
        disk_bytes: file_bytes,
        download_bytes: files.iter().map(|file| file.bytes).sum(),
    }
}

/// Bytes of a file at a level; in a level that is not known, as in the checkpoint.
fn bytes_at(level: &str, weights: u64) -> u64 {
    let bits = level.parse::<Level>().map_or(8.0 * SOURCE_WEIGHT_BYTES as f64, |level| level.base().bits_per_weight());
    (weights as f64 * bits / 8.0) as u64
}

fn tokens(measure: &Measure, task_tokens: u64) -> u64 {
    match measure {
        Measure::Text { text, n_ctx, max_chunks } => {
            let all = text.bytes / BYTES_PER_TOKEN;
            max_chunks.map_or(all, |chunks| all.min((chunks as u64).saturating_mul(*n_ctx as u64)))
        }
        Measure::Tasks { .. } => task_tokens,
    }
}
