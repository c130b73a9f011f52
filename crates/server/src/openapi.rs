//! The description of all endpoints, `openapi.json`. Tests compare it with the routes and the fields that are read.

use axum::http::header::{CONTENT_TYPE, HeaderName};

const DESCRIPTION: &str = include_str!("../openapi.json");

/// `GET /openapi.json`.
pub(crate) async fn handler() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(CONTENT_TYPE, "application/json")], DESCRIPTION)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn description() -> Value {
        serde_json::from_str(DESCRIPTION).unwrap()
    }

    /// Path and method of every operation.
    pub(crate) fn operations() -> BTreeSet<(String, String)> {
        let description = description();
        let paths = description["paths"].as_object().unwrap();
        let of_path = |(path, methods): (&String, &Value)| -> Vec<(String, String)> {
            methods.as_object().unwrap().keys().map(|method| (path.clone(), method.clone())).collect()
        };
        paths.iter().flat_map(of_path).collect()
    }

    /// Asserts that a schema has exactly these properties.
    pub(crate) fn names_fields(schema: &str, fields: &BTreeSet<&str>) {
        let description = description();
        let properties = description["components"]["schemas"][schema]["properties"].as_object().unwrap();
        assert_eq!(&properties.keys().map(String::as_str).collect::<BTreeSet<_>>(), fields);
    }

    #[test]
    fn every_reference_has_a_target() {
        fn check(value: &Value, root: &Value) {
            match value {
                Value::Object(object) => {
                    if let Some(Value::String(target)) = object.get("$ref") {
                        assert!(root.pointer(&target[1..]).is_some(), "{target}");
                    }
                    object.values().for_each(|value| check(value, root));
                }
                Value::Array(list) => list.iter().for_each(|value| check(value, root)),
                _ => {}
            }
        }
        check(&description(), &description());
    }

    #[test]
    fn the_limits_are_those_of_the_code() {
        use crate::limits;
        let description = description();
        let property =
            |schema: &str, name: &str| description["components"]["schemas"][schema]["properties"][name].clone();
        for (schema, name, bound, wanted) in [
            ("CompletionRequest", "logprobs", "maximum", limits::LOGPROBS as f64),
            ("CompletionRequest", "n", "maximum", limits::BEST_OF as f64),
            ("CompletionRequest", "best_of", "maximum", limits::BEST_OF as f64),
            ("CompletionRequest", "max_tokens", "maximum", limits::MAX_TOKENS as f64),
            ("CompletionRequest", "temperature", "maximum", limits::TEMPERATURE),
            ("CompletionRequest", "presence_penalty", "maximum", limits::PENALTY),
            ("CompletionRequest", "presence_penalty", "minimum", -limits::PENALTY),
            ("CompletionRequest", "repetition_penalty", "maximum", limits::REPETITION_PENALTY),
            ("TokensRequest", "top", "maximum", limits::LOGPROBS as f64),
        ] {
            assert_eq!(property(schema, name)[bound].as_f64(), Some(wanted), "{schema} {name} {bound}");
        }
    }
}
