//! JSON from strangers: objects without repeated keys, errors that name the file.

use crate::error::{Error, excerpt};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

/// Parses JSON; the error names line and column.
pub(crate) fn parse<'t, T: Deserialize<'t>>(path: &Path, text: &'t str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|e| Error::json(path, "", format!("not the JSON expected: {e}")))
}

/// A JSON object in which no key may come twice. `serde_json` would keep the last one in silence, and two readers of
/// one file could then see different tensors.
#[derive(Debug)]
pub(crate) struct UniqueMap<V>(pub(crate) HashMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = UniqueMap<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut map = HashMap::new();
                while let Some(key) = access.next_key::<String>()? {
                    let value = access.next_value()?;
                    if let Some(_earlier) = map.insert(key.clone(), value) {
                        return Err(A::Error::custom(format_args!("{} comes twice", excerpt(&key))));
                    }
                }
                Ok(UniqueMap(map))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_keys_are_refused_at_this_level() {
        let parsed: UniqueMap<u8> = serde_json::from_str(r#"{"a": 1, "b": 2}"#).unwrap();
        assert_eq!(parsed.0["b"], 2);
        let error = serde_json::from_str::<UniqueMap<u8>>(r#"{"a": 1, "a": 1}"#).unwrap_err().to_string();
        assert!(error.starts_with(r#""a" comes twice"#), "{error}");
    }
}
