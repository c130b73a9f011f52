//! The walk through a model: every matrix is rounded with the inputs that it has behind the matrices rounded before.
//!
//! Two residual streams run side by side, that of the full model and that of the model as far as it is quantized. They
//! are in memory for all tokens; of the weights, one block at a time, or the embedding, or the output matrix.

mod linear;

use crate::divergence;
use crate::error::Error;
use crate::input::InputMetric;
use crate::matrix::{MatrixProblem, estimate, round};
use crate::report::{Alternative, MatrixReport, Report};
use crate::rounded::Rounded;
use crate::settings::Settings;
use linear::Site;
use pythia_calibrate::calibration::Calibration;
use pythia_calibrate::network::{Linear, Network};
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
        let output = Both { quantized: self.site(&output, &normed, None).round(&mut report)?, full: output };
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
        let qkv = self.site(&block.qkv, &normed, None).round(report)?;
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
        let attn_output = self.site(&block.attn_output, &inputs, Some(stream)).round(report)?;
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
        let up = self.site(&block.ffn_up, &normed, None).round(report)?;
        let up = Both { full: &block.ffn_up, quantized: &up };
        let activated = |side: Side, rows: Range<usize>, out: &mut Vec<f32>| {
            let mut x = Vec::new();
            normed(side, rows, &mut x);
            network.linear(up.of(side), &x, out);
            network.gelu(out);
        };
        let down = self.site(&block.ffn_down, &activated, Some(&middle)).round(report)?;
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

    /// A matrix where it stands in the model. `residual` are the streams that it adds to.
    fn site<'s>(&'s self, linear: &'s Linear, inputs: Inputs<'s>, residual: Option<&'s Both<Vec<f32>>>) -> Site<'s> {
        Site { walk: self, linear, inputs, residual }
    }

    fn alternatives(&self, problem: MatrixProblem<'_>, loss: f64) -> Result<Vec<Alternative>, Error> {
        let losses = estimate(self.network.cpu(), problem, loss, self.alternatives, self.cancel);
        let losses = losses.ok_or(Error::Cancelled)?;
        Ok(losses.into_iter().map(|(ty, predicted)| Alternative { ty, predicted }).collect())
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

/// `to += from`, element by element.
fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}
