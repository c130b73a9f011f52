//! Objects without repeated keys.

use pythia_text::quoted;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

/// A JSON object in which no key may come twice. `serde_json` would keep the last one in silence, and two readers of
/// one file could then see different tensors.
#[derive(Debug)]
pub struct UniqueMap<V>(pub HashMap<String, V>);

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
                        return Err(A::Error::custom(format_args!("{} comes twice", quoted(&key, '"', 100))));
                    }
                }
                Ok(UniqueMap(map))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// Any JSON in which no object, at any depth, has a key twice.
#[derive(Debug)]
pub struct UniqueValue(pub Value);

impl<'de> Deserialize<'de> for UniqueValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(UniqueValue(value)) = access.next_element()? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        let UniqueMap(map) = UniqueMap::<UniqueValue>::deserialize(MapAccessDeserializer::new(access))?;
        Ok(Value::Object(map.into_iter().map(|(key, UniqueValue(value))| (key, value)).collect()))
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

    #[test]
    fn repeated_keys_are_refused_at_every_level() {
        let text = r#"{"a": [null, true, -1, 2, 1.5, "s", {"b": {}}], "b": {"a": 18446744073709551615}}"#;
        let UniqueValue(parsed) = serde_json::from_str(text).unwrap();
        assert_eq!(parsed, serde_json::from_str::<Value>(text).unwrap());
        for text in [r#"{"b": 1, "b": 1}"#, r#"{"a": {"b": 1, "c": 2, "b": 3}}"#, r#"[[{"b": null, "b": null}]]"#] {
            let error = serde_json::from_str::<UniqueValue>(text).unwrap_err().to_string();
            assert!(error.starts_with(r#""b" comes twice"#), "{text}: {error}");
        }
    }
}
