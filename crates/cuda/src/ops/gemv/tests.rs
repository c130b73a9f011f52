//! Every format, against the CPU: the same bits.

use super::*;
use crate::testing::device;
use crate::testing::product::{Case, EPILOGUES, quantized_types};
use pythia_kernels::{Activations, Epilogue};
use pythia_tensor::TensorType;

/// For each `n`, with one of the epilogues in turn (and a bias or not), both ways of sharing rows between warps.
fn check(device: &Device, case: &Case, ns: &[usize]) {
    let on_device = case.on_device(device);
    for (i, &n) in ns.iter().enumerate() {
        let (epilogue, bias) = (EPILOGUES[i % 4], i % 3 != 1);
        let wanted = case.on_cpu(Activations::Int8, n, bias, epilogue);
        for single in [true, false] {
            on_device.check(&wanted, bias, epilogue, &format!("single {single}"), |at, output| {
                // SAFETY: memory of these shapes.
                unsafe { launch(device, at.weights, at.quantized, n, output, single) };
            });
        }
    }
}

/// Short rows, rows of several chunks, and ends of rows and matrices at every place.
#[test]
fn bits_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    for ty in quantized_types() {
        let block = ty.block_elems();
        // Of 32 elements: 33 units are a chunk and a piece; 1056 is no multiple of 256, so larger blocks have 1280.
        let long = 1056usize.next_multiple_of(block);
        for (rows, cols, ns) in [
            (1, block, &[1, 2, 8][..]),
            (5, 3 * block, &[1, 2, 3, 4, 5, 6, 7, 8]),
            (33, long, &[1, 4]),
            (130, 2 * block, &[8, 1]),
        ] {
            check(device, &Case::new(ty, rows, cols, MOST_ROWS), ns);
        }
    }
}

/// The stages of the copy are used over and over, and the last chunk is whole.
#[test]
fn long_rows_have_the_bits_of_the_cpu() {
    let Some(device) = device() else { return };
    for ty in [TensorType::Q8_0, TensorType::Q4_K, TensorType::Q6_K, TensorType::Q2_K] {
        check(device, &Case::new(ty, 6, 20480, MOST_ROWS), &[1, 2, 4, 8]);
    }
}

#[test]
fn any_bytes_are_a_matrix() {
    let Some(device) = device() else { return };
    for ty in quantized_types() {
        check(device, &Case::of_any_bytes(ty, 9, 1280, 3), &[1, 3]);
    }
}

/// What is not a number must reach its rows of the result, and no others.
#[test]
fn a_broken_activation_breaks_its_row() {
    let Some(device) = device() else { return };
    for ty in [TensorType::Q4_0, TensorType::Q4_K, TensorType::Q6_K] {
        for broken in [f32::NAN, f32::NEG_INFINITY] {
            let mut case = Case::new(ty, 5, 512, 4);
            case.x[512 + 300] = broken;
            let wanted = case.on_cpu(Activations::Int8, 2, false, Epilogue::Store);
            assert!(wanted[5..].iter().all(|y| y.is_nan()) && wanted[..5].iter().all(|y| y.is_finite()));
            check(device, &case, &[2, 4]);
        }
    }
}
