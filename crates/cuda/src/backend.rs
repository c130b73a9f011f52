//! The model's backend on a GPU. Weights on the device have the layout of the file. The input of a batch is token ids
//! and positions, and the output is a few numbers.

mod buffer;
mod head;
mod workspace;

use crate::compile::{Source, Unit};
use crate::device::{Device, Memory, Ptr};
use crate::graph::Graph;
use crate::ops::append::{self, KvPtrs};
use crate::ops::product::Weights;
use crate::ops::quantize::Quantized;
use crate::ops::{Output, attend, embed, float, gemm, gemv, norm, quantize};
use buffer::Buffer;
use pythia_kernels::{Activations, Epilogue, KvShape, RopeTable, Rotary};
use pythia_model::Error;
use pythia_model::backend::{AttentionWeights, Backend, Batch, ContextSpec, Head, Linear, Norm, Tensor};
use pythia_tensor::{FileMap, TensorType};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};
use workspace::{Pass, Workspace};

/// A GPU that runs models.
pub(crate) struct CudaBackend {
    device: Arc<Device>,
    files: Vec<FileMap>,
    activations: Activations,
    /// Types of the matrices so far, which determine the kernels.
    types: Mutex<BTreeSet<TensorType>>,
}

/// A bias, or half of a norm.
pub(crate) struct Vector(Memory);

/// Weights on the device, in the format of their file.
pub(crate) struct Matrix {
    ty: TensorType,
    rows: usize,
    cols: usize,
    weights: Memory,
}

/// Keys and values of one layer.
pub(crate) struct KvCache {
    shape: KvShape,
    keys: Memory,
    values: Memory,
}

/// Cosines and sines per position and pair.
pub(crate) struct Rope {
    turns: Memory,
    pairs: usize,
}

impl CudaBackend {
    /// A backend for the weights of these files.
    ///
    /// # Errors
    /// If the device cannot run the model: there is no compiler for its kernels, they do not support heads of this
    /// size, or its memory is too small for the weights.
    pub(crate) fn new(
        device: Arc<Device>,
        source: pythia_model::Source,
        activations: Activations,
    ) -> Result<Self, Error> {
        let backend = Self { device, files: source.files, activations, types: Mutex::default() };
        backend.device.check_compiler().map_err(failed)?;
        let head_dim = source.hparams.n_embd / source.hparams.n_head;
        if !append::knows_heads_of(head_dim) {
            return Err(Error::Device(format!(
                "{}: heads of {head_dim} elements; the kernels take multiples of 8 up to 256",
                backend.device.name()
            )));
        }
        let weight_bytes: usize = source.tensors.iter().map(|tensor| tensor.bytes.len()).sum();
        backend.check_free(&"the model", weight_bytes as u128)?;
        Ok(backend)
    }

    fn check_free(&self, what: &dyn fmt::Display, bytes: u128) -> Result<(), Error> {
        let (free, total) = self.device.memory().map_err(failed)?;
        if bytes <= free as u128 {
            return Ok(());
        }
        let megabytes = |bytes: u128| bytes.div_ceil(1_000_000);
        Err(Error::Device(format!(
            "{}: {what} takes {bytes} bytes ({} MB), but {free} of {total} bytes of its memory are free ({} of {} MB)",
            self.device.name(),
            megabytes(bytes),
            megabytes(free as u128),
            megabytes(total as u128),
        )))
    }

    fn bytes(&self, tensor: &Tensor) -> &[u8] {
        &self.files[tensor.file][tensor.bytes.clone()]
    }

    fn alloc(&self, bytes: usize) -> Result<Memory, Error> {
        self.device.alloc(bytes).map_err(failed)
    }

    fn uploaded(&self, bytes: &[u8]) -> Result<Memory, Error> {
        let memory = self.alloc(bytes.len())?;
        self.device.upload(memory.ptr(), bytes);
        Ok(memory)
    }

    /// Waits. Fails if anything has failed so far.
    fn check(&self) -> Result<(), Error> {
        self.device.check().map_err(failed)
    }

