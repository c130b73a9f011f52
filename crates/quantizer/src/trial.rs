//! Rounding a stretch of a row with error feedback, for many scales side by side.

use pythia_tensor::Levels;

/// Scales that are tried at a time.
pub(crate) const LANES: usize = 16;

/// The longest stretch: the largest group of any format.
pub(crate) const MAX_ELEMS: usize = 32;

type Lanes = [f32; LANES];

/// What a stretch of a row is rounded to, and by which metric.
#[derive(Clone, Copy)]
pub(crate) struct Stretch<'a> {
    /// The values that errors are measured from.
    pub(crate) wanted: &'a [f32],
    /// The values to round: `wanted`, less what earlier columns of the row ask for.
    pub(crate) base: &'a [f32],
    /// Row k of R begins at `k * stride`, with its first element that of the stretch's first column.
    pub(crate) r: &'a [f32],
    /// Distance between rows of R.
    pub(crate) stride: usize,
    /// D of the columns.
    pub(crate) d: &'a [f32],
}

/// Steps and minima that are tried: a value is `step * level - min`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidates {
    pub(crate) step: Lanes,
    pub(crate) min: Lanes,
}

/// The outcome of a trial, reused from one to the next.
pub(crate) struct Trial {
    /// Losses of the candidates.
    pub(crate) loss: Lanes,
    /// Levels, column by column.
    levels: [Lanes; MAX_ELEMS],
    /// Errors against what is wanted, column by column.
    errors: [Lanes; MAX_ELEMS],
}

impl Default for Trial {
    fn default() -> Self {
        Self { loss: [0.0; LANES], levels: [[0.0; LANES]; MAX_ELEMS], errors: [[0.0; LANES]; MAX_ELEMS] }
    }
}

/// 1.5 * 2^23: a sum with it is rounded to an integer, ties to even.
const MAGIC: f32 = 12_582_912.0;

impl Trial {
    /// Rounds the stretch column by column for every candidate. Each column rounds to the level nearest to its target,
    /// which makes up for the errors before it.
    pub(crate) fn run(&mut self, levels: Levels, candidates: &Candidates, stretch: Stretch<'_>) {
        match levels {
            Levels::Integers { first, n } => {
                let (first, last) = (f32::from(first), f32::from(first) + f32::from(n) - 1.0);
                self.run_with(candidates, stretch, |x| {
                    // Comparisons keep NaN out: it becomes the first level.
                    let x = if x > first { x } else { first };
                    let x = if x < last { x } else { last };
                    (x + MAGIC) - MAGIC
                });
            }
            Levels::Listed(list) => self.run_with(candidates, stretch, |x| {
                let mut level = f32::from(list[0]);
                for pair in list.windows(2) {
                    let middle = (f32::from(pair[0]) + f32::from(pair[1])) / 2.0;
                    let next = f32::from(pair[1]);
                    level = if x < middle { level } else { next };
                }
                level
            }),
        }
    }

    #[inline(always)]
    fn run_with(&mut self, candidates: &Candidates, stretch: Stretch<'_>, nearest: impl Fn(f32) -> f32) {
        let Stretch { wanted, base, r, stride, d } = stretch;
        let n = wanted.len();
        assert!(n <= MAX_ELEMS && base.len() == n && d.len() == n, "a stretch of one group");
        let Candidates { step, min } = candidates;
        let inverse: Lanes = step.map(|step| if step == 0.0 { 0.0 } else { 1.0 / step });
        let mut carried = [[0.0; LANES]; MAX_ELEMS];
        self.loss = [0.0; LANES];
        for k in 0..n {
            let (level, error) = (&mut self.levels[k], &mut self.errors[k]);
            for lane in 0..LANES {
                let target = base[k] - carried[k][lane];
                level[lane] = nearest((target + min[lane]) * inverse[lane]);
                let value = step[lane] * level[lane] - min[lane];
                error[lane] = value - wanted[k];
                let missed = value - target;
                self.loss[lane] += d[k] * missed * missed;
            }
            let error = *error;
            let row = &r[k * stride..][..n];
            for m in k + 1..n {
                let factor = row[m];
                let carried = &mut carried[m];
                for lane in 0..LANES {
                    carried[lane] += error[lane] * factor;
                }
            }
        }
    }

    /// The candidate with the smallest loss, the first of equals. NaN, which scales that overflow lead to, is the
    /// largest.
    pub(crate) fn best(&self) -> usize {
        let mut best = 0;
        for lane in 1..LANES {
            if self.loss[lane] < self.loss[best] || self.loss[best].is_nan() {
                best = lane;
            }
        }
        best
    }

    /// Levels of a candidate.
    pub(crate) fn levels(&self, lane: usize) -> impl Iterator<Item = f32> {
        self.levels.iter().map(move |lanes| lanes[lane])
    }

    /// Errors of a candidate.
    pub(crate) fn errors(&self, lane: usize) -> impl Iterator<Item = f32> {
        self.errors.iter().map(move |lanes| lanes[lane])
    }
}
