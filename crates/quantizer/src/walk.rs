//! The walk through a model: every matrix is rounded with the inputs that it has behind the matrices rounded before.
//!
//! Two residual streams run side by side, that of the full model and that of the model as far as it is quantized. Only
//! one block's weights are in memory at a time.

use crate::divergence;
use crate::error::Error;
use crate::input::InputMetric;
use crate::matrix::{MatrixProblem, estimate, round};
use crate::moments::{Means, Moments};
use crate::output::{OutputBlock, OutputMetric};
use crate::report::{Alternative, MatrixReport, Report};
use crate::rounded::Rounded;
use crate::settings::Settings;
use pythia_calibrate::calibration::Calibration;
use pythia_calibrate::network::{Linear, Network};
use pythia_kernels::{MatRef, Store};
use pythia_schema::{Kind, TensorId};
use pythia_task::{Cancel, Progress};
use pythia_tensor::TensorType;
use std::ops::Range;
use std::time::Instant;

/// Tokens that are computed at a time, rounded up to whole windows.
const GROUP_TOKENS: usize = 2048;

/// From this many tokens on, the settings' damping is enough.
const FULL_TOKENS: f64 = 32768.0;

/// Tokens whose logits are in memory at a time.
const LOGIT_TOKENS: usize = 256;

/// Where rounded matrices go.
pub trait Target {
    /// The type that a matrix gets; `None` if it is stored as it is.
    fn ty(&self, id: TensorId) -> Option<TensorType>;

    /// A rounded matrix, encoded.
    ///
    /// # Errors
    /// If it cannot be stored.
    fn matrix(&self, id: TensorId, bytes: &[u8]) -> Result<(), Error>;

    /// A vector that has changed.
    ///
    /// # Errors
    /// If it cannot be stored.
    fn vector(&self, id: TensorId, values: &[f32]) -> Result<(), Error>;
}

/// Everything that a walk is made of.
pub struct Walk<'a> {
    /// The model.
    pub network: &'a Network<'a>,
    /// Windows and metrics.
    pub calibration: &'a Calibration,
    /// How matrices are rounded.
    pub settings: &'a Settings,
    /// Types, and where matrices go.
    pub target: &'a dyn Target,
    /// Types whose losses are estimated too, for every matrix.
    pub alternatives: &'a [TensorType],
    /// Raised to stop.
    pub cancel: &'a Cancel,
    /// Counts matrices.
    pub progress: &'a dyn Progress,
}

/// The full model, or the quantized one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Full,
    Quantized,
}

/// A value for each side.
#[derive(Clone, Debug, Default)]
struct Both<T> {
    full: T,
    quantized: T,
}

impl<T> Both<T> {
    fn of(&self, side: Side) -> &T {
        match side {
            Side::Full => &self.full,
            Side::Quantized => &self.quantized,
        }
    }

    fn of_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Full => &mut self.full,
            Side::Quantized => &mut self.quantized,
        }
    }
}

/// What enters a matrix: fills a buffer with the rows of some tokens.
type Inputs<'f> = &'f dyn Fn(Side, Range<usize>, &mut Vec<f32>);

