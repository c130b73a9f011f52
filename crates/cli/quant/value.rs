//! Metadata values for people and programs; long ones are only described.

use pythia_gguf::{Array, Value};
use pythia_text::Line;
use serde_json::{Value as Json, json};

/// Elements of an array that are shown; a longer one is described.
const MAX_ELEMS: usize = 8;
/// Bytes of a text that are printed as JSON; a longer one, as a whole tokenizer.json, is described.
const MAX_TEXT_BYTES: usize = 4096;
/// Characters of a text in a table.
const MAX_CHARS: usize = 72;

/// A value as JSON. What is left out becomes `{"elided": TYPE, "len": N}`.
pub(super) fn to_json(value: &Value) -> Json {
    match value {
        Value::U8(v) => json!(v),
        Value::I8(v) => json!(v),
        Value::U16(v) => json!(v),
        Value::I16(v) => json!(v),
        Value::U32(v) => json!(v),
        Value::I32(v) => json!(v),
        Value::U64(v) => json!(v),
        Value::I64(v) => json!(v),
        Value::F32(v) => float(*v),
        Value::F64(v) => json!(v),
        Value::Bool(v) => json!(v),
        Value::String(v) if v.len() > MAX_TEXT_BYTES => json!({"elided": "string", "len": v.len()}),
        Value::String(v) => json!(v),
        Value::Array(v) if v.len() > MAX_ELEMS => json!({"elided": value.type_name(), "len": v.len()}),
        Value::Array(v) => array(v),
    }
}

fn array(array: &Array) -> Json {
    match array {
        Array::U8(v) => json!(v),
        Array::I8(v) => json!(v),
        Array::U16(v) => json!(v),
        Array::I16(v) => json!(v),
        Array::U32(v) => json!(v),
        Array::I32(v) => json!(v),
        Array::U64(v) => json!(v),
        Array::I64(v) => json!(v),
        Array::F32(v) => v.iter().map(|&v| float(v)).collect(),
        Array::F64(v) => json!(v),
        Array::Bool(v) => json!(v),
        Array::String(v) => v.iter().map(|v| to_json(&Value::String(v.clone()))).collect(),
    }
}

/// By way of its shortest decimal form: 1e-5 is stored as the nearest single, but nobody wants to read all its digits.
fn float(value: f32) -> Json {
    json!(value.to_string().parse::<f64>().unwrap_or(f64::NAN))
}

/// A value on one short line.
pub(super) fn to_text(value: &Value) -> String {
    match value {
        Value::String(text) => escaped(text),
        Value::Array(array) if array.len() > MAX_ELEMS => format!("({} elements)", array.len()),
        // Not as JSON, which has no words for them.
        Value::F32(v) => v.to_string(),
        Value::F64(v) => v.to_string(),
        _ => cut(&pythia_text::json(&to_json(value).to_string())),
    }
}

/// A long text or array from a little before the character or element `at` on, on one short line.
pub(super) fn excerpt(value: &Value, at: usize) -> String {
    /// Characters shown before it.
    const LEAD: usize = 12;
    match value {
        Value::String(text) if at > LEAD => {
            let rest: String = text.chars().skip(at - LEAD).take(MAX_CHARS + 1).collect();
            format!("…{}", escaped(&rest))
        }
        Value::Array(array) if array.len() > MAX_ELEMS => {
            let element = array.get(at).map_or("no more".to_owned(), |element| to_text(&element));
            format!("({} elements) [{at}]: {element}", array.len())
        }
        _ => to_text(value),
    }
}

/// Text from a file, made safe for a terminal: one line, escaped, cut.
pub(super) fn escaped(text: &str) -> String {
    // Only the part that can be shown: the text may be megabytes.
    let shown: String = text.chars().take(MAX_CHARS + 1).collect();
    cut(&Line(shown).to_string())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_described() {
        let ids = Value::from((0..9).collect::<Vec<i32>>());
        assert_eq!(
            (to_text(&ids).as_str(), to_json(&ids)),
            ("(9 elements)", json!({"elided": "array of i32", "len": 9}))
        );
        assert_eq!(to_text(&Value::from(vec![1i32, 2])), "[1,2]");
        let text = Value::from("x".repeat(5000));
        assert_eq!(to_json(&text), json!({"elided": "string", "len": 5000}));
        assert_eq!(to_text(&text).chars().count(), MAX_CHARS + 1);
    }

    #[test]
    fn numbers_and_texts_read_as_written() {
        // The nearest double to the single 0.1 is 0.10000000149011612.
        for (number, decimal) in [(1e-5f32, 1e-5f64), (0.1, 0.1), (1e30, 1e30), (10_000.0, 10_000.0)] {
            assert_eq!(to_json(&Value::from(number)).as_f64(), Some(decimal));
        }
        assert_eq!(to_text(&Value::from(f32::NAN)), "NaN");
        assert_eq!(to_text(&Value::from("a\u{1b}[2J\nb")), "a\\u{1b}[2J\\nb");
        assert_eq!(to_json(&Value::from(f64::INFINITY)), Json::Null);
    }

    #[test]
    fn excerpts_show_the_place_that_matters() {
        let text = Value::from(format!("{}the end", "x".repeat(100)));
        assert_eq!(excerpt(&text, 100), format!("…{}the end", "x".repeat(12)));
        assert_eq!(excerpt(&Value::from("short"), 3), "short");
        let ids = Value::from((10..30).collect::<Vec<i32>>());
        assert_eq!(excerpt(&ids, 15), "(20 elements) [15]: 25");
        assert_eq!(excerpt(&ids, 20), "(20 elements) [20]: no more");
        assert_eq!(excerpt(&Value::from(vec![1i32, 2]), 1), "[1,2]");
    }
}
