//! The user's token is in no message, also where a server sends it back: in an address to go to, in an error it explains,
//! in a name of a file.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

/// Tokens of the Hub are longer; a shorter one would be found in ordinary words.
const MIN_BYTES: usize = 8;

/// Tokens that this process has read. A process has one; a test has several.
static KNOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps `token` out of all messages from now on.
pub(crate) fn remember(token: &str) {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if token.len() >= MIN_BYTES && !known.iter().any(|other| other == token) {
        known.push(token.to_owned());
    }
}

/// `text` without tokens. To be called before a text is cut or quoted: a part of a token is not recognised.
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
