//! GPT-NeoX in f32, layer by layer, with its gradients: what a quantizer asks of a model that need not fit into memory.
//!
//! The [model](pythia_model) of the runtime keeps all weights, quantizes activations and keeps nothing of a pass. Here
//! weights come from any [`Source`], one [`Block`] at a time, and every step is an operation of its own, so that a
//! caller can look at what enters a matrix, or put other weights into a block.
//!
//! Rows are tokens. They are whole windows of `n_ctx` tokens where positions matter, and windows do not see each other.
//!
//! The function is that of `GPTNeoXForCausalLM`. As everywhere in this project, results have the same bits on every
//! ISA, with any number of threads, and however windows are grouped.

mod attention;
mod backward;
mod head;

mod ops;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use backward::{Observer, Workspace};
pub(crate) use head::LOGITS_BYTES;
pub use head::{Head, Labels};

use crate::Error;
use pythia_convert::{Source, SourceTensor, read_f32};
use pythia_kernels::{Cpu, Gelu, RopeTable, Rotary};
use pythia_schema::{Hparams, Kind, TensorId, tensors};
use pythia_text::hex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows of LayerNorm are whole vectors of this many.
const LANES: usize = 16;

/// A LayerNorm.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// Scale, `[n_embd]`.
    pub gamma: Vec<f32>,
    /// Shift, `[n_embd]`.
    pub beta: Vec<f32>,
}

/// A matrix with its bias: `y = x WT + b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// The matrix.
    pub id: TensorId,
    /// Length of an output.
    pub rows: usize,
    /// Length of an input.
    pub cols: usize,
    /// `[rows, cols]`. Rows are in the order of GGUF: those of `attn_qkv` are all queries, all keys, all values.
    pub weight: Vec<f32>,
    /// `[rows]`; empty where the matrix has none.
    pub bias: Vec<f32>,
}

/// The weights of a transformer block.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Before attention.
    pub attn_norm: Norm,
    /// Queries, keys and values.
    pub qkv: Linear,
    /// After attention.
    pub attn_output: Linear,
    /// Before the feed-forward network.
    pub ffn_norm: Norm,
    /// Before GELU.
    pub ffn_up: Linear,
    /// After GELU.
    pub ffn_down: Linear,
}

/// A model, of which weights are read when they are asked for.
pub struct Network<'s> {
    source: &'s dyn Source,
    cpu: Arc<Cpu>,
    hparams: Hparams,
    gelu: Gelu,
    tensors: HashMap<TensorId, SourceTensor>,
    /// For the longest window so far.
    rope: Mutex<Arc<RopeTable>>,
}

impl<'s> Network<'s> {
    /// The model that `source` holds. `gelu` replaces the form of GELU that the model asks for.
    ///
    /// # Errors
    /// If the model lacks tensors, or its sizes cannot be computed with.
    pub fn open(source: &'s dyn Source, cpu: Arc<Cpu>, gelu: Option<Gelu>) -> Result<Self, Error> {
        let hparams = source.hparams();
        hparams.check().map_err(Error::Model)?;
        if !hparams.n_embd.is_multiple_of(LANES) {
            let problem = format!("found {}, wanted a multiple of {LANES}", hparams.n_embd);
            return Err(Error::Setting { name: "embedding length", problem });
        }
        let specs = tensors(&hparams);
        let found = source.resolve(&specs)?;
        let tensors = specs.iter().map(|spec| spec.id).zip(found).collect();
        let gelu = gelu.unwrap_or(if hparams.gelu_tanh { Gelu::Tanh } else { Gelu::Erf });
        let rope = Mutex::new(Arc::new(RopeTable::new(rotary(&hparams), 0)));
        Ok(Self { source, cpu, hparams, gelu, tensors, rope })
    }

    /// Its sizes.
    pub fn hparams(&self) -> &Hparams {
        &self.hparams
    }

