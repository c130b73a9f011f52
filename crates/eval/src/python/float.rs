//! Floats as Python reads and writes them.

use super::is_space;

/// `float(text)`. `None` where Python raises an error, and for digits other than those of ASCII.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_word = ["inf", "infinity", "nan"].iter().any(|word| unsigned.eq_ignore_ascii_case(word));
    let starts_well = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    // Underscores may stand between two digits.
    let bytes = text.as_bytes();
    let is_digit = |i: Option<usize>| i.and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_digit);
    let mut underscores = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_');
    let separates = underscores.all(|(i, _)| is_digit(i.checked_sub(1)) && is_digit(Some(i + 1)));
    ((is_word || starts_well) && separates).then(|| text.replace('_', "").parse().ok()).flatten()
}

/// `str(x)`: the fewest digits that read back as `x`, with an exponent below 1e-4 and from 1e16 on.
pub(crate) fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".to_owned();
    }
    if x.is_infinite() || x == 0.0 || (1e-4..1e16).contains(&x.abs()) {
        return format!("{x:?}");
    }
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, size) = exponent.strip_prefix('-').map_or(("+", exponent), |size| ("-", size));
    format!("{digits}e{sign}{size:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What CPython 3.11 prints.
    #[test]
    fn floats_are_written_as_python_does() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (5.0, "5.0"),
            (-17.25, "-17.25"),
            (0.1, "0.1"),
            (1e-4, "0.0001"),
            (9.99e-5, "9.99e-05"),
            (1e-5, "1e-05"),
            (-1.5e-300, "-1.5e-300"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (1.25e22, "1.25e+22"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ];
        for (x, want) in cases {
            assert_eq!(float(x), want);
        }
    }

    #[test]
    fn floats_are_read_as_python_does() {
        for text in ["1", " 1.5\n", "+3", "-.5", "2.", "1e5", "1_000.5", "inf", "-Infinity", "NaN", "1E-3"] {
            assert!(parse_float(text).is_some(), "{text}");
        }
        assert_eq!(parse_float("1_000.5"), Some(1000.5));
        for text in ["", " ", ".", "1_", "_1", "1__0", "1e", "0x10", "1,5", "five", "infinit", "--1", "1 2", "e5"] {
            assert_eq!(parse_float(text), None, "{text}");
        }
    }
}
