//! The strings of a pickle, each once.
//!
//! A pickle can refer to one string of megabytes hundreds of thousands of times, by two bytes each time. So a string is
//! read, checked and hashed where it stands, and is a number from then on: equal strings have equal numbers, and nothing
//! that follows reads its bytes again. All work on strings is linear in the length of the pickle.

use std::collections::HashMap;

/// The number of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TextId(u32);

/// Strings by number.
#[derive(Debug, Default)]
pub(crate) struct Texts<'p> {
    by_id: Vec<&'p str>,
    ids: HashMap<&'p str, TextId>,
}

impl<'p> Texts<'p> {
    /// The number of `text`, a new one if no equal string was entered before.
    pub(super) fn enter(&mut self, text: &'p str) -> TextId {
        // Each takes an instruction, and the number of those is far below 2^32.
        let next = TextId(self.by_id.len() as u32);
        let id = *self.ids.entry(text).or_insert(next);
        if id == next {
            self.by_id.push(text);
        }
        id
    }

    /// The string of a number that [`enter`](Self::enter) gave.
    pub(crate) fn get(&self, id: TextId) -> &'p str {
        self.by_id.get(id.0 as usize).copied().unwrap_or_default()
    }

    /// The number of `text`, if it is one of the strings.
    pub(crate) fn find(&self, text: &str) -> Option<TextId> {
        self.ids.get(text).copied()
    }
}
