//! Which models run on a machine, and about how fast.

use crate::bench::{Work, spec_bytes};
use crate::report::Memory;
use pythia_convert::{Level, Recipe};
use pythia_gguf::FileType;
use pythia_model::{KvType, Model};
use pythia_runtime::device::Limits;
use pythia_schema::{Hparams, SUITE, Size, tensors};
use serde::Serialize;

/// The levels of [`suite`].
pub const LEVELS: [Level; 4] = [Level::Q4_0, Level::Q4_K_M, Level::Q8_0, Level::F16];

/// Tokens of the prompt whose speed is estimated.
pub const PROMPT_TOKENS: usize = 512;

/// What a machine has.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Memory for the model, its context and the program; `None` if unknown.
    pub memory_bytes: Option<u64>,
    /// Its limits, as [`bench`](crate::bench) measures them.
    pub limits: Limits,
}

/// Whether a model fits in the memory of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fits {
    /// All of it.
    Yes,
    /// All but the file: weights are read from the disk again and again.
    FromDisk,
    /// Not even without the file.
    No,
}

/// An estimate for one model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Its size, or its file.
    pub model: String,
    /// Its level, if it is known.
    pub level: Option<&'static str>,
    /// Bytes of the file; of a file that does not exist, those of its tensors. The vocabulary takes some 4 MB more.
    pub file_bytes: u64,
    /// Positions of the context.
    pub context_tokens: usize,
    /// File, context and program.
    pub memory_bytes: u64,
    /// Whether that fits.
    pub fits: Fits,
    /// Tokens per second of a prompt of [`PROMPT_TOKENS`], or as many as the context holds, if the model fits.
    pub prompt_tokens_per_second: Option<f64>,
    /// Tokens generated per second at the start of a context, if the model fits.
    pub generated_tokens_per_second: Option<f64>,
}

/// A share of a limit that was measured: for models with up to this many weights in their blocks.
type Share = (f64, f64);

/// Shares of the int8 limit in prompts of 512 tokens. Of the figures in docs/performance.md and of a second kind of
/// machine (Xeon with VNNI), both with two threads, the lower ones: 70m 28 to 38 %, 410m 36 to 52 %, 1.4b 51 to 61 %.
const PROMPT: [Share; 3] = [(100e6, 0.30), (700e6, 0.45), (f64::INFINITY, 0.55)];
/// Shares of the f32 limit in prompts of files in F16 or BF16, of the same page: 63 to 68 %.
const FLOAT_PROMPT: f64 = 0.65;
/// A token takes the time of reading its weights, and of multiplying some of them while nothing is read: so many bytes per
/// operation of the int8 limit. Of the same page: where two threads read 79 and 44 GB/s, and have 2.1 TOP/s, files of 410m
/// are read at 34 to 41 and 31 to 34. Small models are faster, as their weights stay in a cache.
const BYTES_PER_OP: f64 = 0.038;
/// The same for floats and the f32 limit: at 0.53 TFLOP/s, 48 and 35 GB/s.
const FLOAT_BYTES_PER_OP: f64 = 0.2;

/// Estimates for every published size at each of [`LEVELS`], with int8 activations.
pub fn suite(machine: &Machine, kv: KvType) -> Vec<Estimate> {
    SUITE.iter().flat_map(|size| LEVELS.map(|level| of_size(size, level, machine, kv))).collect()
}

fn of_size(size: &Size, level: Level, machine: &Machine, kv: KvType) -> Estimate {
    let hparams = size.hparams();
    let specs = tensors(&hparams);
    let types = Recipe::default().types(level, &specs, false).expect("a recipe without rules");
    let tensors: Vec<_> = specs.into_iter().zip(types.iter().map(|choice| choice.ty)).collect();
    let file_bytes = tensors.iter().map(|(spec, ty)| spec_bytes(spec, *ty)).sum();
    let named = (size.name.to_owned(), Some(level.name()));
    estimate(named, file_bytes, &Work::of_specs(&tensors), &hparams, machine, kv)
}

/// The estimate for an opened model, with int8 activations.
pub fn of_file(name: String, model: &Model, machine: &Machine) -> Estimate {
    let level = FileType::of(&model.gguf().metadata).map(FileType::name);
    let work = Work::of(model.gguf());
    estimate((name, level), model.file_bytes(), &work, model.hparams(), machine, model.options().kv)
}

