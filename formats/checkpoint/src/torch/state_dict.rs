//! Converts the value of a pickle to named tensors.

use super::pickle::{Pickle, Tensor, Value};
use crate::error::excerpt;
use crate::weights::{LIMIT_TENSORS, too_many_tensors};
use std::collections::HashSet;

/// Keys under which training programs save a state dict.
const WRAPPERS: [&str; 3] = ["state_dict", "model", "module"];

/// The tensors of a state dict, or of one under one of the usual keys.
pub(super) fn tensors<'a>(pickle: &'a Pickle<'_>) -> Result<Vec<(String, &'a Tensor)>, String> {
    let Value::Dict(root) = pickle.root else {
        return Err(format!("the file holds {}, wanted a state dict", pickle.root.kind()));
    };
    let dict = wrapped(pickle, root)?.unwrap_or(root);
    let has = |wanted: &str| {
        let items = &pickle.heap.dicts[root].items;
        items.iter().any(|(key, _)| matches!(*key, Value::Text(key) if pickle.text(key) == wanted))
    };
    if dict == root && has("param_groups") {
        return Err("the state of an optimizer, no weights: save the model's state_dict()".to_owned());
    }
    if pickle.heap.dicts[dict].items.len() > LIMIT_TENSORS {
        return Err(too_many_tensors());
    }
    let mut named = Vec::new();
    let mut seen = HashSet::new();
    for &(key, value) in &pickle.heap.dicts[dict].items {
        let Value::Text(key) = key else {
            return Err(format!("a key of the state dict is {}, wanted a string", key.kind()));
        };
        let name = pickle.text(key);
        let Value::Tensor(tensor) = value else {
            return Err(format!("{} is {}, wanted a tensor", excerpt(name), value.kind()));
        };
        if !seen.insert(key) {
            return Err(format!("tensor {} comes twice", excerpt(name)));
        }
        named.push((name, &pickle.heap.tensors[tensor]));
    }
    if named.is_empty() {
        return Err("the state dict is empty".to_owned());
    }
    Ok(named.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect())
}

/// The state dict within a dict of other values. There must be no tensors beside it, which would be lost, and no second
/// candidate.
fn wrapped(pickle: &Pickle<'_>, dict: usize) -> Result<Option<usize>, String> {
    let items = &pickle.heap.dicts[dict].items;
    if items.iter().any(|(_, value)| matches!(value, Value::Tensor(_))) {
        return Ok(None);
    }
    let mut found = items.iter().filter_map(|&(key, value)| match (key, value) {
        (Value::Text(key), Value::Dict(inner)) => {
            WRAPPERS.contains(&pickle.text(key)).then(|| (pickle.text(key), inner))
        }
        _ => None,
    });
    match (found.next(), found.next()) {
        (Some((first, _)), Some((second, _))) => {
            Err(format!("{first:?} and {second:?} are both dicts: which of them is the state dict?"))
        }
        (found, _) => Ok(found.map(|(_, inner)| inner)),
    }
}
