//! The scales and codes of one block of a row, chosen by the loss that error feedback has with them.
//!
//! The search starts from the scales of the format's own weighted search. It tries steps around them for every group,
//! with the errors of earlier groups carried on, then the scales of the block that these steps can be multiples of, and
//! for each of them the multiples next to every step.

use crate::trial::{Candidates, LANES, Stretch, Trial};
use half::f16;
use pythia_tensor::{BlockFormat, Levels, Scales};
use std::array::from_fn;

/// The largest block of any format.
pub(crate) const MAX_BLOCK: usize = 256;

/// One block of a row, and the metric of its columns.
#[derive(Clone, Copy)]
pub(crate) struct BlockProblem<'a> {
    /// The values that errors are measured from.
    pub(crate) wanted: &'a [f32],
    /// The values to round: `wanted`, less what earlier blocks of the row ask for.
    pub(crate) base: &'a [f32],
    /// The block of R on the diagonal, `[elems, elems]`.
    pub(crate) r: &'a [f32],
    /// D of the columns.
    pub(crate) d: &'a [f32],
    /// Mean squared inputs of the columns.
    pub(crate) importance: &'a [f32],
}

/// What a block is rounded to.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) scales: Scales,
    pub(crate) loss: f32,
    pub(crate) codes: [u8; MAX_BLOCK],
}

/// Rounds blocks of one format. Holds what is reused from one to the next.
pub(crate) struct Search<'f> {
    format: &'f BlockFormat,
    trial: Trial,
    base: [f32; MAX_BLOCK],
}

/// Factors of the step of the format's own search that are tried first.
const WIDE: Lattice = Lattice { first: 0.78, step: 0.025 };
/// Factors around the best of them.
const FINE: Lattice = Lattice { first: 0.982, step: 0.0024 };

/// Evenly spaced factors, one per lane.
#[derive(Clone, Copy)]
struct Lattice {
    first: f32,
    step: f32,
}

impl Lattice {
    fn times(self, x: f32) -> [f32; LANES] {
        from_fn(|lane| x * (self.first + self.step * lane as f32))
    }
}

/// Offsets of a lane in a square of four by four.
fn square(lane: usize) -> (f32, f32) {
    ((lane % 4) as f32 - 1.0, (lane / 4) as f32 - 1.0)
}

impl<'f> Search<'f> {
    pub(crate) fn new(format: &'f BlockFormat) -> Self {
        Self { format, trial: Trial::default(), base: [0.0; MAX_BLOCK] }
    }

    /// Rounds a block. The result does not depend on earlier calls.
    pub(crate) fn run(&mut self, problem: BlockProblem<'_>) -> Found {
        // Weighted with the inputs themselves: the format's search adds its own share of the weights' magnitudes.
        let fit = self.format.fit(problem.base, Some(problem.importance))[0];
        if self.format.run_elems() > 1 {
            self.codebook(problem, fit)
        } else if self.format.scale_range().is_none() {
            self.single(problem, fit)
        } else {
            self.super_block(problem, fit)
        }
    }

    /// Tries candidates on a group.
    fn try_group(&mut self, problem: BlockProblem<'_>, group: usize, candidates: &Candidates) -> usize {
        let (size, stride) = (self.format.group_elems(), problem.wanted.len());
        let elems = group * size..(group + 1) * size;
        let stretch = Stretch {
            wanted: &problem.wanted[elems.clone()],
            base: &self.base[elems.clone()],
            r: &problem.r[elems.start * stride + elems.start..],
            stride,
            d: &problem.d[elems],
        };
        self.trial.run(self.format.levels(), candidates, stretch);
        self.trial.best()
    }

    /// Carries the errors of a candidate on to the later groups of the block.
    fn carry(&mut self, problem: BlockProblem<'_>, group: usize, lane: usize) {
        let (size, n) = (self.format.group_elems(), problem.wanted.len());
        let (start, end) = (group * size, (group + 1) * size);
        for (j, error) in (start..end).zip(self.trial.errors(lane)) {
            let row = &problem.r[j * n..][end..n];
            self.base[end..n].iter_mut().zip(row).for_each(|(base, r)| *base -= error * r);
        }
    }

    /// Codes of a candidate into `codes`.
    fn codes(&self, lane: usize, codes: &mut [u8]) {
        let levels = self.format.levels();
        for (code, level) in codes.iter_mut().zip(self.trial.levels(lane)) {
            *code = code_of(levels, level);
        }
    }

