//! Scores and patterns for programs.

use super::{Attention, Head};
use crate::Error;
use half::f16;
use pythia_model::{Hook, Site};
use pythia_show::{Cell, Csv, Quotes};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;
use std::collections::HashMap;

/// A line of JSON per head: its scores; those that no query has are `null`.
pub fn jsonl(attention: &Attention) -> String {
    let line = |Head { layer, head, scores, .. }: &Head| {
        json!({
            "layer": layer,
            "head": head,
            "entropy": scores.entropy,
            "previous": scores.previous,
            "first": scores.first,
            "duplicate": scores.duplicate,
            "induction": scores.induction,
        })
    };
    attention.heads.iter().map(|head| format!("{}\n", line(head))).collect()
}

/// The same as comma-separated values, empty where no query has a score.
pub fn csv(attention: &Attention) -> String {
    let names = ["layer", "head", "entropy", "previous", "first", "duplicate", "induction"];
    let mut csv = Csv::new(names, Quotes::WhereNeeded);
    let number = |x: Option<f64>| Cell::Value(x.map_or_else(String::new, |x| x.to_string()));
    for Head { layer, head, scores, .. } in &attention.heads {
        let about = [layer, head].map(|i| Cell::Value(i.to_string()));
        let scores = [Some(scores.entropy), scores.previous, scores.first, scores.duplicate, scores.induction];
        csv.push(about.into_iter().chain(scores.map(number)));
    }
    csv.finish()
}

/// The patterns as a safetensors file: for each layer `blocks.N.attn.hook_pattern`, f16 `[heads, queries, keys]`, with the
/// numbers of its heads in `blocks.N.attn.hook_pattern.heads`, i64 `[heads]`; and the `tokens`, i64 `[queries]`. Its metadata
/// has `model`, in words.
///
/// # Errors
/// If patterns were not asked for.
pub fn safetensors(attention: &Attention, model: &str) -> Result<Vec<u8>, Error> {
    let n = attention.ids.len();
    if attention.heads.iter().any(|head| head.pattern.len() != n * n) {
        return Err(Error::Setting { name: "patterns", problem: "found none, wanted them kept".to_owned() });
    }
    let integers = |values: &mut dyn Iterator<Item = i64>| values.flat_map(i64::to_le_bytes).collect::<Vec<u8>>();
    let tokens = integers(&mut attention.ids.iter().map(|&id| i64::from(id)));
    let mut tensors = vec![("tokens".to_owned(), Dtype::I64, vec![n], tokens)];
    for of_layer in attention.heads.chunk_by(|a, b| a.layer == b.layer) {
        let hook = Hook { site: Site::Pattern, layer: of_layer.first().map(|head| head.layer) };
        let patterns = of_layer.iter().flat_map(|head| &head.pattern).copied().flat_map(f16::to_le_bytes).collect();
        tensors.push((hook.to_string(), Dtype::F16, vec![of_layer.len(), n, n], patterns));
        let heads = integers(&mut of_layer.iter().map(|head| head.head as i64));
        tensors.push((format!("{hook}.heads"), Dtype::I64, vec![of_layer.len()], heads));
    }
    let refused = |error| Error::Setting { name: "patterns", problem: format!("{error}") };
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).map_err(refused)?))
    });
    let views = views.collect::<Result<Vec<_>, Error>>()?;
    let about = HashMap::from([("model".to_owned(), model.to_owned())]);
    safetensors::serialize(views, Some(about)).map_err(refused)
}
