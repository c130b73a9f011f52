//! What quantization changes inside: two files of one model over the same text, value by value.
//!
//! Both run over windows of the text. A third run gives every block of the level the residual stream of the base, so
//! that what it gets wrong is its own doing and not that of the blocks before it.

mod lens;
mod page;
mod record;
mod sums;
mod watch;

pub use page::page;
pub use record::{csv, json};

use crate::Error;
use crate::list;
use pythia_model::{BATCH_TOKENS, Context, ContextShape, Hook, Model, Sequence, Site, Span};
use pythia_runtime::{TokenStream, Tokenizer};
use pythia_schema::{Hparams, Kind, TensorId};
use pythia_task::{Cancel, Progress};
use std::sync::{Arc, RwLock};
use watch::{Handed, Record, Watch, is_compared};

/// A file of a model.
#[derive(Clone, Copy, Debug)]
pub struct Side<'m> {
    /// The model.
    pub model: &'m Arc<Model>,
    /// Its tokenizer.
    pub tokenizer: &'m Tokenizer,
}

/// How much of the text is run.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Tokens in a window; each begins with an empty context.
    pub window: usize,
    /// Windows at most.
    pub max_windows: usize,
    /// The lens reads one position of so many, because it costs as much as several passes: the middle one of each stretch
    /// of a window.
    pub lens_stride: usize,
}

/// What a level changes.
#[derive(Clone, Debug)]
pub struct Damage {
    /// Windows that ran.
    pub windows: usize,
    /// Tokens in them.
    pub tokens: usize,
    /// Positions that the lens read.
    pub lens_positions: usize,
    /// A row per hook, and one per head for patterns, in the order of the pass.
    pub rows: Vec<Row>,
    /// The residual stream, block by block.
    pub blocks: Vec<Block>,
}

/// What becomes of the values at a hook. `x` are those of the base, `y` those of the level, over all tokens.
#[derive(Clone, Debug)]
pub struct Row {
    /// Where.
    pub hook: Hook,
    /// Of which head, at patterns.
    pub head: Option<usize>,
    /// `|y - x| / |x|`, Frobenius norms, each model on its own.
    pub relative_error: f64,
    /// The same where the block of the level was given the base's residual stream: the error of this block alone, up to
    /// this hook. `None` outside of the blocks.
    pub own_error: Option<f64>,
    /// Mean over the tokens of the cosine of the angle between `x` and `y`; for patterns over the queries.
    pub cosine: f64,
    /// Mean divergence of the level from the base, in nats: of the pattern, over the queries; of what the logit lens
    /// predicts from the residual stream; of the prediction at the logits. `None` elsewhere.
    pub kl: Option<f64>,
    /// Share of positions where those predictions have another likeliest token, 0 to 1.
    pub disagreement: Option<f64>,
}

/// What a block does to the residual stream. All errors are relative to the norm of the base's stream after the block.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Its number.
    pub layer: usize,
    /// Error of the stream after it, each model on its own.
    pub stream: f64,
    /// Error that is new in it: of the stream after it where it was given the base's stream.
    pub own: f64,
    /// The same of what attention adds.
    pub own_attention: f64,
    /// The same of what the MLP adds. With a sequential residual it has seen attention's error.
    pub own_mlp: f64,
    /// Error of what it adds, each model on its own: with what it makes of the errors before it.
    pub added: f64,
    /// Mean divergence of its patterns over heads and queries, in nats, each model on its own.
    pub pattern_kl: f64,
    /// Mean divergence of the logit lens after it, in nats.
    pub lens_kl: f64,
    /// Share of positions where the lens after it has another likeliest token.
    pub lens_disagreement: f64,
}

impl Damage {
    /// Whether nothing changes at all.
    pub fn is_none(&self) -> bool {
        self.rows.iter().all(|row| row.relative_error == 0.0 && row.own_error.is_none_or(|error| error == 0.0))
    }
}

