//! Changes of a pass: ablation, steering, patching.

mod patches;
mod reach;
mod tensors;
mod vectors;

pub use patches::patches;
pub use reach::Reach;
pub use vectors::{SteeringVectors, control_vectors, steering_vectors};

use crate::{Array, Error};
use pythia_model::backend::Batch;
use pythia_model::hook::{self, RowsMut};
use pythia_model::{Edits, Hook, Model, Site};
use pythia_schema::Hparams;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tensors::not_finite;

/// Changes, made in this order. They apply to every sequence.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    changes: Vec<Change>,
    /// Tokens of the longest sequence that a patched hook has seen.
    seen: Arc<AtomicUsize>,
}

/// One change of the values at a hook.
#[derive(Clone, Debug)]
pub struct Change {
    hook: Hook,
    /// Which columns of a row.
    cols: Range<usize>,
    how: How,
    description: String,
}

#[derive(Clone, Debug)]
enum How {
    /// Every row becomes this.
    Set(Vec<f32>),
    /// This is added to every row.
    Add(Vec<f32>),
    /// The rows of these positions become these.
    Patch(BTreeMap<usize, Vec<f32>>),
}

/// What ablated values are replaced by.
#[derive(Clone, Copy, Debug)]
pub enum Ablation<'a> {
    /// Zeros.
    Zero,
    /// Their [mean](crate::mean_of) over some text, a number per column of the hook, and how the text is called.
    Mean(&'a [f32], &'a str),
}

impl Ablation<'_> {
    fn values(self, cols: Range<usize>, width: usize) -> Result<(Vec<f32>, String), Error> {
        match self {
            Self::Zero => Ok((vec![0.0; cols.len()], "set to zero".to_owned())),
            Self::Mean(mean, name) => {
                check_len("mean", mean.len(), width)?;
                check_finite("mean", mean)?;
                Ok((mean[cols].to_vec(), format!("set to its mean over {name}")))
            }
        }
    }
}

impl Change {
    /// The hook that the ablation of a head changes.
    pub fn hook_of_head(layer: usize) -> Hook {
        Hook { site: Site::Z, layer: Some(layer) }
    }

    /// The hook that the ablation of an MLP changes.
    pub fn hook_of_mlp(layer: usize) -> Hook {
        Hook { site: Site::MlpOut, layer: Some(layer) }
    }

    /// Takes the output of an attention head away, before the output matrix: its part of `hook_z`. The bias of that matrix
    /// stays.
    ///
    /// # Errors
    /// If the model has no such head, or the mean has another length than a row.
    pub fn ablate_head(hparams: &Hparams, layer: usize, head: usize, ablation: Ablation<'_>) -> Result<Self, Error> {
        check_below("layer", layer, hparams.n_layer)?;
        check_below("head", head, hparams.n_head)?;
        let cols = head * hparams.head_dim()..(head + 1) * hparams.head_dim();
        let (values, how) = ablation.values(cols.clone(), hparams.n_embd)?;
        let description = format!("head {layer}.{head} {how}");
        Ok(Self { hook: Self::hook_of_head(layer), cols, how: How::Set(values), description })
    }

    /// Takes away what an MLP adds to the residual stream, its bias included: `hook_mlp_out`.
    ///
    /// # Errors
    /// If the model has no such layer, or the mean has another length than a row.
    pub fn ablate_mlp(hparams: &Hparams, layer: usize, ablation: Ablation<'_>) -> Result<Self, Error> {
        check_below("layer", layer, hparams.n_layer)?;
        let (values, how) = ablation.values(0..hparams.n_embd, hparams.n_embd)?;
        let description = format!("mlp {layer} {how}");
        Ok(Self { hook: Self::hook_of_mlp(layer), cols: 0..hparams.n_embd, how: How::Set(values), description })
    }

