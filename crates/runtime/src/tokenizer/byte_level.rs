//! The printable alphabet in which byte-level vocabularies are written.
//!
//! Every byte has a character: itself where it is printable Latin-1, else the next free one from U+0100 on.
//! (`bytes_to_unicode` in <https://github.com/openai/gpt-2/blob/master/src/encoder.py>)

use std::collections::HashMap;

/// The byte of each of the 256 characters.
pub(super) fn bytes_of_chars() -> HashMap<char, u8> {
    let mut next_free = 0x100u32;
    let char_of = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => {
            next_free += 1;
            char::from_u32(next_free - 1).expect("U+0100 to U+0143 are characters")
        }
    };
    (0..=255).map(char_of).zip(0..=255).collect()
}

/// Bytes of a token. A text with any other character stands for itself: so are added tokens written.
pub(super) fn decode(text: &str, bytes_of_chars: &HashMap<char, u8>) -> Box<[u8]> {
    let bytes: Option<Box<[u8]>> = text.chars().map(|c| bytes_of_chars.get(&c).copied()).collect();
    bytes.unwrap_or_else(|| text.as_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabet_is_that_of_gpt2() {
        let chars = bytes_of_chars();
        assert_eq!(chars.len(), 256);
        for (c, byte) in [('!', b'!'), ('Ġ', b' '), ('Ċ', b'\n'), ('Ā', 0), ('Ń', 0xad), ('ÿ', 0xff)] {
            assert_eq!(chars.get(&c), Some(&byte), "{c}");
        }
        assert_eq!(*decode("Ġcaf", &chars), *b" caf");
        assert_eq!(*decode("a b", &chars), *b"a b", "a space is not in the alphabet");
    }
}
