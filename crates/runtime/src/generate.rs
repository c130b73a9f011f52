//! A prompt continued, token by token.

use crate::stop::StopMatcher;
use crate::{Error, Sampler, Sampling, TextStream, Tokenizer};
use pythia_model::{Context, Span};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How far a text is continued, and how.
#[derive(Clone, Debug, Default)]
pub struct GenerateOptions {
    /// Tokens to generate at most; `None` goes on to the end of the context.
    pub max_new_tokens: Option<usize>,
    /// Strings that end the text. They and what follows are not shown.
    pub stop: Vec<String>,
    /// Go on after the end-of-text token.
    pub ignore_eos: bool,
    /// How the next token is chosen.
    pub sampling: Sampling,
}

/// Why a text ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    EndOfText,
    /// This stop string appeared.
    Stop(String),
    /// It has as many tokens as were asked for.
    Length,
    /// The context is full.
    ContextFull,
    /// The caller did not want more.
    Interrupted,
}

impl Finish {
    /// One word for machines: `eos`, `stop`, `length`, `context` or `interrupted`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::EndOfText => "eos",
            Self::Stop(_) => "stop",
            Self::Length => "length",
            Self::ContextFull => "context",
            Self::Interrupted => "interrupted",
        }
    }
}

/// How long a generation took.
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
}

impl Timings {
    /// Prompt tokens per second.
    pub fn prompt_rate(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt)
    }

    /// Generated tokens per second, the first one not counted: its cost is the prompt's. 0 for fewer than two tokens.
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
    /// Every token generated, also those of a stop string and the end-of-text token.
    pub ids: Vec<u32>,
    /// The text that was shown.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// How long it took.
    pub timings: Timings,
}

/// Continues `prompt` in sequence 0 of `context`.
///
/// `on_text` is called once per token with the text that became certain by it: empty while a character is incomplete
/// or while a stop string may have begun. Its answer is whether to go on.
///
/// # Errors
/// If the prompt is empty or does not fit, if a setting is out of range, if the model's output is not finite, or if the
/// context is cancelled before the first token; later that ends the text.
pub fn generate(
    context: &mut Context<'_>,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    options: &GenerateOptions,
    on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<Generation, Error> {
    check(context, prompt, options)?;
    let mut sampler = Sampler::new(options.sampling, tokenizer.n_tokens())?;
    prompt.iter().for_each(|&token| sampler.accept(token));
    let start = Instant::now();
    for batch in prompt.chunks(context.n_batch()) {
        context.forward(&[Span { sequence: 0, tokens: batch }])?;
    }
    context.finish()?;
    let mut timings = Timings { prompt_tokens: prompt.len(), prompt: start.elapsed(), ..Timings::default() };
    // The logits of the prompt's last token, wherever it stands in its batch.
    let mut row = (prompt.len() - 1) % context.n_batch();
    let mut logits = vec![0.0; context.model().hparams().n_vocab];
    let mut output = Output::new(tokenizer, options, on_text);

    let finish = loop {
        if options.max_new_tokens.is_some_and(|max| output.ids.len() >= max) {
            break Finish::Length;
        }
        if let Some(&last) = output.ids.last() {
            if context.len(0) == context.n_ctx() {
                break Finish::ContextFull;
            }
            match context.forward(&[Span { sequence: 0, tokens: &[last] }]) {
                Err(pythia_model::Error::Cancelled) => break Finish::Interrupted,
                result => result?,
            }
            row = 0;
        }
        // A few candidates where they are all that the sampler looks at and the logits are far away.
        let candidates = match sampler.enough() {
            Some(largest) => context.largest(row, tokenizer.n_tokens(), largest)?,
            None => None,
        };
        let token = if let Some(candidates) = candidates {
            sampler.sample_among(&candidates)
        } else {
            context.logits(row..row + 1, &mut logits)?;
            sampler.sample(&mut logits)
        };
        let position = prompt.len() + output.ids.len();
        let token = token.ok_or(Error::NotFinite { position })?;
        if output.ids.is_empty() {
            timings.first_token = start.elapsed();
        }
        timings.generation = start.elapsed() - timings.first_token;
        if let ControlFlow::Break(finish) = output.push(token) {
            break finish;
        }
    };
    timings.generated_tokens = output.ids.len();
    Ok(output.finish(finish, timings))
}

fn check(context: &Context<'_>, prompt: &[u32], options: &GenerateOptions) -> Result<(), Error> {
    if options.stop.iter().any(String::is_empty) {
        return Err(Error::Setting { name: "stop", problem: "found an empty string, wanted text".to_owned() });
    }
    if prompt.is_empty() {
        return Err(Error::EmptyPrompt);
    }
    let room = context.n_ctx() - context.len(0);
    if prompt.len() > room {
        return Err(Error::PromptTooLong { tokens: prompt.len(), room });
    }
    Ok(())
}

/// From tokens to the text that is shown.
struct Output<'o> {
    tokenizer: &'o Tokenizer,
    options: &'o GenerateOptions,
    on_text: &'o mut dyn FnMut(&str) -> ControlFlow<()>,
    ids: Vec<u32>,
    text: String,
    stream: TextStream,
    stops: StopMatcher<'o>,
}

impl<'o> Output<'o> {
    fn new(
        tokenizer: &'o Tokenizer,
        options: &'o GenerateOptions,
        on_text: &'o mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Self {
        let stops = StopMatcher::new(&options.stop);
        Self { tokenizer, options, on_text, ids: Vec::new(), text: String::new(), stream: TextStream::new(), stops }
    }

    /// Takes a token; breaks with the reason if it is the last one.
    fn push(&mut self, token: u32) -> ControlFlow<Finish> {
        self.ids.push(token);
        if self.tokenizer.eos() == Some(token) && !self.options.ignore_eos {
            return ControlFlow::Break(Finish::EndOfText);
        }
        let passed = self.stops.push(&self.stream.push(self.tokenizer.token_bytes(token)));
        let shown = self.show(&passed.text);
        match passed.stop {
            Some(stop) => ControlFlow::Break(Finish::Stop(self.options.stop[stop].clone())),
            None if shown.is_break() => ControlFlow::Break(Finish::Interrupted),
            None => ControlFlow::Continue(()),
        }
    }

    fn show(&mut self, text: &str) -> ControlFlow<()> {
        self.text.push_str(text);
        (self.on_text)(text)
    }

    /// Shows what was held back, unless a stop string cut it off.
    fn finish(mut self, finish: Finish, timings: Timings) -> Generation {
        let mut finish = finish;
        if !matches!(finish, Finish::Stop(_)) {
            let rest = std::mem::take(&mut self.stream).finish();
            let passed = self.stops.push(&rest);
            let held = std::mem::replace(&mut self.stops, StopMatcher::new(&[])).finish();
            let tail = passed.text + &held;
            if let Some(stop) = passed.stop {
                finish = Finish::Stop(self.options.stop[stop].clone());
            }
            // Whether to go on no longer matters.
            if !tail.is_empty() {
                let _ = self.show(&tail);
            }
        }
        Generation { ids: self.ids, text: self.text, finish, timings }
    }
}
