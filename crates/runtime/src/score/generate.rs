//! Continuations of many prompts, as many side by side as fit.

use super::order::common;
use super::slots::{FEW_TOKENS, pays_to_copy};
use super::{Settings, room};
use crate::{Error, Finish, GenerateOptions, Generator, Scheduler, Tokenizer};
use pythia_model::{BATCH_TOKENS, Context, Model};
use std::sync::Arc;

/// Texts in the making at the same time. With as many tokens in a pass, products run near the rate of a full batch.
const MAX_TEXTS: usize = 64;

/// Prompts are sorted among so many, so that texts are done about in their order. Whoever prints them in order can begin
/// soon, and keeps few that are done early.
const WINDOW: usize = 256;

/// A text that is being written, or is done and keeps its sequence until another takes it.
struct Text {
    prompt: usize,
    generator: Generator,
}

impl Text {
    fn is_done(&self) -> bool {
        self.generator.finish().is_some()
    }
}

/// Continues every prompt and tells `done` its index and what was generated as soon as it ends, in any order. Each gets the
/// text that it would get alone, in a context of [`Settings::n_ctx`] positions. Prompts that begin alike share the
/// computation.
///
/// # Errors
/// As [`generate()`](crate::generate()) for any of the prompts, or if the run was cancelled.
pub fn generate_all<P: AsRef<[u32]>>(
    model: &Arc<Model>,
    tokenizer: &Arc<Tokenizer>,
    prompts: &[(P, GenerateOptions)],
    settings: &Settings<'_>,
    done: &mut dyn FnMut(usize, &Generator),
) -> Result<(), Error> {
    let (n_model, n_vocab) = (model.hparams().n_ctx, model.hparams().n_vocab);
    let most_tokens = if settings.n_ctx == 0 { n_model } else { settings.n_ctx.min(n_model) };
    let mut n_ctx = 0;
    for (prompt, options) in prompts {
        let prompt = prompt.as_ref();
        options.check(prompt, most_tokens, n_vocab, tokenizer.n_tokens())?;
        let tokens = options.max_new_tokens.map_or(most_tokens, |new| prompt.len().saturating_add(new));
        n_ctx = n_ctx.max(tokens.min(most_tokens));
    }
    if prompts.is_empty() {
        return Ok(());
    }
    let most = if settings.parallel == 0 { MAX_TEXTS } else { settings.parallel };
    let drafting = prompts.iter().find_map(|(_, options)| options.draft.as_ref());
    let (context, n) = room::context(model, prompts.len().min(most), n_ctx, BATCH_TOKENS, drafting, settings)?;
    let mut context = context.cancelled_by(settings.cancel.clone());
    let mut waiting = order(prompts);
    let mut texts: Vec<Text> = Vec::new();
    let mut scheduler = Scheduler::new();
    loop {
        while let Some(&next) = waiting.last() {
            if texts.iter().filter(|text| !text.is_done()).count() == n
                || !begin(&mut context, tokenizer, prompts, next, n, &mut texts)?
            {
                break;
            }
            waiting.pop();
        }
        let mut running: Vec<&mut Text> = texts.iter_mut().filter(|text| !text.is_done()).collect();
        if running.is_empty() {
            return Ok(());
        }
        scheduler.step(&mut context, &mut running.iter_mut().map(|text| &mut text.generator).collect::<Vec<_>>())?;
        for text in running {
            match text.generator.finish() {
                Some(&Finish::NotFinite { position }) => return Err(Error::NotFinite { position }),
                Some(_) => done(text.prompt, &text.generator),
                None => {}
            }
        }
    }
}

/// Whose texts to begin, from the end. Of the prompts of a window neighbours share as much as any.
fn order<P: AsRef<[u32]>>(prompts: &[(P, GenerateOptions)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order
        .chunks_mut(WINDOW)
        .for_each(|window| window.sort_by(|&a, &b| prompts[a].0.as_ref().cmp(prompts[b].0.as_ref())));
    order.reverse();
    order
}

/// Begins the text of a prompt, from what one of the `texts`, `n` at most, has of it. False if it should wait until
/// another has run the start that they share.
fn begin<P: AsRef<[u32]>>(
    context: &mut Context,
    tokenizer: &Arc<Tokenizer>,
    prompts: &[(P, GenerateOptions)],
    next: usize,
    n: usize,
    texts: &mut Vec<Text>,
) -> Result<bool, Error> {
    let (prompt, options) = (prompts[next].0.as_ref(), &prompts[next].1);
    // The last token runs in any case: its logits choose the first new one.
    let usable = prompt.len() - 1;
    let held = |text: &Text| common(text.generator.seen(), prompt).min(usable);
    let best = |texts: &[Text], done: bool| {
        let candidates = (0..texts.len()).filter(|&i| texts[i].is_done() == done);
        candidates.map(|i| (held(&texts[i]), i)).max()
    };
    let (live, ended) = (best(texts, false), best(texts, true));
    let copy = live.map_or(0, |(held, _)| held);
    let own = ended.map_or(0, |(held, _)| held);
    let soon = texts.iter().filter(|text| !text.is_done()).map(|text| common(prompts[text.prompt].0.as_ref(), prompt));
    if soon.max().unwrap_or(0).min(usable) > copy.max(own) + FEW_TOKENS {
        return Ok(false);
    }
    let donor = live.filter(|_| copy > own && pays_to_copy(copy, own));
    let generator = match (donor, ended) {
        (Some((_, mut donor)), _) => {
            if texts.len() == n {
                // Not all run, so one of them is done; the last takes its place.
                let (_, idle) = ended.expect("fewer than all run");
                texts.swap_remove(idle);
                donor = if donor == texts.len() { idle } else { donor };
            }
            texts[donor].generator.fork(context, prompt, options)?
        }
        (None, Some((own, ended))) if texts.len() == n || own > 0 => {
            let mut sequence = texts.swap_remove(ended).generator.into_sequence();
            sequence.truncate(own);
            Generator::start(context, sequence, tokenizer, prompt, options)?
        }
        (None, _) => Generator::new(context, tokenizer, prompt, options)?,
    };
    texts.push(Text { prompt: next, generator });
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_begun_in_their_order_but_for_neighbours() {
        let prompts = |prompt: fn(usize) -> u32| -> Vec<_> {
            (0..1000).map(|i| (vec![prompt(i)], GenerateOptions::default())).collect()
        };
        let begun = |prompts: &[_]| -> Vec<usize> { order(prompts).into_iter().rev().collect() };
        assert_eq!(begun(&prompts(|_| 7)), (0..1000).collect::<Vec<_>>());
        let sorted = begun(&prompts(|i| (i % 2) as u32));
        assert_eq!((sorted[..3].to_vec(), sorted[WINDOW / 2..][..3].to_vec()), (vec![0, 2, 4], vec![1, 3, 5]));
        assert_eq!(sorted[WINDOW], WINDOW);
    }
}
