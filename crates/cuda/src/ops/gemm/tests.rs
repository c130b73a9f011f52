//! Every format in blocks of every shape, against the CPU: the same bits.

use super::*;
use crate::testing::device;
use crate::testing::product::{Case, EPILOGUES, quantized_types};
use pythia_kernels::{Activations, Epilogue};
use pythia_tensor::TensorType;

/// All rows of x, in blocks of every shape, with these epilogues.
fn check(device: &Device, case: &Case, epilogues: &[Epilogue]) {
    let on_device = case.on_device(device);
    let n = case.x.len() / case.cols;
    for (i, &epilogue) in epilogues.iter().enumerate() {
        let bias = i % 3 != 1;
        let wanted = case.on_cpu(Activations::Int8, n, bias, epilogue);
        for shape in &SHAPES {
            on_device.check(&wanted, bias, epilogue, shape.name, |at, output| {
                // SAFETY: memory of these shapes.
                unsafe { launch(device, at.weights, at.quantized, n, output, shape) };
            });
        }
    }
}

/// One element to several blocks of outputs; part of a step, of a window, and several windows of columns.
#[test]
fn bits_are_those_of_the_cpu() {
    let Some(device) = device().filter(|device| device.has_tensor_cores()) else { return };
    for (i, ty) in quantized_types().enumerate() {
        let block = ty.block_elems();
        // Of 32 elements: five windows and 3 units. Larger blocks have six windows.
        let long = 1376usize.next_multiple_of(block);
        let then = |at: usize| &EPILOGUES[(i + at) % 4..][..1];
        check(device, &Case::new(ty, 1, block, 1), then(0));
        check(device, &Case::new(ty, 65, long, 9), then(1));
        check(device, &Case::new(ty, 30, 3 * block, 129), then(2));
        check(device, &Case::new(ty, 130, 2 * block, 33), then(3));
    }
}

/// Whole blocks of the largest shape, and every epilogue.
#[test]
fn large_products_have_the_bits_of_the_cpu() {
    let Some(device) = device().filter(|device| device.has_tensor_cores()) else { return };
    for ty in [TensorType::Q4_0, TensorType::Q4_K, TensorType::Q6_K, TensorType::Q2_K] {
        check(device, &Case::new(ty, 200, 256, 300), &EPILOGUES);
        check(device, &Case::new(ty, 64, 4096, 31), &EPILOGUES[..1]);
        check(device, &Case::new(ty, 128, 512, 128), &EPILOGUES[1..2]);
    }
}

#[test]
fn any_bytes_are_a_matrix() {
    let Some(device) = device().filter(|device| device.has_tensor_cores()) else { return };
    for ty in quantized_types() {
        check(device, &Case::of_any_bytes(ty, 37, 1280, 11), &EPILOGUES[..1]);
    }
}

/// Sums as large as they get: all codes of both matrices at their ends, which the drained integers must hold.
#[test]
fn the_largest_sums_are_exact() {
    let Some(device) = device().filter(|device| device.has_tensor_cores()) else { return };
    for ty in [TensorType::Q8_0, TensorType::Q5_1, TensorType::Q6_K, TensorType::IQ4_NL] {
        for (byte, sign) in [(0x80, 1.0), (0x80, -1.0), (0x7F, 1.0), (0xFF, 1.0), (0, -1.0)] {
            let mut case = Case::new(ty, 16, 256, 8);
            let size = ty.block_bytes();
            for block in case.data.chunks_exact_mut(size) {
                // The scales stay: of Q6_K at the end, of the others in front.
                let codes = if ty == TensorType::Q6_K { 0..size - 18 } else { size - 16..size };
                let codes = if ty == TensorType::Q8_0 { 2..size } else { codes };
                block[codes].fill(byte);
            }
            case.x.fill(sign);
            check(device, &case, &EPILOGUES[..1]);
        }
    }
}

/// What is not a number must reach its rows of the result, and no others.
#[test]
fn a_broken_activation_breaks_its_row() {
    let Some(device) = device().filter(|device| device.has_tensor_cores()) else { return };
    for ty in [TensorType::Q4_0, TensorType::Q4_K, TensorType::Q6_K] {
        for broken in [f32::NAN, f32::NEG_INFINITY] {
            let mut case = Case::new(ty, 5, 512, 20);
            case.x[512 + 300] = broken;
            let wanted = case.on_cpu(Activations::Int8, 20, false, Epilogue::Store);
            assert!(wanted[5..10].iter().all(|y| y.is_nan()) && wanted[..5].iter().all(|y| y.is_finite()));
            check(device, &case, &EPILOGUES[..1]);
        }
    }
}

/// Every row of a matrix is in one block, however many there are, and no grid is larger than the driver takes.
#[test]
fn grids_cover_their_matrices() {
    for shape in &SHAPES {
        for rows in [1, 31, 32, 33, 50304, 65535 * 32, 65535 * 32 + 1, 65535 * 64 + 1, 10_000_019] {
            for n in [1, 32, 33, 512, 1_000_000] {
                let [across, down, deep] = shape.grid(n, rows);
                assert!(down <= 65535 && deep <= 65535 && across < 1 << 31);
                assert!(across * shape.tokens >= n && (across - 1) * shape.tokens < n);
                assert!(down * deep * shape.rows >= rows && down * (deep - 1) * shape.rows < rows);
            }
        }
    }
}

/// The choices on a device of 132 multiprocessors that the counts were made for.
#[test]
fn shapes_fill_the_device() {
    let chosen = |n, rows| shape(n, rows, 132).name;
    assert_eq!(chosen(512, 16384), "gemm_64x128");
    assert_eq!(chosen(512, 4096), "gemm_64x128");
    assert_eq!(chosen(512, 2048), "gemm_64x64");
    assert_eq!(chosen(64, 50304), "gemm_64x64");
    assert_eq!(chosen(512, 512), "gemm_32x32");
    assert_eq!(chosen(16, 4096), "gemm_32x32");
}

#[test]
fn prompts_take_tiles_and_a_few_rows_do_not() {
    let preferred = |n, rows, cols| prefers_gemm(n, rows, cols, 132);
    for (rows, cols) in [(512, 512), (2048, 512), (512, 2048), (4096, 4096), (16384, 4096), (4096, 16384), (50304, 512)]
    {
        assert!(preferred(512, rows, cols), "{rows}x{cols}");
        assert!(preferred(128, rows, cols), "{rows}x{cols}");
        assert!(!preferred(8, rows, cols), "{rows}x{cols}");
        assert!(!preferred(1, rows, cols), "{rows}x{cols}");
    }
}
