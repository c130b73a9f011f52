//! Second moments of what enters a matrix, in the full model and in the one that is quantized so far.

use pythia_kernels::{Cpu, MatRef, Store};

/// Sums over tokens.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    /// Inputs of the matrix.
    n: usize,
    /// Rows of the sums against the residual error.
    width: usize,
    tokens: usize,
    /// Sum of `x xT`, x the input in the quantized model.
    inputs: Vec<f32>,
    /// Sum of `f xT`, f the input in the full model.
    cross: Vec<f32>,
    /// Sum of `r xT`, r the error in the residual stream.
    residual: Vec<f32>,
    /// Sums of x, of f and of r.
    sums: [Vec<f64>; 3],
}

/// The same, as means.
#[derive(Clone, Debug)]
pub(crate) struct Means {
    pub(crate) inputs: Vec<f32>,
    pub(crate) cross: Vec<f32>,
    pub(crate) residual: Vec<f32>,
    /// Means of x, of f and of r.
    pub(crate) mean: [Vec<f64>; 3],
}

impl Moments {
    /// Of `n` inputs; `width` is the length of a residual row, or 0.
    pub(crate) fn new(n: usize, width: usize) -> Self {
        Self {
            n,
            width,
            tokens: 0,
            inputs: vec![0.0; n * n],
            cross: vec![0.0; n * n],
            residual: vec![0.0; width * n],
            sums: [vec![0.0; n], vec![0.0; n], vec![0.0; width]],
        }
    }

    /// Adds some tokens: rows of the full model, of the quantized one, and of the residual error.
    pub(crate) fn add(&mut self, cpu: &Cpu, full: &[f32], quantized: &[f32], residual: &[f32]) {
        let n = self.n;
        let rows = quantized.len() / n;
        self.tokens += rows;
        let x = MatRef::new(quantized, rows, n);
        cpu.gram(x, &mut self.inputs);
        cpu.gemm(MatRef::new(full, rows, n).t(), x, Store::Add, &mut self.cross, n);
        if self.width > 0 {
            let r = MatRef::new(residual, rows, self.width);
            cpu.gemm(r.t(), x, Store::Add, &mut self.residual, n);
        }
        for (sums, rows) in self.sums.iter_mut().zip([quantized, full, residual]) {
            for row in rows.chunks_exact(sums.len().max(1)) {
                sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
            }
        }
    }

    /// Means over the tokens.
    pub(crate) fn means(self) -> Means {
        let tokens = self.tokens.max(1) as f64;
        let mean = |sums: Vec<f32>| sums.iter().map(|&sum| (f64::from(sum) / tokens) as f32).collect();
        Means {
            inputs: mean(self.inputs),
            cross: mean(self.cross),
            residual: mean(self.residual),
            mean: self.sums.map(|sums| sums.iter().map(|sum| sum / tokens).collect()),
        }
    }
}
