//! Products of two f32 matrices in any layout: for gradients, second moments and quantizers, not for a forward pass.
//!
//! Order: the inner dimension is cut into runs of [`RUN`] steps. Within a run the terms of an element are added one
//! after the other by fused multiply-add, starting from zero. The sums of the runs go to the result in order, each as
//! [`Store`] says; the first of [`Store::Set`] replaces what was there, the others are added.
//!
//! The result is cut into blocks. For each run, the team packs rows of `a` and columns of `b` into panels that the
//! register tile reads from end to end, then multiplies panel by panel. As a run is all that is summed in registers,
//! no choice of block, tile or thread changes a bit.

mod pack;
#[cfg(test)]
mod tests;
mod tile;
mod transpose;

use crate::cpu::Cpu;
use crate::isa::{GemmTile, Supported};
use crate::matmul::LANES;
use crate::shared::SharedMut;
use crate::team::Team;
use pack::{PANELS, Panels, Side};
use std::ops::Range;

/// Steps that are summed before they are added to the result: long enough that the result's own traffic is small beside
/// the products, and short enough that the panel of `b` under a tile stays in the first cache (32 KiB at 32 columns).
const RUN: usize = 256;

/// Rows and columns of a block of the result, at most: packed, 1.5 MiB of `a` and of `b`.
const BLOCK: usize = 1536;

/// Rows and columns that one task multiplies, at most: 240 KiB of `a`, which stay in the second cache.
const TASK_ROWS: usize = 240;
const TASK_COLS: usize = 128;

/// Products with fewer multiplications run on the calling thread: to wake another takes as long.
const ALONE: usize = 1 << 17;

/// A matrix in memory, read only.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> MatRef<'a> {
    /// `rows` of `cols` elements, one row after the other.
    ///
    /// # Panics
    /// If `data` is shorter.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// `rows` of `cols` elements, each starting `stride` after the one before.
    ///
    /// # Panics
    /// If `data` is shorter, or rows overlap.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(cols <= stride && (rows == 0 || (rows - 1) * stride + cols <= data.len()), "a matrix within its data");
        Self { data, rows, cols, row_stride: stride, col_stride: 1 }
    }

    /// Its transpose: the same memory, read the other way.
    #[must_use]
    pub fn t(self) -> Self {
        let Self { data, rows, cols, row_stride, col_stride } = self;
        Self { data, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// What happens to the old content of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// It is replaced.
    Set,
    /// The product is added to it.
    Add,
    /// The product is subtracted from it.
    Sub,
}

impl Store {
    /// For the runs after the first.
    fn next(self) -> Self {
        match self {
            Self::Set | Self::Add => Self::Add,
            Self::Sub => Self::Sub,
        }
    }
}

impl Cpu {
    /// `c = a b`, or the product added to or subtracted from `c`; `c` has `a.rows()` rows of `b.cols()` elements, each
    /// starting `stride` after the one before.
    ///
    /// # Panics
    /// If shapes do not match, or this is called from a task of the same team.
    pub fn gemm(&self, a: MatRef<'_>, b: MatRef<'_>, store: Store, c: &mut [f32], stride: usize) {
        assert_eq!(a.cols, b.rows, "inner dimensions");
        assert!(
            b.cols <= stride && (a.rows == 0 || (a.rows - 1) * stride + b.cols <= c.len()),
            "a result in its place"
        );
        if a.rows == 0 || b.cols == 0 {
            return;
        }
        if a.cols == 0 && store == Store::Set {
            c.chunks_mut(stride).take(a.rows).for_each(|row| row[..b.cols].fill(0.0));
        }
        let product = Product { a, b, c: SharedMut::new(c), stride, upper: false };
        product.run(self.team(), self.supported(), store);
    }

    /// Adds `xT x` to `c`, `[x.cols(), x.cols()]`: second moments of the columns of `x`. The bits are those of
    /// [`gemm`](Self::gemm) on a symmetric `c`, at half of the work: only what is on and above the diagonal of `c` is
    /// read, and what is below becomes its mirror image.
    ///
    /// # Panics
    /// If shapes do not match, or this is called from a task of the same team.
    pub fn gram(&self, x: MatRef<'_>, c: &mut [f32]) {
        let n = x.cols;
        assert_eq!(c.len(), n * n, "a square of the columns");
        let product = Product { a: x.t(), b: x, c: SharedMut::new(c), stride: n, upper: true };
        product.run(self.team(), self.supported(), Store::Add);
        transpose::mirror(self.team(), self.supported(), product.c, n);
    }
}

/// A product with checked shapes.
struct Product<'a> {
    a: MatRef<'a>,
    b: MatRef<'a>,
    c: SharedMut<'a, f32>,
    stride: usize,
    /// Whether what lies below the diagonal is left out.
    upper: bool,
}

impl Product<'_> {
    fn run(&self, team: &Team, isa: Supported, store: Store) {
        let GemmTile { rows: tile_rows, vectors } = isa.tuning().gemm_tile;
        let (a, b, steps) = (self.a, self.b.t(), self.a.cols);
        let alone = a.rows * b.rows * steps < ALONE;
        let mut panels = PANELS.take();
        for rows in parts(0..a.rows, BLOCK, tile_rows) {
            for cols in parts(0..b.rows, BLOCK, vectors * LANES) {
                if self.leaves_out(&rows, &cols) {
                    continue;
                }
                let mut store = store;
                for first in (0..steps).step_by(RUN) {
                    let steps = first..steps.min(first + RUN);
                    let a = Side { x: a, lanes: rows.clone(), width: tile_rows };
                    let b = Side { x: b, lanes: cols.clone(), width: vectors * LANES };
                    panels.pack(team, isa, [&a, &b], &steps, alone);
                    let block = Block { rows: rows.clone(), cols: cols.clone(), steps: steps.len(), store };
                    self.multiply(team, isa, &panels, &block, alone);
                    store = store.next();
                }
            }
        }
        PANELS.set(panels);
    }

    /// Whether all of these elements are below the diagonal of a product of which only the rest is wanted.
    fn leaves_out(&self, rows: &Range<usize>, cols: &Range<usize>) -> bool {
        self.upper && rows.start >= cols.end
    }

    /// One run of a block.
    fn multiply(&self, team: &Team, isa: Supported, panels: &Panels, block: &Block, alone: bool) {
        let GemmTile { rows: tile_rows, vectors } = isa.tuning().gemm_tile;
        let rows: Vec<_> = parts(block.rows.clone(), TASK_ROWS, tile_rows).collect();
        let cols: Vec<_> = parts(block.cols.clone(), TASK_COLS, vectors * LANES).collect();
        let tasks = rows.len() * cols.len();
        team.run_ranges(tasks, if alone { tasks } else { 1 }, &|range| {
            for task in range {
                let (rows, cols) = (&rows[task / cols.len()], &cols[task % cols.len()]);
                if !self.leaves_out(rows, cols) {
                    isa.dispatch(tile::Tiles { product: self, panels, block, rows: rows.clone(), cols: cols.clone() });
                }
            }
        });
    }
}

/// A part of the result, and the run that it is to have.
struct Block {
    rows: Range<usize>,
    cols: Range<usize>,
    steps: usize,
    store: Store,
}

/// Cuts a range into equal parts of at most `largest`, each but the last a multiple of `unit`.
fn parts(range: Range<usize>, largest: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let count = range.len().div_ceil(largest).max(1);
    let size = range.len().div_ceil(count).next_multiple_of(unit);
    range.clone().step_by(size.max(1)).map(move |first| first..range.end.min(first + size))
}
