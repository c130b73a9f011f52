//! Texts in files with a JSON object per line.

use crate::Error;
use pythia_text::quoted;
use serde_json::{Map, Value};

/// The tokens under a name of a line's object: those of a list, or of a text as `encode` makes them.
///
/// # Errors
/// One line that says what is wrong with this one. The caller knows its number.
pub fn ids_of_json(
    line: &str,
    field: &str,
    encode: impl FnOnce(&str) -> Result<Vec<u32>, Error>,
) -> Result<Vec<u32>, String> {
    let name = quoted(field, '\'', 80);
    let object: Map<String, Value> = pythia_json::parse(line.trim())?;
    match object.get(field) {
        Some(Value::String(text)) => encode(text).map_err(|error| error.to_string()),
        Some(Value::Array(ids)) => {
            let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
            let ids: Option<Vec<u32>> = ids.iter().map(id).collect();
            ids.ok_or_else(|| format!("found something else than token ids in the list {name}, wanted a text or ids"))
        }
        Some(_) => Err(format!("{name} is neither a text nor a list of token ids")),
        None => {
            let names: Vec<String> = object.keys().take(8).map(|name| quoted(name, '\'', 40)).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Err(format!("has no field {name}; found {names} (--field names the one to read)"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_text_or_ids() {
        let encode = |text: &str| Ok(text.bytes().map(u32::from).collect());
        let of = |line: &str| ids_of_json(line, "text", encode);
        assert_eq!(of(r#" {"n": 1, "text": "AB"} "#), Ok(vec![65, 66]));
        assert_eq!(of(r#"{"text": [0, 99]}"#), Ok(vec![0, 99]));
        assert_eq!(of(r#"{"text": []}"#), Ok(vec![]));
        for (line, problem) in [
            (r#"{"text": [1, -1]}"#, "found something else than token ids in the list 'text', wanted a text or ids"),
            (
                r#"{"text": [1, 4294967296]}"#,
                "found something else than token ids in the list 'text', wanted a text or ids",
            ),
            (r#"{"text": null}"#, "'text' is neither a text nor a list of token ids"),
            (r#"{"a": 1, "b": 2}"#, "has no field 'text'; found 'a', 'b' (--field names the one to read)"),
            ("{}", "has no field 'text'; found none (--field names the one to read)"),
        ] {
            assert_eq!(of(line).unwrap_err(), problem, "{line}");
        }
        assert!(of("[1]").is_err() && of("").is_err());
        let failing = |_: &str| Err(Error::EmptyPrompt);
        assert_eq!(ids_of_json(r#"{"text": ""}"#, "text", failing).unwrap_err(), Error::EmptyPrompt.to_string());
    }
}
