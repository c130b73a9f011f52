//! Finds stop strings, also across tokens.

/// Returns text until one of several strings appears in it.
#[derive(Debug)]
pub(crate) struct StopMatcher {
    stops: Vec<String>,
    /// Text that may be the start of a stop string.
    held: String,
}

/// The result for a piece of text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Text that can be shown now.
    pub(crate) text: String,
    /// The stop string that was found. Text from its first character on is never shown.
    pub(crate) stop: Option<String>,
}

impl StopMatcher {
    /// Searches for `stops`, which must not be empty strings.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Adds the next piece of text.
    pub(crate) fn push(&mut self, text: &str) -> Passed {
        self.held.push_str(text);
        let found = self.stops.iter().enumerate().filter_map(|(i, stop)| self.held.find(stop).map(|at| (at, i))).min();
        if let Some((at, stop)) = found {
            let mut text = std::mem::take(&mut self.held);
            text.truncate(at);
            return Passed { text, stop: Some(self.stops[stop].clone()) };
        }
        // The longest suffix that starts a stop string. Everything before it cannot be part of one.
        let begins_a_stop = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let keep_from = self.held.char_indices().map(|(at, _)| at).find(begins_a_stop).unwrap_or(self.held.len());
        let rest = self.held.split_off(keep_from);
        Passed { text: std::mem::replace(&mut self.held, rest), stop: None }
    }

    /// The text that is still held at the end.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let mut matcher = StopMatcher::new(stops.iter().map(|s| s.to_string()).collect());
        let mut out = String::new();
        for piece in pieces {
            let passed = matcher.push(piece);
            out += &passed.text;
            if passed.stop.is_some() {
                return (out, passed.stop);
            }
        }
        out += &matcher.finish();
        (out, None)
    }

    #[test]
    fn a_stop_is_found_across_pieces_and_not_shown() {
        assert_eq!(run(&["\n\n"], &["one\n", "\ntwo"]), ("one".into(), Some("\n\n".into())));
        assert_eq!(run(&["END"], &["aE", "E", "N", "D."]), ("aE".into(), Some("END".into())));
        assert_eq!(run(&["END"], &["aEN"]), ("aEN".into(), None));
        assert_eq!(run(&["xyz", "y"], &["wxyz"]), ("w".into(), Some("xyz".into())), "the earliest counts");
        assert_eq!(run(&["é!"], &["caf", "é", "!"]), ("caf".into(), Some("é!".into())));
        assert_eq!(run(&[], &["a", "b"]), ("ab".into(), None));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            text in "[ab\u{e9}]{0,24}",
            stops in prop::collection::vec("[ab\u{e9}]{1,4}", 0..3),
            cuts in prop::collection::vec(0usize..24, 0..6),
        ) {
            let mut bounds: Vec<usize> = cuts.into_iter().filter(|&c| text.is_char_boundary(c)).collect();
            bounds.extend([0, text.len()]);
            bounds.sort_unstable();
            let pieces: Vec<&str> = bounds.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (shown, stop) = run(&stops, &pieces);
            // In pieces a short stop string can be complete before a longer one that begins earlier.
            match stop {
                Some(stop) => prop_assert!(text.starts_with(&(shown.clone() + &stop))),
                None => prop_assert!(shown == text && stops.iter().all(|s| !text.contains(s))),
            }
            prop_assert!(stops.iter().all(|s| !shown.contains(s)));
        }
    }
}
