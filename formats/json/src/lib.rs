//! How much of a JSON document from strangers is read.
//!
//! A parsed document can be fifty times as large as its text: `{}` is a value of 32 bytes or more, and so is the key and
//! the entry of `"a":1`. [`check`] counts values before any is built, in one pass and without allocating, so that whatever
//! parses the text afterwards stays within some 150 MB. Every reader of JSON calls it first.

#![forbid(unsafe_code)]

/// The longest document, in bytes. `tokenizer.json` of Pythia has 2 MB.
pub const LIMIT_BYTES: usize = 8 << 20;

/// The most values of a document, those within others included. `tokenizer.json` of Pythia has 0.2 million.
pub const LIMIT_VALUES: usize = 1 << 20;

/// The most tokens of a tokenizer: entries of its vocabulary, and rows of the model that it is for. Twice the largest
/// there are; one takes some 400 bytes of memory.
pub const LIMIT_TOKENS: usize = 1 << 18;

/// Checks the size of a document, which may have `limit_values`, at most [`LIMIT_VALUES`]. That it is JSON is for its
/// parser to find out.
///
/// # Errors
/// What was found and what is allowed, if the text is longer than [`LIMIT_BYTES`] or has more values.
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

/// At least the number of values in `text`: each but the first follows a comma or is the first of a list or an object.
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
