//! Coordinate descent in the metric of inputs and outputs: every code, in turn, takes the best value given all others.
//!
//! The loss is `tr(G (Q - W) H (Q - W)T)`. With `R = G (W - Q) H`, the best value of one element is
//! `q_ij + R_ij / (G_ii H_jj)`, rounded onto its grid. A change by d then subtracts `d G_.i H_j.` from R. Columns are
//! taken in panels: within a panel R is kept up to date, beyond it the changes of a whole panel are one matrix product.
//! The loss never grows, but for the rounding of the sums.

use crate::input::InputMetric;
use crate::output::{OutputMetric, Outputs, outputs};
use crate::rescale::{GroupMetric, neighbours};
use crate::rounded::Rounded;
use crate::search::code_of;
use crate::trial::{MAX_ELEMS, Trial};
use pythia_kernels::{Cpu, MatRef, Store};
use pythia_task::Cancel;
use pythia_tensor::{Group, Scales};

/// Columns of a panel: a multiple of every run, a divisor of every row.
const PANEL: usize = 32;

/// A new code.
struct Change {
    row: usize,
    col: usize,
    code: u8,
    value: f32,
}

/// New scales of a group.
struct Rescaled {
    block: usize,
    group: usize,
    scales: Scales,
}

/// What a pass changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Codes, one after the other.
    Codes,
    /// The scales of groups with all their codes, group after group.
    Groups,
}

/// The outcome of a panel for some outputs.
struct Changes {
    list: Vec<Change>,
    rescaled: Vec<Rescaled>,
    /// `G d` of the changes d: `[outputs, PANEL]`.
    seen: Vec<f32>,
}

/// Improves `rounded` in passes over all columns, until fewer than one in ten thousand codes change: first the codes,
/// then scales and codes in turn. `None` if it is cancelled.
pub(crate) fn descend(
    cpu: &Cpu,
    rounded: &mut Rounded,
    wanted: &[f32],
    input: &InputMetric,
    output: Option<&OutputMetric>,
    max_passes: usize,
    cancel: &Cancel,
) -> Option<()> {
    let outputs = outputs(rounded.rows, output);
    let residual = residual(cpu, rounded, wanted, input, &outputs);
    let mut descent = Descent { cpu, rounded, input, outputs: &outputs, residual, cancel };
    descent.passes(Step::Codes, max_passes)?;
    // Entries of a list do not follow their scale.
    if descent.rounded.format.run_elems() == 1 {
        for _ in 0..SCALE_ROUNDS {
            descent.passes(Step::Groups, 1)?;
            descent.passes(Step::Codes, max_passes)?;
        }
    }
    Some(())
}

/// How often scales are changed.
const SCALE_ROUNDS: usize = 2;

/// A matrix on its way down.
struct Descent<'a> {
    cpu: &'a Cpu,
    rounded: &'a mut Rounded,
    input: &'a InputMetric,
    outputs: &'a [Outputs<'a>],
    /// R.
    residual: Vec<f32>,
    cancel: &'a Cancel,
}

impl Descent<'_> {
    fn passes(&mut self, step: Step, max: usize) -> Option<()> {
        for _ in 0..max {
            let changed = self.pass(step)?;
            if changed * 10_000 < self.rounded.codes.len() {
                break;
            }
        }
        Some(())
    }

    /// One pass over all columns: the number of codes that changed.
    fn pass(&mut self, step: Step) -> Option<usize> {
        let (rows, cols) = (self.rounded.rows, self.rounded.cols);
        let mut changed = 0;
        for first in (0..cols).step_by(PANEL) {
            if self.cancel.is_raised() {
                return None;
            }
            let panel = Panel::new(self.rounded, self.input, &self.residual, first, step);
            let all = self.cpu.team().map(self.outputs.len(), |n| panel.run(self.outputs[n]));
            let mut seen = Vec::with_capacity(rows * PANEL);
            for Changes { list, rescaled, seen: some } in all {
                changed += list.len();
                seen.extend_from_slice(&some);
                for Rescaled { block, group, scales } in rescaled {
                    self.rounded.rescale(block, group, &scales);
                }
                for Change { row, col, code, value } in list {
                    self.rounded.codes[row * cols + col] = code;
                    self.rounded.values[row * cols + col] = value;
                }
            }
            let h = MatRef::new(&self.input.h[first * cols..][..PANEL * cols], PANEL, cols);
            self.cpu.gemm(MatRef::new(&seen, rows, PANEL), h, Store::Sub, &mut self.residual, cols);
        }
        Some(changed)
    }
}

