//! A checkpoint with a LoRA adapter merged into it, as a source: `W + scale * B A`, in f32.
//!
//! Nothing is merged in advance. When rows of `W` are read, the same rows of `B` times `A` are added. `A` of the
//! current tensor is kept in memory (rank times columns); rows of `B` are read when they are needed.

mod product;

use super::checkpoint::{read_in_order, tensor_type};
use super::{CheckpointSource, Source, SourceTensor};
use crate::decode::decode;
use crate::provenance::{base_name, folder_of, name_of, sha256_file};
use crate::{Error, Provenance, metadata};
use product::add_product;
use pythia_checkpoint::{Adapter, Addend, Change};
use pythia_gguf::Metadata;
use pythia_schema::{Hparams, TensorSpec};
use pythia_task::Cancel;
use pythia_tensor::TensorType;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A checkpoint with an adapter that fits it.
#[derive(Debug)]
pub struct LoraSource {
    base: CheckpointSource,
    adapter: Adapter,
    facts: LoraFacts,
    /// Keyed by the name of the base's tensor.
    changes: HashMap<String, Change>,
    /// The factors of the matrix read last. Rows are read tensor by tensor, so one is enough.
    factors: Mutex<Option<(String, Arc<Factors>)>>,
}

/// Facts about a merge, for metadata and reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraFacts {
    /// The name of the adapter's folder.
    pub name: String,
    /// SHA-256 of its config, hexadecimal.
    pub config_sha256: String,
    /// SHA-256 of its weights, hexadecimal.
    pub weights_sha256: String,
    /// How many matrices get a product added.
    pub n_products: usize,
    /// How many biases get one added.
    pub n_biases: usize,
    /// How many tensors are replaced.
    pub n_replaced: usize,
}

impl LoraSource {
    /// Opens the adapter in the folder `path` and fits it to `base`.
    ///
    /// # Errors
    /// If it cannot be read, is not a LoRA adapter or does not fit the base, or `cancel` is raised.
    pub fn open(base: CheckpointSource, path: &Path, cancel: &Cancel) -> Result<Self, Error> {
        let adapter = Adapter::open(path)?;
        let hparams = base.hparams();
        // Before anything is sized by them, because a config may say anything.
        hparams.check()?;
        let specs = pythia_schema::tensors(&hparams);
        let sources = base.resolve(&specs)?;
        let mut changes = HashMap::new();
        for ((spec, source), change) in specs.iter().zip(sources).zip(adapter.changes(&specs)?) {
            if !change.is_none() {
                if base.checkpoint().tied_head() && spec.id.kind.is_vocab() {
                    let reason = "changed by the adapter, but embedding and output matrix are one in the base: train \
                                  and save them untied";
                    return Err(Error::tensor(&source.name, reason));
                }
                changes.insert(source.name, change);
            }
        }
        let [config, weights] = adapter.files();
        let count = |is: fn(&Change) -> bool| changes.values().filter(|change| is(change)).count();
        let facts = LoraFacts {
            name: name_of(path),
            config_sha256: sha256_file(config, cancel)?,
            weights_sha256: sha256_file(weights, cancel)?,
            n_products: count(|c| matches!(c.added, Some(Addend::Product { .. } | Addend::Transposed { .. }))),
            n_biases: count(|c| matches!(c.added, Some(Addend::Bias { .. }))),
            n_replaced: count(|c| c.replaced.is_some()),
        };
        Ok(Self { base, adapter, facts, changes, factors: Mutex::new(None) })
    }

    /// The checkpoint without the adapter.
    pub fn base(&self) -> &CheckpointSource {
        &self.base
    }

    /// The adapter's two files.
    pub fn adapter_files(&self) -> [&Path; 2] {
        self.adapter.files()
    }

    /// Stem for names of files made from it, where `base` is the stem of the base.
    pub fn file_stem(&self, base: &str) -> String {
        merged_name(base, &self.facts.name)
    }