/// The matrix that the values at a hook come from, without another between them. `None` for sums and norms.
pub fn made_by(hook: Hook) -> Option<TensorId> {
    let kind = match hook.site {
        Site::Embed => Kind::TokenEmbd,
        Site::Q | Site::K | Site::V | Site::RotQ | Site::RotK | Site::Scores | Site::Pattern | Site::Z => Kind::AttnQkv,
        Site::AttnOut => Kind::AttnOutput,
        Site::MlpPre | Site::MlpPost => Kind::FfnUp,
        Site::MlpOut => Kind::FfnDown,
        Site::Logits => Kind::Output,
        Site::ResidPre | Site::AttnIn | Site::ResidMid | Site::MlpIn | Site::ResidPost | Site::FinalNorm => {
            return None;
        }
    };
    Some(TensorId::weight(kind, hook.layer))
}

/// Values of the base that are kept at a time.
const KEPT_BYTES: usize = 256 << 20;
/// Batches are not made smaller than this.
const LEAST_BATCH: usize = 16;

/// Runs both files over the windows of a text. `progress` counts tokens. Memory beside both files is a batch of the
/// base's values and a few rows of logits, whatever the length of the text.
///
/// # Errors
/// If the files are not of one shape or vocabulary, a window is longer than their context, the text has no tokens or one
/// that the vocabulary has not, values are not finite, a device does not show patterns or failed, or `cancel` is raised.
pub fn damage(
    base: Side<'_>,
    level: Side<'_>,
    tokens: &mut TokenStream<'_>,
    request: &Request,
    cancel: &Cancel,
    progress: &dyn Progress,
) -> Result<Damage, Error> {
    check_same(base, level)?;
    check(request, base.model.hparams())?;
    tokens.require_below(base.model.hparams().n_vocab)?;
    tokens.reach_end_if_short()?;
    let mut run = Run::new(base.model, level.model, request, cancel)?;
    while run.windows < request.max_windows {
        let start = run.tokens;
        let end = tokens.reach(start + request.window)?;
        if end == start {
            break;
        }
        tokens.forget(start);
        let most = request.max_windows.saturating_mul(request.window);
        progress.expect(tokens.estimated_total().map(|total| total.min(most) as u64));
        run.window(tokens.slice(start..end), progress)?;
        if end < start + request.window {
            break;
        }
    }
    if run.windows == 0 {
        return Err(pythia_runtime::Error::EmptyPrompt.into());
    }
    Ok(run.finish())
}

fn check(request: &Request, hparams: &Hparams) -> Result<(), Error> {
    let wrong = |name, problem: String| Err(Error::Setting { name, problem });
    let &Request { window, max_windows, lens_stride } = request;
    match () {
        () if !(1..=hparams.n_ctx).contains(&window) => {
            wrong("window", format!("found {window}, wanted 1 to {}, the model's context", hparams.n_ctx))
        }
        () if max_windows == 0 => wrong("windows", "found 0, wanted at least 1".to_owned()),
        () if lens_stride == 0 => wrong("lens stride", "found 0, wanted at least 1".to_owned()),
        () => Ok(()),
    }
}

fn check_same(base: Side<'_>, level: Side<'_>) -> Result<(), Error> {
    let (a, b) = (base.model.hparams(), level.model.hparams());
    let differ = |what, base: String, level: String| Err(Error::Differ { what, base, level });
    let numbers = |h: &Hparams| [h.n_layer, h.n_embd, h.n_head, h.n_ff, h.n_rot, h.n_vocab];
    let names = ["layers", "width", "heads", "neurons", "rotated dimensions", "rows of the vocabulary"];
    for (what, (a, b)) in names.into_iter().zip(numbers(a).into_iter().zip(numbers(b))) {
        if a != b {
            return differ(what, a.to_string(), b.to_string());
        }
    }
    if a.parallel_residual != b.parallel_residual {
        let form = |parallel| if parallel { "parallel" } else { "sequential" }.to_owned();
        return differ("form of the residual", form(a.parallel_residual), form(b.parallel_residual));
    }
    let most = base.tokenizer.n_tokens().max(level.tokenizer.n_tokens());
    let bytes = |side: Side<'_>, id: u32| side.tokenizer.token_bytes(id).to_vec();
    match (0..most as u32).find(|&id| bytes(base, id) != bytes(level, id)) {
        None => Ok(()),
        Some(id) => {
            let text = |side: Side<'_>| format!("{:?} for {id}", String::from_utf8_lossy(&bytes(side, id)));
            differ("token", text(base), text(level))
        }
    }
}

/// The hooks whose values are compared, in the order of a pass.
fn compared(hparams: &Hparams) -> Vec<Hook> {
    Hook::all(hparams).into_iter().filter(|hook| is_compared(hook.site)).collect()
}

