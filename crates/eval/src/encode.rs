//! Requests as tokens, by the rules of lm-evaluation-harness with its `hf` backend.
//!
//! A context and its continuation are encoded together, because a token may not end where the context does. The
//! continuation has the tokens after as many as the context has alone. Spaces at the end of the context count as the
//! continuation's, where tokens begin with them. What does not fit into the model's context is cut off at the start.

use crate::Error;
use crate::python::is_space;
use pythia_runtime::Tokenizer;
use pythia_runtime::score::Ask;

/// Turns texts into what is scored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoder<'t> {
    tokenizer: &'t Tokenizer,
    /// Tokens that the model can see.
    n_ctx: usize,
    /// Stands before a text that has no context.
    prefix: u32,
}

impl<'t> Encoder<'t> {
    /// For a model that sees `n_ctx` tokens.
    ///
    /// # Errors
    /// If the vocabulary has no token that begins or ends a text.
    pub(crate) fn new(tokenizer: &'t Tokenizer, n_ctx: usize) -> Result<Self, Error> {
        let prefix = tokenizer.bos().or(tokenizer.eos()).ok_or_else(|| {
            Error::data(
                "the vocabulary",
                "no token begins or ends a text, so none can stand before one without context",
            )
        })?;
        Ok(Self { tokenizer, n_ctx, prefix })
    }

