//! How kernels fit an instruction set's registers.

/// How kernels use an instruction set's registers. No result depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    /// Whether loops over the units of a block, and over the parts of 16 rows, are unrolled.
    pub(crate) unroll: bool,
    /// Register tile of integer products. `w` counts panels of 16 rows: 1 or 2.
    pub(crate) integer_tile: Tile,
    /// Up to so many rows of `x`, interleaved rows of `W` are multiplied as they are read: see [`Self::is_direct`].
    pub(crate) direct_rows: usize,
    /// Register tile of float products. `w` counts rows: 2 or 4.
    pub(crate) float_tile: Tile,
    /// Register tile of products of two float matrices.
    pub(crate) gemm_tile: GemmTile,
    /// Queries that share one pass over keys and values: 4 or 8.
    pub(crate) attend_queries: usize,
}

impl Tuning {
    /// Whether interleaved rows are multiplied as they are read, rather than through panels. A scale per 16 elements makes
    /// twice as many sums, and takes as much longer.
    pub(crate) const fn is_direct(&self, rows_of_x: usize, is_split: bool) -> bool {
        rows_of_x == 1 || rows_of_x <= self.direct_rows / if is_split { 2 } else { 1 }
    }
}

/// The part of a product that is summed in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    /// Rows of `W`, or panels of them.
    pub(crate) w: usize,
    /// Rows of `x`, at most.
    pub(crate) x: TileSize,
}

/// Rows of `a`, and vectors of columns of `b`: 12 and 2, or 6 and 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GemmTile {
    pub(crate) rows: usize,
    pub(crate) vectors: usize,
}

/// Rows of `x` that tiles are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TileSize {
    One = 1,
    Two = 2,
    Three = 3,
    Four = 4,
    Six = 6,
}

impl TileSize {
    pub(crate) const DESCENDING: [Self; 5] = [Self::Six, Self::Four, Self::Three, Self::Two, Self::One];
}
