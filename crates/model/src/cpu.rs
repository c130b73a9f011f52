//! The backend trait on the CPU: weights stay in the mapped files, or in a copy that is arranged for the kernels.

use crate::backend::{Backend, Batch, ContextSpec, Head, Linear, Norm, Tensor};
use crate::budget::Taken;
use crate::error::Error;
use crate::options::{Options, Residence};
use pythia_kernels::{
    Activations, Attention, AttentionWeights, Cpu, Epilogue, KvCache, KvShape, LayerNorm, Layout, Matmul, Predict,
    RopeTable, Rotary, Weights, Workspace,
};
use pythia_tensor::{FileMap, LargePages};
use std::borrow::Cow;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

/// [`Model::device`](crate::Model::device) of the processor.
pub const CPU: &str = "cpu";

/// The kernels, over mapped files or a copy of them.
#[derive(Debug)]
pub(crate) struct CpuBackend {
    cpu: Arc<Cpu>,
    files: Vec<FileBytes>,
    activations: Activations,
    /// From which byte of the files on, counted through all of them, weights are released after use.
    resident_bytes: Option<u64>,
    /// What a copy of the files takes of a budget.
    _taken: Option<Taken>,
}

/// What a file holds.
#[derive(Debug)]
enum FileBytes {
    Map(FileMap),
    Copy(LargePages),
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Map(map) => map,
            Self::Copy(copy) => copy,
        }
    }
}

/// A matrix, and how its rows lie.
#[derive(Debug)]
pub(crate) struct Matrix {
    tensor: Tensor,
    layout: Layout,
}

/// Rows of activations.
#[derive(Debug)]
pub(crate) struct Buffer {
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

impl CpuBackend {
    /// For a model at `path`, with these tensors in these files.
    ///
    /// # Errors
    /// If a copy of the files is asked for and there is not enough memory.
    pub(crate) fn new(
        cpu: Arc<Cpu>,
        path: &Path,
        maps: Vec<FileMap>,
        tensors: &[Tensor],
        options: &Options,
    ) -> Result<Self, Error> {
        /// Of the memory that is available to larger files, the part that they stay in. What else runs needs the rest.
        const RESIDENT: f64 = 0.7;
        let (activations, available) = (options.activations, options.available_bytes);
        let ends: Vec<usize> = (0..maps.len()).map(|file| end(tensors, file)).collect();
        let bytes = ends.iter().map(|&end| end as u64).sum();
        let copy = || -> io::Result<Vec<FileBytes>> {
            ends.iter().zip(&maps).map(|(&end, map)| map.copy(end).map(FileBytes::Copy)).collect()
        };
        let (mut copies, mut taken) = (None, None);
        match &options.residence {
            Residence::Mapped => {}
            Residence::Copied => {
                if let Some(available) = available.filter(|&available| bytes > available) {
                    return Err(Error::no_memory_for_copy(path, bytes, available));
                }
                if let Some(budget) = &options.memory {
                    taken = Some(budget.take(bytes).ok_or_else(|| Error::no_room_for_copy(bytes, budget.left()))?);
                }
                copies = Some(copy().map_err(|source| Error::Io { path: path.to_owned(), source })?);
            }
            Residence::Within(budget) => {
                let is_roomy = available.is_none_or(|available| bytes <= available / 2);
                // A system that has no room for a copy still has the file.
                if is_roomy
                    && pays(&cpu, tensors, activations, bytes)
                    && let Some(room) = budget.take(bytes)
                    && let Ok(copy) = copy()
                {
                    (copies, taken) = (Some(copy), Some(room));
                }
            }
        }
        let file_bytes: u64 = maps.iter().map(|map| map.len() as u64).sum();
        let short_of = available.filter(|&available| file_bytes > available);
        let resident_bytes = short_of.map(|available| (available as f64 * RESIDENT) as u64);
        let files = copies.unwrap_or_else(|| maps.into_iter().map(FileBytes::Map).collect());
        Ok(Self { cpu, files, activations, resident_bytes, _taken: taken })
    }

    fn bytes(&self, tensor: &Tensor) -> &[u8] {
        &self.files[tensor.file][tensor.bytes.clone()]
    }

    fn weights(&self, matrix: &Matrix) -> Weights<'_> {
        let Matrix { tensor, layout } = matrix;
        let &Tensor { ty, rows, cols, .. } = tensor;
        Weights { ty, rows, cols, data: self.bytes(tensor), layout: *layout }
    }
}

/// Where the last tensor of a file ends. What lies behind may be much, and is nothing to copy. At least 1: a part of a split
/// model may have no tensor, and no memory is empty.
fn end(tensors: &[Tensor], file: usize) -> usize {
    tensors.iter().filter(|tensor| tensor.file == file).map(|tensor| tensor.bytes.end).max().unwrap_or(0).max(1)
}

