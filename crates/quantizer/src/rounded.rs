//! A matrix on the grid of a format.

use pythia_tensor::{BlockFormat, Scales, TensorType};

/// Scales and codes of a matrix, and the values that they stand for.
#[derive(Clone, Debug)]
pub struct Rounded {
    ty: TensorType,
    pub(crate) format: BlockFormat,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// One per block, row by row.
    pub(crate) scales: Vec<Scales>,
    /// One per element.
    pub(crate) codes: Vec<u8>,
    /// What decoding gives.
    pub(crate) values: Vec<f32>,
}

impl Rounded {
    /// Zeros, to be filled.
    ///
    /// # Panics
    /// If the type has no blocks, or they do not divide a row.
    pub(crate) fn zeros(ty: TensorType, rows: usize, cols: usize) -> Self {
        let format = ty.block_format().expect("a block format");
        assert!(cols.is_multiple_of(format.block_elems()), "whole blocks");
        let n_blocks = rows * cols / format.block_elems();
        let (codes, values) = (vec![0; rows * cols], vec![0.0; rows * cols]);
        Self { ty, format, rows, cols, scales: vec![Scales::default(); n_blocks], codes, values }
    }

    /// What `bytes` hold, encoded in this type.
    ///
    /// # Panics
    /// If the type has no blocks, they do not divide a row, or `bytes` are not as many as such a matrix has.
    pub fn unpack(ty: TensorType, rows: usize, cols: usize, bytes: &[u8]) -> Self {
        let mut this = Self::zeros(ty, rows, cols);
        this.scales = this.format.unpack(bytes, &mut this.codes);
        ty.decode(bytes, &mut this.values);
        this
    }

    /// The bytes of the matrix in its type.
    pub fn pack(&self) -> Vec<u8> {
        let row_bytes = self.ty.row_bytes(self.cols).expect("whole blocks");
        let mut bytes = vec![0; self.rows * row_bytes];
        self.format.pack(&self.scales, &self.codes, &mut bytes);
        bytes
    }

    /// What decoding gives: `[rows, cols]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The same, without the rest.
    pub(crate) fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Its type.
    pub fn ty(&self) -> TensorType {
        self.ty
    }

    /// Gives a group the scales that it has in `scales`; in a format without group scales, its block.
    pub(crate) fn rescale(&mut self, block: usize, group: usize, scales: &Scales) {
        let own = &mut self.scales[block];
        (own.scales[group], own.mins[group]) = (scales.scales[group], scales.mins[group]);
        if self.format.scale_range().is_none() {
            (own.d, own.dmin) = (scales.d, scales.dmin);
        }
    }

    /// Number of the block of an element.
    pub(crate) fn block(&self, row: usize, col: usize) -> usize {
        (row * self.cols + col) / self.format.block_elems()
    }
}
