//! Keeps the user's token out of all messages, even if a server sends it back in an address, an error or a file name.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

/// Tokens of the Hub are longer. A shorter one could occur in ordinary words.
const MIN_BYTES: usize = 8;

/// The tokens that this process has read. Only tests have several.
static KNOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Removes `token` from all later messages.
pub(crate) fn remember(token: &str) {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if token.len() >= MIN_BYTES && !known.iter().any(|other| other == token) {
        known.push(token.to_owned());
    }
}

/// `text` without tokens. Call it before text is cut or quoted, because a part of a token is not recognised.
pub(crate) fn redact(text: &str) -> Cow<'_, str> {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = Cow::Borrowed(text);
    for token in known.iter() {
        if text.contains(token) {
            text = Cow::Owned(text.replace(token, "[token]"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_taken_out_wherever_they_stand() {
        remember("hf_ofThisTest");
        remember("short");
        assert_eq!(redact("a hf_ofThisTest?x=hf_ofThisTest short"), "a [token]?x=[token] short");
        assert_eq!(redact("nothing"), "nothing");
    }
}