impl Walk<'_> {
    /// Rounds all matrices.
    ///
    /// # Errors
    /// If the model or the calibration cannot be read, a rounded matrix cannot be stored, or it is cancelled.
    pub fn run(&self) -> Result<Report, Error> {
        let (n_layer, width) = (self.network.hparams().n_layer, self.network.hparams().n_embd);
        let mut report = Report::default();
        self.progress.expect(Some(4 * n_layer as u64 + 2));
        let mut stream = self.embeddings(&mut report)?;
        for layer in 0..n_layer {
            self.block(layer, width, &mut stream, &mut report)?;
        }
        let norm = self.network.output_norm()?;
        let normed = |side: Side, rows: Range<usize>, out: &mut Vec<f32>| {
            self.network.layer_norm(&norm, &stream.of(side)[rows.start * width..rows.end * width], out);
        };
        let output = self.network.output()?;
        let output = Both { quantized: self.linear(&output, &normed, None, &mut report)?, full: output };
        report.divergence = self.divergence(&output, &normed)?;
        Ok(report)
    }

    /// The mean divergence of the held-out tokens; `None` if there are none.
    fn divergence(&self, output: &Both<Linear>, inputs: Inputs<'_>) -> Result<Option<f64>, Error> {
        let held_out = self.held_out();
        let n = held_out.len();
        let n_vocab = output.full.rows;
        let (mut x, mut sum) = (Vec::new(), 0.0);
        let mut logits = Both::<Vec<f32>>::default();
        for start in held_out.step_by(LOGIT_TOKENS) {
            self.check()?;
            let tokens = start..self.n_tokens().min(start + LOGIT_TOKENS);
            for side in [Side::Full, Side::Quantized] {
                inputs(side, tokens.clone(), &mut x);
                self.network.linear(output.of(side), &x, logits.of_mut(side));
            }
            sum += divergence::sum(self.network.cpu().team(), &logits.full, &logits.quantized, n_vocab);
        }
        Ok((n > 0).then(|| sum / n as f64))
    }

    fn n_tokens(&self) -> usize {
        self.calibration.tokens().len()
    }

    /// The tokens that are held out: the last ones.
    fn held_out(&self) -> Range<usize> {
        let (n, n_ctx) = (self.n_tokens(), self.calibration.n_ctx());
        let windows = n / n_ctx;
        let held = (windows / self.settings.held_out).clamp(1, windows.saturating_sub(1).max(1));
        let held = if windows < 2 { 0 } else { held };
        n - held * n_ctx..n
    }

    /// Tokens, a few windows at a time.
    fn groups(&self, tokens: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        Self::steps(tokens, GROUP_TOKENS.next_multiple_of(self.calibration.n_ctx()))
    }

    fn steps(tokens: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let end = tokens.end;
        tokens.step_by(step).map(move |start| start..end.min(start + step))
    }

    /// A damping, for the number of tokens that there are: moments of few are less certain.
    fn damping(&self, damping: f64) -> f64 {
        damping * (FULL_TOKENS / self.n_tokens() as f64).max(1.0).sqrt()
    }

    fn check(&self) -> Result<(), Error> {
        if self.cancel.is_raised() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Rounds the embedding, and starts both streams with it.
    fn embeddings(&self, report: &mut Report) -> Result<Both<Vec<f32>>, Error> {
        let network = self.network;
        let tokens = self.calibration.tokens();
        let mut full = Vec::new();
        network.embed(tokens, &mut full)?;
        let id = TensorId::weight(Kind::TokenEmbd, None);
        let Some(ty) = self.target.ty(id) else {
            self.progress.advance(&id.gguf(), 1);
            return Ok(Both { quantized: full.clone(), full });
        };
        let start = Instant::now();
        let (cpu, table) = (network.cpu(), network.token_embd()?);
        let metric = self.calibration.embedding_metric()?;
        let damping = self.damping(self.settings.embedding_damping);
        let input = InputMetric::new(cpu.team(), &metric.values, table.cols, damping);
        let input = input.ok_or_else(|| Error::Metric(id.gguf()))?;
        let weights = frequencies(tokens, table.rows);
        let (wanted, rows, weights) = (&table.weight, table.rows, &weights);
        let problem = MatrixProblem { ty, wanted, rows, input: &input, output: None, weights };
        let rounded = round(cpu, problem, self.settings.passes, self.cancel).ok_or(Error::Cancelled)?;
        let plain = encoded(ty, &table);
        let loss = |values: &[f32]| problem.loss(cpu, values);
        let mut line = MatrixReport::new(id, ty);
        (line.predicted, line.plain) = (loss(rounded.values()), loss(plain.values()));
        line.accepted = line.predicted < line.plain;
        line.measured = line.predicted.min(line.plain);
        let kept = if line.accepted { rounded } else { plain };
        line.alternatives = self.alternatives(problem, line.predicted)?;
        line.seconds = start.elapsed().as_secs_f64();
        report.matrices.push(line);
        self.target.matrix(id, &kept.pack())?;
        self.progress.advance(&id.gguf(), 1);
        let width = table.cols;
        let row = |&token: &u32| kept.values()[token as usize * width..][..width].iter().copied();
        Ok(Both { full, quantized: tokens.iter().flat_map(row).collect() })
    }

    fn block(&self, layer: usize, width: usize, stream: &mut Both<Vec<f32>>, report: &mut Report) -> Result<(), Error> {
        let (network, n_ctx) = (self.network, self.calibration.n_ctx());
        let block = network.block(layer)?;
        let all = 0..self.n_tokens();
        let elems = |rows: &Range<usize>| rows.start * width..rows.end * width;

        let normed = |side: Side, rows: Range<usize>, out: &mut Vec<f32>| {
            network.layer_norm(&block.attn_norm, &stream.of(side)[elems(&rows)], out);
        };
        let qkv = self.linear(&block.qkv, &normed, None, report)?;
        let qkv = Both { full: &block.qkv, quantized: &qkv };

        let mut attended = Both { full: Vec::new(), quantized: Vec::new() };
        let (mut x, mut y, mut out) = (Vec::new(), Vec::new(), Vec::new());
        for side in [Side::Full, Side::Quantized] {
            for rows in self.groups(all.clone()) {
                self.check()?;
                normed(side, rows, &mut x);
                network.linear(qkv.of(side), &x, &mut y);
                network.attend(n_ctx, &mut y, &mut out);
                attended.of_mut(side).extend_from_slice(&out);
            }
        }
        let inputs = |side: Side, rows: Range<usize>, out: &mut Vec<f32>| {
            out.clear();
            out.extend_from_slice(&attended.of(side)[elems(&rows)]);
        };
        let attn_output = self.linear(&block.attn_output, &inputs, Some(stream), report)?;
        let attn_output = Both { full: &block.attn_output, quantized: &attn_output };
        // The streams with attention added.
        let mut middle = stream.clone();
        for side in [Side::Full, Side::Quantized] {
            for rows in self.groups(all.clone()) {
                self.check()?;
                inputs(side, rows.clone(), &mut x);
                network.linear(attn_output.of(side), &x, &mut y);
                add(&mut middle.of_mut(side)[elems(&rows)], &y);
            }
        }
        drop(attended);

        let before = if network.hparams().parallel_residual { &*stream } else { &middle };
        let normed = |side: Side, rows: Range<usize>, out: &mut Vec<f32>| {
            network.layer_norm(&block.ffn_norm, &before.of(side)[elems(&rows)], out);
        };
        let up = self.linear(&block.ffn_up, &normed, None, report)?;
        let up = Both { full: &block.ffn_up, quantized: &up };
        let activated = |side: Side, rows: Range<usize>, out: &mut Vec<f32>| {
            let mut x = Vec::new();
            normed(side, rows, &mut x);
            network.linear(up.of(side), &x, out);
            network.gelu(out);
        };
        let down = self.linear(&block.ffn_down, &activated, Some(&middle), report)?;
        let down = Both { full: &block.ffn_down, quantized: &down };
        let mut after = Both::<Vec<f32>>::default();
        for side in [Side::Full, Side::Quantized] {
            let stream = middle.of(side);
            for rows in self.groups(all.clone()) {
                self.check()?;
                activated(side, rows.clone(), &mut x);
                network.linear(down.of(side), &x, &mut y);
                add(&mut y, &stream[elems(&rows)]);
                after.of_mut(side).extend_from_slice(&y);
            }
        }
        *stream = after;
        Ok(())
    }

    /// Rounds a matrix with the inputs that it has on both sides. `residual` are the streams that it adds to.
    fn linear(
        &self,
        linear: &Linear,
        inputs: Inputs<'_>,
        residual: Option<&Both<Vec<f32>>>,
        report: &mut Report,
    ) -> Result<Linear, Error> {
        self.check()?;
        let Some(ty) = self.target.ty(linear.id) else {
            self.progress.advance(&linear.id.gguf(), 1);
            return Ok(linear.clone());
        };
        let start = Instant::now();
        let (cpu, settings) = (self.network.cpu(), self.settings);
        let (rows, cols) = (linear.rows, linear.cols);
        let error = |tokens: &Range<usize>, out: &mut Vec<f32>| {
            out.clear();
            if let Some(stream) = residual {
                let elems = tokens.start * rows..tokens.end * rows;
                let pairs = stream.full[elems.clone()].iter().zip(&stream.quantized[elems]);
                out.extend(pairs.map(|(full, quantized)| full - quantized));
            }
        };

        let mut moments = Moments::new(cols, if residual.is_some() { rows } else { 0 });
        let (mut full, mut quantized, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for tokens in self.groups(0..self.held_out().start) {
            self.check()?;
            inputs(Side::Full, tokens.clone(), &mut full);
            inputs(Side::Quantized, tokens.clone(), &mut quantized);
            error(&tokens, &mut left);
            moments.add(cpu, &full, &quantized, &left);
        }
        let means = moments.means();
        let input = InputMetric::new(cpu.team(), &means.inputs, cols, self.damping(settings.input_damping));
        let input = input.ok_or_else(|| Error::Metric(linear.id.gguf()))?;
        let wanted = self.wanted(linear, &means, &input);
        let output = self.output_metric(linear.id)?;
        let weights = if linear.id.kind == Kind::Output { self.logit_weights(linear, inputs)? } else { Vec::new() };
        let (wanted, weights) = (&wanted, &weights);
        let problem = MatrixProblem { ty, wanted, rows, input: &input, output: output.as_ref(), weights };
        let rounded = round(cpu, problem, settings.passes, self.cancel).ok_or(Error::Cancelled)?;
        let plain = encoded(ty, linear);
        let bias = &linear.bias;
        let shifted = (settings.biases && !bias.is_empty())
            .then(|| shifted_bias(linear, rounded.values(), &means, settings.residual));

        let mut line = MatrixReport::new(linear.id, ty);
        line.predicted = problem.loss(cpu, rounded.values());
        let mut with_bias = f64::INFINITY;
        let mut measured = vec![(&mut line.measured, &rounded, bias), (&mut line.plain, &plain, bias)];
        if let Some(shifted) = &shifted {
            with_bias = 0.0;
            measured.push((&mut with_bias, &rounded, shifted));
        }
        let is_output = linear.id.kind == Kind::Output;
        let step = if is_output { LOGIT_TOKENS } else { GROUP_TOKENS.next_multiple_of(self.calibration.n_ctx()) };
        let mut n_held = 0;
        for tokens in Self::steps(self.held_out(), step) {
            self.check()?;
            n_held += tokens.len();
            inputs(Side::Full, tokens.clone(), &mut full);
            inputs(Side::Quantized, tokens.clone(), &mut quantized);
            error(&tokens, &mut left);
            let mut exact = Vec::new();
            self.network.linear(linear, &full, &mut exact);
            add(&mut exact[..left.len()], &left);
            for (sum, rounded, bias) in &mut measured {
                let mut outputs = Vec::new();
                self.network.linear_with(linear, rounded.values(), bias, &quantized, &mut outputs);
                outputs.iter_mut().zip(&exact).for_each(|(y, exact)| *y -= exact);
                **sum += self.cost(&outputs, rows, output.as_ref(), weights);
            }
        }
        let n_held = n_held.max(1) as f64;
        (line.measured, line.plain, with_bias) = (line.measured / n_held, line.plain / n_held, with_bias / n_held);
        // Without windows to spare, what the metric says counts, and biases stay.
        let held_out = !self.held_out().is_empty();
        let shifted = shifted.filter(|_| held_out && with_bias < line.measured && with_bias < line.plain);
        if shifted.is_some() {
            line.measured = with_bias;
        }
        line.accepted =
            if held_out { line.measured < line.plain } else { line.predicted <= problem.loss(cpu, plain.values()) };
        line.bias = shifted.is_some();
        let kept = if line.accepted { rounded } else { plain };
        line.measured = line.measured.min(line.plain);
        line.alternatives = self.alternatives(problem, line.predicted)?;
        line.seconds = start.elapsed().as_secs_f64();
        self.target.matrix(linear.id, &kept.pack())?;
        if line.bias {
            self.target.vector(linear.id.bias(), shifted.as_deref().unwrap_or(bias))?;
        }
        report.matrices.push(line);
        self.progress.advance(&linear.id.gguf(), 1);
        let bias = shifted.unwrap_or_else(|| bias.clone());
        Ok(Linear { id: linear.id, rows, cols, weight: kept.into_values(), bias })
    }

    /// What the matrix should be, given its inputs: moved towards the one that makes up for their errors, and for those
    /// of the stream. With f the full model's inputs, x the quantized one's and r the error of the stream, the best
    /// matrix without rounding is `(W E[f xT] + E[r xT]) E[x xT]^-1` (Li et al., "GPTAQ", 2025).
    fn wanted(&self, linear: &Linear, means: &Means, input: &InputMetric) -> Vec<f32> {
        let Settings { pull, residual, .. } = *self.settings;
        let (cpu, rows, cols) = (self.network.cpu(), linear.rows, linear.cols);
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

    fn output_metric(&self, id: TensorId) -> Result<Option<OutputMetric>, Error> {
        if id.kind == Kind::Output {
            return Ok(None);
        }
        let blocks = self.calibration.output_metric(id)?;
        let blocks = blocks.into_iter().map(|block| {
            let damping = self.damping(self.settings.output_damping);
            OutputBlock::new(block.first_row, block.rows, block.values, damping)
        });
        // Outputs without any gradient count alike.
        Ok(blocks.collect::<Option<_>>().map(OutputMetric::new))
    }

    /// What an error of a logit costs by itself: the mean of `p (1 - p)` over some tokens, p its probability in the full
    /// model.
    fn logit_weights(&self, output: &Linear, inputs: Inputs<'_>) -> Result<Vec<f32>, Error> {
        // Not of those that are held out, unless there is one window only.
        let end = if self.held_out().is_empty() { self.n_tokens() } else { self.held_out().start };
        let tokens = end - self.calibration.n_ctx().min(end)..end;
        let n = tokens.len() as f64;
        let mut sums = vec![0.0f64; output.rows];
        let (mut x, mut logits) = (Vec::new(), Vec::new());
        for start in tokens.step_by(LOGIT_TOKENS) {
            self.check()?;
            inputs(Side::Full, start..end.min(start + LOGIT_TOKENS), &mut x);
            self.network.linear(output, &x, &mut logits);
            divergence::add_variances(self.network.cpu().team(), &logits, &mut sums);
        }
        Ok(sums.iter().map(|sum| (sum / n) as f32).collect())
    }

    fn alternatives(&self, problem: MatrixProblem<'_>, loss: f64) -> Result<Vec<Alternative>, Error> {
        let losses = estimate(self.network.cpu(), problem, loss, self.alternatives, self.cancel);
        let losses = losses.ok_or(Error::Cancelled)?;
        Ok(losses.into_iter().map(|(ty, predicted)| Alternative { ty, predicted }).collect())
    }

    /// Half of the sum of `e G e` over rows e.
    fn cost(&self, errors: &[f32], width: usize, output: Option<&OutputMetric>, weights: &[f32]) -> f64 {
        let n = errors.len() / width;
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let Some(output) = output else {
            let cost = |(&e, &weight): (&f32, &f32)| f64::from(weight) * f64::from(e) * f64::from(e);
            let rows = errors.chunks_exact(width);
            return rows.map(|row| row.iter().zip(weights).map(cost).sum::<f64>()).sum::<f64>() / 2.0;
        };
        let mut seen = vec![0.0; errors.len()];
        for block in output.blocks() {
            let part = MatRef::strided(&errors[block.first..], n, block.n, width);
            let g = MatRef::new(&block.g, block.n, block.n);
            self.network.cpu().gemm(part, g, Store::Set, &mut seen[block.first..], width);
        }
        dot(errors, &seen) / 2.0
    }
}

/// The matrix in its type's own encoding: the bytes of a conversion without a quantizer.
fn encoded(ty: TensorType, linear: &Linear) -> Rounded {
    let mut bytes = vec![0; linear.rows * ty.row_bytes(linear.cols).expect("whole blocks")];
    ty.encode(&linear.weight, &mut bytes);
    Rounded::unpack(ty, linear.rows, linear.cols, &bytes)
}

/// The share of every token of a vocabulary of `n`.
fn frequencies(tokens: &[u32], n: usize) -> Vec<f32> {
    let mut counts = vec![0u32; n];
    tokens.iter().for_each(|&token| counts[token as usize] += 1);
    counts.iter().map(|&count| count as f32 / tokens.len().max(1) as f32).collect()
}

/// The bias with which the mean error of the outputs vanishes.
fn shifted_bias(linear: &Linear, values: &[f32], means: &Means, residual: f64) -> Vec<f32> {
    let [x, f, r] = &means.mean;
    let dot = |row: &[f32], x: &[f64]| row.iter().zip(x).map(|(&w, &x)| f64::from(w) * x).sum::<f64>();
    let rows = linear.weight.chunks_exact(linear.cols).zip(values.chunks_exact(linear.cols));
    let shift = rows.enumerate().map(|(i, (w, q))| dot(w, f) - dot(q, x) + residual * r.get(i).unwrap_or(&0.0));
    linear.bias.iter().zip(shift).map(|(&b, shift)| (f64::from(b) + shift) as f32).collect()
}

/// `to += from`, element by element.
fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}
