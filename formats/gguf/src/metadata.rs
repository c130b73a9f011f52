//! The key-value pairs of a file.

use crate::error::Error;
use crate::value::{Array, Value};

/// Metadata in file order, one value per key.
///
/// The typed getters return `Ok(None)` for an absent key and an error that names the key for a value of the wrong
/// type. Integers are accepted in any width that holds the value: writers disagree on widths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    // Files hold a few dozen keys, so lookups just scan.
    pairs: Vec<(String, Value)>,
}

impl Metadata {
    /// No pairs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key`: in place if it is there, at the end if not.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.pairs.iter_mut().find(|pair| pair.0 == key) {
            Some(pair) => pair.1 = value,
            None => self.push(key, value),
        }
    }

    /// Appends a pair whose key is known to be new.
    pub(crate) fn push(&mut self, key: String, value: Value) {
        self.pairs.push((key, value));
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.pairs.iter().position(|pair| pair.0 == key)?;
        Some(self.pairs.remove(at).1)
    }

    /// The value of `key`, of any type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.pairs.iter().find(|pair| pair.0 == key).map(|pair| &pair.1)
    }

    /// The pairs in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// An integer of at most 32 bits.
    ///
    /// # Errors
    /// If the value is no integer or does not fit.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Error> {
        self.typed(key, "an integer from 0 to 4294967295", |v| v.integer()?.try_into().ok())
    }

    /// An integer of at most 64 bits.
    ///
    /// # Errors
    /// If the value is no integer or negative.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.typed(key, "a non-negative integer", |v| v.integer()?.try_into().ok())
    }

    /// A float; an f64 is rounded.
    ///
    /// # Errors
    /// If the value is no float.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        self.typed(key, "a float", |v| match *v {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        })
    }

    /// A truth value.
    ///
    /// # Errors
    /// If the value is no bool.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "a bool", |v| match *v {
            Value::Bool(v) => Some(v),
            _ => None,
        })
    }

    /// A text.
    ///
    /// # Errors
    /// If the value is no string.
    pub fn str(&self, key: &str) -> Result<Option<&str>, Error> {
        self.typed(key, "a string", |v| match v {
            Value::String(v) => Some(v.as_str()),
            _ => None,
        })
    }

    /// An array of texts.
    ///
    /// # Errors
    /// If the value is no array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, Error> {
        self.typed(key, "an array of strings", |v| match v {
            Value::Array(Array::String(v)) => Some(v.as_slice()),
            _ => None,
        })
    }

    /// An array of integers, widened or narrowed to i32.
    ///
    /// # Errors
    /// If the value is no array of integers, or one does not fit.
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>, Error> {
        self.typed(key, "an array of 32-bit integers", |v| match v {
            Value::Array(v) => v.to_i32s(),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        convert(value).map(Some).ok_or_else(|| Error::key(key, value.describe(), wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn getters_accept_any_width_that_fits() {
        let mut m = Metadata::new();
        m.insert("small", 7u8);
        m.insert("long", 7i64);
        m.insert("big", u64::MAX);
        m.insert("negative", -1i32);
        m.insert("text", "7");
        for key in ["small", "long"] {
            assert_eq!(m.u32(key), Ok(Some(7)));
        }
        assert_eq!(m.u64("big"), Ok(Some(u64::MAX)));
        assert_eq!(m.u32("absent"), Ok(None));
        for (key, found) in [("big", "u64 18446744073709551615"), ("negative", "i32 -1"), ("text", "string '7'")] {
            let line = m.u32(key).unwrap_err().to_string();
            assert_eq!(line, format!("key '{key}': found {found}, wanted an integer from 0 to 4294967295"));
        }
        assert!(m.f32("small").is_err() && m.bool("small").is_err() && m.strings("text").is_err());
    }

    #[test]
    fn insert_replaces_in_place() {
        let mut m = Metadata::new();
        m.insert("a", 1u32);
        m.insert("b", 2u32);
        m.insert("a", "one");
        let keys: Vec<_> = m.iter().map(|(k, _)| k).collect();
        assert_eq!((keys, m.str("a")), (vec!["a", "b"], Ok(Some("one"))));
        assert_eq!(m.remove("a"), Some(Value::from("one")));
        assert_eq!(m.len(), 1);
    }

    #[test]
    fn integer_arrays_narrow_and_floats_do_not() {
        let mut m = Metadata::new();
        m.insert("u8", vec![1u8, 255]);
        m.insert("wide", vec![i64::MAX]);
        m.insert("float", vec![1f32]);
        assert_eq!(m.i32s("u8"), Ok(Some(vec![1, 255])));
        assert!(m.i32s("wide").is_err() && m.i32s("float").is_err());
    }
}
