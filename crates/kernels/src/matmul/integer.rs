//! Products of quantized weights with int8 activations.
//!
//! `one` reads rows of `W` as they lie in the file, for one row of `x`: it moves at the speed of memory. `interleaved` does so
//! for few rows of `x`, where 16 rows of `W` lie side by side. `many` decodes 16 rows once into a panel and multiplies it with
//! tiles of rows of `x`: it is bound by the multipliers.

mod interleaved;
mod many;
mod multiply;
mod one;

use super::{CACHE_LINE_BYTES, LANES, Lanes, Output, Weights, cut_into_tiles, for_size};
use crate::dot::{Column, Format, Pair, UNIT};
use crate::interleave::Layout;
use crate::isa::{Isa, Kernel, Supported, TileSize};
use crate::quantize::{QuantizedRows, Slice};
use crate::shared::SharedMut;
use crate::team::Team;
use std::array;
use std::marker::PhantomData;
use std::ops::Range;

/// Steps of 4 elements in a unit.
const STEPS: usize = UNIT / 4;

/// A product with checked shapes.
pub(super) struct Job<'a> {
    pub(super) weights: Weights<'a>,
    pub(super) x: &'a QuantizedRows,
    pub(super) out: Output<'a>,
}

/// A product with one type of weights, in two steps.
pub(super) struct Product {
    /// [`excess`] of its codes on an ISA.
    excess: fn(Supported) -> i32,
    /// As in [`Format`].
    is_split: bool,
    /// Multiplies some rows of `W`, on the calling thread.
    pub(super) rows: fn(&Job<'_>, Supported, &Corrections, Range<usize>),
}

impl Product {
    pub(super) fn of<T: Format>() -> Self {
        Self {
            excess: |isa| isa.dispatch(Excess::<T>(PhantomData)),
            is_split: T::SPLIT,
            rows: |job, isa, corrections, range| job.rows::<T>(isa, corrections, range),
        }
    }

    /// Quantizes the rows `x` of `cols` columns, and makes ready what every row of `W` needs of them.
    pub(super) fn prepare(
        &self,
        corrections: &mut Corrections,
        team: &Team,
        isa: Supported,
        rows: &mut QuantizedRows,
        x: &[f32],
        cols: usize,
    ) {
        let excess = (self.excess)(isa);
        if self.is_split {
            corrections.fill::<true>(team, isa, rows, x, cols, excess);
        } else {
            corrections.fill::<false>(team, isa, rows, x, cols, excess);
        }
    }
}

impl Job<'_> {
    pub(super) fn run(&self, product: &Product, team: &Team, isa: Supported, corrections: &Corrections) {
        let grain = if self.x.len() == 1 { LANES } else { LANES * isa.tuning().integer_tile.w };
        team.run_ranges(self.weights.rows, grain, &|range| (product.rows)(self, isa, corrections, range));
    }

    fn rows<T: Format>(&self, isa: Supported, corrections: &Corrections, range: Range<usize>) {
        let (job, format) = (self, PhantomData::<T>);
        if !T::INTERLEAVES || self.weights.layout == Layout::Rows {
            if self.x.len() == 1 {
                isa.dispatch(one::One { job, corrections, range, format });
            } else {
                isa.dispatch(many::Many::<T, false> { job, corrections, range, format });
            }
        } else if isa.tuning().is_direct(self.x.len(), T::SPLIT) {
            isa.dispatch(interleaved::Interleaved { job, corrections, range, format });
        } else {
            isa.dispatch(many::Many::<T, true> { job, corrections, range, format });
        }
    }
}

/// Rows of `x` in the order `many` reads them, with what raw products must be corrected by.
///
/// A product of codes is too large by `excess * sum of activations` per group: that is where accumulators start.
/// A minimum adds `min * scale * sum of activations` per group.
#[derive(Debug, Default)]
pub(super) struct Corrections {
    /// Tiles of rows: first row and size.
    tiles: Vec<(usize, TileSize)>,
    /// Codes, four at a time: `[tile][cols / 4][rows of the tile]`.
    codes: Vec<i32>,
    /// Scales: `[tile][units][rows of the tile]`.
    scales: Vec<f32>,
    /// Where accumulators start: `[tile][groups][rows of the tile]`.
    starts: Vec<i32>,
    /// `scale * sum`, for minima: the same shape.
    sums: Vec<f32>,
}

