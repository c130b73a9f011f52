use super::*;
use crate::ops::quantize::quantize;
use crate::testing::{QuantizedMemory, Random, assert_same_bits, download, upload};
use pythia_kernels::{Cpu, LayerNorm};

const EPS: f32 = 1e-5;

/// Rows and parameters, here and on the device.
struct Case {
    x: Vec<f32>,
    /// Gamma and beta of two norms.
    parameters: [[Vec<f32>; 2]; 2],
}

impl Case {
    fn new(n: usize, cols: usize) -> Self {
        let mut random = Random::new((n * cols) as u64);
        let x = random.floats(n * cols).iter().map(|x| 3.0 * x + 0.5).collect();
        let parameters = std::array::from_fn(|_| std::array::from_fn(|_| random.floats(cols)));
        Self { x, parameters }
    }

    fn on_cpu(&self, norm: usize) -> Vec<f32> {
        let [gamma, beta] = &self.parameters[norm];
        let mut out = vec![0.0; self.x.len()];
        Cpu::new(1, None).unwrap().layer_norm(LayerNorm { x: &self.x, gamma, beta, eps: EPS, out: &mut out });
        out
    }
}

#[test]
fn rows_have_the_cpus_bits() {
    let Some(device) = crate::testing::device() else { return };
    // Shared memory holds 5120: longer rows pass through it in pieces.
    for (n, cols) in [(1, 16), (3, 144), (5, 512), (2, 2560), (1, 5120), (2, 5136), (2, 10_272)] {
        let case = Case::new(n, cols);
        let [gamma, beta] = case.parameters[0].each_ref().map(|p| upload(device, p));
        let (x, out) = (upload(device, &case.x), upload(device, &vec![f32::NAN; n * cols]));
        let target = NormTarget::new(gamma.ptr(), beta.ptr(), out.ptr(), None);
        // SAFETY: memory of these sizes.
        unsafe { layer_norm(device, x.ptr(), target, EPS, n, cols) };
        assert_same_bits(&format!("{n} x {cols}"), &download(device, &out, n * cols), &case.on_cpu(0));
    }
}

#[test]
fn a_pair_of_norms_is_both_of_them_and_quantizes_in_passing() {
    let Some(device) = crate::testing::device() else { return };
    for (n, cols) in [(1, 32), (3, 160), (2, 5152)] {
        let mut case = Case::new(n, cols);
        if n == 3 {
            // A row that is no number, and one of equal elements: variance 0.
            case.x[cols / 2] = f32::INFINITY;
            case.x[cols..2 * cols].fill(0.25);
        }
        let len = n * cols;
        let x = upload(device, &case.x);
        let parameters = case.parameters.each_ref().map(|p| p.each_ref().map(|p| upload(device, p)));
        let outs = [0; 2].map(|_| upload(device, &vec![f32::NAN; len]));
        let (fused, apart) = (QuantizedMemory::new(device, len), QuantizedMemory::new(device, len));
        let target = |i: usize, quantized| {
            NormTarget::new(parameters[i][0].ptr(), parameters[i][1].ptr(), outs[i].ptr(), quantized)
        };
        let targets = [target(0, None), target(1, Some(fused.addresses()))];
        // SAFETY: memory of these sizes.
        unsafe {
            layer_norm_pair(device, x.ptr(), targets, EPS, n, cols);
            quantize(device, outs[1].ptr(), n, cols, apart.addresses());
        }
        for (i, out) in outs.iter().enumerate() {
            assert_same_bits(&format!("{n} x {cols}, norm {i}"), &download(device, out, len), &case.on_cpu(i));
        }
        assert_eq!(fused.contents(device, len), apart.contents(device, len), "{n} x {cols}");
    }
}
