//! Quantization in two phases, for callers that choose scales or codes themselves.
//!
//! A quantizer that rounds elements together does three steps. [`BlockFormat::fit`] gives the scales of the reference's
//! encoder, which may be changed. [`BlockGrid`] says which value every code then stands for, and rounds onto these
//! values, a whole block or one column after the other. [`BlockFormat::pack`] stores scales and codes.
//!
//! [`TensorType::encode`](crate::TensorType::encode) does both phases as the reference does. Inside, the encoders of the
//! K-quants, the IQ4 formats, Q4_0, Q4_1, Q5_0 and Q5_1 first choose all scales of a block and then round. Those of IQ2
//! and IQ3 search for scales and codes together. Q8_0 has no search. The encoders round as the reference rounds, partly
//! onto scales before these are stored; [`BlockGrid::round`] rounds to the nearest value on the stored grid.

#[cfg(test)]
mod tests;

use crate::blocks::{Codec, Quantized, cast, cast_mut};
use crate::scales::{Group, Levels, MAX_GROUPS, Scales};
use half::f16;
use std::ops::RangeInclusive;

/// A quantized format: blocks of scales and codes. See [`TensorType::block_format`](crate::TensorType::block_format).
///
/// ```
/// use pythia_tensor::TensorType;
///
/// let format = TensorType::Q4_K.block_format().unwrap();
/// let row: Vec<f32> = (0..256).map(|i| (i as f32 - 99.5) / 64.0).collect();
/// let mut scales = format.fit(&row, None);
/// // Any change of scales and codes is possible here.
/// scales[0].mins[3] += 1;
/// let grid = format.grid(&scales[0]);
/// let codes: Vec<u8> = row.iter().enumerate().map(|(j, &x)| grid.nearest(j, x)).collect();
///
/// let mut block = vec![0; 144];
/// format.pack(&scales, &codes, &mut block);
/// let mut back = vec![0.0; 256];
/// TensorType::Q4_K.decode(&block, &mut back);
/// assert_eq!(back[100], grid.value(100, codes[100]));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BlockFormat {
    block_elems: usize,
    group_elems: usize,
    levels: Levels,
    scales: Option<(i8, i8)>,
    mins: Option<(u8, u8)>,
    has_dmin: bool,
    codebook: Option<Codebook>,
    group: fn(&Scales, usize) -> Group,
    pack: fn(&[Scales], &[u8], &mut [u8]),
    unpack: fn(&[u8], &mut [u8]) -> Vec<Scales>,
    fit: fn(&[f32], Option<&[f32]>) -> Vec<Scales>,
}

/// The combinations of magnitudes that a format can store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codebook {
    /// Elements of an entry: 4 or 8.
    pub(crate) entry_elems: usize,
    /// One entry after the other: for every element a number, from 0 for the smallest magnitude on.
    pub(crate) entries: &'static [u8],
    /// Whether the number of negative elements among eight must be even.
    pub(crate) even_signs: bool,
}

impl BlockFormat {
    pub(crate) const fn of<B: Quantized + Codec>() -> Self {
        Self {
            block_elems: B::ELEMS,
            group_elems: B::GROUP_ELEMS,
            levels: B::LEVELS,
            scales: B::SCALES,
            mins: B::MINS,
            has_dmin: B::HAS_DMIN,
            codebook: B::CODEBOOK,
            group: B::group,
            pack: pack::<B>,
            unpack: unpack::<B>,
            fit: fit::<B>,
        }
    }

    /// Elements of a block.
    pub fn block_elems(&self) -> usize {
        self.block_elems
    }

    /// Elements of a group, which share a step and a minimum.
    pub fn group_elems(&self) -> usize {
        self.group_elems
    }

    /// Groups of a block: 1 in formats without group scales.
    pub fn n_groups(&self) -> usize {
        self.block_elems / self.group_elems
    }

    /// What codes stand for.
    pub fn levels(&self) -> Levels {
        self.levels
    }

    /// The values that [`Scales::scales`] can have. `None` if the format has no group scales.
    pub fn scale_range(&self) -> Option<RangeInclusive<i8>> {
        self.scales.map(|(first, last)| first..=last)
    }

    /// The values that [`Scales::mins`] can have. `None` if the format has no group minima.
    pub fn min_range(&self) -> Option<RangeInclusive<u8>> {
        self.mins.map(|(first, last)| first..=last)
    }

    /// Whether the format has [`Scales::dmin`].
    pub fn has_dmin(&self) -> bool {
        self.has_dmin
    }

    /// The scales that the reference's encoder stores, one [`Scales`] per block: encodes `src` and keeps the scales.
    /// `importance` is the mean squared activation of every column, and `src` is then whole rows.
    ///
    /// The weight of an element depends on its importance and, in Q4_0, Q4_1, Q5_0 and Q5_1, on the mean square of its
    /// row. To fit some columns of such a matrix alone gives other scales than to fit its rows. In the other formats a
    /// block's scales depend only on the block and its importances.
    ///
    /// # Panics
    /// If `src` is not whole blocks, or not whole rows of `importance.len()` elements.
    pub fn fit(&self, src: &[f32], importance: Option<&[f32]>) -> Vec<Scales> {
        (self.fit)(src, importance)
    }

