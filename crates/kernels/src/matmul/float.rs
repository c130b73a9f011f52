//! Products with f32 activations: float weights, or quantized ones decoded first.
//!
//! Order: lane l of a 16-lane accumulator takes elements l, l + 16, ... by fused multiply-add; the lanes are then
//! added by the fixed tree of `Isa::sum`.
//!
//! `few` reads rows of `W` as they lie in the file, for one row of `x` or a tile or two: it moves at the speed of
//! memory.
//! `many` puts 16 rows into a panel and multiplies it with tiles of rows of `x`: it is bound by the multipliers.
//! Quantized weights are decoded for both, 16 rows at a time; for one row of `x` `decode` multiplies them by itself.

mod decode;
mod few;
mod many;

pub(super) use decode::Decoder;

use super::{LANES, Lanes, Output, Weights, cut_into_tiles, for_size, storage};
use crate::element::Element;
use crate::isa::{Supported, TileSize};
use crate::shared::SharedMut;
use crate::team::Team;
use std::ops::Range;

/// How weights become f32.
#[derive(Clone, Copy)]
pub(super) enum Storage {
    F32,
    F16,
    BF16,
    Blocks(Decoder),
}

/// A product with checked shapes.
pub(super) struct Job<'a> {
    pub(super) weights: Weights<'a>,
    pub(super) x: &'a [f32],
    pub(super) out: Output<'a>,
}

impl Job<'_> {
    pub(super) fn run(self, team: &Team, isa: Supported, tiles: &mut Tiles) {
        tiles.prepare(team, isa, self.x, self.weights.cols);
        team.run_ranges(self.weights.rows, LANES, &|range| self.rows(isa, tiles, range));
    }

    /// Some rows of `W`, on the calling thread. `tiles` are prepared of the same `x`.
    pub(super) fn rows(&self, isa: Supported, tiles: &Tiles, range: Range<usize>) {
        match storage(self.weights.ty) {
            Storage::Blocks(decoder) if self.x.len() == self.weights.cols => (decoder.one)(self, isa, range),
            storage if tiles.are_few() => {
                isa.dispatch(few::Few { job: self, storage, tiles: &tiles.tiles, range, isa })
            }
            storage => isa.dispatch(many::Many { job: self, storage, tiles, range, isa }),
        }
    }
}

/// Rows of `x` in the order `many` reads them.
#[derive(Debug, Default)]
pub(super) struct Tiles {
    /// First row and size of each tile.
    tiles: Vec<(usize, TileSize)>,
    /// `[tile][cols / 16][rows of the tile]`.
    x: Vec<Lanes>,
}

impl Tiles {
    /// Cuts `x` into tiles, and packs them unless they are few.
    pub(super) fn prepare(&mut self, team: &Team, isa: Supported, x: &[f32], cols: usize) {
        cut_into_tiles(x.len() / cols, isa.tuning().float_tile.x, &mut self.tiles);
        if !self.are_few() {
            self.pack(team, x, cols);
        }
    }

    /// Whether a panel would not pay.
    fn are_few(&self) -> bool {
        self.tiles.len() <= 2
    }

    fn pack(&mut self, team: &Team, x: &[f32], cols: usize) {
        self.x.resize(x.len() / LANES, Lanes::default());
        let (tiles, packed) = (&self.tiles, SharedMut::new(&mut self.x));
        team.run_ranges(tiles.len(), 1, &|range| {
            for &(first, size) in &tiles[range] {
                let size = size as usize;
                // SAFETY: tiles do not overlap, and each is written by one task.
                let tile = unsafe { packed.slice(first * cols / LANES, size * cols / LANES) };
                for (m, row) in x[first * cols..][..size * cols].chunks_exact(cols).enumerate() {
                    for (k, lanes) in row.as_chunks::<LANES>().0.iter().enumerate() {
                        tile[k * size + m].0 = *lanes;
                    }
                }
            }
        });
    }
}