    /// A format with one scale, and perhaps one minimum, per block.
    fn single(&mut self, problem: BlockProblem<'_>, fit: Scales) -> Found {
        let n = problem.base.len();
        self.base[..n].copy_from_slice(problem.base);
        let mut best = Best::none();
        let stored = |x: f32| f16::from_f32(x).to_f32();
        if self.format.has_dmin() {
            // The ends of the range move apart or together, each by itself.
            let top = (self.format.levels().n_codes() - 1) as f32;
            let start = self.format.group(&fit, 0);
            let (mut low, mut high) = (-start.min, top * start.step - start.min);
            for by in [0.06, 0.02, 0.007] {
                let candidates = from_fn(|lane| {
                    let (x, y) = square(lane);
                    let width = high - low;
                    let (low, high) = (low + (x - 0.5) * by * width, high + (y - 0.5) * by * width);
                    (stored((high - low) / top), stored(-low))
                });
                self.consider(problem, candidates, &mut best);
                (low, high) = (-best.min, top * best.step - best.min);
            }
        } else {
            let d = self.format.group(&fit, 0).step;
            for sign in [1.0, -1.0] {
                self.consider(problem, WIDE.times(sign * d).map(|step| (stored(step), 0.0)), &mut best);
            }
            self.consider(problem, FINE.times(best.step).map(|step| (stored(step), 0.0)), &mut best);
        }
        // In Q4_1 and Q5_1 the minimum is added.
        let (d, dmin) = (f16::from_f32(best.step), f16::from_f32(-best.min));
        let dmin = if self.format.has_dmin() { dmin } else { f16::ZERO };
        Found { scales: Scales { d, dmin, ..Scales::default() }, loss: best.loss, codes: best.codes }
    }

    fn consider(&mut self, problem: BlockProblem<'_>, candidates: [(f32, f32); LANES], best: &mut Best) {
        let candidates = Candidates { step: candidates.map(|c| c.0), min: candidates.map(|c| c.1) };
        let lane = self.try_group(problem, 0, &candidates);
        let loss = self.trial.loss[lane];
        if loss < best.loss {
            (best.loss, best.step, best.min) = (loss, candidates.step[lane], candidates.min[lane]);
            self.codes(lane, &mut best.codes[..problem.base.len()]);
        }
    }

    /// A format whose groups have multiples of the block's scales.
    fn super_block(&mut self, problem: BlockProblem<'_>, fit: Scales) -> Found {
        let n_groups = self.format.n_groups();
        let (steps, mins) = self.free_steps(problem, &fit);
        let (steps, mins) = (&steps[..n_groups], &mins[..n_groups]);
        let range = self.format.scale_range().expect("a super-block has group scales");
        let mut best: Option<Found> = None;
        let mut offer = |found: Found| {
            if best.as_ref().is_none_or(|best| found.loss < best.loss || best.loss.is_nan()) {
                best = Some(found);
            }
        };
        if let Some(mins_range) = self.format.min_range() {
            let (top, top_min) = (f32::from(*range.end()), f32::from(*mins_range.end()));
            let largest = |x: &[f32]| x.iter().fold(0.0f32, |max, &x| max.max(x));
            let (max, max_min) = (largest(steps), largest(mins));
            for (a, b) in AFFINE_TRIES {
                let d = f16::from_f32(max / (top * (1.0 + a)));
                let dmin = f16::from_f32(max_min / (top_min * (1.0 + b)));
                offer(self.with_scales(problem, d, dmin, steps, mins));
            }
            offer(self.with_scales(problem, fit.d, fit.dmin, steps, mins));
        } else {
            let (low, high) = (f32::from(*range.start()), f32::from(*range.end()));
            let extreme = steps.iter().fold(0.0f32, |max, &x| if x.abs() > max.abs() { x } else { max });
            for by in SYMMETRIC_TRIES {
                for end in [low, high] {
                    let d = f16::from_f32(extreme / (end * (1.0 + by)));
                    offer(self.with_scales(problem, d, f16::ZERO, steps, mins));
                }
            }
            offer(self.with_scales(problem, fit.d, f16::ZERO, steps, mins));
        }
        best.expect("at least one try")
    }

    /// The best step and minimum of every group, were they stored as they are.
    fn free_steps(&mut self, problem: BlockProblem<'_>, fit: &Scales) -> ([f32; 16], [f32; 16]) {
        self.base[..problem.base.len()].copy_from_slice(problem.base);
        let (mut steps, mut mins) = ([0.0; 16], [0.0; 16]);
        let affine = self.format.min_range().is_some();
        for g in 0..self.format.n_groups() {
            let start = self.format.group(fit, g);
            let mut best = Best::none();
            let wide = WIDE.times(1.0).map(|factor| (factor * start.step, factor * start.min));
            self.consider_group(problem, g, wide, &mut best);
            if affine {
                for by in [0.06, 0.02] {
                    let around = from_fn(|lane| {
                        let (x, y) = square(lane);
                        let top = (self.format.levels().n_codes() - 1) as f32;
                        let step = best.step * (1.0 + (x - 0.5) * by);
                        let min = best.min + (y - 0.5) * by * top * best.step;
                        (step, min.max(0.0))
                    });
                    self.consider_group(problem, g, around, &mut best);
                }
            } else {
                // There may be more levels on one side of zero than on the other.
                self.consider_group(problem, g, WIDE.times(-start.step).map(|step| (step, 0.0)), &mut best);
                self.consider_group(problem, g, FINE.times(best.step).map(|step| (step, 0.0)), &mut best);
            }
            (steps[g], mins[g]) = (best.step, best.min);
            // Runs the best once more, for its errors.
            let again = Candidates { step: [best.step; LANES], min: [best.min; LANES] };
            self.try_group(problem, g, &again);
            self.carry(problem, g, 0);
        }
        (steps, mins)
    }

