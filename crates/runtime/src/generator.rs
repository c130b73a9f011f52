//! A text in the making, apart from the model's passes: what the model must see next, and what a choice makes certain.

use crate::draft::{Draft, DraftLength, DraftStats, Drafting, Experience, Load, Place, Speculation};
use crate::stop::StopMatcher;
use crate::{Error, Sampler, Sampling, TextStream, Tokenizer, sampler, tokens};
use pythia_model::backend::{Candidate, Largest};
use pythia_model::{BATCH_TOKENS, Context, Sequence, Span};
use std::ops::Range;
use std::sync::Arc;

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
    /// Added to the logits of these tokens before everything else; -100 bans a token in practice.
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens are drafted and checked several at a time. The text does not depend on it.
    pub draft: Option<Drafting>,
}

impl GenerateOptions {
    /// Positions of a context that a text from a prompt of so many tokens can take, at most `limit`: the cache is
    /// allocated for them. A prompt that is too long has its own error later.
    pub fn n_ctx(&self, prompt: usize, limit: usize) -> usize {
        self.max_new_tokens.map_or(limit, |new| limit.min(prompt.saturating_add(new))).max(1)
    }

    /// Tokens of a pass that a text from a prompt of so many tokens can fill: the prompt, and later a token with its draft.
    pub fn n_batch(&self, prompt: usize) -> usize {
        let draft = self.draft.as_ref().map_or(0, |drafting| drafting.length.most());
        prompt.max(draft.saturating_add(1)).min(BATCH_TOKENS)
    }

    /// Checks that `prompt` can be continued so, in a context of `n_ctx` positions, by a model of `n_vocab` vocabulary
    /// rows whose tokenizer has `n_tokens`.
    ///
    /// # Errors
    /// If the prompt is empty, does not fit the context or has a token that the model does not have, or if a setting is
    /// out of range.
    pub(crate) fn check(&self, prompt: &[u32], n_ctx: usize, n_vocab: usize, n_tokens: usize) -> Result<(), Error> {
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::Setting { name: "stop", problem: "found an empty string, wanted text".to_owned() });
        }
        if prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if prompt.len() > n_ctx {
            return Err(Error::PromptTooLong { tokens: prompt.len(), n_ctx });
        }
        tokens::check(prompt, n_vocab)?;
        sampler::check(&self.sampling, &self.logit_bias, n_tokens)
    }
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
    /// No logit for the token at this position of the text was finite: the weights are damaged or overflow.
    NotFinite {
        /// Tokens of prompt and text before it.
        position: usize,
    },
}

impl Finish {
    /// One word for machines: `eos`, `stop`, `length`, `context`, `interrupted` or `not_finite`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::EndOfText => "eos",
            Self::Stop(_) => "stop",
            Self::Length => "length",
            Self::ContextFull => "context",
            Self::Interrupted => "interrupted",
            Self::NotFinite { .. } => "not_finite",
        }
    }
}

/// Continues a prompt one token at a time, in a sequence of its own. Several generators can share the passes of a
/// context: see [`Scheduler`](crate::Scheduler).
#[derive(Debug)]
pub struct Generator {
    tokenizer: Arc<Tokenizer>,
    /// Holds the first of `tokens`: the model has not seen the others yet.
    sequence: Sequence,
    /// The prompt, then the tokens that were chosen, then those that are drafted.
    tokens: Vec<u32>,
    n_prompt: usize,
    /// Tokens of the prompt and those that were chosen.
    n_certain: usize,
    speculation: Option<Speculation>,
    max_new_tokens: Option<usize>,
    ignore_eos: bool,
    sampler: Sampler,
    stream: TextStream,
    stops: StopMatcher,
    text: String,
    /// The part of `text` that the last token made certain; `None` after the end-of-text token, which has no text.
    piece: Option<Range<usize>>,
    finish: Option<Finish>,
}