    /// Adds `scale * vector` to the residual stream after a block, at every position: `hook_resid_post`. `name` says where
    /// the vector is from.
    ///
    /// # Errors
    /// If the model has no such layer, the vector has another length than a row, or a product is not finite.
    pub fn steer(hparams: &Hparams, layer: usize, vector: &[f32], scale: f32, name: &str) -> Result<Self, Error> {
        check_below("layer", layer, hparams.n_layer)?;
        check_len("steering vector", vector.len(), hparams.n_embd)?;
        let vector: Vec<f32> = vector.iter().map(|x| x * scale).collect();
        if let Some((at, x)) = not_finite(&vector) {
            let problem = format!("element {at} times {scale} is {x}, wanted a finite number");
            return Err(Error::Setting { name: "steering vector", problem });
        }
        let description = format!("{name} times {scale} added after block {layer}");
        let hook = Hook { site: Site::ResidPost, layer: Some(layer) };
        Ok(Self { hook, cols: 0..hparams.n_embd, how: How::Add(vector), description })
    }

    /// Replaces the rows of some positions by those of another run: `values` is `[rows, n_embd]`,
    /// `[rows, n_head, head_dim]` or `[rows, n_ff]`, a row for each of `positions`. `name` says where they are from.
    ///
    /// # Errors
    /// If the model has no such hook or goes on without what is changed there, the shape is another, a number is not finite,
    /// or a position comes twice.
    pub fn patch(
        hparams: &Hparams,
        hook: Hook,
        positions: &[usize],
        values: &Array,
        name: &str,
    ) -> Result<Self, Error> {
        if !Hook::all(hparams).contains(&hook) {
            return Err(Error::NoHook { selector: hook.to_string(), nearest: None });
        }
        if !hook.site.can_change() {
            return Err(unchangeable(hook));
        }
        let wanted = crate::cache::shape(hook, hparams, positions.len());
        let width: usize = wanted[1..].iter().product();
        if values.shape != wanted || values.data.len() != positions.len() * width {
            let problem = format!("{name} has shape {:?} for {hook}, wanted {wanted:?}", values.shape);
            return Err(Error::Setting { name: "patch", problem });
        }
        let mut rows = BTreeMap::new();
        for (&position, row) in positions.iter().zip(values.data.chunks_exact(width)) {
            check_below("position", position, hparams.n_ctx)?;
            if let Some((at, x)) = not_finite(row) {
                let problem =
                    format!("{name} has {x} for {hook} at position {position}, element {at}, wanted finite numbers");
                return Err(Error::Setting { name: "patch", problem });
            }
            if rows.insert(position, row.to_vec()).is_some() {
                return Err(Error::Setting { name: "positions", problem: format!("{position} comes twice") });
            }
        }
        if rows.is_empty() {
            return Err(Error::Setting { name: "patch", problem: format!("{name} has no rows for {hook}") });
        }
        let description = format!("{hook} at {} from {name}", places(&rows));
        Ok(Self { hook, cols: 0..width, how: How::Patch(rows), description })
    }

    /// Everything that the change depends on.
    fn put_into(&self, sha: &mut Sha256) {
        let numbers = |sha: &mut Sha256, values: &[f32]| values.iter().for_each(|x| sha.update(x.to_le_bytes()));
        sha.update(format!("{} {:?} ", self.hook, self.cols));
        match &self.how {
            How::Set(values) => {
                sha.update("set ");
                numbers(sha, values);
            }
            How::Add(values) => {
                sha.update("add ");
                numbers(sha, values);
            }
            How::Patch(rows) => {
                for (position, row) in rows {
                    sha.update(format!("at {position} "));
                    numbers(sha, row);
                }
            }
        }
    }

    /// Makes the change in the rows of a batch.
    fn apply(&self, batch: Batch<'_>, rows: &mut RowsMut<'_>) {
        for i in 0..batch.tokens.len() {
            match &self.how {
                How::Set(values) => rows.row(i)[self.cols.clone()].copy_from_slice(values),
                How::Add(vector) => rows.row(i)[self.cols.clone()].iter_mut().zip(vector).for_each(|(x, v)| *x += v),
                How::Patch(patches) => {
                    if let Some(patch) = patches.get(&hook::place(batch, i).1) {
                        rows.row(i)[self.cols.clone()].copy_from_slice(patch);
                    }
                }
            }
        }
    }
}

