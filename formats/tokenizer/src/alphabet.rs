//! The printable alphabet in which byte-level vocabularies are written.
//!
//! Every byte has a character: itself where it is printable Latin-1; the other 68 take the characters from U+0100 on in
//! ascending order, so that no token holds a space or a control character.
//! (`bytes_to_unicode` in <https://github.com/openai/gpt-2/blob/master/src/encoder.py>)

/// The character of each byte.
const CHARS: [char; 256] = {
    let mut chars = ['\0'; 256];
    let (mut byte, mut next_free) = (0, 0x100);
    while byte < 256 {
        let code_point = match byte {
            0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => byte as u32,
            _ => {
                next_free += 1;
                next_free - 1
            }
        };
        chars[byte] = char::from_u32(code_point).expect("below the surrogates");
        byte += 1;
    }
    chars
};

/// The byte of each character, by code point; the last is U+0143.
const BYTES: [Option<u8>; 0x144] = {
    let mut bytes = [None; 0x144];
    let mut byte = 0;
    while byte < 256 {
        bytes[CHARS[byte] as usize] = Some(byte as u8);
        byte += 1;
    }
    bytes
};

/// The character that stands for `byte` in the byte-level alphabet of GPT-2: `Ġ` for a space.
pub const fn byte_char(byte: u8) -> char {
    CHARS[byte as usize]
}

/// The byte that a character stands for.
pub(crate) fn byte_of(c: char) -> Option<u8> {
    BYTES.get(c as usize).copied().flatten()
}

/// The bytes that occur in UTF-8, with their characters. Tokenizers need no token for the others (C0, C1, F5 and up), and
/// Pythia's has none.
pub(crate) fn text_letters() -> impl Iterator<Item = (u8, char)> {
    (0..=u8::MAX).filter(|byte| !matches!(byte, 0xc0 | 0xc1 | 0xf5..)).map(|byte| (byte, byte_char(byte)))
}

/// The first of the [`text_letters`] that is no token.
pub(crate) fn missing_letter(is_token: impl Fn(&str) -> bool) -> Option<(u8, char)> {
    text_letters().find(|(_, letter)| !is_token(letter.encode_utf8(&mut [0; 4])))
}

/// Bytes of a token. A text with any other character stands for itself: so are added tokens written.
pub(crate) fn decode(text: &str) -> Box<[u8]> {
    let bytes: Option<Vec<u8>> = text.chars().map(byte_of).collect();
    bytes.map_or_else(|| text.as_bytes().into(), Vec::into_boxed_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn is_gpt2s_alphabet() {
        let alphabet: HashSet<char> = (0..=u8::MAX).map(byte_char).collect();
        assert_eq!(alphabet.len(), 256);
        let known =
            [(b'!', '!'), (b'\n', 'Ċ'), (b' ', 'Ġ'), (0, 'Ā'), (b'A', 'A'), (0x7f, 'ġ'), (0xad, 'Ń'), (0xff, 'ÿ')];
        for (byte, c) in known {
            assert_eq!((byte_char(byte), byte_of(c)), (c, Some(byte)));
        }
        for c in (0..0x400).filter_map(char::from_u32) {
            assert_eq!(byte_of(c).is_some(), alphabet.contains(&c), "{c:?}");
        }
    }

    #[test]
    fn text_never_holds_the_letters_left_out() {
        let used: HashSet<u8> = text_letters().map(|(byte, _)| byte).collect();
        assert_eq!(used.len(), 243);
        // A step of 63 passes through every lead byte and every continuation byte.
        let all: String = (0..=0x7ff).chain((0x800..=0x10ffff).step_by(63)).filter_map(char::from_u32).collect();
        assert_eq!(used, all.bytes().collect());
    }

    #[test]
    fn tokens_decode_to_their_bytes() {
        assert_eq!(*decode("Ġcaf"), *b" caf");
        assert_eq!(*decode("a b"), *b"a b", "a space is not in the alphabet");
    }
}
