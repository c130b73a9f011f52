//! Products of two f32 matrices in any layout: for gradients, second moments and quantizers, not for a forward pass.
//!
//! Order: an element is the sum over runs of [`RUN`] steps, in order. Within a run its terms are added one after the
//! other by fused multiply-add, starting from zero.

use crate::cpu::Cpu;

/// Steps that are summed before they are added to the result.
pub(crate) const RUN: usize = 256;

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

    fn at(&self, i: usize, j: usize) -> f32 {
        self.data[i * self.row_stride + j * self.col_stride]
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
        for i in 0..a.rows {
            for j in 0..b.cols {
                let mut sum = 0.0f32;
                for first in (0..a.cols).step_by(RUN) {
                    let run = first..a.cols.min(first + RUN);
                    sum += run.fold(0.0f32, |sum, k| a.at(i, k).mul_add(b.at(k, j), sum));
                }
                let c = &mut c[i * stride + j];
                match store {
                    Store::Set => *c = sum,
                    Store::Add => *c += sum,
                    Store::Sub => *c -= sum,
                }
            }
        }
    }

    /// Adds `xT x` to `c`, `[x.cols(), x.cols()]`: second moments of the columns of `x`. Half of the work of
    /// [`gemm`](Self::gemm); `c` must be symmetric and stays so.
    ///
    /// # Panics
    /// If shapes do not match, or this is called from a task of the same team.
    pub fn gram(&self, x: MatRef<'_>, c: &mut [f32]) {
        assert_eq!(c.len(), x.cols * x.cols, "a square of the columns");
        self.gemm(x.t(), x, Store::Add, c, x.cols);
    }
}
