//! One matrix where it stands in the model: what enters it on both sides, and what it is rounded to.

use super::{Both, GROUP_TOKENS, Inputs, LOGIT_TOKENS, Side, Walk, add, encoded};
use crate::divergence;
use crate::error::Error;
use crate::input::InputMetric;
use crate::matrix::{MatrixProblem, round};
use crate::moments::{Means, Moments};
use crate::output::{OutputBlock, OutputMetric};
use crate::report::{MatrixReport, Report};
use crate::settings::Settings;
use pythia_calibrate::network::Linear;
use pythia_kernels::{MatRef, Store};
use pythia_schema::Kind;
use std::ops::Range;
use std::time::Instant;

/// A matrix and its surroundings.
#[derive(Clone, Copy)]
pub(super) struct Site<'s> {
    pub(super) walk: &'s Walk<'s>,
    pub(super) linear: &'s Linear,
    /// What enters it.
    pub(super) inputs: Inputs<'s>,
    /// The streams that it adds to.
    pub(super) residual: Option<&'s Both<Vec<f32>>>,
}

/// What an error of its outputs costs.
struct OutputCost {
    /// Their metric.
    metric: Option<OutputMetric>,
    /// Without one, a weight per output.
    weights: Vec<f32>,
}

/// The rows of some tokens.
#[derive(Default)]
struct Rows {
    full: Vec<f32>,
    quantized: Vec<f32>,
    /// The error in the stream that the matrix adds to.
    left: Vec<f32>,
}