    /// Fails if a failure is known, without waiting.
    fn known_failure(&self) -> Result<(), Error> {
        self.device.known_failure().map_err(failed)
    }

    /// Compiles or loads the kernels for passes.
    fn prepare(&self) -> Result<(), crate::Error> {
        let general = [Source::Quantize, Source::Norm, Source::Append, Source::Attend, Source::Head];
        let mut units: Vec<_> = general.map(|source| Unit { source, format: None }).into();
        for &ty in &*self.types.lock().unwrap() {
            let mut add = |source| units.push(Unit { source, format: Some(ty) });
            add(Source::Embed);
            if !self.is_integer(ty) {
                add(Source::Float);
                continue;
            }
            add(Source::Gemv);
            if self.device.has_tensor_cores() {
                add(Source::Gemm);
            }
        }
        self.device.prepare(&units)
    }

    /// Whether products with such weights use integers.
    fn is_integer(&self, ty: TensorType) -> bool {
        ty.is_quantized() && self.activations == Activations::Int8
    }

    /// Notes that the first `n` rows of a buffer are written, and whether by a kernel that `can_quantize` in passing:
    /// then where the same rows go for products of integers.
    fn rewritten(&self, out: &mut Buffer, n: usize, can_quantize: bool) -> Option<Quantized> {
        if can_quantize && self.activations == Activations::Int8 {
            return Some(out.rewritten_quantized(n));
        }
        out.rewritten();
        None
    }

    /// Where a norm's results go: also quantized, where products want them so.
    fn norm_target(&self, norm: &Norm<Self>, n: usize, out: &mut Buffer) -> norm::NormTarget {
        let quantized = self.rewritten(out, n, true);
        norm::NormTarget::new(norm.gamma.0.ptr(), norm.beta.0.ptr(), out.row(0), quantized)
    }

    /// Rows `first .. first + n` of `x` times a matrix.
    fn multiply(&self, matrix: &Matrix, x: &Buffer, first: usize, n: usize, output: Output) {
        let (device, weights) = (&*self.device, matrix.weights());
        let Weights { ty, rows, cols, .. } = weights;
        assert_eq!(cols, x.cols());
        // SAFETY: the weights are a matrix of this type and shape; `x` has these rows, quantized or not; the callers
        // give an output with `rows` biases and memory for `n` rows of results.
        unsafe {
            if !self.is_integer(ty) {
                return float::product(device, weights, x.row(first), n, output);
            }
            let missing = x.to_quantize(first + n);
            quantize::quantize(device, x.row(missing.start), missing.len(), cols, x.quantized(missing.start));
            if n > gemv::MOST_ROWS
                && device.has_tensor_cores()
                && gemm::prefers_gemm(n, rows, cols, device.multiprocessors())
            {
                return gemm::product(device, weights, x.quantized(first), n, output);
            }
            for at in (0..n).step_by(gemv::MOST_ROWS) {
                let output = Output { out: output.out.add(at * rows * size_of::<f32>()), ..output };
                gemv::product(device, weights, x.quantized(first + at), gemv::MOST_ROWS.min(n - at), output);
            }
        }
    }
}

/// Converts a failure of the device to an error of the model.
fn failed(error: crate::Error) -> Error {
    Error::Device(error.to_string())
}

impl Matrix {
    fn weights(&self) -> Weights {
        Weights { ty: self.ty, rows: self.rows, cols: self.cols, at: self.weights.ptr() }
    }
}

impl KvCache {
    fn ptrs(&self) -> KvPtrs {
        KvPtrs { keys: self.keys.ptr(), values: self.values.ptr(), shape: self.shape }
    }
}

impl Backend for CudaBackend {
    type Matrix = Matrix;
    type Vector = Vector;
    type Buffer = Buffer;
    type KvCache = KvCache;
    type Rope = Rope;
    type Workspace = Workspace;

    const QUEUES: bool = true;
    const SHOWS_ATTENTION: bool = false;

    fn name(&self) -> String {
        self.device.name().to_owned()
    }