impl Changes {
    /// These.
    pub fn new(changes: Vec<Change>) -> Self {
        Self { changes, seen: Arc::default() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How far the patches among them reach, in the passes of all models that are changed by them.
    pub fn reach(&self) -> Reach {
        let last = |change: &Change| match &change.how {
            How::Patch(rows) => rows.last_key_value().map(|(position, _)| *position),
            How::Set(_) | How::Add(_) => None,
        };
        Reach::new(self.changes.iter().filter_map(last).max(), &self.seen)
    }

    /// The model with these changes on top of those that it has already.
    pub fn of(self, model: &Arc<Model>) -> Arc<Model> {
        match model.edits() {
            _ if self.is_empty() => Arc::clone(model),
            None => model.edited(Arc::new(self)),
            Some(before) => model.edited(Arc::new(Both { before: Arc::clone(before), after: self })),
        }
    }
}

impl Edits for Changes {
    fn changes(&self, hook: Hook) -> bool {
        self.changes.iter().any(|change| change.hook == hook)
    }

    fn change(&self, hook: Hook, batch: Batch<'_>, mut rows: RowsMut<'_>) {
        for change in self.changes.iter().filter(|change| change.hook == hook) {
            if let How::Patch(_) = change.how {
                let tokens = batch.spans.iter().map(|span| span.first_position + span.rows).max();
                self.seen.fetch_max(tokens.unwrap_or(0), Ordering::Relaxed);
            }
            change.apply(batch, &mut rows);
        }
    }

    fn descriptions(&self) -> Vec<String> {
        self.changes.iter().map(|change| change.description.clone()).collect()
    }

    fn digest(&self) -> String {
        let mut sha = Sha256::new();
        self.changes.iter().for_each(|change| change.put_into(&mut sha));
        pythia_text::hex(&sha.finalize())
    }
}

/// Changes of a model that was changed already.
struct Both {
    before: Arc<dyn Edits>,
    after: Changes,
}

impl Edits for Both {
    fn changes(&self, hook: Hook) -> bool {
        self.before.changes(hook) || self.after.changes(hook)
    }

    fn change(&self, hook: Hook, batch: Batch<'_>, mut rows: RowsMut<'_>) {
        if self.before.changes(hook) {
            self.before.change(hook, batch, rows.reborrow());
        }
        self.after.change(hook, batch, rows);
    }

    fn descriptions(&self) -> Vec<String> {
        [self.before.descriptions(), self.after.descriptions()].concat()
    }

    fn digest(&self) -> String {
        pythia_text::hex(&Sha256::digest(self.before.digest() + &self.after.digest()))
    }
}

/// Positions in words: all of a few, or how many.
fn places(rows: &BTreeMap<usize, Vec<f32>>) -> String {
    /// As many are named.
    const FEW: usize = 8;
    let named: Vec<String> = rows.keys().take(FEW).map(usize::to_string).collect();
    match rows.len() {
        1 => format!("position {}", named.join("")),
        n if n <= FEW => format!("positions {}", named.join(", ")),
        n => format!("{n} positions"),
    }
}

fn check_below(name: &'static str, found: usize, end: usize) -> Result<(), Error> {
    if found < end {
        return Ok(());
    }
    Err(Error::Setting { name, problem: format!("found {found}, wanted 0 to {}", end - 1) })
}

/// A hook that a pass does not go on with.
pub(crate) fn unchangeable(hook: Hook) -> Error {
    let cannot: Vec<&str> = Site::ALL.iter().filter(|site| !site.can_change()).map(|site| site.name()).collect();
    let problem = format!(
        "{hook} can be seen but not changed: the pass does not go on with it (nor with any {}; all others can change)",
        cannot.join(", ")
    );
    Error::Setting { name: "hook", problem }
}

fn check_finite(name: &'static str, values: &[f32]) -> Result<(), Error> {
    match not_finite(values) {
        None => Ok(()),
        Some((at, x)) => {
            Err(Error::Setting { name, problem: format!("found {x} at element {at}, wanted finite numbers") })
        }
    }
}

fn check_len(name: &'static str, found: usize, wanted: usize) -> Result<(), Error> {
    if found == wanted {
        return Ok(());
    }
    Err(Error::Setting { name, problem: format!("found {found} numbers, wanted {wanted}") })
}
