//! Drafts from the text itself.

use super::Draft;
use crate::{Error, Sampler};

/// Finds the last tokens of the text earlier in it and proposes what followed there: n-gram look-up, as in "prompt lookup
/// decoding" (Saxena, <https://github.com/apoorvumang/prompt-lookup-decoding>). Of several places the one with the
/// longest match counts, and of equals the latest. A proposal may run into itself, so a loop is continued at any length.
#[derive(Clone, Copy, Debug, Default)]
pub struct LookupDraft;

/// Matches that are shorter are mostly chance.
const LEAST: usize = 2;
/// Longer matches say no more than this.
const ENOUGH: usize = 8;

impl Draft for LookupDraft {
    fn propose(&mut self, tokens: &[u32], _: &Sampler, n: usize) -> Result<Vec<u32>, Error> {
        let Some(from) = find(tokens) else { return Ok(Vec::new()) };
        let mut proposed = Vec::with_capacity(n);
        for at in from..from + n {
            let token = tokens.get(at).copied().unwrap_or_else(|| proposed[at - tokens.len()]);
            proposed.push(token);
        }
        Ok(proposed)
    }
}

/// The position after the best earlier match of the last tokens.
fn find(tokens: &[u32]) -> Option<usize> {
    let (mut best, mut from) = (LEAST - 1, None);
    for end in (LEAST..tokens.len()).rev() {
        let earlier = tokens[..end].iter().rev();
        let len = earlier.zip(tokens.iter().rev()).take(ENOUGH).take_while(|(a, b)| a == b).count();
        if len > best {
            (best, from) = (len, Some(end));
            if len == ENOUGH {
                break;
            }
        }
    }
    from
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sampling;

    fn propose(tokens: &[u32], n: usize) -> Vec<u32> {
        let sampler = Sampler::new(Sampling::default(), 100).unwrap();
        LookupDraft.propose(tokens, &sampler, n).unwrap()
    }

    #[test]
    fn the_longest_and_latest_match_is_continued() {
        assert_eq!(propose(&[1, 2, 3, 4, 1, 2], 3), [3, 4, 1]);
        assert_eq!(propose(&[1, 2, 3, 7, 2, 3, 8, 1, 2, 3], 1), [7], "three tokens match, not two");
        assert_eq!(propose(&[2, 3, 7, 2, 3, 8, 2, 3], 1), [8], "the later of two");
        assert_eq!(propose(&[1, 2, 3, 2], 4), [0u32; 0], "one token is not enough");
        assert_eq!(propose(&[], 4), [0u32; 0]);
        assert_eq!(propose(&[5], 4), [0u32; 0]);
        assert_eq!(propose(&[5, 5], 4), [0u32; 0]);
    }

    #[test]
    fn a_loop_goes_on_beyond_the_end_of_the_text() {
        assert_eq!(propose(&[9, 1, 2, 1, 2], 7), [1, 2, 1, 2, 1, 2, 1]);
        assert_eq!(propose(&[9, 4, 4, 4], 5), [4; 5]);
        assert_eq!(propose(&[4, 4, 4], 0), [0u32; 0]);
    }
}
