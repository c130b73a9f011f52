//! Which tokens of a text are scored, and how much context each one has.
//!
//! Perplexities under different protocols, or different window lengths, cannot be compared: that is why every result
//! names its protocol.

use crate::Error;
use serde::Serialize;
use std::ops::Range;

/// A way to cut a text into windows that fit the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Protocol {
    /// As llama.cpp's `llama-perplexity` does: disjoint windows of `n_ctx` tokens, each with an empty context; the
    /// tokens after the one in the middle are scored (255 of 512). What does not fill a window is dropped.
    Llama {
        /// Tokens in a window.
        n_ctx: usize,
    },
    /// As Hugging Face's guide to the perplexity of fixed-length models does: a window of `window` tokens every
    /// `stride`; of each, the tokens that no earlier window held are scored. Only the text's first token is not.
    HfStride {
        /// Tokens in a window.
        window: usize,
        /// Tokens from the start of one window to the start of the next.
        stride: usize,
    },
}

/// Tokens that go through the model at once, from an empty context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Positions in the text of the tokens that the model sees.
    pub tokens: Range<usize>,
    /// Positions in the text of the tokens that are scored; each is predicted from those before it in the window.
    pub scored: Range<usize>,
}

impl Protocol {
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
        self.check()?;
        let wanted = match self {
            // One chunk could be scored, but the reference refuses fewer than two.
            Self::Llama { n_ctx } => n_ctx.saturating_mul(2),
            Self::HfStride { .. } => 2,
        };
        if n_tokens < wanted {
            return Err(Error::TextTooShort { tokens: n_tokens, wanted, protocol: self.name() });
        }
        Ok(match self {
            Self::Llama { n_ctx } => llama(n_tokens, n_ctx),
            Self::HfStride { window, stride } => hf_stride(n_tokens, window, stride),
        })
    }

    fn check(self) -> Result<(), Error> {
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

fn llama(n_tokens: usize, n_ctx: usize) -> Vec<Window> {
    let starts = (0..n_tokens / n_ctx).map(|chunk| chunk * n_ctx);
    starts.map(|at| Window { tokens: at..at + n_ctx, scored: at + n_ctx / 2 + 1..at + n_ctx }).collect()
}

fn hf_stride(n_tokens: usize, window: usize, stride: usize) -> Vec<Window> {
    let mut windows = Vec::new();
    // The first token has nothing before it.
    let mut scored_to = 1;
    for start in (0..n_tokens).step_by(stride) {
        let end = n_tokens.min(start + window);
        // With a stride as long as the window, the first token of a window has nothing before it either.
        windows.push(Window { tokens: start..end, scored: scored_to.max(start + 1)..end });
        scored_to = end;
        if end == n_tokens {
            break;
        }
    }
    // A last window of one token has nothing to score.
    windows.retain(|w| !w.scored.is_empty());
    windows
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
            for w in &windows {
                assert!(w.tokens.len() <= window && w.scored.start > w.tokens.start && w.scored.end == w.tokens.end);
            }
        }
        let disjoint = Protocol::HfStride { window: 10, stride: 10 }.windows(31).unwrap();
        assert_eq!(disjoint.last().unwrap().scored, 21..30, "a token alone in its window cannot be scored");
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
