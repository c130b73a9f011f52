//! Untrusted JSON: limits for the size of a document, and objects without repeated keys.
//!
//! A parsed document can take fifty times the memory of its text: `{}` becomes a value of 32 bytes or more, and so do
//! the key and the entry of `"a":1`. [`check`] counts the values in one pass, without allocating, before a parser
//! builds them. Any parser then stays within some 150 MB. Every reader of JSON calls it first.

#![forbid(unsafe_code)]

mod unique;

pub use unique::{UniqueMap, UniqueValue};

use serde::Deserialize;

/// Maximum size of a document, in bytes. `tokenizer.json` of Pythia has 2 MB.
pub const LIMIT_BYTES: usize = 8 << 20;

/// Maximum number of values in a document, including nested ones. `tokenizer.json` of Pythia has 0.2 million.
pub const LIMIT_VALUES: usize = 1 << 20;

/// Checks that a document has at most [`LIMIT_BYTES`], and at most `limit_values` values (no more than
/// [`LIMIT_VALUES`]). It does not check that the text is JSON; the parser does.
///
/// # Errors
/// A message with what was found and what is allowed.
///
/// ```
/// assert!(pythia_json::check(r#"{"a": [1, 2, 3]}"#, 5).is_ok());
/// assert!(pythia_json::check(r#"{"a": [1, 2, 3]}"#, 4).is_err());
/// ```
pub fn check(text: &str, limit_values: usize) -> Result<(), String> {
    let limit_values = limit_values.min(LIMIT_VALUES);
    if text.len() > LIMIT_BYTES {
        return Err(format!("{} bytes of JSON, at most {LIMIT_BYTES} are read", text.len()));
    }
    if n_values(text.as_bytes()) > limit_values {
        return Err(format!("more than {limit_values} values of JSON"));
    }
    Ok(())
}

/// Parses a document after [checking its size](check).
///
/// # Errors
/// What was found and what is allowed, with line and column where `T` wants something else.
pub fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, String> {
    parse_of(text, LIMIT_VALUES)
}

/// As [`parse`], with at most `limit_values`.
///
/// # Errors
/// As there.
pub fn parse_of<'t, T: Deserialize<'t>>(text: &'t str, limit_values: usize) -> Result<T, String> {
    check(text, limit_values)?;
    serde_json::from_str(text).map_err(|e| format!("not the JSON expected: {e}"))
}

/// An upper bound of the number of values in `text`. Each value except the first follows a comma, or is the first in a
/// list or an object.
fn n_values(text: &[u8]) -> usize {
    let mut n_values = 1;
    let mut in_string = false;
    let mut escaped = false;
    for &byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => n_values += 1,
            _ => {}
        }
    }
    n_values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_left_out() {
        for (text, wanted) in [
            ("1", 1),
            ("[]", 2),
            ("[1,2]", 3),
            (r#"{"a":1,"b":[{}]}"#, 5),
            (r#"["a,b[{", ","]"#, 3),
            (r#"["\",", "\\", ","]"#, 4),
        ] {
            assert_eq!(n_values(text.as_bytes()), wanted, "{text}");
        }
    }

    #[test]
    fn both_limits_are_the_last_that_is_allowed() {
        let of_values = |n: usize| format!("[{}0]", "0,".repeat(n - 2));
        for (limit, wanted) in [(9, 9), (LIMIT_VALUES, LIMIT_VALUES), (usize::MAX, LIMIT_VALUES)] {
            assert_eq!(check(&of_values(wanted), limit), Ok(()));
            assert_eq!(check(&of_values(wanted + 1), limit), Err(format!("more than {wanted} values of JSON")));
        }
        let of_bytes = |n: usize| format!("\"{}\"", "x".repeat(n - 2));
        assert_eq!(check(&of_bytes(LIMIT_BYTES), 9), Ok(()));
        let line = check(&of_bytes(LIMIT_BYTES + 1), 9).unwrap_err();
        assert_eq!(line, "8388609 bytes of JSON, at most 8388608 are read");
    }
}
