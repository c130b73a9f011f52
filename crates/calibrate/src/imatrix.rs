//! Collects importance matrices: the mean squared inputs of every weight matrix while the model reads a text.

use pythia_gguf::{Imatrix, ImatrixEntry};
use pythia_model::backend::Batch;
use pythia_model::hook::Rows;
use pythia_model::{ContextShape, Hook, Hooks, Model, Span, Values};
use pythia_runtime::{Error, TokenStream};
use pythia_schema::TensorId;
use pythia_task::{Cancel, Progress};
use std::sync::Arc;

/// How an importance matrix is collected. The text of a file should be read without its
/// [last line end](pythia_runtime::TextReader::without_last_newline).
#[derive(Clone, Debug)]
pub struct Request {
    /// Tokens per chunk. Chunks are disjoint and start with an empty context. An incomplete last chunk is dropped.
    pub n_ctx: usize,
    /// Maximum number of tokens per call of the model. Does not change the result.
    pub n_batch: usize,
    /// Stop after this many chunks.
    pub max_chunks: Option<usize>,
    /// Name of the text, for the file.
    pub dataset: String,
    /// Raised by the caller to stop, also within a chunk.
    pub cancel: Cancel,
}

/// Runs a text through a model and sums, over all tokens, the squares of the inputs of each matrix of the blocks and of
/// the output matrix. `progress` counts chunks; their total is an estimate until the end of the text has been read.
///
/// The sums have the same bits on every ISA, with any number of threads and any `n_batch`.
///
/// # Errors
/// If the text cannot be read or tokenized, has less than a chunk of tokens or ids that are not in the model's
/// vocabulary, if a chunk does not fit the model's context or has no tokens, if activations are not finite, or if it is
/// cancelled.
pub fn collect(
    model: &Arc<Model>,
    request: &Request,
    tokens: &mut TokenStream<'_>,
    progress: &dyn Progress,
) -> Result<Imatrix, Error> {
    check(model, request)?;
    let n_ctx = request.n_ctx;
    tokens.require_below(model.hparams().n_vocab)?;
    tokens.reach_end_if_short()?;
    let found = tokens.reach(n_ctx)?;
    if found < n_ctx {
        return Err(Error::TextTooShort { tokens: found, wanted: n_ctx, protocol: "imatrix" });
    }
    let max_chunks = request.max_chunks.unwrap_or(usize::MAX).max(1);
    let n_batch = request.n_batch.min(n_ctx);
    let mut context = model.context(ContextShape { n_seq: 1, n_ctx, n_batch })?.cancelled_by(request.cancel.clone());
    let mut sequence = context.sequence()?;
    let mut sums = Sums { model, matrices: Vec::new() };
    let mut entries = Vec::new();
    let mut chunks = 0;
    while chunks < max_chunks {
        let (start, end) = (chunks * n_ctx, (chunks + 1) * n_ctx);
        if tokens.reach(end)? < end {
            break;
        }
        sequence.truncate(0);
        for tokens in tokens.slice(start..end).chunks(n_batch) {
            let mut spans = [Span { sequence: &mut sequence, tokens }];
            context.forward_seen(&mut spans, &mut sums)?;
        }
        tokens.forget(end);
        chunks += 1;
        // Checked after every chunk, so that infinite activations or NaN end the run when they appear.
        entries = sums.entries(end)?;
        let estimate = tokens.estimated_total().map(|total| (total / n_ctx).max(chunks));
        let total = estimate.or(request.max_chunks).map(|total| total.min(max_chunks));
        progress.expect(total.map(|total| total as u64));
        progress.advance("", 1);
        if request.cancel.is_raised() {
            return Err(Error::Cancelled);
        }
    }
    let too_many = |_| Error::Setting { name: "chunks", problem: format!("found {chunks}, wanted fewer") };
    Ok(Imatrix {
        entries,
        datasets: vec![request.dataset.clone()],
        chunk_count: chunks.try_into().map_err(too_many)?,
        chunk_size: n_ctx.try_into().map_err(too_many)?,
    })
}

fn check(model: &Model, request: &Request) -> Result<(), Error> {
    let Request { n_ctx, n_batch, .. } = *request;
    let wrong = |name, found: usize, wanted: String| {
        Err(Error::Setting { name, problem: format!("found {found}, wanted {wanted}") })
    };
    let max_ctx = model.hparams().n_ctx;
    if !(1..=max_ctx).contains(&n_ctx) {
        return wrong("ctx", n_ctx, format!("1 to {max_ctx}, the model's context"));
    }
    if n_batch == 0 {
        return wrong("batch", n_batch, "at least 1 token".to_owned());
    }
    Ok(())
}

/// The sums of all matrices, in the order in which a forward pass uses them.
struct Sums<'m> {
    model: &'m Model,
    matrices: Vec<Matrix>,
}

struct Matrix {
    tensor: TensorId,
    /// A sum per column.
    sums: Vec<f64>,
}

/// Columns that a thread sums at a time. Their sums stay in its L1 cache.
const TASK_COLS: usize = 256;

impl Hooks for Sums<'_> {
    fn sees(&self, hook: Hook) -> bool {
        hook.matrix().is_some()
    }

    fn see(&mut self, hook: Hook, _: Batch<'_>, values: Values<'_>) {
        if let (Some(tensor), Values::Rows(rows)) = (hook.matrix(), values) {
            self.add(tensor, rows);
        }
    }
}

impl Sums<'_> {
    fn add(&mut self, tensor: TensorId, rows: Rows<'_>) {
        let at = self.matrices.iter().position(|matrix| matrix.tensor == tensor).unwrap_or_else(|| {
            self.matrices.push(Matrix { tensor, sums: vec![0.0; rows.cols()] });
            self.matrices.len() - 1
        });
        // One thread sums a column, token by token, and the square of an f32 is exact in f64. So threads, batches and
        // fused multiply-adds cannot change a bit.
        self.model.cpu().team().run_pieces(&mut self.matrices[at].sums, TASK_COLS, |task, sums| {
            for row in rows.iter() {
                for (sum, &x) in sums.iter_mut().zip(&row[task * TASK_COLS..]) {
                    *sum += f64::from(x) * f64::from(x);
                }
            }
        });
    }

    /// The sums after this many tokens.
    fn entries(&self, tokens: usize) -> Result<Vec<ImatrixEntry>, Error> {
        let entry = |matrix: &Matrix| {
            let sums = matrix.sums.iter().map(|&sum| sum as f32).collect();
            Ok(ImatrixEntry::new(matrix.tensor.gguf(), sums, vec![tokens as f32])?)
        };
        self.matrices.iter().map(entry).collect()
    }
}