impl Generator {
    /// Continues `prompt` in a new sequence of `context`.
    ///
    /// # Errors
    /// If the context has no free sequence, if the prompt is empty, does not fit the context or has a token that the
    /// model does not have, or if a setting is out of range.
    pub fn new(
        context: &Context,
        tokenizer: &Arc<Tokenizer>,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<Self, Error> {
        Self::start(context, context.sequence()?, tokenizer, prompt, options)
    }

    /// Continues `prompt` in a new sequence of the same context. Tokens at its start that the model has seen here too
    /// are not computed again: their keys and values are [copied](Context::fork).
    ///
    /// # Errors
    /// As [`new`](Self::new), or if this generator is of another context.
    pub fn fork(&self, context: &mut Context, prompt: &[u32], options: &GenerateOptions) -> Result<Self, Error> {
        let common = self.seen().iter().zip(prompt).take_while(|(a, b)| a == b).count();
        // The last token runs in any case: its logits choose the first new one.
        let sequence = context.fork(&self.sequence, common.min(prompt.len().saturating_sub(1)))?;
        Self::start(context, sequence, &self.tokenizer, prompt, options)
    }

    /// A generator whose `sequence` holds the first tokens of the prompt, not all.
    pub(crate) fn start(
        context: &Context,
        sequence: Sequence,
        tokenizer: &Arc<Tokenizer>,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<Self, Error> {
        let (n_ctx, n_vocab, n_tokens) = (context.n_ctx(), context.model().hparams().n_vocab, tokenizer.n_tokens());
        options.check(prompt, n_ctx, n_vocab, n_tokens)?;
        let mut sampler = Sampler::biased(options.sampling, n_tokens, &options.logit_bias)?;
        prompt.iter().for_each(|&token| sampler.accept(token));
        let drafting = options.draft.as_ref();
        let speculation = drafting.map(|drafting| Speculation::new(drafting.start(context), drafting.length));
        Ok(Self {
            tokenizer: Arc::clone(tokenizer),
            sequence,
            tokens: prompt.to_vec(),
            n_prompt: prompt.len(),
            n_certain: prompt.len(),
            speculation,
            max_new_tokens: options.max_new_tokens,
            ignore_eos: options.ignore_eos,
            sampler,
            stream: TextStream::new(),
            stops: StopMatcher::new(options.stop.clone()),
            text: String::new(),
            piece: None,
            finish: None,
        })
    }

    /// The same text with drafts of the caller's making. They are used by a [`Scheduler`](crate::Scheduler).
    #[must_use]
    pub fn drafted_by(mut self, draft: Box<dyn Draft>, length: DraftLength) -> Self {
        self.speculation = Some(Speculation::new(draft, length));
        self
    }

    /// Tokens that the model must see before the next choice; 0 once the text has ended.
    pub fn pending(&self) -> usize {
        if self.finish.is_some() { 0 } else { self.n_certain.saturating_sub(self.sequence.len()) }
    }

    /// Tokens that the next pass is to show the model: the [pending](Self::pending) ones and the draft after them.
    pub(crate) fn wanted(&self) -> usize {
        if self.finish.is_some() { 0 } else { self.tokens.len() - self.sequence.len() }
    }

    /// The first of the [pending](Self::pending) tokens, at most `limit`, for a [pass](Context::forward).
    pub fn next_span(&mut self, limit: usize) -> Span<'_> {
        let (seen, n) = (self.sequence.len(), self.wanted().min(limit));
        Span { sequence: &mut self.sequence, tokens: &self.tokens[seen..seen + n] }
    }

    /// Whether the next token can be chosen: the model has seen all others, and the text has not ended.
    pub fn is_ready(&self) -> bool {
        self.finish.is_none() && self.pending() == 0
    }

    /// Which logits decide as well as all of them do; `None` if all are needed.
    pub fn enough(&self) -> Option<Largest> {
        self.sampler.enough()
    }

    /// Chooses the next token from the logits that follow the last one, a value per vocabulary row.
    ///
    /// # Panics
    /// If it is not [ready](Self::is_ready).
    pub fn choose(&mut self, logits: &[f32]) {
        self.advance(|sampler| sampler.sample(logits));
        self.forget_draft_at_end();
    }

    /// As [`choose`](Self::choose), from those logits that are [`enough`](Self::enough), by ascending id.
    ///
    /// # Panics
    /// If it is not [ready](Self::is_ready).
    pub fn choose_among(&mut self, candidates: &[Candidate]) {
        self.advance(|sampler| sampler.sample_among(candidates));
        self.forget_draft_at_end();
    }

    /// Makes the last token pending again if the model has seen all: a pass then computes the logits for the next
    /// choice, with the same bits. A draft is forgotten.
    pub(crate) fn repeat_last(&mut self) {
        self.tokens.truncate(self.n_certain);
        if self.is_ready() {
            self.sequence.truncate(self.n_certain - 1);
        }
    }

    /// Whether tokens are drafted for it.
    pub(crate) fn is_speculative(&self) -> bool {
        self.speculation.is_some() && self.finish.is_none()
    }

    /// What came of the drafts. All 0 without any.
    pub fn draft_stats(&self) -> DraftStats {
        self.speculation.as_ref().map(Speculation::stats).unwrap_or_default()
    }

    /// Drafts tokens for the next pass, at most `room`: see [`Speculation::propose`].
    pub(crate) fn draft(
        &mut self,
        load: &mut Load,
        experience: &mut Experience,
        room: usize,
        is_due: bool,
    ) -> Result<(), Error> {
        let left = self.max_new_tokens.map_or(usize::MAX, |max| max.saturating_sub(self.ids().len()));
        let positions = self.sequence.n_ctx().saturating_sub(self.n_certain);
        // The last token is chosen and not seen: the one after the draft.
        let place = Place { room: room.min(left.saturating_sub(1)).min(positions), left: left.min(positions + 1) };
        let Some(speculation) = &mut self.speculation else { return Ok(()) };
        let text = (&*self.tokens, &self.sampler);
        let mut proposed = speculation.propose(text, load, experience, place, is_due)?;
        // No text goes on after its end, or with a token that cannot be chosen.
        let eos = self.tokenizer.eos().filter(|_| !self.ignore_eos);
        if let Some(end) = proposed.iter().position(|&token| Some(token) == eos) {
            proposed.truncate(end + 1);
        }
        let n_tokens = self.tokenizer.n_tokens();
        self.tokens.extend(proposed.into_iter().take_while(|&token| (token as usize) < n_tokens));
        Ok(())
    }

    /// Drafted tokens that the model has seen in the last pass.
    pub(crate) fn unchecked(&self) -> usize {
        self.sequence.len().saturating_sub(self.n_certain)
    }

    /// The drafts of this generator, if it has some.
    pub(crate) fn speculation(&mut self) -> Option<&mut Speculation> {
        self.speculation.as_mut()
    }

    /// Ends the text here. It also counts as interrupted if it ended at a limit, but not if the model or a stop string
    /// ended it.
    pub fn interrupt(&mut self) {
        match &self.finish {
            None => self.end(Finish::Interrupted),
            Some(Finish::Length | Finish::ContextFull) => self.finish = Some(Finish::Interrupted),
            Some(_) => {}
        }
        self.forget_draft_at_end();
    }

    /// The text that is certain: whole characters that cannot be part of a stop string. It only grows.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text that the last token made certain; `None` before the first token and after the end-of-text token. What
    /// was held back until the text ended comes after it.
    pub(crate) fn piece(&self) -> Option<&str> {
        self.piece.clone().map(|piece| &self.text[piece])
    }

    /// Every token chosen so far, also those of a stop string and the end-of-text token.
    pub fn ids(&self) -> &[u32] {
        &self.tokens[self.n_prompt..self.n_certain]
    }

    /// Why the text ended, once it has.
    pub fn finish(&self) -> Option<&Finish> {
        self.finish.as_ref()
    }

    /// The keys and values of the tokens that the model has seen.
    pub fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// Gives up the generator and keeps its [sequence](Self::sequence).
    pub fn into_sequence(self) -> Sequence {
        self.sequence
    }

    /// The tokens that the model has seen.
    pub(crate) fn seen(&self) -> &[u32] {
        &self.tokens[..self.sequence.len()]
    }

    /// Prompt and chosen tokens, and the sequence that holds the first of them.
    pub(crate) fn into_parts(mut self) -> (Vec<u32>, Sequence) {
        self.repeat_last();
        (self.tokens, self.sequence)
    }

    /// Ids that can be chosen are below.
    pub(crate) fn n_tokens(&self) -> usize {
        self.tokenizer.n_tokens()
    }

    fn advance(&mut self, sample: impl FnOnce(&mut Sampler) -> Option<u32>) {
        assert!(self.is_ready(), "a token is chosen after a pass over all before it");
        if self.has_length() {
            return self.end(Finish::Length);
        }
        let Some(token) = sample(&mut self.sampler) else {
            return self.end(Finish::NotFinite { position: self.n_certain });
        };
        self.append(token);
        self.piece = None;
        if self.tokenizer.eos() == Some(token) && !self.ignore_eos {
            return self.end(Finish::EndOfText);
        }
        let before = self.text.len();
        self.show(|tokenizer, stream| stream.push(tokenizer.token_bytes(token)));
        self.piece = Some(before..self.text.len());
        if self.finish.is_none() {
            if self.has_length() {
                self.end(Finish::Length);
            } else if self.n_certain > self.sequence.n_ctx() {
                self.end(Finish::ContextFull);
            }
        }
    }

    /// Appends a chosen token. If it is the next one of the draft, the model may have seen it already.
    fn append(&mut self, token: u32) {
        if self.unchecked() > 0 && self.tokens[self.n_certain] == token {
            self.speculation.iter_mut().for_each(Speculation::accepted);
        } else {
            self.forget_draft();
            self.tokens.push(token);
        }
        self.n_certain += 1;
    }

    fn forget_draft(&mut self) {
        self.tokens.truncate(self.n_certain);
        self.sequence.truncate(self.n_certain);
    }

    /// A text that has ended is as without a draft, where the model has not seen the last token.
    fn forget_draft_at_end(&mut self) {
        if self.speculation.is_some() && self.finish.is_some() {
            self.forget_draft();
            self.sequence.truncate((self.n_certain - 1).max(self.n_prompt));
        }
    }

    fn has_length(&self) -> bool {
        self.max_new_tokens.is_some_and(|max| self.ids().len() >= max)
    }

    /// Passes text on to what is certain; a stop string in it ends the text.
    fn show(&mut self, next: impl FnOnce(&Tokenizer, &mut TextStream) -> String) {
        let passed = self.stops.push(&next(&self.tokenizer, &mut self.stream));
        self.text.push_str(&passed.text);
        self.finish = passed.stop.map(Finish::Stop);
    }

    /// Ends the text; what was held back is certain now, unless it completes a stop string.
    fn end(&mut self, finish: Finish) {
        self.show(|_, stream| std::mem::take(stream).finish());
        self.text.push_str(&self.stops.finish());
        self.finish.get_or_insert(finish);
    }
}

#[cfg(test)]
pub(crate) mod tests;
