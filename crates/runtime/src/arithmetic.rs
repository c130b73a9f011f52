//! The settings that change results, and their names on the command line and in reports.

use pythia_model::{Activations, Gelu, KvType, Options};
use serde::Serialize;

const ACTIVATIONS: &[(&str, Activations)] = &[("int8", Activations::Int8), ("f32", Activations::F32)];
const GELUS: &[(&str, Gelu)] = &[("erf", Gelu::Erf), ("tanh", Gelu::Tanh)];
const KV_TYPES: &[(&str, KvType)] = &[("f16", KvType::F16), ("q8_0", KvType::Q8_0), ("f32", KvType::F32)];

/// Settings of a model that change its results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Arithmetic {
    /// Activations in products with quantized weights: `int8` or `f32`.
    pub activations: &'static str,
    /// `erf` (what the models were trained with) or `tanh`.
    pub gelu: &'static str,
    /// Element type of the key-value cache.
    pub kv_cache: &'static str,
}

impl Arithmetic {
    /// The settings of an opened model.
    pub fn of(options: &Options) -> Self {
        Self {
            activations: name(ACTIVATIONS, options.activations),
            // An opened model knows its form; otherwise it is the default of a file.
            gelu: name(GELUS, options.gelu.unwrap_or_default()),
            kv_cache: name(KV_TYPES, options.kv),
        }
    }
}

/// Parses the type of activations.
///
/// # Errors
/// What was found and what was wanted.
pub fn parse_activations(text: &str) -> Result<Activations, String> {
    parse(ACTIVATIONS, text)
}

/// Parses the form of GELU.
///
/// # Errors
/// What was found and what was wanted.
pub fn parse_gelu(text: &str) -> Result<Gelu, String> {
    parse(GELUS, text)
}

/// Parses the element type of the key-value cache.
///
/// # Errors
/// What was found and what was wanted.
pub fn parse_kv(text: &str) -> Result<KvType, String> {
    parse(KV_TYPES, text)
}

fn name<T: PartialEq>(rows: &[(&'static str, T)], value: T) -> &'static str {
    rows.iter().find(|row| row.1 == value).map_or("?", |row| row.0)
}

fn parse<T: Copy>(rows: &[(&str, T)], text: &str) -> Result<T, String> {
    rows.iter().find(|row| row.0.eq_ignore_ascii_case(text)).map(|row| row.1).ok_or_else(|| {
        let names: Vec<&str> = rows.iter().map(|row| row.0).collect();
        format!("found '{text}', wanted {}", names.join(" or "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        assert_eq!(parse_activations("INT8"), Ok(Activations::Int8));
        assert_eq!(parse_gelu("tanh"), Ok(Gelu::Tanh));
        assert_eq!(parse_kv("f32"), Ok(KvType::F32));
        assert_eq!(parse_kv("Q8_0"), Ok(KvType::Q8_0));
        assert_eq!(parse_gelu("relu").unwrap_err(), "found 'relu', wanted erf or tanh");
        let options = Options { activations: Activations::F32, kv: KvType::F32, ..Options::default() };
        assert_eq!(Arithmetic::of(&options), Arithmetic { activations: "f32", gelu: "erf", kv_cache: "f32" });
    }
}