/// Tokens of a batch, so that the base's values fit.
fn batch(hooks: &[Hook], hparams: &Hparams, window: usize) -> usize {
    let floats = |hook: &Hook| crate::cache::shape(*hook, hparams, 1).iter().product::<usize>();
    let of_token = |hook: &Hook| match hook.site {
        Site::Pattern => hparams.n_head * window,
        _ => floats(hook),
    };
    let bytes = 4 * hooks.iter().map(of_token).sum::<usize>();
    (KEPT_BYTES / bytes.max(1)).clamp(LEAST_BATCH, BATCH_TOKENS).min(window)
}

/// A model that runs, with a sequence.
struct Running {
    context: Context,
    sequence: Sequence,
}

impl Running {
    fn new(model: &Arc<Model>, n_ctx: usize, n_batch: usize, cancel: &Cancel) -> Result<Self, Error> {
        let context = model.context(ContextShape { n_seq: 1, n_ctx, n_batch })?.cancelled_by(cancel.clone());
        let sequence = context.sequence()?;
        Ok(Self { context, sequence })
    }

    fn forward(&mut self, tokens: &[u32], hooks: &mut dyn pythia_model::Hooks) -> Result<(), Error> {
        Ok(self.context.forward_seen(&mut [Span { sequence: &mut self.sequence, tokens }], hooks)?)
    }
}

/// All that runs, and the sums so far.
struct Run {
    base: Running,
    level: Running,
    /// The level, whose blocks are given the base's residual stream.
    handed: Running,
    /// What the base had in the batch.
    record: Arc<RwLock<Record>>,
    watch: Watch,
    own: Watch,
    lens: lens::Sums,
    lens_stride: usize,
    n_batch: usize,
    windows: usize,
    tokens: usize,
}

impl Run {
    fn new(base: &Arc<Model>, level: &Arc<Model>, request: &Request, cancel: &Cancel) -> Result<Self, Error> {
        let hparams = base.hparams();
        let hooks = compared(hparams);
        let n_batch = batch(&hooks, hparams, request.window);
        let record = Arc::new(RwLock::new(Record::default()));
        let handed = level.edited(Arc::new(Handed::new(&record, level.edits().cloned())));
        let running = |model: &Arc<Model>| Running::new(model, request.window, n_batch, cancel);
        let stream = list::stream("all", hparams)?;
        Ok(Self {
            base: running(base)?,
            level: running(level)?,
            handed: running(&handed)?,
            watch: Watch::new(&record, &hooks, base),
            own: Watch::new(&record, &hooks, base),
            lens: lens::Sums::new(&stream),
            record,
            lens_stride: request.lens_stride,
            n_batch,
            windows: 0,
            tokens: 0,
        })
    }

    fn window(&mut self, tokens: &[u32], progress: &dyn Progress) -> Result<(), Error> {
        for running in [&mut self.base, &mut self.level, &mut self.handed] {
            running.sequence.truncate(0);
        }
        for (i, batch) in tokens.chunks(self.n_batch).enumerate() {
            let first = i * self.n_batch;
            let mut record = Record::default();
            self.base.forward(batch, &mut record)?;
            *watch::write(&self.record) = record;
            self.level.forward(batch, &mut self.watch)?;
            self.watch.check(self.tokens)?;
            self.handed.forward(batch, &mut self.own)?;
            self.own.check(self.tokens)?;
            // The last one in any case, so that a short text is read too.
            let is_read = |row: &usize| {
                let position = first + row;
                position % self.lens_stride == self.lens_stride / 2 || position + 1 == tokens.len()
            };
            let rows: Vec<usize> = (0..batch.len()).filter(is_read).collect();
            let contexts = [&mut self.base.context, &mut self.level.context];
            self.lens.add(contexts, &watch::read(&self.record), &self.watch, &rows, self.tokens)?;
            self.tokens += batch.len();
            progress.advance("", batch.len() as i64);
        }
        self.windows += 1;
        Ok(())
    }

    fn finish(self) -> Damage {
        let lens_positions = self.lens.positions();
        let (rows, blocks) = record::results(&self.watch, &self.own, &self.lens);
        Damage { windows: self.windows, tokens: self.tokens, lens_positions, rows, blocks }
    }
}
