//! The backend trait on the CPU: weights stay in the mapped files, products read them there.

use crate::backend::{Backend, Linear, Norm, Place, Tensor};
use pythia_kernels::{
    Activations, Append, Attend, Cpu, KvCache, KvShape, LayerNorm, LogLikelihood, Matmul, RopeTable, Then, Weights,
    Workspace,
};
use pythia_tensor::FileMap;
use std::borrow::Cow;

/// The kernels, over mapped files.
#[derive(Debug)]
pub struct CpuBackend {
    cpu: Cpu,
    files: Vec<FileMap>,
    activations: Activations,
}

/// Rows of activations.
#[derive(Debug)]
pub struct Buffer {
    data: Vec<f32>,
    cols: usize,
}

impl Buffer {
    /// Some rows, side by side: where they lie, if they do so already.
    fn rows(&self, rows: &[usize]) -> Cow<'_, [f32]> {
        let row = |i: usize| &self.data[i * self.cols..(i + 1) * self.cols];
        match rows {
            [] => Cow::Borrowed(&[]),
            &[first, ..] if rows.iter().copied().eq(first..first + rows.len()) => {
                Cow::Borrowed(&self.data[first * self.cols..(first + rows.len()) * self.cols])
            }
            _ => Cow::Owned(rows.iter().map(|&i| row(i)).collect::<Vec<_>>().concat()),
        }
    }
}

/// A layer's cache, and the width of a row of queries.
#[derive(Debug)]
pub struct Cache {
    kv: KvCache,
    width: usize,
}

impl CpuBackend {
    pub(crate) fn new(cpu: Cpu, files: Vec<FileMap>, activations: Activations) -> Self {
        Self { cpu, files, activations }
    }

    /// The processor.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// Bytes of all files together.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len() as u64).sum()
    }

    fn bytes(&self, tensor: &Tensor) -> &[u8] {
        &self.files[tensor.file][tensor.bytes.clone()]
    }

    fn weights(&self, tensor: &Tensor) -> Weights<'_> {
        Weights { ty: tensor.ty, rows: tensor.rows, cols: tensor.cols, data: self.bytes(tensor) }
    }
}

impl Backend for CpuBackend {
    type Matrix = Tensor;
    type Vector = Vec<f32>;
    type Buffer = Buffer;
    type Cache = Cache;
    type Rope = RopeTable;
    type Workspace = Workspace;

    fn matrix(&self, tensor: &Tensor) -> Tensor {
        tensor.clone()
    }

    fn vector(&self, tensor: &Tensor) -> Vec<f32> {
        let mut values = vec![0.0; tensor.cols];
        tensor.ty.decode(self.bytes(tensor), &mut values);
        values
    }

    fn buffer(&self, rows: usize, cols: usize) -> Buffer {
        Buffer { data: vec![0.0; rows * cols], cols }
    }

    fn cache(&self, shape: KvShape) -> Cache {
        Cache { kv: KvCache::new(shape), width: shape.heads * shape.head_dim }
    }

    fn rope(&self, base: f32, rotated: usize, positions: usize) -> RopeTable {
        RopeTable::new(base, rotated, positions)
    }

    fn rows<'a>(&self, x: &'a Buffer, n: usize, _: &'a mut Vec<f32>) -> &'a [f32] {
        &x.data[..n * x.cols]
    }

    fn embed(&self, table: &Tensor, tokens: &[u32], out: &mut Buffer) {
        let weights = self.weights(table);
        let row_bytes = weights.data.len() / weights.rows;
        for (&token, out) in tokens.iter().zip(out.data.chunks_exact_mut(table.cols)) {
            weights.ty.decode(&weights.data[token as usize * row_bytes..][..row_bytes], out);
        }
    }

    fn layer_norm(&self, norm: &Norm<Self>, x: &Buffer, n: usize, out: &mut Buffer) {
        let len = n * x.cols;
        self.cpu.layer_norm(LayerNorm {
            x: &x.data[..len],
            gamma: &norm.gamma,
            beta: &norm.beta,
            eps: norm.eps,
            out: &mut out.data[..len],
        });
    }

    fn product(
        &self,
        linear: &Linear<Self>,
        x: &Buffer,
        n: usize,
        then: Then,
        out: &mut Buffer,
        workspace: &mut Workspace,
    ) {
        let matmul = Matmul {
            weights: self.weights(&linear.weight),
            x: &x.data[..n * x.cols],
            bias: Some(&linear.bias),
            then,
            activations: self.activations,
            out: &mut out.data[..n * linear.weight.rows],
        };
        self.cpu.matmul(matmul, workspace);
    }

    fn append(&self, rope: &RopeTable, place: Place, qkv: &mut Buffer, cache: &mut Cache) {
        let cols = qkv.cols;
        self.cpu.append(Append {
            cache: &mut cache.kv,
            rope,
            sequence: place.sequence,
            first_position: place.first_position,
            qkv: &mut qkv.data[place.first_row * cols..][..place.rows * cols],
        });
    }

    fn attend(&self, place: Place, qkv: &Buffer, cache: &Cache, out: &mut Buffer) {
        let width = cache.width;
        self.cpu.attend(Attend {
            cache: &cache.kv,
            sequence: place.sequence,
            first_position: place.first_position,
            queries: &qkv.data[place.first_row * qkv.cols..][..place.rows * qkv.cols],
            stride: qkv.cols,
            out: &mut out.data[place.first_row * width..][..place.rows * width],
        });
    }

    fn logits(&self, output: &Tensor, x: &Buffer, rows: &[usize], out: &mut [f32], workspace: &mut Workspace) {
        let matmul = Matmul {
            weights: self.weights(output),
            x: &x.rows(rows),
            bias: None,
            then: Then::Store,
            activations: self.activations,
            out,
        };
        self.cpu.matmul(matmul, workspace);
    }

    fn log_likelihoods(
        &self,
        output: &Tensor,
        x: &Buffer,
        rows: &[usize],
        targets: &[u32],
        out: &mut [f64],
        workspace: &mut Workspace,
    ) {
        let (weights, activations) = (self.weights(output), self.activations);
        self.cpu.log_likelihood(LogLikelihood { weights, x: &x.rows(rows), targets, activations, out }, workspace);
    }
}