impl Site<'_> {
    /// Rounds the matrix and hands it over. Returns what the quantized model has in its place.
    pub(super) fn round(&self, report: &mut Report) -> Result<Linear, Error> {
        let Self { walk, linear, .. } = *self;
        walk.check()?;
        let name = linear.id.gguf();
        let Some(ty) = walk.target.ty(linear.id) else {
            walk.progress.advance(&name, 1);
            return Ok(linear.clone());
        };
        let start = Instant::now();
        let (cpu, settings, bias) = (walk.network.cpu(), walk.settings, &linear.bias);
        let means = self.means()?;
        let damping = walk.damping(settings.input_damping);
        let input = InputMetric::new(cpu.team(), &means.inputs, linear.cols, damping);
        let input = input.ok_or_else(|| Error::Metric(name.clone()))?;
        let wanted = self.wanted(&means, &input);
        let cost = self.output_cost()?;
        let problem = MatrixProblem {
            ty,
            wanted: &wanted,
            rows: linear.rows,
            input: &input,
            output: cost.metric.as_ref(),
            weights: &cost.weights,
        };
        let rounded = round(cpu, problem, settings.passes, walk.cancel).ok_or(Error::Cancelled)?;
        let plain = encoded(ty, linear);
        let shifted = (settings.biases && !bias.is_empty())
            .then(|| shifted_bias(linear, rounded.values(), &means, settings.residual));

        let mut line = MatrixReport::new(linear.id, ty);
        line.predicted = problem.loss(cpu, rounded.values());
        let mut candidates = vec![(plain.values(), &bias[..]), (rounded.values(), bias)];
        candidates.extend(shifted.as_deref().map(|shifted| (rounded.values(), shifted)));
        let mut kept_bias = None;
        if walk.held_out().is_empty() {
            // Without windows to spare, what the metric says counts, and biases stay.
            line.accepted = line.predicted <= problem.loss(cpu, plain.values());
        } else {
            let measured = self.measured(&cost, &candidates)?;
            let (plain, ours) = (measured[0], measured[1]);
            let with_bias = measured.get(2).copied().filter(|&with_bias| with_bias < ours.min(plain));
            kept_bias = shifted.filter(|_| with_bias.is_some());
            let best = with_bias.unwrap_or(ours);
            line.accepted = best < plain;
            (line.plain, line.measured) = (plain, best.min(plain));
        }
        line.bias = kept_bias.is_some();
        let kept = if line.accepted { rounded } else { plain };
        line.alternatives = walk.alternatives(problem, line.predicted)?;
        line.seconds = start.elapsed().as_secs_f64();
        report.matrices.push(line);
        walk.target.matrix(linear.id, &kept.pack())?;
        if let Some(bias) = &kept_bias {
            walk.target.vector(linear.id.bias(), bias)?;
        }
        walk.progress.advance(&name, 1);
        let Linear { id, rows, cols, .. } = *linear;
        Ok(Linear { id, rows, cols, weight: kept.into_values(), bias: kept_bias.unwrap_or_else(|| bias.clone()) })
    }

    /// What enters the matrix for some tokens.
    fn rows(&self, tokens: Range<usize>, rows: &mut Rows) {
        (self.inputs)(Side::Full, tokens.clone(), &mut rows.full);
        (self.inputs)(Side::Quantized, tokens.clone(), &mut rows.quantized);
        rows.left.clear();
        if let Some(stream) = self.residual {
            let width = self.linear.rows;
            let elems = tokens.start * width..tokens.end * width;
            let pairs = stream.full[elems.clone()].iter().zip(&stream.quantized[elems]);
            rows.left.extend(pairs.map(|(full, quantized)| full - quantized));
        }
    }

    /// The moments over all tokens that are not held out.
    fn means(&self) -> Result<Means, Error> {
        let walk = self.walk;
        let mut moments = Moments::new(self.linear.cols, if self.residual.is_some() { self.linear.rows } else { 0 });
        let mut rows = Rows::default();
        for tokens in walk.groups(0..walk.held_out().start) {
            walk.check()?;
            self.rows(tokens, &mut rows);
            moments.add(walk.network.cpu(), &rows.full, &rows.quantized, &rows.left);
        }
        Ok(moments.means())
    }

    /// What the matrix should be, given its inputs: moved towards the one that makes up for their errors, and for those
    /// of the stream. With f the full model's inputs, x the quantized one's and r the error of the stream, the best
    /// matrix without rounding is `(W E[f xT] + E[r xT]) E[x xT]^-1` (Li et al., "GPTAQ", 2025).
    fn wanted(&self, means: &Means, input: &InputMetric) -> Vec<f32> {
        let Settings { pull, residual, .. } = *self.walk.settings;
        let (cpu, linear) = (self.walk.network.cpu(), self.linear);
        let Linear { rows, cols, .. } = *linear;
        let mut product = vec![0.0; rows * cols];
        let weight = MatRef::new(&linear.weight, rows, cols);
        cpu.gemm(weight, MatRef::new(&means.cross, cols, cols), Store::Set, &mut product, cols);
        let mut best: Vec<f64> = product.iter().map(|&x| pull * f64::from(x)).collect();
        for (best, &w) in best.iter_mut().zip(&linear.weight) {
            *best += pull * input.added * f64::from(w);
        }
        for (best, &r) in best.iter_mut().zip(&means.residual) {
            *best += residual * f64::from(r);
        }
        input.solve_rows(cpu.team(), &mut best);
        best.iter().zip(&linear.weight).map(|(best, &w)| (best + (1.0 - pull) * f64::from(w)) as f32).collect()
    }

    fn output_cost(&self) -> Result<OutputCost, Error> {
        let (walk, id) = (self.walk, self.linear.id);
        if id.kind == Kind::Output {
            return Ok(OutputCost { metric: None, weights: self.logit_weights()? });
        }
        let damping = walk.damping(walk.settings.output_damping);
        let blocks = walk.calibration.output_metric(id)?.into_iter();
        let blocks = blocks.map(|block| OutputBlock::new(block.first_row, block.rows, block.values, damping));
        // Outputs without any gradient count alike.
        let metric = blocks.collect::<Option<_>>().map(OutputMetric::new);
        Ok(OutputCost { metric, weights: vec![1.0; self.linear.rows] })
    }

    /// What an error of a logit costs by itself: the mean of `p (1 - p)` over some tokens, p its probability in the full
    /// model.
    fn logit_weights(&self) -> Result<Vec<f32>, Error> {
        let walk = self.walk;
        // Not of those that are held out, unless there is one window only.
        let end = if walk.held_out().is_empty() { walk.n_tokens() } else { walk.held_out().start };
        let tokens = end - walk.calibration.n_ctx().min(end)..end;
        let n = tokens.len() as f64;
        let mut sums = vec![0.0f64; self.linear.rows];
        let (mut x, mut logits) = (Vec::new(), Vec::new());
        for start in tokens.step_by(LOGIT_TOKENS) {
            walk.check()?;
            (self.inputs)(Side::Full, start..end.min(start + LOGIT_TOKENS), &mut x);
            walk.network.linear(self.linear, &x, &mut logits);
            divergence::add_variances(walk.network.cpu().team(), &logits, &mut sums);
        }
        Ok(sums.iter().map(|sum| (sum / n) as f32).collect())
    }

    /// What the errors of the outputs cost with each of these weights and biases: the mean over the held-out tokens.
    fn measured(&self, cost: &OutputCost, candidates: &[(&[f32], &[f32])]) -> Result<Vec<f64>, Error> {
        let (walk, linear) = (self.walk, self.linear);
        let whole = GROUP_TOKENS.next_multiple_of(walk.calibration.n_ctx());
        let step = if linear.id.kind == Kind::Output { LOGIT_TOKENS } else { whole };
        let mut sums = vec![0.0; candidates.len()];
        let mut rows = Rows::default();
        let (mut exact, mut outputs) = (Vec::new(), Vec::new());
        for tokens in Walk::steps(walk.held_out(), step) {
            walk.check()?;
            self.rows(tokens, &mut rows);
            walk.network.linear(linear, &rows.full, &mut exact);
            add(&mut exact[..rows.left.len()], &rows.left);
            for (sum, &(weight, bias)) in sums.iter_mut().zip(candidates) {
                walk.network.linear_with(linear, weight, bias, &rows.quantized, &mut outputs);
                outputs.iter_mut().zip(&exact).for_each(|(y, exact)| *y -= exact);
                *sum += self.cost(cost, &outputs);
            }
        }
        sums.iter_mut().for_each(|sum| *sum /= walk.held_out().len() as f64);
        Ok(sums)
    }

    /// Half of the sum of `e G e` over rows e.
    fn cost(&self, cost: &OutputCost, errors: &[f32]) -> f64 {
        let width = self.linear.rows;
        let n = errors.len() / width;
        let Some(metric) = &cost.metric else {
            let cost_of = |(&e, &weight): (&f32, &f32)| f64::from(weight) * f64::from(e) * f64::from(e);
            let rows = errors.chunks_exact(width);
            return rows.map(|row| row.iter().zip(&cost.weights).map(cost_of).sum::<f64>()).sum::<f64>() / 2.0;
        };
        let mut seen = vec![0.0; errors.len()];
        for block in metric.blocks() {
            let part = MatRef::strided(&errors[block.first..], n, block.n, width);
            let g = MatRef::new(&block.g, block.n, block.n);
            self.walk.network.cpu().gemm(part, g, Store::Set, &mut seen[block.first..], width);
        }
        errors.iter().zip(&seen).map(|(&e, &seen)| f64::from(e) * f64::from(seen)).sum::<f64>() / 2.0
    }
}

/// The bias with which the mean error of the outputs vanishes, but for what is left to others of the stream's.
fn shifted_bias(linear: &Linear, values: &[f32], means: &Means, residual: f64) -> Vec<f32> {
    let [x, f, r] = &means.mean;
    let dot = |row: &[f32], x: &[f64]| row.iter().zip(x).map(|(&w, &x)| f64::from(w) * x).sum::<f64>();
    let rows = linear.weight.chunks_exact(linear.cols).zip(values.chunks_exact(linear.cols));
    let shift = rows.enumerate().map(|(i, (w, q))| dot(w, f) - dot(q, x) + residual * r.get(i).unwrap_or(&0.0));
    linear.bias.iter().zip(shift).map(|(&b, shift)| (f64::from(b) + shift) as f32).collect()
}