/// `G (W - Q) H`.
fn residual(cpu: &Cpu, rounded: &Rounded, wanted: &[f32], input: &InputMetric, outputs: &[Outputs<'_>]) -> Vec<f32> {
    let (rows, cols) = (rounded.rows, rounded.cols);
    let error: Vec<f32> = wanted.iter().zip(&rounded.values).map(|(w, q)| w - q).collect();
    let mut by_input = vec![0.0; rows * cols];
    let h = MatRef::new(&input.h, cols, cols);
    cpu.gemm(MatRef::new(&error, rows, cols), h, Store::Set, &mut by_input, cols);
    if outputs.iter().all(|block| block.g.is_none()) {
        return by_input;
    }
    let mut residual = error;
    for block in outputs {
        let elems = block.first * cols..(block.first + block.n) * cols;
        let g = block.g.expect("a metric has all outputs");
        let part = MatRef::new(&by_input[elems.clone()], block.n, cols);
        cpu.gemm(MatRef::new(g, block.n, block.n), part, Store::Set, &mut residual[elems], cols);
    }
    residual
}

/// A panel of columns, before its changes.
struct Panel<'a> {
    rounded: &'a Rounded,
    residual: &'a [f32],
    first: usize,
    /// The block of H on the diagonal, `[PANEL, PANEL]`.
    h: Vec<f32>,
    /// The metrics of its groups, where they are changed.
    groups: Vec<GroupMetric>,
}

impl<'a> Panel<'a> {
    fn new(rounded: &'a Rounded, input: &'a InputMetric, residual: &'a [f32], first: usize, step: Step) -> Self {
        let row = |i: usize| &input.h[(first + i) * input.n() + first..][..PANEL];
        let h: Vec<f32> = (0..PANEL).flat_map(row).copied().collect();
        let groups = match step {
            Step::Codes => Vec::new(),
            Step::Groups => GroupMetric::all(&h, PANEL, rounded.format.group_elems().min(PANEL)),
        };
        Self { rounded, residual, first, h, groups }
    }

    fn h(&self, i: usize, j: usize) -> f32 {
        self.h[i * PANEL + j]
    }

    /// All elements of the panel in these outputs, column by column, or group by group.
    fn run(&self, outputs: Outputs<'_>) -> Changes {
        let mut work = Work::new(self, outputs);
        let run = self.rounded.format.run_elems();
        if !self.groups.is_empty() {
            (0..self.groups.len()).for_each(|g| work.group(g));
        } else if run == 1 {
            (0..PANEL).for_each(|j| work.column(j));
        } else {
            (0..PANEL).step_by(run).for_each(|j| work.run_of_columns(j, run));
        }
        work.finish()
    }
}

/// A panel of some outputs at work. Everything is stored by columns.
struct Work<'a> {
    panel: &'a Panel<'a>,
    outputs: Outputs<'a>,
    /// R of the panel.
    residual: Vec<f32>,
    /// `G d` of the changes so far.
    seen: Vec<f32>,
    list: Vec<Change>,
    rescaled: Vec<Rescaled>,
}

impl<'a> Work<'a> {
    fn new(panel: &'a Panel<'a>, outputs: Outputs<'a>) -> Self {
        let (n, cols) = (outputs.n, panel.rounded.cols);
        let mut residual = vec![0.0; PANEL * n];
        for i in 0..n {
            let row = &panel.residual[(outputs.first + i) * cols + panel.first..][..PANEL];
            row.iter().enumerate().for_each(|(j, &x)| residual[j * n + i] = x);
        }
        Self { panel, outputs, residual, seen: vec![0.0; PANEL * n], list: Vec::new(), rescaled: Vec::new() }
    }

    fn g(&self, i: usize) -> f32 {
        self.outputs.g.map_or(1.0, |g| g[i * self.outputs.n + i])
    }

    /// One column, output by output.
    fn column(&mut self, j: usize) {
        let n = self.outputs.n;
        let rounded = self.panel.rounded;
        let (col, h) = (self.panel.first + j, self.panel.h(j, j));
        let group = col % rounded.format.block_elems() / rounded.format.group_elems();
        let levels = rounded.format.levels();
        for i in 0..n {
            let row = self.outputs.first + i;
            let at = row * rounded.cols + col;
            let left = self.residual[j * n + i] - self.seen[j * n + i] * h;
            let value = rounded.values[at];
            let Group { step, min } = rounded.format.group(&rounded.scales[rounded.block(row, col)], group);
            if step == 0.0 {
                continue;
            }
            let code = levels.nearest((value + left / (self.g(i) * h) + min) / step);
            if code != rounded.codes[at] {
                let new = step * levels.level(code) - min;
                self.list.push(Change { row, col, code, value: new });
                self.see(i, j, new - value);
            }
        }
        self.subtract(j, 1);
    }

