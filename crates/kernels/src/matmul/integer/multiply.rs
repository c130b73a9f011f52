//! Panels times all rows of `x`, in tiles that registers hold.
//!
//! A format only matters by its bits, scales and minima here, so formats that agree in them share this code.

use super::many::{Ahead, Panel, Part};
use super::{Corrections, Job, LANES, Lanes, STEPS, groups_per_unit};
use crate::dot::UNIT;
use crate::isa::{Isa, Kernel};
use crate::matmul::for_size;

/// One or two panels times all rows of `x`. The constants are those of [`Format`](crate::dot::Format).
pub(super) struct Multiply<'a, const SPLIT: bool, const AFFINE: bool, const BITS: u32> {
    pub(super) job: &'a Job<'a>,
    pub(super) corrections: &'a Corrections,
    pub(super) panels: &'a [Panel],
    /// What the panels hold.
    pub(super) part: Part,
    /// Sums of parts of the columns, of all tiles: `[tile][panels][rows of the tile]`.
    pub(super) sums: &'a mut Vec<Lanes>,
    pub(super) ahead: &'a mut Ahead,
}

impl<const SPLIT: bool, const AFFINE: bool, const BITS: u32> Kernel for Multiply<'_, SPLIT, AFFINE, BITS> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match self.panels {
            [a, b] if I::TUNING.integer_tile.w == 2 => self.tiles(isa, [a, b]),
            [a] => self.tiles(isa, [a]),
            _ => unreachable!("as many panels as a tile has"),
        }
    }
}

impl<const SPLIT: bool, const AFFINE: bool, const BITS: u32> Multiply<'_, SPLIT, AFFINE, BITS> {
    const GROUPS_PER_UNIT: usize = groups_per_unit(SPLIT);

    #[inline(always)]
    fn tiles<I: Isa, const P: usize>(mut self, isa: I, panels: [&Panel; P]) {
        self.sums.resize(if self.part.is_whole() { 0 } else { P * self.job.x.len() }, Lanes::default());
        for &(first, size) in &self.corrections.tiles {
            for_size!(size, I::TUNING.integer_tile.x, M => self.tile::<I, P, M>(isa, panels, first));
        }
    }

    /// `M` rows of `x` from `first` on times `P` panels, from where `sums` are. The loop order is the numeric contract:
    /// groups ascending.
    #[inline(always)]
    fn tile<I: Isa, const P: usize, const M: usize>(&mut self, isa: I, panels: [&Panel; P], first: usize) {
        const { assert!(BITS <= 8) }
        let Self { job, corrections: c, part, .. } = *self;
        let units = job.x.cols / UNIT;
        let groups = units * Self::GROUPS_PER_UNIT;
        let steps_per_group = STEPS / Self::GROUPS_PER_UNIT;
        let codes = c.codes[first * units * STEPS..][..M * units * STEPS].as_chunks::<M>().0;
        let scales = c.scales[first * units..][..M * units].as_chunks::<M>().0;
        let starts = c.starts[first * groups..][..M * groups].as_chunks::<M>().0;
        let sums = c.sums[first * groups..][..M * groups].as_chunks::<M>().0;
        let in_panel = part.end - part.first;
        for panel in panels {
            assert!(panel.codes.len() == in_panel * steps_per_group);
            assert!(panel.scales.len() == in_panel && panel.mins.len() == in_panel);
        }
        assert!(part.end <= groups);
        assert!(codes.len() == units * STEPS && scales.len() == units);
        assert!(starts.len() == groups && sums.len() == groups);

        let waiting = if part.is_whole() { &mut [][..] } else { &mut self.sums[P * first..][..P * M] };
        let mut ahead = *self.ahead;
        let mut acc = [[isa.splat(0.0); M]; P];
        if part.first > 0 {
            for (at, sums) in waiting.iter().enumerate() {
                // SAFETY: 16 floats.
                acc[at / M][at % M] = unsafe { isa.load(sums.0.as_ptr()) };
            }
        }
        for g in part.first..part.end {
            let of_panel = g - part.first;
            ahead.step(isa);
            let mut dot = [[isa.splat_int(0); M]; P];
            for p in 0..P {
                for m in 0..M {
                    dot[p][m] = isa.splat_int(starts[g][m]);
                }
            }
            let steps = g * steps_per_group..(g + 1) * steps_per_group;
            let mut w = [std::ptr::null(); P];
            for p in 0..P {
                w[p] = panels[p].codes[of_panel * steps_per_group..].as_ptr().cast();
            }
            let codes = &codes[steps];
            // SAFETY: every panel has as many steps of 64 bytes as there are codes.
            dot = unsafe { isa.dot_steps(dot, w, codes, BITS) };
            let scale = scales[g / Self::GROUPS_PER_UNIT];
            for p in 0..P {
                // SAFETY: 16 floats.
                let w = unsafe { isa.load(panels[p].scales[of_panel].0.as_ptr()) };
                for m in 0..M {
                    acc[p][m] = isa.fma(isa.to_float(dot[p][m]), isa.mul(w, isa.splat(scale[m])), acc[p][m]);
                }
                if AFFINE {
                    // SAFETY: 16 floats.
                    let min = unsafe { isa.load(panels[p].mins[of_panel].0.as_ptr()) };
                    for m in 0..M {
                        acc[p][m] = isa.fma(min, isa.splat(sums[g][m]), acc[p][m]);
                    }
                }
            }
        }
        *self.ahead = ahead;
        if !part.is_last {
            for (at, sums) in waiting.iter_mut().enumerate() {
                // SAFETY: 16 floats.
                unsafe { isa.store(sums.0.as_mut_ptr(), acc[at / M][at % M]) };
            }
            return;
        }
        for p in 0..P {
            // SAFETY: this task alone works on these columns.
            unsafe { job.out.finish(isa, first, part.column + p * LANES, acc[p]) };
        }
    }
}
