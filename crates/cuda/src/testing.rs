//! Test helpers: the device, copies of slices, random numbers and weights.

pub(crate) mod product;

use crate::compile::Compiler;
use crate::device::{Device, Memory};
use crate::error::Error;
use crate::ops::quantize::Quantized;
use pythia_tensor::TensorType;
use std::io::Write as _;
use std::sync::OnceLock;

/// The device of all tests of this process, if there is one. `PYTHIA_REQUIRE=cuda` makes it an error that there is
/// none.
pub(crate) fn device() -> Option<&'static Device> {
    static DEVICE: OnceLock<Result<Device, Error>> = OnceLock::new();
    found("CUDA device", &["cuda"], DEVICE.get_or_init(|| Device::open(0)).as_ref())
}

/// The compiler, if there is one: it needs no device. `PYTHIA_REQUIRE=nvrtc` (or `cuda`) makes it an error that there
/// is none.
pub(crate) fn nvrtc() -> Option<&'static Compiler> {
    found("NVRTC", &["cuda", "nvrtc"], Compiler::get().as_ref().copied())
}

fn found<T>(what: &str, required_by: &[&str], result: Result<&'static T, &Error>) -> Option<&'static T> {
    let required = std::env::var("PYTHIA_REQUIRE").unwrap_or_default();
    match result {
        Ok(found) => Some(found),
        Err(error) if required_by.contains(&required.as_str()) => panic!("PYTHIA_REQUIRE={required}: {error}"),
        Err(error) => {
            // Not by `eprintln`, which the test runner keeps to itself where a test passes.
            let test = std::thread::current();
            let _ = writeln!(std::io::stderr(), "SKIPPED {}: no {what} ({error})", test.name().unwrap_or("?"));
            None
        }
    }
}

/// Plain numbers.
pub(crate) trait Plain: Copy + Default {
    fn bytes(slice: &[Self]) -> &[u8] {
        // SAFETY: implemented for numbers only: every byte is initialised.
        unsafe { std::slice::from_raw_parts(slice.as_ptr().cast(), size_of_val(slice)) }
    }

    fn bytes_mut(slice: &mut [Self]) -> &mut [u8] {
        // SAFETY: implemented for numbers only: any bytes are good.
        unsafe { std::slice::from_raw_parts_mut(slice.as_mut_ptr().cast(), size_of_val(slice)) }
    }
}

impl Plain for u8 {}
impl Plain for i8 {}
impl Plain for u16 {}
impl Plain for i32 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for f32 {}

/// Memory on the device that holds a copy of a slice.
pub(crate) fn upload<T: Plain>(device: &Device, values: &[T]) -> Memory {
    let memory = device.alloc(size_of_val(values)).unwrap();
    device.upload(memory.ptr(), T::bytes(values));
    memory
}

/// The first `n` values of memory on the device, after a check that nothing has failed.
pub(crate) fn download<T: Plain>(device: &Device, memory: &Memory, n: usize) -> Vec<T> {
    let mut values = vec![T::default(); n];
    device.download(memory.ptr(), T::bytes_mut(&mut values));
    device.check().unwrap();
    values
}

/// Checks that floats have the same bits; which NaN it is is free.
#[track_caller]
pub(crate) fn assert_same_bits(what: &str, found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len(), "{what}: lengths");
    let same = |&(a, b): &(&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    let different = found.iter().zip(wanted).filter(|pair| !same(pair)).count();
    if let Some(at) = found.iter().zip(wanted).position(|pair| !same(&pair)) {
        let (a, b) = (found[at], wanted[at]);
        let (of, bits) = (found.len(), (a.to_bits(), b.to_bits()));
        panic!("{what}: {different} of {of} differ, first [{at}]: {a:e} and not {b:e} (bits {bits:08x?})");
    }
}

/// Memory for quantized rows.
pub(crate) struct QuantizedMemory {
    codes: Memory,
    scales: Memory,
    sums: Memory,
}

impl QuantizedMemory {
    pub(crate) fn new(device: &Device, elements: usize) -> Self {
        let alloc = |bytes| device.alloc(bytes).unwrap();
        Self { codes: alloc(elements), scales: alloc(elements / 8), sums: alloc(elements / 4) }
    }

    pub(crate) fn addresses(&self) -> Quantized {
        Quantized { codes: self.codes.ptr(), scales: self.scales.ptr(), sums: self.sums.ptr() }
    }

    /// Codes, the bits of scales (one for all that are not numbers), sums.
    pub(crate) fn contents(&self, device: &Device, elements: usize) -> (Vec<i8>, Vec<u32>, Vec<i32>) {
        let scales: Vec<f32> = download(device, &self.scales, elements / 32);
        let bits = scales.iter().map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() }).collect();
        (download(device, &self.codes, elements), bits, download(device, &self.sums, elements / 16))
    }
}

/// A small generator of pseudo-random numbers: splitmix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// In -1..1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// `n` of them.
    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    /// Random weights, `[rows, cols]`, as a type's bytes: encoded by its own encoder.
    pub(crate) fn weights(&mut self, ty: TensorType, rows: usize, cols: usize) -> Vec<u8> {
        let mut bytes = vec![0; rows * ty.row_bytes(cols).unwrap()];
        ty.encode(&self.floats(rows * cols), &mut bytes);
        bytes
    }
}
