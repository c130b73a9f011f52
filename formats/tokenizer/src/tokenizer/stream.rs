//! Decodes text token by token.

/// Converts the bytes of tokens to text, and holds incomplete characters back.
#[derive(Debug, Default)]
pub struct TextStream {
    /// The beginning of a character: at most three bytes between calls.
    pending: Vec<u8>,
}

impl TextStream {
    /// A stream with nothing pending.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the bytes of a token and returns the characters that are complete. Bytes that cannot be part of any
    /// character become U+FFFD, just as when the whole text is decoded at once.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            let error = match std::str::from_utf8(&self.pending) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return text;
                }
                Err(error) => error,
            };
            let valid: Vec<u8> = self.pending.drain(..error.valid_up_to()).collect();
            text.push_str(&String::from_utf8_lossy(&valid));
            let Some(invalid) = error.error_len() else {
                return text;
            };
            text.push(char::REPLACEMENT_CHARACTER);
            self.pending.drain(..invalid);
        }
    }

    /// The rest at the end: nothing, or one U+FFFD for an incomplete character.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn characters_appear_whole() {
        let mut stream = TextStream::new();
        let shown: Vec<String> = "a€😀".bytes().map(|b| stream.push(&[b])).collect();
        assert_eq!(shown, ["a", "", "", "€", "", "", "", "😀"]);
        assert_eq!(stream.finish(), "");
    }

    proptest! {
        /// Random bytes, with the lead and continuation bytes of UTF-8 more often than chance has them.
        #[test]
        fn pieces_add_up_to_the_lossy_whole(
            pieces in prop::collection::vec(prop::collection::vec(prop_oneof![
                any::<u8>(),
                prop::sample::select(b"\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0\xc0a".to_vec()),
            ], 0..4), 0..8),
        ) {
            let mut stream = TextStream::new();
            let mut text: String = pieces.iter().map(|p| stream.push(p)).collect();
            text += &stream.finish();
            let whole = pieces.concat();
            prop_assert_eq!(text, String::from_utf8_lossy(&whole).into_owned());
        }
    }
}
