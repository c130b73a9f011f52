//! The first pass over a matrix: block after block of columns, each row's errors made up for by its later columns.

use crate::input::InputMetric;
use crate::rounded::Rounded;
use crate::search::{BlockProblem, Found, Search};
use pythia_kernels::{Cpu, MatRef, Store};
use pythia_task::Cancel;
use pythia_tensor::TensorType;

/// Rows that a thread rounds at a time.
const TASK_ROWS: usize = 8;

/// Rounds `wanted`, `[rows, cols]`, in the metric of its inputs. Rows do not depend on each other. `None` if it is
/// cancelled.
pub(crate) fn round(
    cpu: &Cpu,
    ty: TensorType,
    wanted: &[f32],
    rows: usize,
    input: &InputMetric,
    cancel: &Cancel,
) -> Option<Rounded> {
    let cols = input.n();
    let mut rounded = Rounded::zeros(ty, rows, cols);
    let format = rounded.format;
    let elems = format.block_elems();
    let importance = input.diagonal();
    // What is left to round, given the errors so far.
    let mut base = wanted.to_vec();
    let mut errors = vec![0.0; rows * elems];
    for first in (0..cols).step_by(elems) {
        if cancel.is_raised() {
            return None;
        }
        let last = first + elems;
        let mut r = Vec::with_capacity(elems * elems);
        (first..last).for_each(|k| r.extend_from_slice(&input.r[k * cols + first..k * cols + last]));
        let found: Vec<Vec<Found>> = cpu.team().map(rows.div_ceil(TASK_ROWS), |task| {
            let mut search = Search::new(&format);
            let rows = task * TASK_ROWS..rows.min((task + 1) * TASK_ROWS);
            let problem = |row: usize| BlockProblem {
                wanted: &wanted[row * cols + first..row * cols + last],
                base: &base[row * cols + first..row * cols + last],
                r: &r,
                d: &input.d[first..last],
                importance: &importance[first..last],
            };
            rows.map(|row| search.run(problem(row))).collect()
        });
        for (row, found) in found.into_iter().flatten().enumerate() {
            let elems_at = row * cols + first;
            let grid = format.grid(&found.scales);
            for (j, &code) in found.codes[..elems].iter().enumerate() {
                let value = grid.value(j, code);
                rounded.values[elems_at + j] = value;
                errors[row * elems + j] = value - wanted[elems_at + j];
            }
            rounded.codes[elems_at..elems_at + elems].copy_from_slice(&found.codes[..elems]);
            let block = rounded.block(row, first);
            rounded.scales[block] = found.scales;
        }
        if last < cols {
            let errors = MatRef::new(&errors, rows, elems);
            let later = MatRef::strided(&input.r[first * cols + last..], elems, cols - last, cols);
            cpu.gemm(errors, later, Store::Sub, &mut base[last..], cols);
        }
    }
    Some(rounded)
}
