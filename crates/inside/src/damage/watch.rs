//! What is seen of the passes: the base's values are kept for a batch, and the level's are compared with them as they come.

use super::sums::Sums;
use crate::Error;
use pythia_model::backend::Batch;
use pythia_model::hook::RowsMut;
use pythia_model::{Edits, Hook, Hooks, Model, Site, Values};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Whether a hook is compared. What enters a block is what left the one before it, rotation keeps lengths and angles, and
/// scores show in the pattern.
pub(super) fn is_compared(site: Site) -> bool {
    !matches!(site, Site::ResidPre | Site::RotQ | Site::RotK | Site::Scores | Site::Logits)
}

/// What the base had at all hooks, of one batch.
#[derive(Debug, Default)]
pub(super) struct Record(HashMap<Hook, Vec<f32>>);

pub(super) fn read(record: &RwLock<Record>) -> RwLockReadGuard<'_, Record> {
    record.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn write(record: &RwLock<Record>) -> RwLockWriteGuard<'_, Record> {
    record.write().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    /// # Panics
    /// If it was not compared.
    pub(super) fn get(&self, hook: Hook) -> &[f32] {
        self.0.get(&hook).expect("the base has been there")
    }
}

/// The hook of what enters a block.
fn before(layer: usize) -> Hook {
    match layer.checked_sub(1) {
        None => Hook { site: Site::Embed, layer: None },
        layer => Hook { site: Site::ResidPost, layer },
    }
}

fn is_stream(site: Site) -> bool {
    matches!(site, Site::Embed | Site::ResidPost)
}

impl Hooks for Record {
    fn sees(&self, hook: Hook) -> bool {
        is_compared(hook.site)
    }

    fn see(&mut self, hook: Hook, _: Batch<'_>, values: Values<'_>) {
        let values = match values {
            Values::Weights(weights) => weights.take(),
            Values::Rows(rows) => rows.iter().flatten().copied().collect(),
        };
        self.0.insert(hook, values);
    }
}

/// Gives every block the residual stream of the base.
pub(super) struct Handed {
    record: Arc<RwLock<Record>>,
    /// What changes the level's passes anyway.
    more: Option<Arc<dyn Edits>>,
}

impl Handed {
    pub(super) fn new(record: &Arc<RwLock<Record>>, more: Option<Arc<dyn Edits>>) -> Self {
        Self { record: Arc::clone(record), more }
    }
}

impl Edits for Handed {
    fn changes(&self, hook: Hook) -> bool {
        hook.site == Site::ResidPre || self.more.as_ref().is_some_and(|more| more.changes(hook))
    }

    fn change(&self, hook: Hook, batch: Batch<'_>, mut rows: RowsMut<'_>) {
        if let (Site::ResidPre, Some(layer)) = (hook.site, hook.layer) {
            let record = read(&self.record);
            for (i, row) in record.get(before(layer)).chunks_exact(rows.cols()).enumerate() {
                rows.row(i).copy_from_slice(row);
            }
        }
        if let Some(more) = self.more.as_ref().filter(|more| more.changes(hook)) {
            more.change(hook, batch, rows);
        }
    }

    fn descriptions(&self) -> Vec<String> {
        let more = self.more.as_ref().map(|more| more.descriptions()).unwrap_or_default();
        ["every block is given another run's residual stream".to_owned()].into_iter().chain(more).collect()
    }

    /// Of nothing that is kept: what is handed over is another run's, batch by batch.
    fn digest(&self) -> String {
        self.more.as_ref().map(|more| more.digest()).unwrap_or_default()
    }
}

/// Compares a pass with the base's.
pub(super) struct Watch {
    record: Arc<RwLock<Record>>,
    hooks: Vec<Hook>,
    /// For each hook, one; for patterns one per head.
    sums: HashMap<Hook, Vec<Sums>>,
    /// For each layer, what the block adds to the residual stream.
    added: Vec<Sums>,
    /// The residual stream of the last batch, by depth.
    stream: HashMap<Hook, Vec<f32>>,
    /// The first hook where something was not finite, and the row of the batch.
    failed: Option<(Hook, usize)>,
    n_head: usize,
    /// Whose team compares: it is idle while a pass shows values.
    model: Arc<Model>,
}