    fn matrix(&mut self, tensor: &Tensor) -> Result<Matrix, Error> {
        let &Tensor { ty, rows, cols, .. } = tensor;
        let weights = self.uploaded(self.bytes(tensor))?;
        self.check()?;
        self.types.lock().unwrap().insert(ty);
        Ok(Matrix { ty, rows, cols, weights })
    }

    fn vector(&self, tensor: &Tensor) -> Result<Vector, Error> {
        let mut values = vec![0.0; tensor.cols];
        tensor.ty.decode(self.bytes(tensor), &mut values);
        Ok(Vector(self.uploaded(&bytes_of(values))?))
    }

    fn check_fits(&self, spec: &ContextSpec) -> Result<(), Error> {
        let Some((keys, values)) = append::kv_bytes(spec.kv) else {
            return Err(Error::Request(format!("{spec} does not fit in memory")));
        };
        let caches = (keys as u128 + values as u128) * spec.n_layer as u128;
        let buffers: u128 = spec.widths.iter().map(|&cols| Buffer::bytes(spec.n_batch, cols)).sum();
        let rope = spec.kv.positions as u128 * 4 * spec.n_rot as u128;
        self.check_free(spec, caches + buffers + rope + Workspace::bytes(spec))
    }

    fn buffer(&self, rows: usize, cols: usize) -> Result<Buffer, Error> {
        Buffer::new(&self.device, rows, cols).map_err(failed)
    }

    fn kv_cache(&self, shape: KvShape) -> Result<KvCache, Error> {
        let (keys, values) = append::kv_bytes(shape).expect("counted by `check_fits`");
        Ok(KvCache { shape, keys: self.alloc(keys)?, values: self.alloc(values)? })
    }

    fn rope(&self, rotary: Rotary, positions: usize) -> Result<Rope, Error> {
        let table = RopeTable::new(rotary, positions);
        let turns = self.uploaded(&bytes_of(table.turns().iter().flat_map(|&(cos, sin)| [cos, sin])))?;
        Ok(Rope { turns, pairs: table.pairs() })
    }

    fn workspace(&self, spec: &ContextSpec) -> Result<Workspace, Error> {
        self.prepare().map_err(failed)?;
        Workspace::new(&self.device, spec).map_err(failed)
    }

    fn rows<'a>(&self, x: &'a Buffer, n: usize, staging: &'a mut Vec<f32>) -> &'a [f32] {
        staging.resize(n * x.cols(), 0.0);
        download(&self.device, x.row(0), staging);
        staging
    }

    fn edit(&self, x: &mut Buffer, n: usize, staging: &mut Vec<f32>, edit: &mut dyn FnMut(&mut [f32])) {
        staging.resize(n * x.cols(), 0.0);
        download(&self.device, x.row(0), staging);
        edit(staging);
        self.device.upload(x.row(0), &bytes_of(staging.iter().copied()));
        x.rewritten();
    }

    /// Generation repeats batches of one token per sequence. The first pass is run, so that everything is compiled. The
    /// second is recorded, and later ones are a single launch each.
    fn pass(
        &self,
        batch: Batch<'_>,
        tapped: bool,
        workspace: &mut Workspace,
        mut operations: impl FnMut(&mut Workspace),
    ) -> Result<(), Error> {
        workspace.stage(&self.device, batch);
        let n = batch.tokens.len();
        if tapped || !workspace.is_one_each() {
            operations(workspace);
            return self.known_failure();
        }
        let graph = match workspace.passes.remove(&n) {
            None => None,
            Some(Pass::Ran) => Graph::record(&self.device, || operations(workspace)).map_err(failed)?,
            Some(Pass::Recorded(graph)) => Some(graph),
        };
        let pass = match graph {
            None => {
                operations(workspace);
                Pass::Ran
            }
            Some(mut graph) => {
                // SAFETY: it was recorded with this workspace, so of the same state, whose buffers all live as long,
                // and of the model's weights, which live longer.
                unsafe { graph.replay(&self.device) };
                Pass::Recorded(graph)
            }
        };
        workspace.passes.insert(n, pass);
        self.known_failure()
    }

    fn finish(&self) -> Result<(), Error> {
        self.check()
    }