    /// Elements that must be rounded together: 1, or the 4 or 8 of a run in a format with a codebook. A block is whole
    /// runs.
    pub fn run_elems(&self) -> usize {
        match self.codebook {
            None => 1,
            // Eight signs that depend on each other.
            Some(Codebook { even_signs: true, .. }) => 8,
            Some(codebook) => codebook.entry_elems,
        }
    }

    /// Step and minimum of group `g` of a block of these scales.
    pub fn group(&self, scales: &Scales, g: usize) -> Group {
        (self.group)(scales, g)
    }

    /// The values that a block of these scales can hold.
    pub fn grid(&self, scales: &Scales) -> BlockGrid {
        let mut groups = [Group::default(); MAX_GROUPS];
        for (g, group) in groups[..self.n_groups()].iter_mut().enumerate() {
            *group = self.group(scales, g);
        }
        BlockGrid {
            groups,
            group_elems: self.group_elems,
            run_elems: self.run_elems(),
            levels: self.levels,
            codebook: self.codebook,
        }
    }

    /// Stores blocks: one of `scales` and `block_elems` of `codes` for each.
    ///
    /// # Panics
    /// If the lengths do not match, a scale, minimum or code is out of range, a field that the format does not have is
    /// not zero, or the codes of a run are no entry of the format's codebook.
    pub fn pack(&self, scales: &[Scales], codes: &[u8], dst: &mut [u8]) {
        scales.iter().for_each(|scales| self.check(scales));
        let n_codes = self.levels.n_codes();
        assert!(codes.iter().all(|&code| usize::from(code) < n_codes), "codes are below {n_codes}");
        (self.pack)(scales, codes, dst);
    }

    /// Panics if the format cannot store the scales of a block.
    fn check(&self, scales: &Scales) {
        let ((low, high), (least, most)) = (self.scales.unwrap_or_default(), self.mins.unwrap_or_default());
        let (used, unused) = scales.scales.split_at(self.n_groups());
        assert!(used.iter().all(|scale| (low..=high).contains(scale)), "group scales are from {low} to {high}");
        let (used_mins, unused_mins) = scales.mins.split_at(self.n_groups());
        assert!(used_mins.iter().all(|min| (least..=most).contains(min)), "group minima are from {least} to {most}");
        let rest = unused.iter().all(|&scale| scale == 0) && unused_mins.iter().all(|&min| min == 0);
        assert!(rest, "a block has {} groups", self.n_groups());
        assert!(self.has_dmin || scales.dmin == f16::ZERO, "the format has no dmin");
    }

    /// The scales of the blocks in `src`, and their codes into `codes`: the inverse of [`pack`](Self::pack).
    ///
    /// # Panics
    /// If `src` is not whole blocks or `codes` not one per element.
    pub fn unpack(&self, src: &[u8], codes: &mut [u8]) -> Vec<Scales> {
        (self.unpack)(src, codes)
    }
}

fn pack<B: Quantized>(scales: &[Scales], codes: &[u8], dst: &mut [u8]) {
    let dst = cast_mut::<B>(dst);
    assert_eq!((scales.len(), codes.len()), (dst.len(), dst.len() * B::ELEMS), "scales and codes do not match blocks");
    for ((block, scales), codes) in dst.iter_mut().zip(scales).zip(codes.chunks_exact(B::ELEMS)) {
        *block = B::pack(scales, codes);
    }
}

fn unpack<B: Quantized>(src: &[u8], codes: &mut [u8]) -> Vec<Scales> {
    let src = cast::<B>(src);
    assert_eq!(codes.len(), src.len() * B::ELEMS, "elements do not match blocks");
    src.iter().zip(codes.chunks_exact_mut(B::ELEMS)).map(|(block, codes)| block.unpack(codes)).collect()
}

/// Encodes and keeps the scales. Rounding takes little time next to the search for scales.
fn fit<B: Quantized + Codec>(src: &[f32], importance: Option<&[f32]>) -> Vec<Scales> {
    let n_blocks = src.len() / B::ELEMS;
    let cols = importance.map_or(B::ELEMS, <[f32]>::len);
    assert!(src.len().is_multiple_of(B::ELEMS) && src.len().is_multiple_of(cols.max(1)), "whole blocks and rows");
    let mut bytes = vec![0; n_blocks * size_of::<B>()];
    B::encode(src, importance, cast_mut(&mut bytes));
    let mut codes = vec![0; src.len()];
    unpack::<B>(&bytes, &mut codes)
}

