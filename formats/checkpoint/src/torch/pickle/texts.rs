//! The strings of a pickle, each once.
//!
//! A pickle can refer to a string of megabytes hundreds of thousands of times, with two bytes each time. So a string is
//! read, checked and hashed once, and then represented by a number. Equal strings have equal numbers, and their bytes
//! are not read again. All work on strings is linear in the length of the pickle.

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
    /// The number of `text`, a new one if there is no equal string.
    pub(super) fn enter(&mut self, text: &'p str) -> TextId {
        // Each string needs an instruction, and the limit of instructions is far below 2^32.
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
