//! Typed access to the fields of a JSON object, with errors that name the key.

use crate::error::{Error, excerpt};
use pythia_json::{UniqueMap, UniqueValue};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Upper limit of sizes, so that the product of two of them, in bytes, fits in 64 bits.
const MAX_COUNT: u64 = (1 << 31) - 1;

/// The object of a config file. A key `a.b` is member `b` of object `a`.
pub(super) struct Fields<'p> {
    path: &'p Path,
    root: HashMap<String, UniqueValue>,
}

impl<'p> Fields<'p> {
    pub(super) fn parse(path: &'p Path, text: &str) -> Result<Self, Error> {
        let UniqueMap(root) = pythia_json::parse(text).map_err(|reason| Error::json(path, "", reason))?;
        Ok(Self { path, root })
    }

    pub(super) fn error(&self, key: &str, reason: impl Into<String>) -> Error {
        Error::json(self.path, key, reason)
    }

    /// The value at `key`. Null counts as absent, as in Python.
    fn value(&self, key: &str) -> Result<Option<&Value>, Error> {
        let Some((outer, member)) = key.split_once('.') else {
            return Ok(self.member(key));
        };
        match self.member(outer) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(object.get(member).filter(|value| !value.is_null())),
            Some(other) => Err(self.wrong_type(outer, other, "an object")),
        }
    }

    fn member(&self, key: &str) -> Option<&Value> {
        self.root.get(key).map(|UniqueValue(value)| value).filter(|value| !value.is_null())
    }

    /// Whether there is anything at `key`, a key without a dot.
    pub(super) fn has(&self, key: &str) -> bool {
        self.member(key).is_some()
    }

    fn wrong_type(&self, key: &str, found: &Value, wanted: &str) -> Error {
        self.error(key, format!("found {}, wanted {wanted}", excerpt(&found.to_string())))
    }

    /// The value at `key` if `read` accepts it; an error that says `wanted` otherwise.
    fn typed<'v, T>(
        &'v self,
        key: &str,
        wanted: &str,
        read: impl Fn(&'v Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        match self.value(key)? {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.wrong_type(key, value, wanted)),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// A size: an integer from 1 to 2^31 - 1.
    pub(super) fn count(&self, key: &str) -> Result<Option<usize>, Error> {
        let in_range = |value: &Value| value.as_u64().filter(|n| (1..=MAX_COUNT).contains(n)).map(|n| n as usize);
        self.typed(key, &format!("an integer from 1 to {MAX_COUNT}"), in_range)
    }

    pub(super) fn required_count(&self, key: &str) -> Result<usize, Error> {
        self.count(key)?.ok_or_else(|| self.error(key, "missing"))
    }

    /// The names of all members.
    pub(super) fn keys(&self) -> Vec<&str> {
        // Sorted, so that errors do not depend on the order of the map.
        let mut keys: Vec<&str> = self.root.keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }

    /// Whether a setting is absent, null, false or empty.
    pub(super) fn is_off(&self, key: &str) -> bool {
        match self.member(key) {
            None | Some(Value::Null | Value::Bool(false)) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(object)) => object.is_empty(),
            Some(Value::Bool(true) | Value::Number(_)) => false,
        }
    }

    pub(super) fn is_flag_or_absent(&self, key: &str) -> bool {
        self.member(key).is_none_or(Value::is_boolean)
    }

    pub(super) fn is_text(&self, key: &str) -> bool {
        self.member(key).is_some_and(Value::is_string)
    }

    /// A list of strings, or a single one.
    pub(super) fn text_or_texts(&self, key: &str) -> Result<Option<Vec<String>>, Error> {
        self.one_or_many(key, "a string or a list of strings", |value| value.as_str().map(str::to_owned))
    }

    /// A list of small integers, or a single one.
    pub(super) fn index_or_indices(&self, key: &str) -> Result<Option<Vec<usize>>, Error> {
        let index = |value: &Value| value.as_u64().filter(|&n| n <= MAX_COUNT).map(|n| n as usize);
        self.one_or_many(key, "an integer or a list of integers", index)
    }

    fn one_or_many<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, Error> {
        self.typed(key, wanted, |value| match value {
            Value::Array(list) => list.iter().map(&read).collect(),
            single => read(single).map(|single| vec![single]),
        })
    }

    /// A token id, or the first of a list of them.
    pub(super) fn token_id(&self, key: &str) -> Result<Option<u32>, Error> {
        self.typed(key, "a token id", |value| {
            let value = value.as_array().map_or(Some(value), |list| list.first())?;
            value.as_u64().and_then(|id| u32::try_from(id).ok())
        })
    }

    /// The number that every one of `keys` that is present holds.
    pub(super) fn agreed(&self, keys: &[&'static str]) -> Result<Option<f64>, Error> {
        let mut agreed: Option<(&str, f64)> = None;
        for &key in keys {
            let Some(number) = self.number(key)? else { continue };
            match agreed {
                None => agreed = Some((key, number)),
                Some((_, earlier)) if earlier == number => {}
                Some((other, earlier)) => {
                    return Err(self.error(key, format!("{number} conflicts with {other} {earlier}")));
                }
            }
        }
        Ok(agreed.map(|(_, number)| number))
    }

    /// The text that every one of `keys` that is present holds, and the first of these keys.
    pub(super) fn agreed_text(&self, keys: &[&'static str]) -> Result<Option<(&'static str, &str)>, Error> {
        let mut agreed: Option<(&str, &str)> = None;
        for &key in keys {
            let Some(text) = self.text(key)? else { continue };
            match agreed {
                None => agreed = Some((key, text)),
                Some((_, earlier)) if earlier == text => {}
                Some((other, earlier)) => {
                    let reason = format!("{} conflicts with {other} {}", excerpt(text), excerpt(earlier));
                    return Err(self.error(key, reason));
                }
            }
        }
        Ok(agreed)
    }

    /// The name of a member of the object at `key` that is an object itself, the first by name.
    pub(super) fn nested_object(&self, key: &str) -> Result<Option<&str>, Error> {
        let Some(object) = self.typed(key, "an object", Value::as_object)? else { return Ok(None) };
        Ok(object.iter().filter(|(_, value)| value.is_object()).map(|(name, _)| name.as_str()).min())
    }

    /// The key of `keys` that an error about their value should name.
    pub(super) fn first_present(&self, keys: &[&'static str]) -> &'static str {
        let present = keys.iter().find(|key| matches!(self.value(key), Ok(Some(_))));
        present.or(keys.first()).copied().unwrap_or_default()
    }
}
