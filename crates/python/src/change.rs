//! Changed models: what callers name, as the changes of `pythia-inside`.

use crate::error::Problem;
use crate::text::{TextArg, text};
use numpy::{PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};
use pythia_inside::{Ablation, Array, Change, Changes, Reach, Selection, control_vectors, mean_over, steering_vectors};
use pythia_model::{Hook, Model};
use pythia_runtime::Tokenizer;
use pythia_schema::Hparams;
use pythia_task::Cancel;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Takes heads and MLPs away: to zero, or to their mean over a text.
pub(crate) fn ablate(
    model: &Arc<Model>,
    tokenizer: &Tokenizer,
    heads: &[(usize, usize)],
    mlps: &[usize],
    mean: Option<TextArg>,
    cancel: &Cancel,
) -> Result<Arc<Model>, Problem> {
    let hparams = model.hparams();
    let hooks = heads.iter().map(|&(layer, _)| Change::hook_of_head(layer));
    let hooks: Vec<Hook> = hooks.chain(mlps.iter().map(|&layer| Change::hook_of_mlp(layer))).collect();
    let means = match mean {
        None => None,
        Some(given) => {
            let text = text(given)?;
            let means = mean_over(model, tokenizer, &text, &hooks, cancel)?;
            Some((means, text.to_string()))
        }
    };
    let ablation = |index: usize| match &means {
        None => Ablation::Zero,
        Some((means, name)) => Ablation::Mean(&means[index], name),
    };
    let of_heads =
        heads.iter().enumerate().map(|(i, &(layer, head))| Change::ablate_head(hparams, layer, head, ablation(i)));
    let of_mlps =
        mlps.iter().enumerate().map(|(i, &layer)| Change::ablate_mlp(hparams, layer, ablation(heads.len() + i)));
    let changes = of_heads.chain(of_mlps).collect::<Result<_, _>>()?;
    Ok(Changes::new(changes).of(model))
}

/// A vector to steer by: its numbers, or a file of them.
pub(crate) enum Vector {
    Numbers(Vec<f32>),
    File(PathBuf),
}

impl Vector {
    /// A str or a path is a file, and everything else an array.
    pub(crate) fn extract(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        match object.extract() {
            Ok(path) => Ok(Self::File(path)),
            Err(_) => Ok(Self::Numbers(array(object)?.data)),
        }
    }
}

/// Adds a vector after a block; of a file, those that it has for blocks, or for this one.
pub(crate) fn steer(
    model: &Arc<Model>,
    vector: Vector,
    layer: Option<usize>,
    scale: f32,
) -> Result<Arc<Model>, Problem> {
    let hparams = model.hparams();
    let changes = match vector {
        Vector::Numbers(vector) => {
            let layer =
                layer.ok_or_else(|| Problem::usage("layer: found None, wanted the block to add the vector after"))?;
            vec![Change::steer(hparams, layer, &vector, scale, "vector")?]
        }
        Vector::File(path) => {
            let name = pythia_text::path(&path).to_string();
            let vectors = of_file(&path, layer, hparams)?;
            let change = |(layer, vector): (&usize, &Vec<f32>)| Change::steer(hparams, *layer, vector, scale, &name);
            vectors.iter().map(change).collect::<Result<_, _>>()?
        }
    };
    Ok(Changes::new(changes).of(model))
}

fn of_file(path: &Path, layer: Option<usize>, hparams: &Hparams) -> Result<pythia_inside::SteeringVectors, Problem> {
    if !pythia_convert::is_gguf(path)? {
        return Ok(steering_vectors(path, layer, hparams)?);
    }
    let layers = layer.map_or(0..=hparams.n_layer, |layer| layer..=layer);
    Ok(control_vectors(path, &layers, hparams)?)
}

/// The values of another run at the hooks that were chosen.
pub(crate) struct Patch {
    hook: Hook,
    values: Array,
}

/// Those of `cache`, a dict of arrays as `run_with_cache` returns it, that selectors name.
pub(crate) fn patches(cache: &Bound<'_, PyDict>, selectors: &[String], hparams: &Hparams) -> PyResult<Vec<Patch>> {
    let py = cache.py();
    let selection = Selection::to_change(selectors, hparams).map_err(|error| Problem::from(error).raise(py))?;
    let patch = |&hook: &Hook| match cache.get_item(hook.to_string())? {
        Some(values) => Ok(Patch { hook, values: array(&values)? }),
        None => Err(Problem::usage(format_args!("cache: found no {hook}, which hooks name")).raise(py)),
    };
    selection.hooks().iter().map(patch).collect()
}

/// Puts the values of some positions of another run in: of all its positions, if none are named.
/// Tells how far they reach as well.
pub(crate) fn patch(
    model: &Arc<Model>,
    patches: &[Patch],
    positions: Option<&[usize]>,
) -> Result<(Arc<Model>, Reach), Problem> {
    let change = |Patch { hook, values }: &Patch| {
        let rows = values.shape.first().copied().unwrap_or(0);
        let all: Vec<usize> = (0..rows).collect();
        let positions = positions.unwrap_or(&all);
        if let Some(position) = positions.iter().find(|position| **position >= rows) {
            return Err(Problem::usage(format_args!(
                "positions: found {position}, but {hook} has {rows} in the cache"
            )));
        }
        let width = values.data.len() / rows.max(1);
        let data = positions.iter().flat_map(|at| &values.data[at * width..(at + 1) * width]).copied().collect();
        let shape = [&[positions.len()], values.shape.get(1..).unwrap_or_default()].concat();
        Ok(Change::patch(model.hparams(), *hook, positions, &Array { shape, data }, "the cache")?)
    };
    let changes = Changes::new(patches.iter().map(change).collect::<Result<_, _>>()?);
    let reach = changes.reach();
    Ok((changes.of(model), reach))
}

/// Any array of numbers as float32.
fn array(object: &Bound<'_, PyAny>) -> PyResult<Array> {
    let numpy = PyModule::import(object.py(), "numpy")?;
    let array = numpy.call_method1("ascontiguousarray", (object, "float32"));
    let wrong = |error: PyErr| PyTypeError::new_err(format!("wanted an array of numbers: {error}"));
    let array = array.map_err(wrong)?;
    let array = array.cast::<PyArrayDyn<f32>>()?;
    Ok(Array { shape: array.shape().to_vec(), data: array.to_vec()? })
}
