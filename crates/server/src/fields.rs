//! The fields of a request's JSON object. What a request does not ask for is ignored.

use crate::limits;
use crate::refusal::Refusal;
use pythia_json::{UniqueMap, UniqueValue};
use pythia_text::{cut_middle, quoted};
use serde_json::Value;
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// An object whose fields are taken one by one. A field that is `null` is absent.
#[derive(Debug)]
pub(crate) struct Fields {
    values: HashMap<String, Value>,
    /// Every name that was asked for. A test compares them with `openapi.json`.
    #[cfg(test)]
    pub(crate) asked: std::collections::BTreeSet<&'static str>,
}

impl Fields {
    /// Parses a body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(body)
            .map_err(|e| Refusal::invalid(format_args!("the body is not UTF-8 after {} bytes", e.valid_up_to())))?;
        let parsed: Result<UniqueMap<UniqueValue>, String> = pythia_json::parse_of(text, limits::JSON_VALUES);
        let UniqueMap(map) =
            parsed.map_err(|why| Refusal::invalid(format_args!("the body is {}", cut_middle(&why, 200, 100))))?;
        Ok(Self {
            values: map.into_iter().map(|(name, UniqueValue(value))| (name, value)).collect(),
            #[cfg(test)]
            asked: Default::default(),
        })
    }

    /// A field of any type.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Value> {
        #[cfg(test)]
        self.asked.insert(name);
        self.values.remove(name).filter(|value| !value.is_null())
    }

    /// `true` or `false`; false if absent.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<bool, Refusal> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(Refusal::field(name, wanted(&other, "true or false"))),
        }
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(Refusal::field(name, wanted(&other, "a string"))),
        }
    }

    /// A whole number; one that is written with a fraction of 0 too.
    pub(crate) fn integer(&mut self, name: &'static str, range: RangeInclusive<i64>) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match integer(&value).filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let of = format!("a whole number from {} to {}", range.start(), range.end());
                Err(Refusal::field(name, wanted(&value, &of)))
            }
        }
    }

    /// A number of `range`.
    pub(crate) fn number(&mut self, name: &'static str, range: RangeInclusive<f64>) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let of = format!("a number from {} to {}", range.start(), range.end());
                Err(Refusal::field(name, wanted(&value, &of)))
            }
        }
    }
}

/// A whole number that an i64 holds.
pub(crate) fn integer(value: &Value) -> Option<i64> {
    let whole = |x: &f64| x.fract() == 0.0 && x.abs() < 9e15;
    value.as_i64().or_else(|| value.as_f64().filter(whole).map(|x| x as i64))
}

/// A token id, of any model.
pub(crate) fn token(value: &Value) -> Option<u32> {
    integer(value).and_then(|id| u32::try_from(id).ok())
}

/// What was found and what was wanted.
pub(crate) fn wanted(found: &Value, wanted: &str) -> String {
    let found = match found {
        Value::String(text) => quoted(text, '"', 40),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    };
    format!("found {found}, wanted {wanted}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn values_have_the_type_and_range_that_was_asked_for() {
        let mut f = fields(r#"{"a": 3, "b": 4.0, "c": 1.5, "d": null, "e": true, "f": "x", "g": 1e308}"#);
        assert_eq!(f.integer("a", 0..=3).unwrap(), Some(3));
        assert_eq!(f.integer("b", 0..=9).unwrap(), Some(4));
        assert_eq!(f.integer("c", 0..=9).unwrap_err().message, "c: found 1.5, wanted a whole number from 0 to 9");
        assert_eq!(f.integer("d", 0..=9).unwrap(), None);
        assert!(f.flag("e").unwrap() && !f.flag("absent").unwrap());
        assert_eq!(f.text("f").unwrap().as_deref(), Some("x"));
        assert!(f.number("g", 0.0..=100.0).is_err());
        let huge = fields(r#"{"a": 9223372036854775808}"#).integer("a", 0..=i64::MAX);
        assert!(huge.is_err());
    }

    #[test]
    fn only_one_object_is_a_request() {
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let many = format!("{{\"a\": [{}0]}}", "0,".repeat(limits::JSON_VALUES));
        for text in [
            "",
            "{",
            "[]",
            "1",
            "{} x",
            r#"{"a": 1, "a": 1}"#,
            r#"{"a": {"b": 1, "b": 2}}"#,
            "{\"a\": NaN}",
            &deep,
            &many,
        ] {
            assert_eq!(Fields::parse(text.as_bytes()).unwrap_err().status.as_u16(), 400, "{text:.20}");
        }
        assert!(Fields::parse(b"{\"a\": \"\xff\"}").is_err());
    }
}
