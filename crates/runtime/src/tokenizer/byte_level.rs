//! The printable alphabet in which byte-level vocabularies are written.
//!
//! Every byte has a character: itself where it is printable Latin-1, else the next free one from U+0100 on.
//! (`bytes_to_unicode` in <https://github.com/openai/gpt-2/blob/master/src/encoder.py>)

/// The byte of each of the 256 characters.
pub(super) struct Alphabet {
    /// By code point; the last character is U+0143.
    bytes: [Option<u8>; 0x144],
}

impl Alphabet {
    pub(super) fn new() -> Self {
        let mut bytes = [None; 0x144];
        let mut next_free = 0x100;
        for byte in 0..=255u8 {
            let code_point = match byte {
                b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => usize::from(byte),
                _ => {
                    next_free += 1;
                    next_free - 1
                }
            };
            bytes[code_point] = Some(byte);
        }
        Self { bytes }
    }

    /// The characters of the bytes that occur in UTF-8.
    pub(super) fn text_letters(&self) -> impl Iterator<Item = char> {
        let in_utf8 = |byte: &u8| !matches!(byte, 0xc0 | 0xc1 | 0xf5..=0xff);
        let letters = self.bytes.iter().zip(0u32..).filter(move |(byte, _)| byte.as_ref().is_some_and(in_utf8));
        letters.filter_map(|(_, code_point)| char::from_u32(code_point))
    }

    /// Bytes of a token. A text with any other character stands for itself: so are added tokens written.
    pub(super) fn decode(&self, text: &str) -> Box<[u8]> {
        let byte = |c: char| self.bytes.get(c as usize).copied().flatten();
        let bytes: Option<Vec<u8>> = text.chars().map(byte).collect();
        bytes.map_or_else(|| text.as_bytes().into(), Vec::into_boxed_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabet_is_that_of_gpt2() {
        let alphabet = Alphabet::new();
        assert_eq!(alphabet.bytes.iter().flatten().count(), 256);
        assert_eq!(alphabet.text_letters().count(), 243);
        for (c, byte) in [('!', b'!'), ('Ġ', b' '), ('Ċ', b'\n'), ('Ā', 0), ('Ń', 0xad), ('ÿ', 0xff)] {
            assert_eq!(*alphabet.decode(&c.to_string()), [byte], "{c}");
        }
        assert_eq!(*alphabet.decode("Ġcaf"), *b" caf");
        assert_eq!(*alphabet.decode("a b"), *b"a b", "a space is not in the alphabet");
    }
}