impl Watch {
    pub(super) fn new(record: &Arc<RwLock<Record>>, hooks: &[Hook], model: &Arc<Model>) -> Self {
        let hparams = model.hparams();
        Self {
            record: Arc::clone(record),
            hooks: hooks.to_vec(),
            sums: HashMap::new(),
            added: vec![Sums::default(); hparams.n_layer],
            stream: HashMap::new(),
            failed: None,
            n_head: hparams.n_head,
            model: Arc::clone(model),
        }
    }

    /// The hooks, in the order of a pass.
    pub(super) fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// The sums of a hook: one, or one per head.
    pub(super) fn sums(&self, hook: Hook) -> &[Sums] {
        self.sums.get(&hook).map_or(&[], Vec::as_slice)
    }

    /// The sums of what each block adds.
    pub(super) fn added(&self) -> &[Sums] {
        &self.added
    }

    /// The level's residual stream of the last batch.
    ///
    /// # Panics
    /// If it was not seen.
    pub(super) fn stream(&self, hook: Hook) -> &[f32] {
        self.stream.get(&hook).expect("the level has been there")
    }

    /// Whether all that was seen is finite. The last batch begins at token `first` of the text.
    pub(super) fn check(&self, first: usize) -> Result<(), Error> {
        self.failed.map_or(Ok(()), |(hook, row)| Err(Error::NotFinite { hook, position: first + row }))
    }

    /// Adds the sums of rows, `heads` after each other.
    fn add(&mut self, hook: Hook, heads: usize, rows: Vec<Sums>) {
        let n = rows.len() / heads;
        let sums = self.sums.entry(hook).or_insert_with(|| vec![Sums::default(); heads]);
        for (i, row) in rows.iter().enumerate() {
            if !row.is_finite() && self.failed.is_none() {
                self.failed = Some((hook, i % n));
            }
            sums[i / n].add(row);
        }
    }

    /// The residual stream, and what the block before it added.
    fn keep_stream(&mut self, hook: Hook, base: &Record, level: Vec<f32>, cols: usize) {
        if let Some(layer) = hook.layer {
            let (old_base, base) = (base.get(before(layer)), base.get(hook));
            let old_level = self.stream(before(layer));
            let difference = |new: &[f32], old: &[f32]| new.iter().zip(old).map(|(new, old)| new - old).collect();
            let rows = self.model.cpu().team().map(level.len() / cols, |i| {
                let row = i * cols..(i + 1) * cols;
                let base: Vec<f32> = difference(&base[row.clone()], &old_base[row.clone()]);
                let level: Vec<f32> = difference(&level[row.clone()], &old_level[row]);
                Sums::of(&base, &level)
            });
            rows.iter().for_each(|row| self.added[layer].add(row));
        }
        self.stream.insert(hook, level);
    }
}

impl Hooks for Watch {
    fn sees(&self, hook: Hook) -> bool {
        is_compared(hook.site)
    }

    fn see(&mut self, hook: Hook, batch: Batch<'_>, values: Values<'_>) {
        let record = Arc::clone(&self.record);
        let record = read(&record);
        let base = record.get(hook);
        match values {
            Values::Rows(level) => {
                let cols = level.cols();
                let row = |i: usize| Sums::of(&base[i * cols..(i + 1) * cols], level.row(i));
                let rows = self.model.cpu().team().map(level.iter().len(), row);
                self.add(hook, 1, rows);
                if is_stream(hook.site) {
                    let level = level.iter().flatten().copied().collect();
                    self.keep_stream(hook, &record, level, cols);
                }
            }
            Values::Weights(level) => {
                let n = batch.tokens.len();
                // One sequence: all keys up to the query are those that it sees.
                let first = batch.spans.first().map_or(0, |span| span.first_position);
                let row = |i: usize| {
                    let at = i * (first + n);
                    let seen = at..at + first + i % n + 1;
                    Sums::of_pattern(&base[seen.clone()], &level[seen])
                };
                let rows = self.model.cpu().team().map(self.n_head * n, row);
                self.add(hook, self.n_head, rows);
            }
        }
    }
}