impl Corrections {
    fn fill<const SPLIT: bool>(
        &mut self,
        team: &Team,
        isa: Supported,
        rows: &mut QuantizedRows,
        x: &[f32],
        cols: usize,
        excess: i32,
    ) {
        cut_into_tiles(x.len() / cols, isa.tuning().integer_tile.x, &mut self.tiles);
        let (rows, units) = (rows.begin(x, cols), x.len() / UNIT);
        let per_unit = groups_per_unit(SPLIT);
        let groups = units * per_unit;
        self.codes.resize(units * (UNIT / 4), 0);
        self.scales.resize(units, 0.0);
        self.starts.resize(groups, 0);
        self.sums.resize(groups, 0.0);
        let (codes, scales) = (SharedMut::new(&mut self.codes), SharedMut::new(&mut self.scales));
        let (starts, sums) = (SharedMut::new(&mut self.starts), SharedMut::new(&mut self.sums));
        let units_per_row = cols / UNIT;
        let tiles = &self.tiles;
        team.run_ranges(tiles.len(), 1, &|range| {
            for &(first, tile_size) in &tiles[range] {
                let size = tile_size as usize;
                let (at, len) = (first * units_per_row, size * units_per_row);
                // SAFETY: tiles do not overlap, and each is one task's.
                let (rows, tile) = unsafe {
                    let tile = Tile {
                        codes: codes.slice(at * (UNIT / 4), len * (UNIT / 4)),
                        scales: scales.slice(at, len),
                        starts: starts.slice(at * per_unit, len * per_unit),
                        sums: sums.slice(at * per_unit, len * per_unit),
                    };
                    (rows.quantize(isa, first..first + size), tile)
                };
                isa.dispatch(Fill::<SPLIT> { tile, rows, size: tile_size, excess });
            }
        });
    }
}

// Sums of products of a group go through f32, which must hold them exactly, biased codes included.
const _: () = assert!(255 * 127 * UNIT < 1 << f32::MANTISSA_DIGITS);

/// Groups of elements with a scale of their own, per 32.
pub(super) const fn groups_per_unit(is_split: bool) -> usize {
    if is_split { 2 } else { 1 }
}

struct Tile<'a> {
    codes: &'a mut [i32],
    scales: &'a mut [f32],
    starts: &'a mut [i32],
    sums: &'a mut [f32],
}

/// Puts quantized rows into the order of a tile.
struct Fill<'a, const SPLIT: bool> {
    tile: Tile<'a>,
    rows: Slice<'a>,
    size: TileSize,
    excess: i32,
}

impl<const SPLIT: bool> Kernel for Fill<'_, SPLIT> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let Self { tile, rows, size, excess } = self;
        for_size!(size, I::TUNING.integer_tile.x, M => {
            let units = rows.scales.len() / M;
            let row: [Slice<'_>; M] = array::from_fn(|m| rows.row(m, units));
            for (i, codes) in tile.codes.as_chunks_mut::<M>().0[..units * (UNIT / 4)].iter_mut().enumerate() {
                for m in 0..M {
                    codes[m] = i32::from_le_bytes(row[m].codes.as_chunks::<4>().0[i]);
                }
            }
            let per_unit = groups_per_unit(SPLIT);
            for u in 0..units {
                for m in 0..M {
                    let scale = row[m].scales[u];
                    let [first, last] = row[m].sums.as_chunks::<2>().0[u];
                    tile.scales[u * M + m] = scale;
                    for half in 0..per_unit {
                        let sum = if SPLIT { [first, last][half] } else { first + last };
                        let at = (u * per_unit + half) * M + m;
                        tile.starts[at] = -excess * sum;
                        tile.sums[at] = scale * sum as f32;
                    }
                }
            }
        });
    }
}

/// What a product of raw codes has too much of, per activation: the offset and the ISA's bias.
const fn excess<I: Isa, T: Format>() -> i32 {
    T::OFFSET + if T::SIGNED { I::I8_BIAS } else { 0 }
}

/// [`excess`].
struct Excess<T>(PhantomData<T>);

impl<T: Format> Kernel for Excess<T> {
    type Output = i32;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> i32 {
        excess::<I, T>()
    }
}

/// Codes of a unit, of the rows of one part: from `pair` where the format has pairs.
///
/// # Safety
/// As for [`Format::codes`]; the pair was read for this unit.
#[inline(always)]
unsafe fn unit_codes<I: Isa, T: Format>(
    isa: I,
    rows: Column<T>,
    pair: &Pair<I>,
    part: usize,
    unit: usize,
) -> [I::B; 2] {
    // SAFETY: the caller's promise.
    unsafe { if T::PAIRED { T::of_pair(isa, pair, part, unit) } else { T::codes(isa, rows.part::<I>(part), unit) } }
}

/// 16 rows of `W` from `first` on, as pointer and bytes of a row: where these are not interleaved, the stride. The last rows of a matrix whose count 16 does not divide are
/// copied to `padded` and the missing ones repeat the last: their results are dropped.
pub(super) fn sixteen_rows<T>(weights: &Weights<'_>, first: usize, padded: &mut Vec<u8>) -> (*const T, usize) {
    let stride = weights.data.len() / weights.rows;
    let rest = &weights.data[first * stride..];
    if rest.len() >= LANES * stride {
        return (rest.as_ptr().cast(), stride);
    }
    padded.clear();
    padded.extend_from_slice(rest);
    while padded.len() < LANES * stride {
        padded.extend_from_slice(&rest[rest.len() - stride..]);
    }
    (padded.as_ptr().cast(), stride)
}