/// The values that a block can hold once its scales are chosen.
#[derive(Clone, Debug)]
pub struct BlockGrid {
    groups: [Group; MAX_GROUPS],
    group_elems: usize,
    run_elems: usize,
    levels: Levels,
    codebook: Option<Codebook>,
}

impl BlockGrid {
    /// Step and minimum of element `j`.
    pub fn group(&self, j: usize) -> Group {
        self.groups[j / self.group_elems]
    }

    /// The value that a code stands for in element `j`: what decoding gives, bit for bit.
    pub fn value(&self, j: usize, code: u8) -> f32 {
        let Group { step, min } = self.group(j);
        step * self.levels.level(code) - min
    }

    /// The code whose value in element `j` is nearest to `x`. If the step is 0, all values are the same, and it is the
    /// code of the level nearest to 0.
    ///
    /// In a format with a codebook not every combination of codes can be stored: see [`round`](Self::round).
    pub fn nearest(&self, j: usize, x: f32) -> u8 {
        let Group { step, min } = self.group(j);
        self.levels.nearest(if step == 0.0 { 0.0 } else { (x + min) / step })
    }

    /// Elements that must be rounded together: see [`BlockFormat::run_elems`].
    pub fn run_elems(&self) -> usize {
        self.run_elems
    }

    /// Rounds whole runs from element `first` on to the nearest values on the stored grid. Of the codes that can be
    /// stored, these have the smallest sum of squared errors; with `weights`, each squared error counts that often.
    ///
    /// # Panics
    /// If the lengths differ, or `values` is not whole runs of this block.
    pub fn round(&self, first: usize, values: &[f32], weights: Option<&[f32]>, codes: &mut [u8]) {
        let run = self.run_elems();
        assert!(first.is_multiple_of(run) && values.len().is_multiple_of(run), "whole runs");
        assert!(values.len() == codes.len() && weights.is_none_or(|weights| weights.len() == codes.len()), "lengths");
        match &self.codebook {
            None => {
                for (i, (code, &x)) in codes.iter_mut().zip(values).enumerate() {
                    *code = self.nearest(first + i, x);
                }
            }
            Some(codebook) => {
                for (n, codes) in codes.chunks_exact_mut(run).enumerate() {
                    let elems = n * run..(n + 1) * run;
                    let step = self.group(first + elems.start).step;
                    let weights = weights.map(|weights| &weights[elems.clone()]);
                    codebook.round(self.levels, step, &values[elems], weights, codes);
                }
            }
        }
    }
}

/// The best entry for some elements.
#[derive(Clone, Copy)]
struct Choice {
    entry: usize,
    error: f32,
    /// The element whose sign is not that of its value, if any.
    flipped: Option<usize>,
}

impl Codebook {
    /// Rounds a run by trying all entries.
    fn round(&self, levels: Levels, step: f32, values: &[f32], weights: Option<&[f32]>, codes: &mut [u8]) {
        let n = self.entry_elems;
        let minus = |i: usize| (values[i] < 0.0) != (step < 0.0);
        let odd = self.even_signs && (0..values.len()).filter(|&i| minus(i)).count() % 2 == 1;
        let weight = |i: usize| weights.map_or(1.0, |weights| weights[i]);
        let mut plain = [Choice { entry: 0, error: f32::INFINITY, flipped: None }; 2];
        let mut flipped = plain;
        for part in 0..values.len() / n {
            for (entry, numbers) in self.entries.chunks_exact(n).enumerate() {
                let (mut error, mut extra, mut at) = (0.0, f32::INFINITY, 0);
                for (i, &number) in (part * n..).zip(numbers) {
                    let magnitude = step.abs() * levels.level(self.code(levels, number, false));
                    let (size, weight) = (values[i].abs(), weight(i));
                    error += weight * (size - magnitude) * (size - magnitude);
                    // What the other sign adds to the error.
                    let other = weight * 4.0 * size * magnitude;
                    if other < extra {
                        (extra, at) = (other, i);
                    }
                }
                if error < plain[part].error {
                    plain[part] = Choice { entry, error, flipped: None };
                }
                if error + extra < flipped[part].error {
                    flipped[part] = Choice { entry, error: error + extra, flipped: Some(at) };
                }
            }
        }
        if odd {
            let cost = |part: usize| flipped[part].error - plain[part].error;
            let part = usize::from(values.len() > n && cost(1) < cost(0));
            plain[part] = flipped[part];
        }
        for (i, code) in codes.iter_mut().enumerate() {
            let Choice { entry, flipped, .. } = plain[i / n];
            *code = self.code(levels, self.entries[entry * n + i % n], minus(i) != (flipped == Some(i)));
        }
    }

    /// The code of a magnitude's number and a sign: levels ascend from the largest magnitude with a minus.
    fn code(&self, levels: Levels, number: u8, minus: bool) -> u8 {
        let half = levels.n_codes() as u8 / 2;
        if minus { half - 1 - number } else { half + number }
    }
}
