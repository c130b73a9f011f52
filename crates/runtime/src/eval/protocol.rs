//! Protocols: which tokens of a text are scored, and the context of each.
//!
//! Perplexities under different protocols or window lengths cannot be compared, so every result names its protocol.

use crate::{Error, TokenStream};
use serde::Serialize;
use std::ops::Range;

/// A way to cut a text into windows that fit the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Protocol {
    /// Like llama.cpp's `llama-perplexity`: disjoint windows of `n_ctx` tokens, each with an empty context. The tokens
    /// after the middle one are scored (255 of 512). An incomplete last window is dropped.
    Llama {
        /// Tokens in a window.
        n_ctx: usize,
    },
    /// Like Hugging Face's guide to the perplexity of fixed-length models: a window of `window` tokens every `stride`.
    /// In each, the tokens that no earlier window had are scored, except for the first token of the text.
    HfStride {
        /// Tokens in a window.
        window: usize,
        /// Tokens from the start of one window to the start of the next.
        stride: usize,
    },
}

/// Tokens that the model processes together, from an empty context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Positions in the text of the tokens of the window.
    pub tokens: Range<usize>,
    /// Positions in the text of the scored tokens. Each is predicted from those before it in the window.
    pub scored: Range<usize>,
}

impl Protocol {
    /// The names of all protocols.
    pub const NAMES: [&str; 2] = ["llama", "hf-stride"];

    /// The protocol called `name`, for a model with a context of `n_ctx` tokens. Windows have `window` tokens, 0 for
    /// the whole context; by default 512 with `llama`, and with `hf-stride` the context, at most 2048. `stride` is for
    /// `hf-stride`, by default 512 and at most a window.
    ///
    /// # Errors
    /// If there is no such protocol, or it has no stride. Lengths are checked when the protocol is used.
    pub fn named(name: &str, window: Option<usize>, stride: Option<usize>, n_ctx: usize) -> Result<Self, Error> {
        let window = |default: usize| match window {
            None => default,
            Some(0) => n_ctx,
            Some(n) => n,
        };
        match (name, stride) {
            ("llama", None) => Ok(Self::Llama { n_ctx: window(512) }),
            ("llama", Some(_)) => {
                let problem = "needs the protocol hf-stride".to_owned();
                Err(Error::Setting { name: "stride", problem })
            }
            ("hf-stride", stride) => {
                let window = window(n_ctx.min(2048));
                Ok(Self::HfStride { window, stride: stride.unwrap_or(window.min(512)) })
            }
            _ => {
                let problem = format!("found '{name}', wanted {}", Self::NAMES.join(" or "));
                Err(Error::Setting { name: "protocol", problem })
            }
        }
    }

    /// Its name as users type it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama { .. } => "llama",
            Self::HfStride { .. } => "hf-stride",
        }
    }

    /// Tokens in a full window.
    pub fn window_tokens(self) -> usize {
        match self {
            Self::Llama { n_ctx } => n_ctx,
            Self::HfStride { window, .. } => window,
        }
    }

    /// The windows of a text of `n_tokens`.
    ///
    /// # Errors
    /// If a length is out of range or the text is too short.
    pub fn windows(self, n_tokens: usize) -> Result<Vec<Window>, Error> {
        let mut reach = |end: usize| Ok(end.min(n_tokens));
        let mut cutter = Cutter::new(self, &mut reach)?;
        std::iter::from_fn(|| cutter.next(&mut reach).transpose()).collect()
    }

    /// Number of [`windows`](Self::windows) in a text of `n_tokens`; 0 if it is too short.
    pub(super) fn count(self, n_tokens: usize) -> usize {
        match self {
            _ if n_tokens < self.least_tokens() => 0,
            Self::Llama { n_ctx } => n_tokens / n_ctx,
            Self::HfStride { window, .. } if n_tokens <= window => 1,
            Self::HfStride { window, stride } => {
                let further = (n_tokens - window).div_ceil(stride);
                // A last window of one token has nothing to score.
                1 + further - usize::from(further * stride + 1 == n_tokens)
            }
        }
    }

    /// Minimum number of tokens of a text.
    pub(super) fn least_tokens(self) -> usize {
        match self {
            // One chunk could be scored, but the reference refuses fewer than two.
            Self::Llama { n_ctx } => n_ctx.saturating_mul(2),
            Self::HfStride { .. } => 2,
        }
    }

    /// Checks that a text is long enough. Reads no more than necessary.
    ///
    /// # Errors
    /// If it is too short, or cannot be read or tokenized.
    pub fn check_length(self, tokens: &mut TokenStream<'_>) -> Result<(), Error> {
        Cutter::new(self, &mut |end| tokens.reach(end)).map(|_| ())
    }

    /// Checks its lengths.
    ///
    /// # Errors
    /// If one is out of range.
    pub fn check(self) -> Result<(), Error> {
        let wrong = |name, found: usize, wanted: String| {
            Err(Error::Setting { name, problem: format!("found {found}, wanted {wanted}") })
        };
        match self {
            Self::Llama { n_ctx } if n_ctx < 4 => wrong("window", n_ctx, "at least 4 tokens".to_owned()),
            Self::HfStride { window, .. } if window < 2 => wrong("window", window, "at least 2 tokens".to_owned()),
            Self::HfStride { window, stride } if !(1..=window).contains(&stride) => {
                wrong("stride", stride, format!("1 to the window's {window}"))
            }
            _ => Ok(()),
        }
    }
}

/// Cuts a text into windows, one after the other. Reads no further ahead than necessary.
#[derive(Debug)]
pub(super) struct Cutter {
    protocol: Protocol,
    /// Start of the next window.
    start: usize,
    /// End of the scored tokens so far.
    scored_to: usize,
    ended: bool,
}

