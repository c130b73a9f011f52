//! The scales of one group next to those that it has, and the metric in which they are compared.

use crate::cholesky::Cholesky;
use crate::input::unit_upper;
use crate::trial::{Candidates, LANES, MAX_ELEMS, Stretch};
use half::f16;
use pythia_kernels::Team;
use pythia_tensor::{BlockFormat, Scales};
use std::array::from_fn;

/// The metric of the columns of a group, all others given.
#[derive(Clone, Debug)]
pub(crate) struct GroupMetric {
    n: usize,
    h: Vec<f32>,
    inverse: Vec<f32>,
    r: Vec<f32>,
    d: Vec<f32>,
}

impl GroupMetric {
    /// The groups of `size` columns on the diagonal of `h`, `[panel, panel]`. Empty if one is not positive definite:
    /// scales then stay.
    pub(crate) fn all(h: &[f32], panel: usize, size: usize) -> Vec<Self> {
        let of = |start: usize| {
            let row = |i: usize| &h[(start + i) * panel + start..][..size];
            Self::new((0..size).flat_map(row).copied().collect(), size)
        };
        (0..panel).step_by(size).map(of).collect::<Option<_>>().unwrap_or_default()
    }

    fn new(h: Vec<f32>, n: usize) -> Option<Self> {
        let team = Team::new(1);
        let reversed: Vec<f64> = h.iter().rev().map(|&x| f64::from(x)).collect();
        let back = Cholesky::new(&team, reversed, n)?;
        let (r, d) = unit_upper(&back, n);
        // The inverse is symmetric, and so is it with rows and columns reversed.
        let mut inverse = vec![0.0; n * n];
        (0..n).for_each(|i| inverse[i * n + i] = 1.0);
        back.solve_rows(&team, &mut inverse);
        let inverse = inverse.iter().rev().map(|&x| x as f32).collect();
        Some(Self { n, h, inverse, r, d })
    }

    /// Columns.
    pub(crate) fn n(&self) -> usize {
        self.n
    }

    /// The values that would be best, were they free; `left` is the residual of the row.
    pub(crate) fn best(&self, values: &[f32], left: &[f32]) -> [f32; MAX_ELEMS] {
        let mut best = [0.0; MAX_ELEMS];
        best[..self.n].copy_from_slice(values);
        for (left, row) in left.iter().zip(self.inverse.chunks_exact(self.n)) {
            best.iter_mut().zip(row).for_each(|(best, x)| *best += left * x);
        }
        best
    }

    /// Where the loss is measured from `best`.
    pub(crate) fn stretch<'a>(&'a self, best: &'a [f32]) -> Stretch<'a> {
        Stretch { wanted: best, base: best, r: &self.r, stride: self.n, d: &self.d }
    }

    /// The loss of values.
    pub(crate) fn loss(&self, values: &[f32], best: &[f32]) -> f32 {
        let error: [f32; MAX_ELEMS] = from_fn(|i| if i < self.n { values[i] - best[i] } else { 0.0 });
        let rows = self.h.chunks_exact(self.n).zip(&error);
        rows.map(|(row, e)| e * row.iter().zip(&error).map(|(h, e)| h * e).sum::<f32>()).sum()
    }
}

/// Scales next to those of a group, and what they come to. The group's own are among them.
pub(crate) fn neighbours(format: &BlockFormat, own: &Scales, group: usize) -> (Candidates, [Scales; LANES]) {
    let scales: [Scales; LANES] = match (format.scale_range(), format.min_range()) {
        (Some(range), mins) => from_fn(|lane| {
            let mut scales = *own;
            let clamp = |x: i32| x.clamp(i32::from(*range.start()), i32::from(*range.end())) as i8;
            let scale = i32::from(own.scales[group]);
            match &mins {
                Some(mins) => {
                    let (x, y) = (lane as i32 % 4 - 2, lane as i32 / 4 - 2);
                    let min = i32::from(own.mins[group]) + y;
                    scales.scales[group] = clamp(scale + x);
                    scales.mins[group] = min.clamp(i32::from(*mins.start()), i32::from(*mins.end())) as u8;
                }
                None => scales.scales[group] = clamp(scale + lane as i32 - 8),
            }
            scales
        }),
        (None, _) if format.has_dmin() => from_fn(|lane| {
            let (x, y) = ((lane % 4) as f32 - 2.0, (lane / 4) as f32 - 2.0);
            let d = own.d.to_f32();
            let dmin = own.dmin.to_f32() + 0.05 * y * d;
            Scales { d: f16::from_f32(d * (1.0 + 0.01 * x)), dmin: f16::from_f32(dmin), ..*own }
        }),
        (None, _) => from_fn(|lane| {
            let factor = 1.0 + 0.006 * (lane as f32 - 8.0);
            Scales { d: f16::from_f32(own.d.to_f32() * factor), ..*own }
        }),
    };
    let groups = scales.map(|scales| format.group(&scales, group));
    (Candidates { step: groups.map(|group| group.step), min: groups.map(|group| group.min) }, scales)
}