    /// Continuations after their contexts. A context that is that of the pair before is not encoded alone again.
    ///
    /// # Errors
    /// If a continuation has no token of its own, or more than the model can see.
    pub(crate) fn pairs<'p>(&self, pairs: impl IntoIterator<Item = (&'p str, &'p str)>) -> Result<Vec<Ask>, Error> {
        let mut last = None;
        let mut ask = |(context, continuation): (&'p str, &'p str)| {
            let n_context = match last {
                Some((known, n)) if known == context => n,
                _ => self.encode(context.trim_end_matches(is_space))?.len(),
            };
            last = Some((context, n_context));
            self.pair(context, n_context, continuation)
        };
        pairs.into_iter().map(&mut ask).collect()
    }

    /// A continuation after a context that has `n_context` tokens without the spaces at its end.
    fn pair(&self, context: &str, n_context: usize, continuation: &str) -> Result<Ask, Error> {
        let (context, spaces) = context.split_at(context.trim_end_matches(is_space).len());
        let continuation = [spaces, continuation].concat();
        let (mut tokens, mut first);
        if context.is_empty() {
            tokens = self.encode(&continuation)?;
            if tokens.first() != Some(&self.prefix) {
                tokens.insert(0, self.prefix);
            }
            first = 1;
        } else {
            first = n_context;
            tokens = self.encode(&[context, &continuation].concat())?;
        }
        if tokens.len() <= first {
            let problem = format!("{continuation:?} has no token of its own after its context");
            return Err(Error::data("a continuation", problem));
        }
        let scored = tokens.len() - first;
        if scored > self.n_ctx {
            let problem = format!("{scored} tokens, but the model sees only {}", self.n_ctx);
            return Err(Error::data("a continuation", problem));
        }
        // The last token is not seen, only predicted.
        let cut = tokens.len().saturating_sub(self.n_ctx + 1);
        tokens.drain(..cut);
        first -= cut;
        Ok(Ask { tokens, first })
    }

    /// A whole text, in windows as long as the model's context. Each token is scored once. The windows do not overlap,
    /// except that the last one reaches back to have a full context.
    ///
    /// # Errors
    /// If the text cannot be encoded.
    pub(crate) fn rolling(&self, text: &str) -> Result<Vec<Ask>, Error> {
        let mut tokens = vec![self.prefix];
        tokens.extend(self.encode(text)?);
        let mut asks = Vec::new();
        // Number of the next token to score.
        let mut next = 1;
        while next < tokens.len() {
            let end = tokens.len().min(next + self.n_ctx);
            let start = end.saturating_sub(self.n_ctx + 1);
            asks.push(Ask { tokens: tokens[start..end].to_vec(), first: next - start });
            next = end;
        }
        Ok(asks)
    }

    /// A prompt that leaves space for `max_tokens` more.
    ///
    /// # Errors
    /// If there would be no space for a prompt.
    pub(crate) fn prompt(&self, context: &str, max_tokens: usize) -> Result<Vec<u32>, Error> {
        let n_ctx = self.n_ctx;
        let space = n_ctx.checked_sub(max_tokens).filter(|&space| space > 0).ok_or_else(|| {
            Error::Request(format!("answers of up to {max_tokens} tokens do not fit into a context of {n_ctx}"))
        })?;
        let mut tokens = self.encode(context)?;
        if tokens.is_empty() {
            tokens.push(self.prefix);
        }
        tokens.drain(..tokens.len().saturating_sub(space));
        Ok(tokens)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.tokenizer.encode(text).map_err(|e| pythia_runtime::Error::from(e).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pythia_tokenizer::{ForModel, TokenizerFile};
    use serde_json::Value;
    use std::path::Path;

    const GOLDEN: &str = include_str!("../../../tests/data/eval/tokens.json");

    fn tokenizer() -> Tokenizer {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/pythia-docs-6m");
        let model = ForModel { n_vocab: 4096, bos: None, eos: Some(0) };
        Tokenizer::from_vocab(&TokenizerFile::find(&folder, &model).unwrap().unwrap().vocab).unwrap()
    }

    fn tokens(value: &Value) -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    }

    /// Trailing spaces of every kind, no context, too much of it, characters of several tokens, spaces inside.
    #[test]
    fn pairs_are_encoded_as_by_the_harness() {
        let golden: Value = serde_json::from_str(GOLDEN).unwrap();
        let tokenizer = tokenizer();
        let encoder = Encoder::new(&tokenizer, golden["n_ctx"].as_u64().unwrap() as usize).unwrap();
        let pairs = golden["pairs"].as_array().unwrap();
        assert!(pairs.len() >= 20);
        for pair in pairs {
            let texts = (pair["context"].as_str().unwrap(), pair["continuation"].as_str().unwrap());
            let ask = encoder.pairs([texts]).map(|mut asks| asks.remove(0));
            // Where the harness fails, there is nothing to score, or it does not fit.
            if pair["tokens"].is_null() {
                assert!(ask.is_err(), "{pair}");
                continue;
            }
            let ask = ask.unwrap();
            let scored = ask.tokens.len() - ask.first;
            assert_eq!(
                (ask.tokens, scored as u64),
                (tokens(&pair["tokens"]), pair["scored"].as_u64().unwrap()),
                "{pair}"
            );
        }
    }

    #[test]
    fn windows_roll_as_in_the_harness() {
        let golden: Value = serde_json::from_str(GOLDEN).unwrap();
        let tokenizer = tokenizer();
        let encoder = Encoder::new(&tokenizer, golden["n_ctx"].as_u64().unwrap() as usize).unwrap();
        for text in golden["rolling"].as_array().unwrap() {
            let asks = encoder.rolling(text["text"].as_str().unwrap()).unwrap();
            let found: Vec<(Vec<u32>, u64)> = asks
                .into_iter()
                .map(|ask| ((ask.tokens.len() - ask.first) as u64, ask.tokens))
                .map(|(n, t)| (t, n))
                .collect();
            let windows = text["windows"].as_array().unwrap();
            let wanted: Vec<(Vec<u32>, u64)> =
                windows.iter().map(|w| (tokens(&w["tokens"]), w["scored"].as_u64().unwrap())).collect();
            assert_eq!(found, wanted, "{text}");
        }
    }

    #[test]
    fn prompts_leave_space_for_the_answer() {
        let tokenizer = tokenizer();
        let encoder = Encoder::new(&tokenizer, 16).unwrap();
        let whole = tokenizer.encode("one two three four five six seven eight nine ten").unwrap();
        let prompt = encoder.prompt("one two three four five six seven eight nine ten", 10).unwrap();
        assert_eq!(prompt, whole[whole.len() - 6..]);
        assert_eq!(encoder.prompt("", 15).unwrap(), [0]);
        let error = encoder.prompt("x", 16).unwrap_err();
        assert_eq!(error.kind(), pythia_task::ErrorKind::Usage);
    }
}