/// Whether products read a copy of so many bytes faster: if most of them are of tensors that are arranged there. Only on
/// x86-64, where that was measured.
fn pays(cpu: &Cpu, tensors: &[Tensor], activations: Activations, bytes: u64) -> bool {
    let is_arranged = |tensor: &&Tensor| cpu.arranges(tensor.ty, tensor.rows, activations);
    let arranged: u64 = tensors.iter().filter(is_arranged).map(|tensor| tensor.bytes.len() as u64).sum();
    cfg!(target_arch = "x86_64") && arranged > bytes / 2
}

impl Backend for CpuBackend {
    type Matrix = Matrix;
    type Vector = Vec<f32>;
    type Buffer = Buffer;
    type KvCache = KvCache;
    type Rope = RopeTable;
    type Workspace = Workspace;

    const QUEUES: bool = false;
    const SHOWS_ATTENTION: bool = true;

    fn name(&self) -> String {
        CPU.to_owned()
    }

    fn is_copied(&self) -> bool {
        self.files.iter().any(|file| matches!(file, FileBytes::Copy(_)))
    }

    /// The table of embeddings is arranged too, although no product reads it: its rows can be read all the same, and a
    /// token takes one.
    fn matrix(&mut self, tensor: &Tensor) -> Result<Matrix, Error> {
        let layout = match &mut self.files[tensor.file] {
            FileBytes::Map(_) => Layout::Rows,
            FileBytes::Copy(copy) => {
                self.cpu.arrange(tensor.ty, tensor.rows, self.activations, &mut copy[tensor.bytes.clone()])
            }
        };
        Ok(Matrix { tensor: tensor.clone(), layout })
    }

    fn vector(&self, tensor: &Tensor) -> Result<Vec<f32>, Error> {
        let mut values = vec![0.0; tensor.cols];
        tensor.ty.decode(self.bytes(tensor), &mut values);
        Ok(values)
    }

    /// Asks the allocator first, since a failed allocation later would end the process.
    fn check_fits(&self, spec: &ContextSpec) -> Result<(), Error> {
        if spec.bytes().is_none_or(|all| Vec::<u8>::new().try_reserve_exact(all).is_err()) {
            return Err(Error::Request(format!("{spec} does not fit in memory")));
        }
        Ok(())
    }

    fn buffer(&self, rows: usize, cols: usize) -> Result<Buffer, Error> {
        Ok(Buffer { data: vec![0.0; rows * cols], cols })
    }

    fn kv_cache(&self, shape: KvShape) -> Result<KvCache, Error> {
        Ok(KvCache::new(shape))
    }

    fn rope(&self, rotary: Rotary, positions: usize) -> Result<RopeTable, Error> {
        Ok(RopeTable::new(rotary, positions))
    }

    fn workspace(&self, _: &ContextSpec) -> Result<Workspace, Error> {
        Ok(Workspace::default())
    }

    fn rows<'a>(&self, x: &'a Buffer, n: usize, _: &'a mut Vec<f32>) -> &'a [f32] {
        &x.data[..n * x.cols]
    }

    fn edit(&self, x: &mut Buffer, n: usize, _: &mut Vec<f32>, edit: &mut dyn FnMut(&mut [f32])) {
        edit(&mut x.data[..n * x.cols]);
    }

    fn pass(
        &self,
        _: Batch<'_>,
        _: bool,
        workspace: &mut Workspace,
        mut operations: impl FnMut(&mut Workspace),
    ) -> Result<(), Error> {
        operations(workspace);
        Ok(())
    }

    fn finish(&self) -> Result<(), Error> {
        Ok(())
    }

