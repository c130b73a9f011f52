//! GPT-2's byte-level alphabet: a printable character for every byte.

/// The character that stands for `byte` in GPT-2's byte-level spelling: itself where Latin-1 has something printable,
/// else the next free one from U+0100 on.
pub const fn byte_char(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => byte as char,
        // The bytes left over, in ascending order: 0..=32, 127..=160, 173.
        0..=32 => shifted(byte as u32),
        127..=160 => shifted(33 + byte as u32 - 127),
        173 => shifted(33 + 34),
    }
}

const fn shifted(n: u32) -> char {
    match char::from_u32(0x100 + n) {
        Some(c) => c,
        None => unreachable!(),
    }
}

/// Whether `c` stands for a byte.
pub(super) fn is_byte_char(c: char) -> bool {
    match u32::from(c) {
        // Everything up to U+0143 but the bytes that moved away.
        n @ 0..=0xff => byte_char(n as u8) == c,
        n => n < 0x100 + 33 + 34 + 1,
    }
}

/// The characters of all bytes that occur in UTF-8. The others (C0, C1, F5 and up) appear in no text, and Pythia's
/// tokenizer has no tokens for them.
pub(super) fn utf8_byte_chars() -> impl Iterator<Item = (u8, char)> {
    (0..=0xf4).filter(|byte| !matches!(byte, 0xc0 | 0xc1)).map(|byte| (byte, byte_char(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let alphabet: HashSet<char> = (0..=255).map(byte_char).collect();
        assert_eq!(alphabet.len(), 256);
        assert_eq!((byte_char(b' '), byte_char(b'\n'), byte_char(0), byte_char(173)), ('Ġ', 'Ċ', 'Ā', 'Ń'));
        for c in (0..0x400).filter_map(char::from_u32) {
            assert_eq!(is_byte_char(c), alphabet.contains(&c), "{c:?}");
        }
        assert_eq!(utf8_byte_chars().count(), 256 - 13);
    }
}