    /// Columns that are rounded together, output by output.
    fn run_of_columns(&mut self, j: usize, run: usize) {
        let n = self.outputs.n;
        let rounded = self.panel.rounded;
        let mut codes = [0; 8];
        for i in 0..n {
            let row = self.outputs.first + i;
            let at = row * rounded.cols + self.panel.first + j;
            let (mut left, mut wanted, mut weights, mut change) = ([0.0; 8], [0.0; 8], [0.0; 8], [0.0; 8]);
            for k in 0..run {
                let seen = |m: usize| self.seen[(j + m) * n + i] * self.panel.h(j + m, j + k);
                left[k] = self.residual[(j + k) * n + i] - (0..run).map(seen).sum::<f32>();
                weights[k] = self.panel.h(j + k, j + k);
                wanted[k] = rounded.values[at + k] + left[k] / (self.g(i) * weights[k]);
            }
            let grid = rounded.format.grid(&rounded.scales[rounded.block(row, self.panel.first + j)]);
            let elem = (self.panel.first + j) % rounded.format.block_elems();
            grid.round(elem, &wanted[..run], Some(&weights[..run]), &mut codes[..run]);
            if codes[..run] == rounded.codes[at..at + run] {
                continue;
            }
            (0..run).for_each(|k| change[k] = grid.value(elem + k, codes[k]) - rounded.values[at + k]);
            // The choice left out how the columns of the run depend on each other; the decision does not.
            let mut gain = 0.0;
            for k in 0..run {
                let coupled: f32 = (0..run).map(|m| change[m] * self.panel.h(j + m, j + k)).sum();
                gain += change[k] * (2.0 * left[k] - self.g(i) * coupled);
            }
            if gain > 0.0 {
                for k in 0..run {
                    let col = self.panel.first + j + k;
                    self.list.push(Change { row, col, code: codes[k], value: grid.value(elem + k, codes[k]) });
                    self.see(i, j + k, change[k]);
                }
            }
        }
        self.subtract(j, run);
    }

    /// A group of columns, output by output: the best of some scales next to its own, with the codes that each asks for.
    fn group(&mut self, g: usize) {
        let n = self.outputs.n;
        let panel = self.panel;
        let (rounded, metric) = (panel.rounded, &panel.groups[g]);
        let (size, j) = (metric.n(), g * metric.n());
        let mut trial = Trial::default();
        for i in 0..n {
            let row = self.outputs.first + i;
            let at = row * rounded.cols + panel.first + j;
            let mut left = [0.0; MAX_ELEMS];
            for (k, left) in left[..size].iter_mut().enumerate() {
                let seen = |m: usize| self.seen[(j + m) * n + i] * panel.h(j + m, j + k);
                *left = (self.residual[(j + k) * n + i] - (0..size).map(seen).sum::<f32>()) / self.g(i);
            }
            let values = &rounded.values[at..at + size];
            let best = metric.best(values, &left[..size]);
            let block = rounded.block(row, panel.first + j);
            let in_block = (panel.first + j) % rounded.format.block_elems();
            let group = in_block / rounded.format.group_elems();
            let (candidates, scales) = neighbours(&rounded.format, &rounded.scales[block], group);
            trial.run(rounded.format.levels(), &candidates, metric.stretch(&best[..size]));
            let lane = trial.best();
            let own = metric.loss(values, &best[..size]);
            // NaN improves nothing.
            if trial.loss[lane].is_nan() || trial.loss[lane] >= 0.9999 * own {
                continue;
            }
            self.rescaled.push(Rescaled { block, group, scales: scales[lane] });
            let Group { step, min } = rounded.format.group(&scales[lane], group);
            let levels = rounded.format.levels();
            for (k, level) in trial.levels(lane).take(size).enumerate() {
                let (code, new) = (code_of(levels, level), step * level - min);
                if new != values[k] || code != rounded.codes[at + k] {
                    self.list.push(Change { row, col: panel.first + j + k, code, value: new });
                    self.see(i, j + k, new - values[k]);
                }
            }
        }
        self.subtract(j, size);
    }

    /// Every output sees the change of output `i`.
    fn see(&mut self, i: usize, j: usize, change: f32) {
        let n = self.outputs.n;
        let seen = &mut self.seen[j * n..][..n];
        match self.outputs.g {
            Some(g) => seen.iter_mut().zip(&g[i * n..][..n]).for_each(|(seen, g)| *seen += g * change),
            None => seen[i] += change,
        }
    }

    /// Brings the other columns of the panel up to date with those from `j` on.
    fn subtract(&mut self, j: usize, run: usize) {
        let n = self.outputs.n;
        for k in j..j + run {
            let seen = &self.seen[k * n..][..n];
            for m in (0..PANEL).filter(|m| !(j..j + run).contains(m)) {
                let h = self.panel.h(k, m);
                self.residual[m * n..][..n].iter_mut().zip(seen).for_each(|(left, seen)| *left -= seen * h);
            }
        }
    }

    fn finish(self) -> Changes {
        let n = self.outputs.n;
        let mut seen = vec![0.0; n * PANEL];
        for (j, column) in self.seen.chunks_exact(n).enumerate() {
            column.iter().enumerate().for_each(|(i, &x)| seen[i * PANEL + j] = x);
        }
        Changes { list: self.list, rescaled: self.rescaled, seen }
    }
}