    fn embed(&self, table: &Matrix, batch: Batch<'_>, out: &mut Buffer, _: &mut Workspace) {
        let (weights, mut buffer) = (self.weights(table), Vec::new());
        for (&token, out) in batch.tokens.iter().zip(out.data.chunks_exact_mut(weights.cols)) {
            weights.ty.decode(weights.row(token as usize, &mut buffer), out);
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
        epilogue: Epilogue,
        out: &mut Buffer,
        workspace: &mut Workspace,
    ) {
        let matmul = Matmul {
            weights: self.weights(&linear.weight),
            x: &x.data[..n * x.cols],
            bias: Some(&linear.bias),
            epilogue,
            activations: self.activations,
            out: &mut out.data[..n * linear.weight.tensor.rows],
        };
        self.cpu.matmul(matmul, workspace);
    }

    fn attend(
        &self,
        rope: &RopeTable,
        batch: Batch<'_>,
        qkv: &mut Buffer,
        cache: &mut KvCache,
        out: &mut Buffer,
        _: &mut Workspace,
        weights: Option<AttentionWeights<'_>>,
    ) {
        let (n, spans) = (batch.tokens.len(), batch.spans);
        let (qkv, out) = (&mut qkv.data[..n * qkv.cols], &mut out.data[..n * out.cols]);
        self.cpu.attention(Attention { cache, rope, spans, qkv, out, weights });
    }

    fn release(&self, matrix: &Matrix) {
        let Tensor { file, bytes, .. } = &matrix.tensor;
        let before = || self.files[..*file].iter().map(|file| file.len() as u64).sum::<u64>();
        if let FileBytes::Map(map) = &self.files[*file]
            && self.resident_bytes.is_some_and(|most| before() + bytes.end as u64 > most)
        {
            map.release(bytes.clone());
        }
    }

    fn copy_prefix(&self, cache: &mut KvCache, from: usize, to: usize, positions: usize) {
        cache.copy_prefix(from, to, positions);
    }

    fn head(&self, output: &Matrix, x: &Buffer, head: Head<'_>, workspace: &mut Workspace) -> Result<(), Error> {
        let (weights, activations) = (self.weights(output), self.activations);
        match head {
            Head::Logits { rows, out } => {
                let (x, bias, epilogue) = (&*x.rows(rows), None, Epilogue::Store);
                self.cpu.matmul(Matmul { weights, x, bias, epilogue, activations, out }, workspace);
            }
            Head::Predictions { rows, targets, out } => {
                let x = &*x.rows(rows);
                self.cpu.predict(Predict { weights, x, targets, activations, out }, workspace);
            }
            Head::Largest { .. } => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use pythia_tensor::TensorType;

    #[test]
    fn a_copy_is_arranged_and_a_map_is_not() {
        let (rows, cols) = (32, 64);
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..32 * 36).map(|i| (i % 251) as u8).collect();
        std::fs::write(file.path(), &bytes).unwrap();
        let tensor = Tensor { ty: TensorType::Q4_0, rows, cols, file: 0, bytes: 0..bytes.len() };
        let open = |residence, available_bytes, activations| {
            let options = Options { residence, available_bytes, activations, threads: 1, ..Options::default() };
            let cpu = Arc::new(Cpu::new(1, None).unwrap());
            let maps = vec![FileMap::open(file.path()).unwrap()];
            let tensors = std::slice::from_ref(&tensor);
            let mut backend = CpuBackend::new(cpu, file.path(), maps, tensors, &options).unwrap();
            let matrix = backend.matrix(&tensor).unwrap();
            for row in 0..rows {
                assert_eq!(backend.weights(&matrix).row(row, &mut Vec::new()), &bytes[row * 36..][..36]);
            }
            assert_eq!(backend.is_copied(), matches!(backend.files[0], FileBytes::Copy(_)));
            (matrix.layout, backend)
        };
        let layout = |residence, activations| open(residence, None, activations).0;
        assert_eq!(layout(Residence::Copied, Activations::Int8), Layout::Interleaved);
        assert_eq!(layout(Residence::Copied, Activations::F32), Layout::Rows);
        assert_eq!(layout(Residence::Mapped, Activations::Int8), Layout::Rows);
        // A copy that nobody asked for has a place in the budget, takes half of the memory at most, and is faster.
        let size = bytes.len() as u64;
        let budget = Budget::new(2 * size - 1);
        let within = |available, activations| open(Residence::Within(Arc::clone(&budget)), available, activations).1;
        let first = within(Some(2 * size), Activations::Int8);
        assert_eq!(first.is_copied(), cfg!(target_arch = "x86_64"));
        assert!(!within(None, Activations::Int8).is_copied(), "no room in the budget");
        drop(first);
        assert_eq!(budget.left(), 2 * size - 1);
        assert!(!within(Some(2 * size - 1), Activations::Int8).is_copied(), "more than half of the memory");
        assert!(!within(None, Activations::F32).is_copied(), "no product would be faster");
    }

    #[test]
    fn only_tensors_are_copied() {
        let tensor = |bytes| Tensor { ty: TensorType::Q4_0, rows: 32, cols: 64, file: 1, bytes };
        let tensors = [tensor(0..1152), tensor(1152..2304)];
        assert_eq!((end(&tensors, 0), end(&tensors, 1)), (1, 2304));
        let cpu = Cpu::new(1, None).unwrap();
        let pays = |tensors: &[Tensor]| pays(&cpu, tensors, Activations::Int8, end(tensors, 1) as u64);
        assert_eq!(pays(&tensors), cfg!(target_arch = "x86_64"));
        // A hole, which is copied too.
        assert!(!pays(&[tensor(0..1152), tensor(1_001_152..1_002_304)]));
    }
}