fn estimate(
    (model, level): (String, Option<&'static str>),
    file_bytes: u64,
    work: &Work,
    hparams: &Hparams,
    machine: &Machine,
    kv: KvType,
) -> Estimate {
    let memory = Memory::of_shape(hparams, kv);
    let memory_bytes = memory.total_bytes(file_bytes);
    let fits = match machine.memory_bytes {
        Some(available) if memory.total_bytes(0) > available => Fits::No,
        Some(available) if memory_bytes > available => Fits::FromDisk,
        _ => Fits::Yes,
    };
    let Limits { gigabytes_per_second, int8_gigaops_per_second, f32_gigaops_per_second } = machine.limits;
    let (prompt_ops, multiplied) = if work.is_quantized {
        let weights = work.block_ops / 2.0;
        let share = PROMPT.iter().find(|(most, _)| weights <= *most).map_or(0.0, |(_, share)| *share);
        (1e9 * int8_gigaops_per_second * share, int8_gigaops_per_second * BYTES_PER_OP)
    } else {
        (1e9 * f32_gigaops_per_second * FLOAT_PROMPT, f32_gigaops_per_second * FLOAT_BYTES_PER_OP)
    };
    let read = 1.0 / (1.0 / gigabytes_per_second + 1.0 / multiplied);
    let tokens = PROMPT_TOKENS.min(hparams.n_ctx);
    let fitting = |rate: f64| (fits == Fits::Yes).then_some(rate);
    Estimate {
        model,
        level,
        file_bytes,
        context_tokens: memory.context_tokens,
        memory_bytes,
        fits,
        prompt_tokens_per_second: fitting(prompt_ops * tokens as f64 / work.prefill_ops(tokens)),
        generated_tokens_per_second: fitting(1e9 * read / work.decode_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(memory_bytes: Option<u64>) -> Machine {
        let limits =
            Limits { gigabytes_per_second: 40.0, int8_gigaops_per_second: 2000.0, f32_gigaops_per_second: 500.0 };
        Machine { memory_bytes, limits }
    }

    fn find<'a>(estimates: &'a [Estimate], model: &str, level: &str) -> &'a Estimate {
        estimates.iter().find(|e| e.model == model && e.level == Some(level)).unwrap()
    }

    #[test]
    fn every_size_at_every_level_with_the_bytes_that_the_converter_writes() {
        let all = suite(&machine(None), KvType::F16);
        assert_eq!(all.len(), 40);
        assert!(all.iter().all(|e| e.fits == Fits::Yes));
        // Sizes of files in docs/performance.md, in GB to two digits.
        for (model, level, gigabytes) in
            [("410m", "Q4_0", 0.24), ("410m", "Q8_0", 0.43), ("2.8b", "Q4_0", 1.60), ("12b", "Q4_0", 6.74)]
        {
            let bytes = find(&all, model, level).file_bytes as f64 / 1e9;
            assert!((bytes - gigabytes).abs() < 0.006, "{model} {level}: {bytes}");
        }
    }

    #[test]
    fn speeds_follow_from_limits_and_work() {
        let all = suite(&machine(None), KvType::F16);
        let e = find(&all, "1.4b", "F16");
        // Two bytes of every weight but the embedding's; biases and norms in four.
        let (matrices, vocab) = (24.0 * 12.0 * 2048.0 * 2048.0, 50304.0 * 2048.0);
        let bytes = 2.0 * (matrices + vocab) + 4.0 * (24.0 * 13.0 + 2.0) * 2048.0;
        // 40 GB/s read, 0.2 x 500 multiplied.
        let read = 1e9 / (1.0 / 40.0 + 1.0 / 100.0);
        assert!((e.generated_tokens_per_second.unwrap() - read / bytes).abs() < 1e-9);
        // Blocks of 32 in 18 bytes; the output matrix has blocks of 256 in 210. 76 GB/s multiplied.
        let bytes = 18.0 / 32.0 * matrices + 210.0 / 256.0 * vocab + 4.0 * (24.0 * 13.0 + 2.0) * 2048.0;
        let read = 1e9 / (1.0 / 40.0 + 1.0 / (2000.0 * 0.038));
        let q4_0 = find(&all, "1.4b", "Q4_0").generated_tokens_per_second.unwrap();
        assert!((q4_0 - read / bytes).abs() < 1e-9, "{q4_0}");
        let ops = 2.0 * (matrices + vocab / 512.0);
        assert!((e.prompt_tokens_per_second.unwrap() - 0.65 * 500e9 / ops).abs() < 1e-9);
        let ops = 2.0 * (6.0 * 12.0 * 512.0 * 512.0 + 50304.0 * 512.0 / 512.0);
        let small = find(&all, "70m", "Q4_0").prompt_tokens_per_second.unwrap();
        assert!((small - 0.30 * 2000e9 / ops).abs() < 1e-6, "{small}");
    }

    #[test]
    fn what_does_not_fit_has_no_speed() {
        let all = suite(&machine(Some(1_500_000_000)), KvType::F16);
        for (model, level, fits) in [
            ("1.4b", "Q4_0", Fits::Yes),
            ("1.4b", "F16", Fits::FromDisk),
            ("2.8b", "Q4_0", Fits::FromDisk),
            ("12b", "Q4_0", Fits::No),
        ] {
            let e = find(&all, model, level);
            assert_eq!((e.fits, e.generated_tokens_per_second.is_some()), (fits, fits == Fits::Yes), "{model} {level}");
        }
        // A cache of another type takes another size.
        let wide = suite(&machine(None), KvType::F32);
        assert!(find(&wide, "410m", "Q8_0").memory_bytes > find(&all, "410m", "Q8_0").memory_bytes + 190_000_000);
    }
}
