//! The alphabet of byte-level BPE.

/// Each byte and the letter that stands for it in token texts.
///
/// GPT-2's choice: printable Latin-1 stands for itself, and the other 68 bytes take the letters from U+0100 on in
/// ascending order, so that no token holds a space or a control character.
fn letters() -> impl Iterator<Item = (u8, char)> {
    let mut others = '\u{100}'..;
    (0..=u8::MAX).map(move |byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => (byte, char::from(byte)),
        _ => (byte, others.next().unwrap_or(char::MAX)),
    })
}

/// Those of the bytes that occur in UTF-8. Tokenizers need no token for the others, and Pythia's has none.
pub(crate) fn text_letters() -> impl Iterator<Item = (u8, char)> {
    letters().filter(|(byte, _)| !matches!(byte, 0xc0 | 0xc1 | 0xf5..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_gpt2s_alphabet() {
        let letters: Vec<char> = letters().map(|(_, letter)| letter).collect();
        let distinct: std::collections::HashSet<_> = letters.iter().collect();
        assert_eq!((letters.len(), distinct.len()), (256, 256));
        let known = [(b'\n', 'Ċ'), (b' ', 'Ġ'), (b'A', 'A'), (0x7f, 'ġ'), (0xad, 'Ń'), (0xff, 'ÿ')];
        for (byte, letter) in known {
            assert_eq!(letters[usize::from(byte)], letter);
        }
    }

    #[test]
    fn text_never_holds_the_letters_left_out() {
        let used: std::collections::HashSet<u8> = text_letters().map(|(byte, _)| byte).collect();
        // A step of 63 passes through every lead byte and every continuation byte.
        let all: String = (0..=0x7ff).chain((0x800..=0x10ffff).step_by(63)).filter_map(char::from_u32).collect();
        assert_eq!(used, all.bytes().collect());
    }
}
