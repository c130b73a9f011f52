//! Steering vectors in files.

use super::tensors::{floats, not_finite, parse, read, shape, wrong};
use crate::Error;
use pythia_gguf::{AnyType, Gguf};
use pythia_schema::Hparams;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

/// Vectors to add to the residual stream: by the block after which they are added.
pub type SteeringVectors = BTreeMap<usize, Vec<f32>>;

/// The vectors of a safetensors file: one tensor `[n_embd]` or `[1, n_embd]`, which is added after block `layer`; or
/// tensors whose names end with `blocks.N.hook_resid_post` or `layers.N`, each for block N: all of them, or the one of `layer`.
///
/// # Errors
/// If the file cannot be read, is not of this form, holds a number that is not finite or two vectors for one block, or does
/// not say after which block one `layer` does not say either.
pub fn steering_vectors(path: &Path, layer: Option<usize>, hparams: &Hparams) -> Result<SteeringVectors, Error> {
    let bytes = read(path)?;
    let file = parse(&bytes, path)?;
    let tensors = file.tensors();
    let vector = |name: &str| -> Result<Vec<f32>, Error> {
        let tensor = file.tensor(name).map_err(|e| wrong(path, name, e))?;
        let found = tensor.shape();
        if found != [hparams.n_embd] && found != [1, hparams.n_embd] {
            let problem = format!("found shape {}, wanted [{}]", shape(found), hparams.n_embd);
            return Err(wrong(path, name, problem));
        }
        finite(floats(&tensor, name, path)?, name, path)
    };
    let mut found = SteeringVectors::new();
    for (name, _) in &tensors {
        if let Some(of) = layer_of(name).filter(|of| layer.is_none_or(|layer| layer == *of))
            && found.insert(of, vector(name)?).is_some()
        {
            return Err(Error::file(path, format!("two vectors for block {of}")));
        }
    }
    if found.is_empty() {
        let [(name, _)] = tensors.as_slice() else {
            let problem = "found several tensors, wanted one, or names such as 'blocks.3.hook_resid_post'";
            return Err(Error::file(path, problem.to_owned()));
        };
        let Some(layer) = layer else {
            return Err(wrong(path, name, "does not say after which block it is to be added"));
        };
        if let Some(of) = layer_of(name) {
            return Err(Error::file(path, format!("has a vector for block {of} and none for block {layer}")));
        }
        found.insert(layer, vector(name)?);
    }
    Ok(found)
}

/// The vectors of a control-vector GGUF file, as llama.cpp reads it: `direction.N` is added after block N, counted from 0,
/// for the blocks of `layers`.
///
/// # Errors
/// If the file cannot be read, is not of this form, or holds a number that is not finite or two vectors for one block.
pub fn control_vectors(
    path: &Path,
    layers: &RangeInclusive<usize>,
    hparams: &Hparams,
) -> Result<SteeringVectors, Error> {
    let bytes = read(path)?;
    let gguf = Gguf::parse(&bytes).map_err(|e| Error::file(path, e.to_string()))?;
    let mut found = SteeringVectors::new();
    for tensor in gguf.tensors() {
        let wrong = |problem: &str| wrong(path, &tensor.name, problem);
        let Some(of) = tensor.name.strip_prefix("direction.").and_then(|layer| layer.parse::<usize>().ok()) else {
            return Err(wrong("found another name than 'direction.N': this is no control vector"));
        };
        if of == 0 {
            return Err(wrong("llama.cpp has no direction for block 0"));
        }
        if tensor.dims != [hparams.n_embd as u64] {
            return Err(wrong(&format!("found shape {:?}, wanted [{}]", tensor.dims, hparams.n_embd)));
        }
        let AnyType::Known(ty) = tensor.ty else { return Err(wrong("found a type that cannot be read")) };
        let mut vector = vec![0.0; hparams.n_embd];
        ty.decode(gguf.data(&bytes, tensor), &mut vector);
        // `direction.01` is another name for the same block.
        if found.insert(of, finite(vector, &tensor.name, path)?).is_some() {
            return Err(Error::file(path, format!("two vectors for block {of}")));
        }
    }
    found.retain(|of, _| layers.contains(of) && *of < hparams.n_layer);
    if found.is_empty() {
        return Err(Error::file(path, "found no direction for any of the blocks".to_owned()));
    }
    Ok(found)
}

fn finite(vector: Vec<f32>, name: &str, path: &Path) -> Result<Vec<f32>, Error> {
    match not_finite(&vector) {
        None => Ok(vector),
        Some((at, x)) => Err(wrong(path, name, format_args!("found {x} at element {at}, wanted finite numbers"))),
    }
}

/// The N of a name that ends with `layers.N` or `blocks.N.hook_resid_post`.
fn layer_of(name: &str) -> Option<usize> {
    let name = name.strip_suffix(".hook_resid_post").unwrap_or(name);
    let (rest, number) = name.rsplit_once('.')?;
    let of_layer = rest == "blocks" || rest == "layers" || rest.ends_with(".layers") || rest.ends_with(".blocks");
    of_layer.then(|| number.parse().ok()).flatten()
}
