//! Steering vectors in files.

use crate::Error;
use pythia_gguf::{AnyType, Gguf};
use pythia_schema::Hparams;
use pythia_text::ReadError;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::Path;

/// Vectors to add to the residual stream: by the block after which they are added.
pub type SteeringVectors = BTreeMap<usize, Vec<f32>>;

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 30;

/// The vectors of a safetensors file: one tensor `[n_embd]` or `[1, n_embd]`, which is added after block `layer`; or
/// tensors whose names end with `blocks.N.hook_resid_post` or `layers.N`, each for block N: all of them, or the one of `layer`.
///
/// # Errors
/// If the file cannot be read, is not of this form, or does not say after which block one `layer` does not say either.
pub fn steering_vectors(path: &Path, layer: Option<usize>, hparams: &Hparams) -> Result<SteeringVectors, Error> {
    let bytes = read(path)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::file(path, format!("no safetensors file: {e}")))?;
    let tensors = file.tensors();
    let vector = |name: &str| -> Result<Vec<f32>, Error> {
        let tensor = file.tensor(name).map_err(|e| Error::file(path, e.to_string()))?;
        let shape = tensor.shape();
        if shape.iter().product::<usize>() != hparams.n_embd || shape.last() != Some(&hparams.n_embd) {
            let problem = format!("tensor '{name}': found shape {shape:?}, wanted [{}]", hparams.n_embd);
            return Err(Error::file(path, problem));
        }
        floats(tensor.dtype(), tensor.data()).ok_or_else(|| {
            Error::file(path, format!("tensor '{name}': found type {:?}, wanted floats", tensor.dtype()))
        })
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
            let problem = format!("tensor '{name}' does not say after which block it is to be added");
            return Err(Error::file(path, problem));
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
/// If the file cannot be read, or is not of this form.
pub fn control_vectors(
    path: &Path,
    layers: &RangeInclusive<usize>,
    hparams: &Hparams,
) -> Result<SteeringVectors, Error> {
    let bytes = read(path)?;
    let gguf = Gguf::parse(&bytes).map_err(|e| Error::file(path, e.to_string()))?;
    let mut found = SteeringVectors::new();
    for tensor in gguf.tensors() {
        let wrong = |problem: &str| Err(Error::file(path, format!("tensor '{}': {problem}", tensor.name)));
        let Some(of) = tensor.name.strip_prefix("direction.").and_then(|layer| layer.parse::<usize>().ok()) else {
            return wrong("found another name than 'direction.N': this is no control vector");
        };
        if of == 0 {
            return wrong("llama.cpp has no direction for block 0");
        }
        if tensor.dims != [hparams.n_embd as u64] {
            return wrong(&format!("found shape {:?}, wanted [{}]", tensor.dims, hparams.n_embd));
        }
        let AnyType::Known(ty) = tensor.ty else { return wrong("found a type that cannot be read") };
        let mut vector = vec![0.0; hparams.n_embd];
        ty.decode(gguf.data(&bytes, tensor), &mut vector);
        if layers.contains(&of) && of < hparams.n_layer {
            found.insert(of, vector);
        }
    }
    if found.is_empty() {
        return Err(Error::file(path, "found no direction for any of the blocks".to_owned()));
    }
    Ok(found)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let refused = |error: ReadError| match error {
        ReadError::Io(source) => Error::Io { path: path.to_owned(), source },
        ReadError::Refused(problem) => Error::file(path, problem),
    };
    let (file, len) = pythia_text::open_regular(path).map_err(refused)?;
    if len > MAX_BYTES {
        return Err(Error::file(path, format!("found {len} bytes, wanted at most {MAX_BYTES}")));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(|source| refused(ReadError::Io(source)))?;
    Ok(bytes)
}

/// The N of a name that ends with `layers.N` or `blocks.N.hook_resid_post`.
fn layer_of(name: &str) -> Option<usize> {
    let name = name.strip_suffix(".hook_resid_post").unwrap_or(name);
    let (rest, number) = name.rsplit_once('.')?;
    let of_layer = rest == "blocks" || rest == "layers" || rest.ends_with(".layers") || rest.ends_with(".blocks");
    of_layer.then(|| number.parse().ok()).flatten()
}

pub(super) fn floats(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|&x| f64::from_le_bytes(x) as f32).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&x| half::f16::from_le_bytes(x).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|&x| half::bf16::from_le_bytes(x).to_f32()).collect(),
        _ => return None,
    })
}
