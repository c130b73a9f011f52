//! Products of weights with rows of x, on the device and on the CPU: the same bits.

use super::{QuantizedMemory, Random, assert_same_bits, download, upload};
use crate::device::{Device, Memory, Ptr};
use crate::ops::Output;
use crate::ops::product::Weights;
use crate::ops::quantize::{Quantized, quantize};
use pythia_kernels::{self as kernels, Activations, Cpu, Epilogue, Gelu, Matmul, Workspace};
use pythia_tensor::TensorType;

/// Every way for a product to end.
pub(crate) const EPILOGUES: [Epilogue; 4] =
    [Epilogue::Store, Epilogue::Add, Epilogue::Gelu(Gelu::Erf), Epilogue::Gelu(Gelu::Tanh)];

/// Types whose products are of integers.
pub(crate) fn quantized_types() -> impl Iterator<Item = TensorType> {
    TensorType::ALL.iter().copied().filter(|ty| ty.is_quantized())
}

/// Random weights, `[rows, cols]`, and `n` rows to multiply them with.
pub(crate) struct Case {
    pub(crate) ty: TensorType,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// The weights' bytes.
    pub(crate) data: Vec<u8>,
    /// `[n, cols]`
    pub(crate) x: Vec<f32>,
    bias: Vec<f32>,
    /// What is in the output before: `[n, rows]`, and a row behind it.
    out: Vec<f32>,
}

impl Case {
    pub(crate) fn new(ty: TensorType, rows: usize, cols: usize, n: usize) -> Self {
        let mut random = Random::new((ty.id() as usize + 31 * rows + 1009 * cols + 7919 * n) as u64);
        let data = random.weights(ty, rows, cols);
        let x = random.floats(n * cols);
        let (bias, out) = (random.floats(rows), random.floats((n + 1) * rows));
        Self { ty, rows, cols, data, x, bias, out }
    }

    /// With weights that no encoder writes: every bit at random, so that some scales are not numbers.
    pub(crate) fn of_any_bytes(ty: TensorType, rows: usize, cols: usize, n: usize) -> Self {
        let mut case = Self::new(ty, rows, cols, n);
        let mut random = Random::new(ty.id().into());
        case.data.fill_with(|| random.next() as u8);
        case
    }

    /// What the first `n` rows of x give, with a bias or without.
    pub(crate) fn on_cpu(&self, activations: Activations, n: usize, bias: bool, epilogue: Epilogue) -> Vec<f32> {
        let mut out = self.out[..n * self.rows].to_vec();
        let weights = kernels::Weights {
            ty: self.ty,
            rows: self.rows,
            cols: self.cols,
            data: &self.data,
            layout: kernels::Layout::Rows,
        };
        let (x, bias) = (&self.x[..n * self.cols], bias.then_some(&self.bias[..]));
        let matmul = Matmul { weights, x, bias, epilogue, activations, out: &mut out };
        Cpu::new(1, None).unwrap().matmul(matmul, &mut Workspace::default());
        out
    }

    pub(crate) fn on_device<'a>(&'a self, device: &'a Device) -> OnDevice<'a> {
        let elements = self.x.len();
        let uploaded = OnDevice {
            case: self,
            device,
            weights: upload(device, &self.data),
            bias: upload(device, &self.bias),
            x: upload(device, &self.x),
            quantized: QuantizedMemory::new(device, elements),
        };
        // SAFETY: memory for this many rows.
        unsafe { quantize(device, uploaded.x.ptr(), elements / self.cols, self.cols, uploaded.operands().quantized) };
        uploaded
    }
}

/// A case on the device.
pub(crate) struct OnDevice<'a> {
    case: &'a Case,
    device: &'a Device,
    weights: Memory,
    bias: Memory,
    x: Memory,
    quantized: QuantizedMemory,
}

/// Where the matrices lie.
pub(crate) struct Operands {
    pub(crate) weights: Weights,
    pub(crate) x: Ptr,
    pub(crate) quantized: Quantized,
}

impl OnDevice<'_> {
    fn operands(&self) -> Operands {
        let &Case { ty, rows, cols, .. } = self.case;
        let weights = Weights { ty, rows, cols, at: self.weights.ptr() };
        Operands { weights, x: self.x.ptr(), quantized: self.quantized.addresses() }
    }

    /// Checks what `launch` makes of the first rows of x, as many as `wanted` is of: with the bias and the epilogue
    /// that
    /// `wanted` was made with.
    #[track_caller]
    pub(crate) fn check(
        &self,
        wanted: &[f32],
        bias: bool,
        epilogue: Epilogue,
        what: &str,
        launch: impl FnOnce(Operands, Output),
    ) {
        let &Case { ty, rows, cols, ref out, .. } = self.case;
        let memory = upload(self.device, out);
        launch(self.operands(), Output::new(bias.then(|| self.bias.ptr()), epilogue, memory.ptr()));
        let found: Vec<f32> = download(self.device, &memory, out.len());
        let (found, behind) = found.split_at(wanted.len());
        let what = format!("{ty} {rows}x{cols}, {} of x, {epilogue:?}, {what}", wanted.len() / rows);
        assert_same_bits(&what, found, wanted);
        assert_eq!(behind, &out[wanted.len()..], "{what}: what comes behind the output");
    }
}
