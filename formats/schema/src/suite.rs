//! The shapes of the published Pythia models.

use crate::Hparams;

/// The dimensions that tell one Pythia from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// As in `pythia-70m`.
    pub name: &'static str,
    /// Blocks.
    pub n_layer: usize,
    /// Width of the residual stream. The feed-forward network is four times as wide.
    pub n_embd: usize,
    /// Attention heads.
    pub n_head: usize,
    /// Rows of the vocabulary matrices.
    pub n_vocab: usize,
}

/// Every size, as in the published configs, smallest first.
pub const SUITE: [Size; 10] = [
    size("14m", 6, 128, 4, 50304),
    size("31m", 6, 256, 8, 50304),
    size("70m", 6, 512, 8, 50304),
    size("160m", 12, 768, 12, 50304),
    size("410m", 24, 1024, 16, 50304),
    size("1b", 16, 2048, 8, 50304),
    size("1.4b", 24, 2048, 16, 50304),
    size("2.8b", 32, 2560, 32, 50304),
    size("6.9b", 32, 4096, 32, 50432),
    size("12b", 36, 5120, 40, 50688),
];

const fn size(name: &'static str, n_layer: usize, n_embd: usize, n_head: usize, n_vocab: usize) -> Size {
    Size { name, n_layer, n_embd, n_head, n_vocab }
}

impl Size {
    /// The hyperparameters of its published models.
    pub fn hparams(&self) -> Hparams {
        let Self { n_layer, n_embd, n_head, n_vocab, .. } = *self;
        Hparams {
            n_layer,
            n_embd,
            n_head,
            n_ff: 4 * n_embd,
            n_vocab,
            n_ctx: 2048,
            n_rot: n_embd / n_head / 4,
            rope_base: 10000.0,
            rope_factor: 1.0,
            norm_eps: 1e-5,
            parallel_residual: true,
            gelu_tanh: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parameter_counts, tensors};

    /// Parameters in all and without embeddings, by the tables of the model cards. The two smallest have no such table:
    /// theirs are by the formula in the test.
    const COUNTS: [(u64, u64); 10] = [
        (14_067_712, 1_189_888),
        (30_494_720, 4_739_072),
        (70_426_624, 18_915_328),
        (162_322_944, 85_056_000),
        (405_334_016, 302_311_424),
        (1_011_781_632, 805_736_448),
        (1_414_647_808, 1_208_602_624),
        (2_775_208_960, 2_517_652_480),
        (6_857_302_016, 6_444_163_072),
        (11_846_072_320, 11_327_027_200),
    ];

    #[test]
    fn counts_are_those_of_the_model_card() {
        for (size, (total, inner)) in SUITE.iter().zip(COUNTS) {
            let h = size.hparams();
            assert_eq!(parameter_counts(&h), (total, inner), "{}", size.name);
            assert_eq!(tensors(&h).len(), 12 * h.n_layer + 4, "{}", size.name);
            // Two vocabulary matrices; per block 12 squares of the width and 13 vectors of it; the final norm.
            let (l, d, v) = (h.n_layer as u64, h.n_embd as u64, h.n_vocab as u64);
            assert_eq!(total, 2 * v * d + l * (12 * d * d + 13 * d) + 2 * d, "{}", size.name);
        }
    }
}
