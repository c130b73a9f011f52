//! The operations of a forward pass. Each has a file with the arguments and grids of its kernels.

pub(crate) mod append;
pub(crate) mod attend;
pub(crate) mod embed;
pub(crate) mod float;
pub(crate) mod gemm;
pub(crate) mod gemv;
pub(crate) mod head;
pub(crate) mod limits;
pub(crate) mod norm;
pub(crate) mod product;
pub(crate) mod quantize;

use crate::device::{Args, Ptr};
use crate::layout::{Shared, shared_structs};
use pythia_kernels::{Epilogue, Gelu};

/// What becomes of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Added to every row of the product, f32 `[rows]`; 0 for none.
    pub(crate) bias: Ptr,
    /// Where it goes, f32 `[n, rows]`.
    pub(crate) out: Ptr,
    /// 0: it is stored; 1: it is added to what is there; 2 and 3: it goes through GELU by erf or by tanh and is stored.
    pub(crate) epilogue: u32,
}

impl Output {
    /// With no bias where that is `None`.
    pub(crate) fn new(bias: Option<Ptr>, epilogue: Epilogue, out: Ptr) -> Self {
        let epilogue = match epilogue {
            Epilogue::Store => 0,
            Epilogue::Add => 1,
            Epilogue::Gelu(Gelu::Erf) => 2,
            Epilogue::Gelu(Gelu::Tanh) => 3,
        };
        Self { bias: bias.unwrap_or(Ptr(0)), out, epilogue }
    }

    /// As the kernels take it, in a product of `rows` outputs.
    ///
    /// # Panics
    /// If they are more than 32 bits count: no such matrix fits a device.
    pub(crate) fn of_rows(self, rows: usize) -> OutputArgs {
        let Self { bias, out, epilogue } = self;
        OutputArgs { bias, out, rows: u32::try_from(rows).expect("rows of a matrix"), epilogue }
    }
}

shared_structs! {
    /// A part of the arguments of every product.
    pub(crate) struct OutputArgs {
        bias: Ptr,
        out: Ptr,
        rows: u32,
        epilogue: u32,
    }
}

const SHARED: Shared = Shared { file: "epilogue.cuh", structs: &[OutputArgs::LAYOUT], constants: &[] };

/// What the files of `kernels/` and Rust both declare.
pub(crate) fn shared() -> impl Iterator<Item = Shared> {
    let one = [
        SHARED,
        attend::SHARED,
        embed::SHARED,
        float::SHARED,
        head::SHARED,
        limits::SHARED,
        norm::SHARED,
        product::SHARED,
    ];
    one.into_iter().chain(append::SHARED).chain(quantize::SHARED)
}