    /// The tensor of the base, or the adapter's tensor that replaces it.
    fn read_original(
        &self,
        tensor: &SourceTensor,
        change: &Change,
        rows: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<TensorType, Error> {
        if let Some(replaced) = &change.replaced {
            self.adapter.read_rows(replaced, rows.start, rows.len(), out)?;
            return Ok(tensor_type(replaced.dtype));
        }
        let missing = || Error::tensor(&tensor.name, "is not in the checkpoint");
        let found = self.base.checkpoint().tensor(&tensor.name).ok_or_else(missing)?;
        self.base.checkpoint().read_rows(found, rows.start, rows.len(), out)?;
        Ok(tensor_type(found.dtype))
    }

    /// Merged rows of a tensor, in the checkpoint's order.
    fn read_changed(
        &self,
        tensor: &SourceTensor,
        change: &Change,
        rows: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let ty = self.read_original(tensor, change, rows.clone(), out)?;
        let Some(addend) = &change.added else { return Ok(()) };
        let mut values = Vec::new();
        decode(ty, out, &mut values);
        match addend {
            Addend::Bias { bias, scale } => {
                let bias = self.values(bias, 0..1)?;
                let scale = *scale as f32;
                values.iter_mut().zip(&bias).for_each(|(value, bias)| *value += scale * bias);
            }
            Addend::Product { up, scale, .. } => {
                let factors = self.factors(&tensor.name, addend)?;
                let up = self.values(up, rows)?;
                add_product(&mut values, &up, &factors.right, tensor.row_elems(), *scale as f32);
            }
            Addend::Transposed { down, scale, .. } => {
                let factors = self.factors(&tensor.name, addend)?;
                let rank = down.n_rows();
                let left = &factors.left[rows.start * rank..rows.end * rank];
                add_product(&mut values, left, &factors.right, tensor.row_elems(), *scale as f32);
            }
        }
        out.clear();
        out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        Ok(())
    }

    /// The factors of `addend` that every row needs. They are read if the kept ones belong to another tensor.
    fn factors(&self, name: &str, addend: &Addend) -> Result<Arc<Factors>, Error> {
        let mut kept = self.factors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, factors)) = kept.as_ref().filter(|(kept, _)| kept == name) {
            return Ok(Arc::clone(factors));
        }
        // Freed before the next ones are read.
        *kept = None;
        let factors = Arc::new(match addend {
            Addend::Product { down, .. } => Factors { left: Vec::new(), right: self.values(down, 0..down.n_rows())? },
            Addend::Transposed { down, up, .. } => {
                Factors { left: self.transposed(down)?, right: self.transposed(up)? }
            }
            Addend::Bias { .. } => Factors::default(),
        });
        *kept = Some((name.to_owned(), Arc::clone(&factors)));
        Ok(factors)
    }

    /// Rows of a tensor of the adapter as f32.
    fn values(&self, tensor: &pythia_checkpoint::SourceTensor, rows: Range<usize>) -> Result<Vec<f32>, Error> {
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        self.adapter.read_rows(tensor, rows.start, rows.len(), &mut bytes)?;
        decode(tensor_type(tensor.dtype), &bytes, &mut values);
        Ok(values)
    }

    /// A whole matrix of the adapter, transposed. It is read row by row, so that it is in memory only once.
    fn transposed(&self, tensor: &pythia_checkpoint::SourceTensor) -> Result<Vec<f32>, Error> {
        let (n_rows, n_cols) = (tensor.n_rows(), tensor.row_elems());
        let mut values = vec![0.0; n_rows * n_cols];
        for row in 0..n_rows {
            let read = self.values(tensor, row..row + 1)?;
            values[row..].iter_mut().step_by(n_rows).zip(read).for_each(|(value, read)| *value = read);
        }
        Ok(values)
    }
}

/// The factors that every row of a product needs.
#[derive(Debug, Default)]
struct Factors {
    /// `B`, `[rows, rank]`, if it cannot be read row by row; otherwise empty.
    left: Vec<f32>,
    /// `A`, `[rank, columns]`.
    right: Vec<f32>,
}

/// The name of the merged model: that of the adapter alone if it begins with the base's name.
fn merged_name(base: &str, adapter: &str) -> String {
    let begins = adapter.get(..base.len()).is_some_and(|start| start.eq_ignore_ascii_case(base));
    if begins || base.is_empty() { adapter.to_owned() } else { format!("{base}-{adapter}") }
}

impl Source for LoraSource {
    fn hparams(&self) -> Hparams {
        self.base.hparams()
    }

    fn resolve(&self, specs: &[TensorSpec]) -> Result<Vec<SourceTensor>, Error> {
        let mut tensors = self.base.resolve(specs)?;
        for tensor in &mut tensors {
            match self.changes.get(&tensor.name) {
                Some(Change { added: Some(_), .. }) => tensor.ty = TensorType::F32,
                Some(Change { replaced: Some(replaced), .. }) => tensor.ty = tensor_type(replaced.dtype),
                _ => {}
            }
        }
        Ok(tensors)
    }

    fn metadata(&self, provenance: &Provenance) -> Result<Metadata, Error> {
        let malformed = |source| Error::Input { path: self.base.checkpoint().path().to_owned(), source };
        let name = merged_name(&provenance.name, &self.facts.name);
        metadata::of_merged(&self.base, provenance, &name, &self.facts).map_err(malformed)
    }

    fn inputs(&self) -> Vec<PathBuf> {
        let adapter = self.adapter.files().map(Path::to_owned);
        self.base.inputs().into_iter().chain(adapter).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.base.warnings();
        let path = pythia_text::path(self.adapter.path());
        let base = name_of(&folder_of(self.base.checkpoint()));
        if let Some(trained_on) = self.adapter.base_model()
            && base_name(Path::new(trained_on)) != base
        {
            let [trained_on, base] = [trained_on, &base].map(|name| pythia_text::quoted(name, '"', 100));
            warnings.push(format!("{path}: trained on {trained_on} according to its config, but merged into {base}"));
        }
        if self.adapter.fan_in_fan_out() {
            warnings.push(format!(
                "{path}: fan_in_fan_out has no effect, as in PEFT: no layer of GPT-NeoX stores its weights that way"
            ));
        }
        warnings
    }

    fn lora(&self) -> Option<&LoraFacts> {
        Some(&self.facts)
    }

    fn read_rows(&self, tensor: &SourceTensor, rows: Range<usize>, out: &mut Vec<u8>) -> Result<(), Error> {
        match self.changes.get(&tensor.name) {
            None => self.base.read_rows(tensor, rows, out),
            Some(change) => read_in_order(tensor, rows, out, |rows, out| self.read_changed(tensor, change, rows, out)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_models_have_both_names_once() {
        for (base, adapter, merged) in [
            ("pythia-410m", "alpaca", "pythia-410m-alpaca"),
            ("pythia-410m", "Pythia-410m-alpaca", "Pythia-410m-alpaca"),
            ("pythia-410m", "pythia", "pythia-410m-pythia"),
            ("", "alpaca", "alpaca"),
            ("modèl", "modè", "modèl-modè"),
        ] {
            assert_eq!(merged_name(base, adapter), merged);
        }
    }
}
