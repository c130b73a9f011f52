//! A pass, and what was seen in it.

use crate::{Error, Selection};
use pythia_model::backend::Batch;
use pythia_model::hook::Width;
use pythia_model::{ContextShape, Hook, Hooks, Model, Site, Span, Values};
use pythia_schema::Hparams;
use pythia_task::Cancel;
use std::sync::Arc;

/// Numbers with a shape, the last dimension next to each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// As many numbers as they call for.
    pub data: Vec<f32>,
}

/// The values at some hooks for some tokens, in the order of the pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cache(Vec<(Hook, Array)>);

impl Cache {
    /// The values at a hook.
    pub fn get(&self, hook: Hook) -> Option<&Array> {
        self.0.iter().find_map(|(of, array)| (*of == hook).then_some(array))
    }

    /// All.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Hook, &Array)> {
        self.0.iter().map(|(hook, array)| (*hook, array))
    }
}

impl IntoIterator for Cache {
    type Item = (Hook, Array);
    type IntoIter = std::vec::IntoIter<(Hook, Array)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The shape of the values at a hook for so many tokens of one sequence: `[tokens, n_embd]`, `[tokens, n_head, head_dim]`,
/// `[tokens, n_ff]`, `[n_head, tokens, tokens]` or `[tokens, n_vocab]`.
pub(crate) fn shape(hook: Hook, hparams: &Hparams, tokens: usize) -> Vec<usize> {
    let &Hparams { n_embd, n_head, n_ff, n_vocab, .. } = hparams;
    match hook.site.width() {
        Width::Embd => vec![tokens, n_embd],
        Width::Heads => vec![tokens, n_head, n_embd / n_head],
        Width::Neurons => vec![tokens, n_ff],
        Width::Keys => vec![n_head, tokens, tokens],
        Width::Vocab => vec![tokens, n_vocab],
    }
}

/// Bytes of values that are kept: an allocation that fails would end the process.
const MAX_BYTES: usize = 8 << 30;

/// Runs some tokens from the start of a sequence, as one batch, and keeps the values at the hooks of `selection`.
///
/// # Errors
/// If there are no tokens or more than the model's context has, their values take more than 8 GiB, one is not in the vocabulary, the device does not show a
/// hook or failed, or `cancel` is raised.
pub fn run_with_cache(model: &Arc<Model>, ids: &[u32], selection: &Selection, cancel: &Cancel) -> Result<Cache, Error> {
    let hparams = model.hparams();
    check_length(ids.len(), hparams)?;
    let bytes: usize =
        selection.hooks().iter().map(|&hook| 4 * shape(hook, hparams, ids.len()).iter().product::<usize>()).sum();
    if bytes > MAX_BYTES {
        let problem = format!(
            "the values of {} tokens are {bytes} bytes, wanted at most {MAX_BYTES}: fewer hooks or tokens",
            ids.len()
        );
        return Err(Error::Setting { name: "hooks", problem });
    }
    let shape = ContextShape { n_seq: 1, n_ctx: ids.len(), n_batch: ids.len() };
    let mut context = model.context(shape)?.cancelled_by(cancel.clone());
    let mut sequence = context.sequence()?;
    let mut keeper = Keeper::new(selection, hparams);
    context.forward_seen(&mut [Span { sequence: &mut sequence, tokens: ids }], &mut keeper)?;
    let Keeper { mut cache, .. } = keeper;
    let logits = Hook { site: Site::Logits, layer: None };
    if selection.has(logits) {
        let mut data = vec![0.0; ids.len() * hparams.n_vocab];
        context.logits(0..ids.len(), &mut data)?;
        cache.0.push((logits, Array { shape: self::shape(logits, hparams, ids.len()), data }));
    }
    Ok(cache)
}

/// Checks that one sequence can hold so many tokens, and that there are any.
pub(crate) fn check_length(tokens: usize, hparams: &Hparams) -> Result<(), Error> {
    if (1..=hparams.n_ctx).contains(&tokens) {
        return Ok(());
    }
    let problem = format!("found {tokens}, wanted 1 to {}, the model's context", hparams.n_ctx);
    Err(Error::Setting { name: "tokens", problem })
}

/// Keeps what is selected.
pub(crate) struct Keeper<'a> {
    selection: &'a Selection,
    hparams: &'a Hparams,
    pub(crate) cache: Cache,
}

impl<'a> Keeper<'a> {
    /// Nothing yet. The hooks must be those of rows, if a sequence comes in several batches.
    pub(crate) fn new(selection: &'a Selection, hparams: &'a Hparams) -> Self {
        Self { selection, hparams, cache: Cache::default() }
    }
}

impl Hooks for Keeper<'_> {
    fn sees(&self, hook: Hook) -> bool {
        self.selection.has(hook)
    }

    fn see(&mut self, hook: Hook, batch: Batch<'_>, values: Values<'_>) {
        let data = match values {
            Values::Weights(weights) => weights.take(),
            Values::Rows(rows) => {
                let mut data = Vec::with_capacity(rows.iter().len() * rows.cols());
                rows.iter().for_each(|row| data.extend_from_slice(row));
                data
            }
        };
        self.cache.0.push((hook, Array { shape: shape(hook, self.hparams, batch.tokens.len()), data }));
    }
}
