//! One matrix: feedback, then descent.

use crate::input::InputMetric;
use crate::output::{OutputMetric, outputs};
use crate::rounded::Rounded;
use crate::{descent, sequential};
use pythia_kernels::{Cpu, MatRef, Store};
use pythia_task::Cancel;
use pythia_tensor::TensorType;

/// A matrix to round, and by which metric.
#[derive(Clone, Copy)]
pub struct MatrixProblem<'a> {
    /// The type to store it in.
    pub ty: TensorType,
    /// What it should be, `[rows, cols]`.
    pub wanted: &'a [f32],
    /// Outputs.
    pub rows: usize,
    /// Metric of its inputs.
    pub input: &'a InputMetric,
    /// Metric of its outputs; `None` if every output counts for itself.
    pub output: Option<&'a OutputMetric>,
    /// What an output counts in the loss where there is no metric; empty if all count alike. It does not change how its
    /// row is rounded.
    pub weights: &'a [f32],
}

impl MatrixProblem<'_> {
    /// `tr(G D H DT) / 2` of the differences D between `values` and what is wanted: what the rounding adds to the
    /// divergence of a token, to second order, if G is the Fisher metric of the outputs.
    pub fn loss(&self, cpu: &Cpu, values: &[f32]) -> f64 {
        let cols = self.input.n();
        let error: Vec<f32> = values.iter().zip(self.wanted).map(|(q, w)| q - w).collect();
        let mut by_input = vec![0.0; error.len()];
        let h = MatRef::new(&self.input.h, cols, cols);
        cpu.gemm(MatRef::new(&error, self.rows, cols), h, Store::Set, &mut by_input, cols);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        if self.output.is_none() {
            let rows = by_input.chunks_exact(cols).zip(error.chunks_exact(cols)).enumerate();
            let weight = |i: usize| self.weights.get(i).map_or(1.0, |&weight| f64::from(weight));
            return rows.map(|(i, (a, b))| weight(i) * dot(a, b)).sum::<f64>() / 2.0;
        }
        let mut sum = 0.0;
        for block in outputs(self.rows, self.output) {
            let elems = block.first * cols..(block.first + block.n) * cols;
            let mut part = by_input[elems.clone()].to_vec();
            if let Some(g) = block.g {
                let by_input = MatRef::new(&by_input[elems.clone()], block.n, cols);
                cpu.gemm(MatRef::new(g, block.n, block.n), by_input, Store::Set, &mut part, cols);
            }
            sum += dot(&part, &error[elems]);
        }
        sum / 2.0
    }
}

/// Rows of which the losses of other types are estimated.
const SAMPLE_ROWS: usize = 64;

/// What the loss would be in each of `types`, from that in the type of the problem: in proportion to the losses that
/// error feedback alone has in a sample of the rows. Types whose blocks do not divide a row are left out. `None` if it is
/// cancelled.
pub(crate) fn estimate(
    cpu: &Cpu,
    problem: MatrixProblem<'_>,
    loss: f64,
    types: &[TensorType],
    cancel: &Cancel,
) -> Option<Vec<(TensorType, f64)>> {
    let MatrixProblem { wanted, rows, input, output, weights, .. } = problem;
    if types.is_empty() {
        return Some(Vec::new());
    }
    let cols = input.n();
    let weight = |row: usize| match output {
        Some(output) => output.diagonal(row),
        None => weights.get(row).copied().unwrap_or(1.0),
    };
    // Rows that count for nothing, such as those of tokens that the text does not have, would say nothing.
    let counted: Vec<usize> = (0..rows).filter(|&row| weight(row) > 0.0).collect();
    let n = counted.len().min(SAMPLE_ROWS);
    let sample: Vec<usize> = (0..n).map(|i| counted[i * counted.len() / n]).collect();
    let weights: Vec<f32> = sample.iter().map(|&row| weight(row)).collect();
    let row = |&row: &usize| wanted[row * cols..(row + 1) * cols].iter().copied();
    let wanted: Vec<f32> = sample.iter().flat_map(row).collect();
    let problem = MatrixProblem { wanted: &wanted, rows: n, output: None, weights: &weights, ..problem };
    let sampled = |ty: TensorType| -> Option<f64> {
        let rounded = sequential::round(cpu, ty, &wanted, n, input, cancel)?;
        Some(problem.loss(cpu, rounded.values()))
    };
    let own = sampled(problem.ty)?;
    // Where the sample loses nothing, its losses themselves are compared.
    let factor = if own > 0.0 { loss / own } else { 1.0 };
    let of = |&ty: &TensorType| Some((ty, factor * sampled(ty)?));
    types.iter().filter(|ty| ty.row_bytes(cols).is_some()).map(of).collect()
}

/// Rounds a matrix, with at most `passes` passes of the descent at a time. `None` if it is cancelled.
pub fn round(cpu: &Cpu, problem: MatrixProblem<'_>, passes: usize, cancel: &Cancel) -> Option<Rounded> {
    let MatrixProblem { ty, wanted, rows, input, output, .. } = problem;
    let mut rounded = sequential::round(cpu, ty, wanted, rows, input, cancel)?;
    descent::descend(cpu, &mut rounded, wanted, input, output, passes, cancel)?;
    Some(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cholesky::tests::moments;
    use crate::output::OutputBlock;

    #[test]
    fn every_type_is_rounded_better_than_by_its_own_encoder() {
        let (rows, cols) = (40, 256);
        let cancel = Cancel::new();
        let as_f32 = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect::<Vec<_>>();
        let h = as_f32(moments(cols, 1));
        let g = as_f32(moments(rows, 2));
        let wanted: Vec<f32> = moments(cols, 5)[..rows * cols].iter().map(|&x| x as f32).collect();
        for &ty in TensorType::ALL.iter().filter(|ty| ty.is_quantized()) {
            let cpus = [1, 3].map(|threads| Cpu::new(threads, None).unwrap());
            let input = InputMetric::new(cpus[0].team(), &h, cols, 0.01).unwrap();
            let output = OutputMetric::new(vec![OutputBlock::new(0, rows, g.clone(), 0.05).unwrap()]);
            for output in [None, Some(&output)] {
                let problem = MatrixProblem { ty, wanted: &wanted, rows, input: &input, output, weights: &[] };
                let [rounded, again] = cpus.each_ref().map(|cpu| round(cpu, problem, 6, &cancel).unwrap());
                let bytes = rounded.pack();
                assert_eq!(bytes, again.pack(), "{ty}: threads");
                assert_eq!(Rounded::unpack(ty, rows, cols, &bytes).values, rounded.values, "{ty}: values");
                let mut plain = vec![0; bytes.len()];
                ty.encode_weighted(&wanted, &input.diagonal(), &mut plain);
                let plain = problem.loss(&cpus[0], Rounded::unpack(ty, rows, cols, &plain).values());
                let ours = problem.loss(&cpus[0], rounded.values());
                assert!(ours < 0.9 * plain, "{ty}: {ours} {plain}");
            }
        }
    }
}
