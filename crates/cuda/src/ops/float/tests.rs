//! Every type, against the CPU's products in f32: the same bits.

use super::*;
use crate::testing::device;
use crate::testing::product::{Case, EPILOGUES};
use pythia_kernels::{Activations, Epilogue};
use pythia_tensor::TensorType;

/// For each `n`, with one of the epilogues in turn, and a bias or not.
fn check(device: &Device, case: &Case, ns: &[usize]) {
    let on_device = case.on_device(device);
    for (i, &n) in ns.iter().enumerate() {
        let (epilogue, bias) = (EPILOGUES[i % 4], i % 3 != 1);
        let wanted = case.on_cpu(Activations::F32, n, bias, epilogue);
        on_device.check(&wanted, bias, epilogue, "", |at, output| {
            // SAFETY: memory of these shapes.
            unsafe { product(device, at.weights, at.x, n, output) };
        });
    }
}

/// Every kernel for few rows, and tiles for many; steps of every length, and ends of rows and matrices.
#[test]
fn bits_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    for &ty in TensorType::ALL {
        let block = ty.block_elems().max(32);
        // Of 32 elements: 23 units are steps of each length.
        let long = 736usize.next_multiple_of(block);
        check(device, &Case::new(ty, 1, block, 8), &[1, 2, 4, 8]);
        check(device, &Case::new(ty, 37, long, 16), &[1, 3, 5, 13, 16]);
        check(device, &Case::new(ty, 33, long, 41), &[17, 41]);
    }
}

#[test]
fn long_rows_have_the_bits_of_the_cpu() {
    let Some(device) = device() else { return };
    for ty in [TensorType::F32, TensorType::BF16, TensorType::Q4_0, TensorType::Q6_K] {
        check(device, &Case::new(ty, 18, 5120, 20), &[1, 2, 7, 20]);
    }
}

#[test]
fn any_bytes_are_a_matrix() {
    let Some(device) = device() else { return };
    for &ty in TensorType::ALL {
        check(device, &Case::of_any_bytes(ty, 9, 512, 18), &[1, 2, 18]);
    }
}

/// What is not a number must reach its rows of the result, and no others.
#[test]
fn a_broken_activation_breaks_its_row() {
    let Some(device) = device() else { return };
    for n in [2, 20] {
        let mut case = Case::new(TensorType::F16, 5, 512, 20);
        case.x[512 + 300] = f32::NAN;
        let wanted = case.on_cpu(Activations::F32, n, false, Epilogue::Store);
        assert!(wanted[5..10].iter().all(|y| y.is_nan()) && wanted[..5].iter().all(|y| y.is_finite()));
        check(device, &case, &[n]);
    }
}
