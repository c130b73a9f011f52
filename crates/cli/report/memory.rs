//! What a level takes to run, computed from its file and its dimensions.

use pythia_model::{BATCH_TOKENS, ContextShape, Model};
use serde::Serialize;

/// Memory for generation with a context of [`TOKENS`](Self::TOKENS), or the model's if that is smaller. What is the
/// same for all levels is counted too: it decides whether a model fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    /// Tokens of the context.
    pub(crate) context_tokens: usize,
    /// Key-value cache, rotary table, activations of a batch and logits.
    pub(crate) context_bytes: u64,
}

impl Memory {
    /// Tokens of context that are asked for.
    const TOKENS: usize = 2048;
    /// The program itself, its libraries and the tokenizer.
    pub(crate) const PROGRAM_BYTES: u64 = 20_000_000;

    /// Of an opened model.
    pub(crate) fn of(model: &Model) -> Self {
        let context_tokens = Self::TOKENS.min(model.hparams().n_ctx);
        let shape = ContextShape { n_seq: 1, n_ctx: context_tokens, n_batch: BATCH_TOKENS.min(context_tokens) };
        let context = model.context_bytes(shape).unwrap_or(usize::MAX) as u64;
        let logits = 4 * model.hparams().n_vocab as u64;
        Self { context_tokens, context_bytes: context.saturating_add(logits) }
    }

    /// With the file's pages and the program.
    pub(crate) fn total_bytes(&self, file_bytes: u64) -> u64 {
        file_bytes.saturating_add(self.context_bytes).saturating_add(Self::PROGRAM_BYTES)
    }
}

/// For clap: a size of memory. `4G` and `4GB` are powers of ten as all sizes here, `4GiB` is a power of two.
pub(crate) fn parse_memory(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [("k", 1), ("m", 2), ("g", 3), ("t", 4)];
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = unit.trim();
    let factor = match unit {
        "" | "b" => Some(1.0),
        _ => UNITS.iter().find_map(|(letter, power)| match unit.strip_prefix(letter)? {
            "" | "b" => Some(1000f64.powi(*power as i32)),
            "i" | "ib" => Some(1024f64.powi(*power as i32)),
            _ => None,
        }),
    };
    let size = number.parse::<f64>().ok().zip(factor).map(|(number, factor)| number * factor);
    let size = size.filter(|&size| (1.0..=1e18).contains(&size));
    size.map(|size| size as u64).ok_or_else(|| format!("found '{text}', wanted a size, such as 4G, 4GiB or 512M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_memory_are_read_as_people_write_them() {
        for (text, want) in [
            ("4G", 4_000_000_000),
            ("4GB", 4_000_000_000),
            ("4gb", 4_000_000_000),
            ("4GiB", 4 << 30),
            ("4Gi", 4 << 30),
            ("1.5G", 1_500_000_000),
            ("512M", 512_000_000),
            ("512 MiB", 512 << 20),
            ("800k", 800_000),
            ("1T", 1_000_000_000_000),
            ("123", 123),
        ] {
            assert_eq!(parse_memory(text), Ok(want), "{text}");
        }
        for text in ["", "G", "0", "-4G", "4X", "4GBB", "1e3G", "4G8", "nan", "9999999T", "4.0.0G", "4\u{20ac}"] {
            assert!(parse_memory(text).unwrap_err().contains(text), "{text}");
        }
    }
}
