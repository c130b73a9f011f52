//! How many sequences a run has, within its memory.

use super::Settings;
use super::order::Order;
use crate::draft::Drafting;
use crate::{Error, machine};
use pythia_model::{BATCH_TOKENS, Context, ContextShape, Model};
use std::sync::Arc;

/// Sequences that run side by side, at most. Attention processes each by itself, so that more of them cost more than a
/// fuller batch saves.
const MAX_SEQUENCES: usize = 128;

/// A run takes one in this many of the bytes that are available.
const SHARE: u64 = 4;

/// What a run may take where the system does not say what is available.
const DEFAULT_BYTES: u64 = 1 << 30;

/// A context for these steps, and how many slots it has: one less than sequences, unless that is one.
pub(super) fn for_steps(
    model: &Arc<Model>,
    order: &Order<'_>,
    settings: &Settings<'_>,
) -> Result<(Context, usize), Error> {
    let work = order.work(0..order.len());
    let per_step = work.div_ceil(order.len() as u64).max(1);
    // Twice what fills a batch with steps of the mean size, since some wait and some are short.
    let wanted = (2 * BATCH_TOKENS as u64).div_ceil(per_step).min(order.len() as u64) as usize;
    let n_batch = usize::try_from(work).unwrap_or(BATCH_TOKENS).clamp(1, BATCH_TOKENS);
    let (context, n) = context(model, wanted, order.longest().max(1), n_batch, None, settings)?;
    Ok((context, n))
}

/// A context of up to `wanted` slots, as many as there is memory for, and their number. If there is more than one, the
/// context has another sequence, so that a slot can take a copy before it gives up what it has. A slot with drafts takes
/// their memory too.
pub(super) fn context(
    model: &Arc<Model>,
    wanted: usize,
    n_ctx: usize,
    n_batch: usize,
    drafting: Option<&Drafting>,
    settings: &Settings<'_>,
) -> Result<(Context, usize), Error> {
    let memory = settings.memory.or_else(|| Some(machine::memory_available()? / SHARE)).unwrap_or(DEFAULT_BYTES);
    let shape = |slots: usize| ContextShape { n_seq: if slots > 1 { slots + 1 } else { 1 }, n_ctx, n_batch };
    let draft = drafting.map_or(0, |drafting| drafting.bytes(n_ctx));
    let fits = |slots: usize| {
        let bytes = model.context_bytes(shape(slots)).map(|bytes| bytes as u64);
        bytes.and_then(|bytes| bytes.checked_add(draft.checked_mul(slots as u64)?)).is_some_and(|bytes| bytes <= memory)
    };
    let allocate = |slots: usize| {
        let context = model.context(shape(slots))?;
        drafting.map_or(Ok(()), |drafting| drafting.check_memory(slots, n_ctx))?;
        Ok::<_, Error>(context)
    };
    let mut slots = wanted.clamp(1, MAX_SEQUENCES);
    while slots > 1 && !fits(slots) {
        slots -= 1;
    }
    loop {
        match allocate(slots) {
            // The memory of a device is another than the system's, and there may be a limit.
            Err(_) if slots > 1 => slots /= 2,
            context => return Ok((context?, slots)),
        }
    }
}
