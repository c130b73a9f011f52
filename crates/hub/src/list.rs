//! Reads JSON of servers item by item. The items are counted while they are read, so memory is bounded.

use serde::de::{DeserializeOwned, DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// Passes each element of an array to `take`. An error of `take` ends the read.
pub(crate) struct Elements<T, F>(F, PhantomData<T>);

impl<T: DeserializeOwned, F: FnMut(T) -> Result<(), String>> Elements<T, F> {
    /// Reads `bytes`.
    ///
    /// # Errors
    /// If they are not an array of such elements, or `take` refuses one.
    pub(crate) fn read(bytes: &[u8], take: F) -> Result<(), serde_json::Error> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        Self(take, PhantomData).deserialize(&mut json)?;
        json.end()
    }
}

impl<'de, T: DeserializeOwned, F: FnMut(T) -> Result<(), String>> DeserializeSeed<'de> for Elements<T, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: DeserializeOwned, F: FnMut(T) -> Result<(), String>> Visitor<'de> for Elements<T, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element()? {
            (self.0)(element).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// An array of at most `N` elements.
#[derive(Debug)]
pub(crate) struct AtMost<T, const N: usize>(pub(crate) Vec<T>);

impl<T, const N: usize> Default for AtMost<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: DeserializeOwned, const N: usize> Deserialize<'de> for AtMost<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut all = Vec::new();
        let take = |element: T| {
            all.push(element);
            if all.len() > N { Err(format!("it has more than {N} entries")) } else { Ok(()) }
        };
        Elements(take, PhantomData).deserialize(deserializer)?;
        Ok(Self(all))
    }
}

/// Passes the values of the object under `key` to `take`.
pub(crate) struct ValuesOf<F> {
    key: &'static str,
    take: F,
}

impl<F: FnMut(String) -> Result<(), String>> ValuesOf<F> {
    /// Reads `bytes`.
    ///
    /// # Errors
    /// If they are not an object with an object of strings under `key`, or `take` refuses one.
    pub(crate) fn read(bytes: &[u8], key: &'static str, take: F) -> Result<(), serde_json::Error> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        json.deserialize_map(Self { key, take })?;
        json.end()
    }
}

impl<'de, F: FnMut(String) -> Result<(), String>> Visitor<'de> for ValuesOf<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with {}", self.key)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut is_found = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.key {
                is_found = true;
                map.next_value_seed(Values(&mut self.take))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if is_found { Ok(()) } else { Err(A::Error::missing_field(self.key)) }
    }
}

struct Values<'f, F>(&'f mut F);

impl<'de, F: FnMut(String) -> Result<(), String>> DeserializeSeed<'de> for Values<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(String) -> Result<(), String>> Visitor<'de> for Values<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((_, value)) = map.next_entry::<IgnoredAny, String>()? {
            (self.0)(value).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