    fn embed(&self, table: &Matrix, batch: Batch<'_>, out: &mut Buffer, workspace: &mut Workspace) {
        let (device, n) = (&*self.device, batch.tokens.len());
        out.rewritten();
        // SAFETY: a table of this type and width; the tokens of the batch were staged and are rows of it.
        unsafe { embed::embed(device, table.ty, table.weights.ptr(), table.cols, workspace.tokens(), n, out.row(0)) }
    }

    fn layer_norm(&self, norm: &Norm<Self>, x: &Buffer, n: usize, out: &mut Buffer) {
        let target = self.norm_target(norm, n, out);
        // SAFETY: both buffers have `n` rows of `cols`, gamma and beta `cols` floats.
        unsafe { norm::layer_norm(&self.device, x.row(0), target, norm.eps, n, x.cols()) }
    }

    fn layer_norm_pair(&self, norms: [&Norm<Self>; 2], x: &Buffer, n: usize, outs: [&mut Buffer; 2]) {
        let eps = norms[0].eps;
        assert_eq!(eps, norms[1].eps);
        let ([a, b], [to_a, to_b]) = (norms, outs);
        let targets = [self.norm_target(a, n, to_a), self.norm_target(b, n, to_b)];
        // SAFETY: as above; the results are in buffers of their own.
        unsafe { norm::layer_norm_pair(&self.device, x.row(0), targets, eps, n, x.cols()) }
    }

    fn product(
        &self,
        linear: &Linear<Self>,
        x: &Buffer,
        n: usize,
        epilogue: Epilogue,
        out: &mut Buffer,
        _: &mut Workspace,
    ) {
        let output = Output::new(Some(linear.bias.0.ptr()), epilogue, out.row(0));
        self.multiply(&linear.weight, x, 0, n, output);
        out.rewritten();
    }

    fn attend(
        &self,
        rope: &Rope,
        batch: Batch<'_>,
        qkv: &mut Buffer,
        cache: &mut KvCache,
        out: &mut Buffer,
        workspace: &mut Workspace,
        _: Option<AttentionWeights<'_>>,
    ) {
        let (device, n, shape) = (&*self.device, batch.tokens.len(), cache.shape);
        let (rows, cache, x) = (workspace.rows(), cache.ptrs(), qkv.row(0));
        let rope = append::Rope { turns: rope.turns.ptr(), pairs: rope.pairs as u64 };
        qkv.rewritten();
        // SAFETY: the rows' sequences and positions were staged and are within the cache and the table; the scratch is
        // large enough for as many rows as there are sequences.
        unsafe {
            if workspace.is_one_each() {
                let quantized = self.rewritten(out, n, attend::quantizes(shape));
                let results = attend::Results { out: out.row(0), quantized };
                attend::one(device, rows, n, x, rope, cache, workspace.scratch(), results);
            } else {
                out.rewritten();
                append::append(device, rows, n, x, rope, cache);
                attend::many(device, workspace.tiles(), workspace.n_tiles(), x, cache, out.row(0));
            }
        }
    }

    fn copy_prefix(&self, cache: &mut KvCache, from: usize, to: usize, positions: usize) {
        // SAFETY: sequences and positions that the cache was made for.
        unsafe { append::copy_prefix(&self.device, cache.ptrs(), from, to, positions) }
    }

    fn head(&self, output: &Matrix, x: &Buffer, head: Head<'_>, workspace: &mut Workspace) -> Result<(), Error> {
        match head {
            Head::Logits { rows, out } => self.download_logits(output, x, rows, out, workspace),
            Head::Predictions { rows, targets, out } => {
                self.reduce_to_predictions(output, x, rows, targets, out, workspace)
            }
            Head::Largest { row, n, wanted, out } => {
                *out = self.select_largest(output, x, row, n, wanted, workspace)?;
                Ok(())
            }
        }
    }
}

/// The bytes of floats, in native order, which is that of every GPU.
fn bytes_of(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// Copies floats to the host.
fn download(device: &Device, from: Ptr, out: &mut [f32]) {
    let mut bytes = vec![0; size_of_val(out)];
    device.download(from, &mut bytes);
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *out = f32::from_le_bytes(*bytes);
    }
}