    fn consider_group(
        &mut self,
        problem: BlockProblem<'_>,
        group: usize,
        candidates: [(f32, f32); LANES],
        best: &mut Best,
    ) {
        let candidates = Candidates { step: candidates.map(|c| c.0), min: candidates.map(|c| c.1) };
        let lane = self.try_group(problem, group, &candidates);
        if self.trial.loss[lane] < best.loss {
            best.loss = self.trial.loss[lane];
            (best.step, best.min) = (candidates.step[lane], candidates.min[lane]);
        }
    }

    /// Rounds the block with these scales: every group takes the best of the multiples next to its step and minimum.
    fn with_scales(&mut self, problem: BlockProblem<'_>, d: f16, dmin: f16, steps: &[f32], mins: &[f32]) -> Found {
        self.base[..problem.base.len()].copy_from_slice(problem.base);
        let mut found = Found { scales: Scales { d, dmin, ..Scales::default() }, loss: 0.0, codes: [0; MAX_BLOCK] };
        let size = self.format.group_elems();
        for g in 0..self.format.n_groups() {
            let multiples = self.multiples(&found.scales, steps[g], mins[g]);
            let groups = multiples.map(|(scale, min)| {
                let mut scales = Scales { d, dmin, ..Scales::default() };
                (scales.scales[0], scales.mins[0]) = (scale, min);
                self.format.group(&scales, 0)
            });
            let candidates = Candidates { step: groups.map(|group| group.step), min: groups.map(|group| group.min) };
            let lane = self.try_group(problem, g, &candidates);
            found.loss += self.trial.loss[lane];
            (found.scales.scales[g], found.scales.mins[g]) = multiples[lane];
            self.codes(lane, &mut found.codes[g * size..][..size]);
            self.carry(problem, g, lane);
        }
        found
    }

    /// The multiples that are tried for a group that wants this step and minimum.
    fn multiples(&self, scales: &Scales, step: f32, min: f32) -> [(i8, u8); LANES] {
        let range = self.format.scale_range().expect("a super-block has group scales");
        let (low, high) = (f32::from(*range.start()), f32::from(*range.end()));
        let ratio = |x: f32, d: f16| if d == f16::ZERO { 0.0 } else { (x / d.to_f32()).floor() };
        let scale = ratio(step, scales.d);
        match self.format.min_range() {
            Some(mins) => {
                let (least, most) = (f32::from(*mins.start()), f32::from(*mins.end()));
                let lowest = ratio(min, scales.dmin);
                from_fn(|lane| {
                    let (x, y) = square(lane);
                    ((scale + x).clamp(low, high) as i8, (lowest + y).clamp(least, most) as u8)
                })
            }
            None => from_fn(|lane| ((scale + lane as f32 - 7.0).clamp(low, high) as i8, 0)),
        }
    }

    /// A format that stores entries of a list. Its own search finds the scales, for the values that are left to round.
    fn codebook(&mut self, problem: BlockProblem<'_>, fit: Scales) -> Found {
        let n = problem.base.len();
        self.base[..n].copy_from_slice(problem.base);
        let grid = self.format.grid(&fit);
        let run = grid.run_elems();
        let mut found = Found { scales: fit, loss: 0.0, codes: [0; MAX_BLOCK] };
        for start in (0..n).step_by(run) {
            let end = start + run;
            let codes = &mut found.codes[start..end];
            // Within a run the coupling of its columns is left out of the choice, not of the errors.
            grid.round(start, &self.base[start..end], Some(&problem.d[start..end]), codes);
            for j in start..end {
                let value = grid.value(j, found.codes[j]);
                let (error, missed) = (value - problem.wanted[j], value - self.base[j]);
                found.loss += problem.d[j] * missed * missed;
                let row = &problem.r[j * n..][j + 1..n];
                self.base[j + 1..n].iter_mut().zip(row).for_each(|(base, r)| *base -= error * r);
            }
        }
        found
    }
}

/// By how much the largest step, and the largest minimum, may exceed what the block's scale can give.
const AFFINE_TRIES: [(f32, f32); 10] = [
    (0.0, 0.0),
    (-0.03, 0.0),
    (0.0, -0.03),
    (-0.03, -0.03),
    (0.03, 0.0),
    (0.0, 0.03),
    (-0.07, 0.0),
    (0.0, -0.07),
    (-0.07, -0.07),
    (-0.12, -0.12),
];

/// The same where there is no minimum.
const SYMMETRIC_TRIES: [f32; 5] = [0.0, -0.03, -0.06, -0.1, 0.04];

struct Best {
    loss: f32,
    step: f32,
    min: f32,
    codes: [u8; MAX_BLOCK],
}

impl Best {
    fn none() -> Self {
        Self { loss: f32::INFINITY, step: 0.0, min: 0.0, codes: [0; MAX_BLOCK] }
    }
}

/// The code of a level.
pub(crate) fn code_of(levels: Levels, level: f32) -> u8 {
    match levels {
        Levels::Integers { first, .. } => (level - f32::from(first)) as u8,
        Levels::Listed(_) => levels.nearest(level),
    }
}