impl Cutter {
    /// Starts at the start of a text. `reach` is called with a position and returns the number of tokens up to it.
    pub(super) fn new(
        protocol: Protocol,
        reach: &mut impl FnMut(usize) -> Result<usize, Error>,
    ) -> Result<Self, Error> {
        protocol.check()?;
        let wanted = protocol.least_tokens();
        let tokens = reach(wanted)?;
        if tokens < wanted {
            return Err(Error::TextTooShort { tokens, wanted, protocol: protocol.name() });
        }
        // The first token has nothing before it.
        Ok(Self { protocol, start: 0, scored_to: 1, ended: false })
    }

    /// The next window, if there is one.
    pub(super) fn next(
        &mut self,
        reach: &mut impl FnMut(usize) -> Result<usize, Error>,
    ) -> Result<Option<Window>, Error> {
        if self.ended {
            return Ok(None);
        }
        let start = self.start;
        let window = match self.protocol {
            Protocol::Llama { n_ctx } => {
                let end = start + n_ctx;
                self.ended = reach(end)? < end;
                self.start = end;
                if self.ended {
                    return Ok(None);
                }
                Window { tokens: start..end, scored: start + n_ctx / 2 + 1..end }
            }
            Protocol::HfStride { window, stride } => {
                // One more, to know whether the text goes on.
                let n_tokens = reach(start + window + 1)?;
                let end = n_tokens.min(start + window);
                self.ended = end == n_tokens;
                self.start = start + stride;
                // With a stride as long as the window, the first token of a window has nothing before it either.
                let scored = self.scored_to.max(start + 1)..end;
                self.scored_to = end;
                Window { tokens: start..end, scored }
            }
        };
        // A last window of one token has nothing to score.
        Ok(Some(window).filter(|window| !window.scored.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_scores_the_second_half_of_disjoint_chunks() {
        let windows = Protocol::Llama { n_ctx: 512 }.windows(86_110).unwrap();
        assert_eq!(windows.len(), 168);
        assert_eq!(windows[1], Window { tokens: 512..1024, scored: 769..1024 });
        assert_eq!(windows.iter().map(|w| w.scored.len()).sum::<usize>(), 42_840);
    }

    #[test]
    fn stride_scores_every_token_but_the_first_once() {
        for (n, window, stride) in [(86_110, 512, 256), (100, 10, 3), (100, 10, 1), (5, 512, 256), (21, 10, 7)] {
            let windows = Protocol::HfStride { window, stride }.windows(n).unwrap();
            let scored: Vec<usize> = windows.iter().flat_map(|w| w.scored.clone()).collect();
            assert_eq!(scored, (1..n).collect::<Vec<_>>());
            assert_eq!(windows.len(), Protocol::HfStride { window, stride }.count(n));
            for w in &windows {
                assert!(w.tokens.len() <= window && w.scored.start > w.tokens.start && w.scored.end == w.tokens.end);
            }
        }
        let disjoint = Protocol::HfStride { window: 10, stride: 10 };
        assert_eq!(disjoint.count(31), 3);
        let disjoint = disjoint.windows(31).unwrap();
        assert_eq!(disjoint.last().unwrap().scored, 21..30, "a token alone in its window cannot be scored");
    }

    #[test]
    fn windows_are_counted_without_being_cut() {
        for n in 0..60 {
            for window in 2..12 {
                let strides = (1..=window).map(|stride| Protocol::HfStride { window, stride });
                for protocol in strides.chain((window >= 4).then_some(Protocol::Llama { n_ctx: window })) {
                    let windows = protocol.windows(n).map_or(0, |windows| windows.len());
                    assert_eq!(protocol.count(n), windows, "{protocol:?}, {n} tokens");
                }
            }
        }
    }

    #[test]
    fn windows_and_strides_have_defaults() {
        let named = |name, window, stride| Protocol::named(name, window, stride, 1024).map_err(|e| e.to_string());
        assert_eq!(named("llama", None, None), Ok(Protocol::Llama { n_ctx: 512 }));
        assert_eq!(named("llama", Some(0), None), Ok(Protocol::Llama { n_ctx: 1024 }));
        assert_eq!(named("hf-stride", None, None), Ok(Protocol::HfStride { window: 1024, stride: 512 }));
        assert_eq!(named("hf-stride", Some(64), None), Ok(Protocol::HfStride { window: 64, stride: 64 }));
        assert_eq!(named("hf-stride", Some(64), Some(8)), Ok(Protocol::HfStride { window: 64, stride: 8 }));
        assert!(named("llama", None, Some(8)).unwrap_err().starts_with("stride"));
        assert_eq!(named("x", None, None).unwrap_err(), "protocol: found 'x', wanted llama or hf-stride");
    }

    #[test]
    fn impossible_requests_are_refused() {
        let error = |protocol: Protocol, n| protocol.windows(n).unwrap_err().to_string();
        assert!(error(Protocol::Llama { n_ctx: 512 }, 1023).contains("1023 tokens"));
        assert!(error(Protocol::Llama { n_ctx: 3 }, 1023).starts_with("window"));
        assert!(error(Protocol::HfStride { window: 8, stride: 9 }, 100).starts_with("stride"));
        assert!(error(Protocol::HfStride { window: 8, stride: 0 }, 100).starts_with("stride"));
        assert!(error(Protocol::HfStride { window: 8, stride: 8 }, 1).contains("1 tokens"));
        assert!(error(Protocol::Llama { n_ctx: usize::MAX }, 100).contains("100 tokens"));
    }
}
