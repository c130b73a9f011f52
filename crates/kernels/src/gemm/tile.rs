//! The register tile: some rows of `a` times some vectors of columns of `b`.
//!
//! The panel of `b` stays in the first cache while those of `a` come by from the second.

use super::pack::Panels;
use super::{Block, Product, Store};
use crate::isa::{Isa, Kernel};
use crate::matmul::{LANES, Lanes};
use std::ops::Range;

/// One run of some rows and columns of a block, both from multiples of a tile on.
pub(super) struct Tiles<'a> {
    pub(super) product: &'a Product<'a>,
    pub(super) panels: &'a Panels,
    pub(super) block: &'a Block,
    pub(super) rows: Range<usize>,
    pub(super) cols: Range<usize>,
}

impl Kernel for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if I::TUNING.gemm_tile.vectors == 2 {
            self.multiply::<I, 12, 2>(isa);
        } else {
            self.multiply::<I, 6, 1>(isa);
        }
    }
}

impl Tiles<'_> {
    /// With `R` rows and `V` vectors in a tile.
    #[inline(always)]
    fn multiply<I: Isa, const R: usize, const V: usize>(&self, isa: I) {
        let Self { product, panels, block, .. } = *self;
        for col in self.cols.clone().step_by(V * LANES) {
            let b = panels.of_b((col - block.cols.start) / (V * LANES), V * LANES, block.steps);
            for row in self.rows.clone().step_by(R) {
                let tile = (row..self.rows.end.min(row + R), col..self.cols.end.min(col + V * LANES));
                if product.leaves_out(&tile.0, &tile.1) {
                    break; // all that follow lie lower
                }
                for r in 0..R {
                    for v in 0..V {
                        isa.prefetch(product.c.at((row + r) * product.stride + col + v * LANES).cast());
                    }
                }
                let a = panels.of_a((row - block.rows.start) / R, R, block.steps);
                let sums = sums::<I, R, V>(isa, a, b);
                if tile.0.len() == R && tile.1.len() == V * LANES {
                    self.store(isa, sums, row, col);
                } else {
                    self.store_some(isa, sums, tile);
                }
            }
        }
    }

    #[inline(always)]
    fn store<I: Isa, const R: usize, const V: usize>(&self, isa: I, sums: [[I::F; V]; R], row: usize, col: usize) {
        let Product { ref c, stride, .. } = *self.product;
        for r in 0..R {
            // SAFETY: no two tiles share an element.
            let out = unsafe { c.slice((row + r) * stride + col, V * LANES) }.as_mut_ptr();
            for v in 0..V {
                // SAFETY: `V` vectors.
                unsafe {
                    let out = out.add(v * LANES);
                    let value = match self.block.store {
                        Store::Set => sums[r][v],
                        Store::Add => isa.add(isa.load(out), sums[r][v]),
                        Store::Sub => isa.sub(isa.load(out), sums[r][v]),
                    };
                    isa.store(out, value);
                }
            }
        }
    }

    /// A tile that is cut off by the edge of the result.
    #[inline(always)]
    fn store_some<I: Isa, const R: usize, const V: usize>(
        &self,
        isa: I,
        sums: [[I::F; V]; R],
        (rows, cols): (Range<usize>, Range<usize>),
    ) {
        let Product { ref c, stride, .. } = *self.product;
        let mut values = [[Lanes::default(); V]; R];
        for r in 0..R {
            for v in 0..V {
                // SAFETY: 16 floats.
                unsafe { isa.store(values[r][v].0.as_mut_ptr(), sums[r][v]) };
            }
        }
        for (row, values) in rows.zip(&values) {
            // SAFETY: no two tiles share an element.
            let out = unsafe { c.slice(row * stride + cols.start, cols.len()) };
            for (out, &value) in out.iter_mut().zip(Lanes::flat(values)) {
                match self.block.store {
                    Store::Set => *out = value,
                    Store::Add => *out += value,
                    Store::Sub => *out -= value,
                }
            }
        }
    }
}

/// The products of two panels, `[steps][R]` and `[steps][16 V]`, in ascending order of steps.
#[inline(always)]
fn sums<I: Isa, const R: usize, const V: usize>(isa: I, a: &[f32], b: &[f32]) -> [[I::F; V]; R] {
    let mut sums = [[isa.splat(0.0); V]; R];
    let b = b.as_chunks::<LANES>().0.as_chunks::<V>().0;
    for (a, b) in a.as_chunks::<R>().0.iter().zip(b) {
        let mut cols = [isa.splat(0.0); V];
        for v in 0..V {
            // SAFETY: 16 floats.
            cols[v] = unsafe { isa.load(b[v].as_ptr()) };
        }
        for r in 0..R {
            let row = isa.splat(a[r]);
            for v in 0..V {
                sums[r][v] = isa.fma(row, cols[v], sums[r][v]);
            }
        }
    }
    sums
}