    /// The processor that it is computed on.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    pub(crate) fn shared_cpu(&self) -> &Arc<Cpu> {
        &self.cpu
    }

    /// SHA-256 of the norms and biases as f32, in the order of files, hexadecimal. Cheap, and no two steps of a
    /// training have the same. Quantized files of a model have the same, because they keep these in F32.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn fingerprint(&self) -> Result<String, Error> {
        let mut hasher = Sha256::new();
        for id in TensorId::all(self.hparams.n_layer).filter(|id| !id.is_matrix()) {
            self.read(id)?.iter().for_each(|x| hasher.update(x.to_le_bytes()));
        }
        Ok(hex(&hasher.finalize()))
    }

    /// The form of GELU.
    pub fn gelu_form(&self) -> Gelu {
        self.gelu
    }

    /// The weights of a block.
    ///
    /// # Errors
    /// If they cannot be read.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn block(&self, layer: usize) -> Result<Block, Error> {
        let layer = Some(layer);
        Ok(Block {
            attn_norm: self.norm(Kind::AttnNorm, layer)?,
            qkv: self.linear_of(Kind::AttnQkv, layer)?,
            attn_output: self.linear_of(Kind::AttnOutput, layer)?,
            ffn_norm: self.norm(Kind::FfnNorm, layer)?,
            ffn_up: self.linear_of(Kind::FfnUp, layer)?,
            ffn_down: self.linear_of(Kind::FfnDown, layer)?,
        })
    }

    /// The LayerNorm before the output matrix.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn output_norm(&self) -> Result<Norm, Error> {
        self.norm(Kind::OutputNorm, None)
    }

    /// The output matrix, `[n_vocab, n_embd]`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn output(&self) -> Result<Linear, Error> {
        self.linear_of(Kind::Output, None)
    }

    /// The embedding matrix, `[n_vocab, n_embd]`: [`embed`](Self::embed) reads only the rows that it needs.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn token_embd(&self) -> Result<Linear, Error> {
        self.linear_of(Kind::TokenEmbd, None)
    }

    /// The embeddings of `tokens`, a row each.
    ///
    /// # Errors
    /// If one has none, or it cannot be read.
    pub fn embed(&self, tokens: &[u32], out: &mut Vec<f32>) -> Result<(), Error> {
        let tensor = self.tensor(TensorId::weight(Kind::TokenEmbd, None));
        out.clear();
        out.reserve_exact(tokens.len() * self.hparams.n_embd);
        let mut row = Vec::new();
        for &token in tokens {
            let n_vocab = self.hparams.n_vocab;
            if token as usize >= n_vocab {
                return Err(Error::Text(pythia_runtime::Error::TokenOutOfRange { token, n_vocab }));
            }
            read_f32(self.source, tensor, token as usize..token as usize + 1, &mut row)?;
            out.extend_from_slice(&row);
        }
        Ok(())
    }

    fn norm(&self, kind: Kind, layer: Option<usize>) -> Result<Norm, Error> {
        let id = TensorId::weight(kind, layer);
        Ok(Norm { gamma: self.read(id)?, beta: self.read(id.bias())? })
    }

    fn linear_of(&self, kind: Kind, layer: Option<usize>) -> Result<Linear, Error> {
        let id = TensorId::weight(kind, layer);
        let tensor = self.tensor(id);
        let bias = if kind.is_vocab() { Vec::new() } else { self.read(id.bias())? };
        Ok(Linear { id, rows: tensor.n_rows(), cols: tensor.row_elems(), weight: self.read(id)?, bias })
    }

    fn read(&self, id: TensorId) -> Result<Vec<f32>, Error> {
        let tensor = self.tensor(id);
        let mut values = Vec::new();
        read_f32(self.source, tensor, 0..tensor.n_rows(), &mut values)?;
        Ok(values)
    }

    fn tensor(&self, id: TensorId) -> &SourceTensor {
        self.tensors.get(&id).expect("a tensor of this model")
    }

    /// A table of rotations for `n_ctx` positions at least.
    fn rope(&self, n_ctx: usize) -> Arc<RopeTable> {
        let mut rope = self.rope.lock().unwrap_or_else(PoisonError::into_inner);
        if rope.turns().len() < n_ctx * rope.pairs() {
            *rope = Arc::new(RopeTable::new(rotary(&self.hparams), n_ctx));
        }
        Arc::clone(&rope)
    }
}

fn rotary(hparams: &Hparams) -> Rotary {
    Rotary { base: hparams.rope_base, factor: hparams.rope_factor, dims: hparams.n_rot }
}

impl std::fmt::Debug for Network<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("hparams", &self.hparams).field("gelu", &self.gelu).finish_non_exhaustive()
    }
}
