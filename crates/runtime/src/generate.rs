//! Continues a prompt and returns its text as it appears.

use crate::draft::DraftStats;
use crate::{Error, Finish, GenerateOptions, Generator, Scheduler, Tokenizer};
use pythia_model::Context;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Times of a generation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Time to process the prompt.
    pub prompt: Duration,
    /// Tokens generated.
    pub generated_tokens: usize,
    /// From the start until the first token was chosen.
    pub first_token: Duration,
    /// From the first token to the last.
    pub generation: Duration,
    /// What came of drafts; all 0 without any.
    pub draft: DraftStats,
}

impl Timings {
    /// Prompt tokens per second.
    pub fn prompt_rate(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt)
    }

    /// Generated tokens per second, without the first one, whose cost is that of the prompt. 0 for fewer than two
    /// tokens.
    pub fn generation_rate(&self) -> f64 {
        rate(self.generated_tokens.saturating_sub(1), self.generation)
    }
}

fn rate(tokens: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
}

/// A finished text.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Every generated token, including those of a stop string and the end-of-text token.
    pub ids: Vec<u32>,
    /// The text that was shown.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// How long it took.
    pub timings: Timings,
}

/// The tokens of a prompt. For an empty text it is the token that texts begin with, as in transformers.
///
/// # Errors
/// If the text cannot be tokenized, or is empty and no token begins or ends a text.
pub fn prompt(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, Error> {
    let ids = tokenizer.encode(text)?;
    if !ids.is_empty() {
        return Ok(ids);
    }
    let start = tokenizer.bos().or(tokenizer.eos());
    Ok(vec![start.ok_or(Error::EmptyPrompt)?])
}

/// Continues `prompt` in a new sequence of `context`.
///
/// `on_text` is called once per token with the new text that is certain: empty while a character is incomplete or a
/// stop string may have begun. It returns whether to continue. The end-of-text token has no text and no call; text that
/// was held back until the end has one more.
///
/// # Errors
/// Those of [`Generator::new`] and of the device, if the model's output is not finite, or if the context is cancelled
/// before the first token. A later cancel ends the text.
pub fn generate(
    context: &mut Context,
    tokenizer: &Arc<Tokenizer>,
    prompt: &[u32],
    options: &GenerateOptions,
    on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<Generation, Error> {
    let mut generator = Generator::new(context, tokenizer, prompt, options)?;
    let mut scheduler = Scheduler::new();
    let mut timings = Timings { prompt_tokens: prompt.len(), ..Timings::default() };
    let mut shown = 0;
    let start = Instant::now();
    while generator.finish().is_none() {
        let chosen = generator.ids().len();
        match scheduler.forward(context, &mut [&mut generator], usize::MAX) {
            Err(Error::Cancelled) if chosen > 0 => {
                generator.interrupt();
                break;
            }
            result => result?,
        }
        if chosen == 0 && generator.is_ready() {
            context.finish()?;
            timings.prompt = start.elapsed();
        }
        // A token, and more if the right ones were drafted. The text may end at any.
        while scheduler.has_choices() && generator.finish().is_none() {
            let chosen = generator.ids().len();
            scheduler.choose(context, &mut [&mut generator])?;
            if generator.ids().len() == chosen {
                continue;
            }
            if chosen == 0 {
                timings.first_token = start.elapsed();
            }
            timings.generation = start.elapsed() - timings.first_token;
            if let Some(piece) = generator.piece() {
                shown += piece.len();
                if on_text(piece).is_break() {
                    generator.interrupt();
                }
            }
        }
    }
    timings.generated_tokens = generator.ids().len();
    timings.draft = generator.draft_stats();
    let finish = generator.finish().cloned().expect("the loop ends with the text");
    if let Finish::NotFinite { position } = finish {
        return Err(Error::NotFinite { position });
    }
    let rest = &generator.text()[shown..];
    if !rest.is_empty() {
        // The returned value no longer matters.
        let _ = on_text(rest);
    }
    Ok(Generation { ids: generator.ids().to_vec(), text: generator.text().to_owned(), finish, timings })
}
