//! Matrix products `y = W x`: one answer, whatever the ISA, the threads and the number of rows of `x`.
//!
//! Every element of `y` has one f32 accumulator. For quantized weights it takes the groups of 32 (or 16) elements
//! that share a scale in ascending order, by fused multiply-add of the exact integer dot product of the group
//! (`integer`). For float weights sixteen partial sums run along the row and are added by a fixed tree (`float`).
//! The kernels for one row of `x`, for few and for many keep that order, so they agree bit for bit.

mod float;
mod integer;
mod predict;
#[cfg(test)]
pub(crate) mod tests;

use crate::dot::Format;
use crate::interleave::{Interleaving, Layout};
use crate::isa::{Isa, Kernel, Supported, TileSize};
use crate::math;
use crate::quantize::QuantizedRows;
use crate::shared::SharedMut;
use crate::team::Team;
use pythia_tensor::{TensorType, blocks, for_each_tensor_type};
use std::ops::Range;

pub use predict::Predict;

/// Rows of `W` (elements of `y`) that a kernel works on at once.
pub(crate) const LANES: usize = 16;

/// What a prefetch asks for.
pub(crate) const CACHE_LINE_BYTES: usize = 64;

/// 16 floats as the kernels load them: never across two cache lines.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Lanes(pub(crate) [f32; LANES]);

impl Lanes {
    /// A vector.
    #[inline(always)]
    fn of<I: Isa>(isa: I, v: I::F) -> Self {
        let mut lanes = Self::default();
        // SAFETY: 16 floats.
        unsafe { isa.store(lanes.0.as_mut_ptr(), v) };
        lanes
    }

    /// All floats of a slice.
    pub(crate) fn flat(lanes: &[Self]) -> &[f32] {
        // SAFETY: an array of 16 floats and nothing else (its alignment is its size), so they follow each other.
        unsafe { std::slice::from_raw_parts(lanes.as_ptr().cast(), LANES * lanes.len()) }
    }
}

/// A weight matrix: `[rows, cols]`.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// Its type.
    pub ty: TensorType,
    /// Outputs.
    pub rows: usize,
    /// Inputs: a multiple of the type's block, and of 32.
    pub cols: usize,
    /// `rows` times the bytes of a row.
    pub data: &'a [u8],
    /// How the rows lie.
    pub layout: Layout,
}

/// How rows lie after [`arrange`], if not as before.
pub(crate) fn arranged(ty: TensorType, rows: usize, activations: Activations) -> Option<Interleaving> {
    let is_whole = rows > 0 && rows.is_multiple_of(LANES);
    interleaving(ty).filter(|_| is_whole && activations == Activations::Int8)
}

/// Puts the rows of a matrix where products with such activations read them fastest, within `data`, and says how they lie
/// now.
pub(crate) fn arrange(team: &Team, ty: TensorType, rows: usize, activations: Activations, data: &mut [u8]) -> Layout {
    let Some(interleaving) = arranged(ty, rows, activations) else { return Layout::Rows };
    assert!(data.len().is_multiple_of(rows * ty.block_bytes()), "rows of whole blocks");
    let group_bytes = data.len() / rows * LANES;
    let groups = SharedMut::new(data);
    team.run_ranges(rows / LANES, 1, &|range| {
        let mut buffer = Vec::new();
        for group in range {
            // SAFETY: no other task has this group.
            interleaving.interleave(unsafe { groups.slice(group * group_bytes, group_bytes) }, &mut buffer);
        }
    });
    Layout::Interleaved
}

/// How activations enter a product with quantized weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// As int8 blocks of 32; float weights always see f32.
    #[default]
    Int8,
    /// As f32, against weights decoded to f32: the error of the weights alone.
    F32,
}

/// Which GELU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gelu {
    /// The exact form, by erf: what Pythia's configuration names.
    #[default]
    Erf,
    /// The tanh approximation: what llama.cpp computes.
    Tanh,
}

/// What becomes of a product once its bias is added.
#[derive(Clone, Copy, Debug)]
pub enum Epilogue {
    /// It is stored.
    Store,
    /// It is added to what is there: a residual connection.
    Add,
    /// It goes through GELU and is stored.
    Gelu(Gelu),
}

/// Everything a product needs.
#[derive(Debug)]
pub struct Matmul<'a> {
    /// Weights.
    pub weights: Weights<'a>,
    /// Input: `[n, cols]`.
    pub x: &'a [f32],
    /// Added to every row of the product: `[rows]`.
    pub bias: Option<&'a [f32]>,
    /// What becomes of the result.
    pub epilogue: Epilogue,
    /// How activations enter.
    pub activations: Activations,
    /// Output: `[n, rows]`.
    pub out: &'a mut [f32],
}

/// Buffers that products reuse.
#[derive(Debug, Default)]
pub struct Workspace {
    rows: QuantizedRows,
    corrections: integer::Corrections,
    tiles: float::Tiles,
}

impl<'a> Weights<'a> {
    /// The bytes of a row as a file has them: where they lie, or put together in `buffer`.
    ///
    /// # Panics
    /// If there is no such row, `data` does not fit the shape, or such rows cannot be interleaved.
    pub fn row<'b>(&self, row: usize, buffer: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        let (interleaving, row_bytes) = self.check_shape();
        let Some(interleaving) = interleaving else { return &self.data[row * row_bytes..][..row_bytes] };
        buffer.resize(row_bytes, 0);
        let group = &self.data[row / LANES * LANES * row_bytes..][..LANES * row_bytes];
        interleaving.row(group, row % LANES, buffer);
        buffer
    }

    /// Checks the bytes and the layout, and returns how rows are interleaved, if they are, and the bytes of a row.
    fn check_shape(&self) -> (Option<Interleaving>, usize) {
        let row_bytes = self.ty.row_bytes(self.cols).expect("whole blocks in a row");
        assert!(self.data.len() == self.rows * row_bytes, "weights match their shape");
        let Layout::Interleaved = self.layout else { return (None, row_bytes) };
        assert!(self.rows.is_multiple_of(LANES), "whole groups of interleaved rows");
        (Some(interleaving(self.ty).expect("a type whose rows can be interleaved")), row_bytes)
    }

    /// Checks the shape and that of `x`, and returns the rows of `x`.
    fn check(&self, x: &[f32]) -> usize {
        self.check_shape();
        assert!(self.cols.is_multiple_of(32) && x.len().is_multiple_of(self.cols), "whole rows of x");
        x.len() / self.cols
    }

    /// The product of integers, if it is one: no other takes interleaved rows.
    fn integer_product(&self, activations: Activations) -> Option<integer::Product> {
        let product = integer_product(self.ty).filter(|_| activations == Activations::Int8);
        assert!(product.is_some() || self.layout == Layout::Rows, "only products of integers take interleaved rows");
        product
    }

    /// Some of the rows.
    fn slice(&self, rows: Range<usize>) -> Weights<'a> {
        let row_bytes = self.data.len() / self.rows;
        let data = &self.data[rows.start * row_bytes..rows.end * row_bytes];
        Self { rows: rows.len(), data, ..*self }
    }
}

impl Matmul<'_> {
    pub(crate) fn run(self, team: &Team, isa: Supported, workspace: &mut Workspace) {
        let w = &self.weights;
        let n = w.check(self.x);
        assert_eq!(self.out.len(), n * w.rows, "output matches x and weights");
        assert!(self.bias.is_none_or(|b| b.len() == w.rows), "bias matches weights");
        if n == 0 || w.rows == 0 {
            return;
        }
        let out = Output { out: SharedMut::new(self.out), rows: w.rows, bias: self.bias, epilogue: self.epilogue };
        if let Some(product) = w.integer_product(self.activations) {
            let Workspace { rows, corrections, .. } = workspace;
            product.prepare(corrections, team, isa, rows, self.x, w.cols);
            integer::Job { weights: *w, x: rows, out }.run(&product, team, isa, corrections);
        } else {
            float::Job { weights: *w, x: self.x, out }.run(team, isa, &mut workspace.tiles);
        }
    }
}

/// Runs `$body` with the rows of a tile as the constant `$rows`. Larger sizes than `$largest` are not compiled: no tile
/// is cut so.
macro_rules! for_size {
    ($size:expr, $largest:expr, $rows:ident => $body:expr) => {
        for_size! { @ [One Two Three Four Six] $size, $largest, $rows => $body }
    };
    (@ [$($name:ident)*] $size:expr, $largest:expr, $rows:ident => $body:expr) => {
        match $size {
            $($crate::isa::TileSize::$name => {
                const $rows: usize = $crate::isa::TileSize::$name as usize;
                if $rows <= $largest as usize {
                    $body;
                }
            })*
        }
    };
}
pub(crate) use for_size;

/// Cuts `n` rows into tiles of at most `largest`: the first row and the size of each. A small tile has too few sums to
/// hide the latency of adding to them, so if one is left over, it shares its rows with the one before.
fn cut_into_tiles(n: usize, largest: TileSize, tiles: &mut Vec<(usize, TileSize)>) {
    let fitting = |n: usize| {
        let fits = |&&size: &&TileSize| size <= largest && size as usize <= n;
        *TileSize::DESCENDING.iter().find(fits).unwrap_or(&TileSize::One)
    };
    tiles.clear();
    let mut first = 0;
    while first < n {
        let size = fitting(n - first);
        tiles.push((first, size));
        first += size as usize;
    }
    if let [.., (before, large), (_, small)] = &mut tiles[..]
        && 2 * (*small as usize) < *large as usize
    {
        let rows = n - *before;
        (*large, *small) = (fitting(rows.div_ceil(2)), fitting(rows / 2));
        assert_eq!(*large as usize + *small as usize, rows, "sizes for every half");
        let after = *before + *large as usize;
        tiles.last_mut().expect("two tiles").0 = after;
    }
    if let [.., (first, a @ TileSize::Six), (second, b @ TileSize::Three), (third, c @ TileSize::Two)] = &mut tiles[..]
    {
        // 11 rows: three tiles either way, and a tile of 2 takes as long as one of 4.
        (*a, *b, *c) = (TileSize::Four, TileSize::Four, TileSize::Three);
        (*second, *third) = (*first + 4, *first + 8);
    }
}

macro_rules! define_products {
    ($(($variant:ident, $block:ident, $id:literal, $name:literal, $note:literal),)*) => {
        fn integer_product(ty: TensorType) -> Option<integer::Product> {
            match ty {
                $(TensorType::$variant => <blocks::$block as Operand>::integer_product(),)*
            }
        }

        fn interleaving(ty: TensorType) -> Option<Interleaving> {
            match ty {
                $(TensorType::$variant => <blocks::$block as Operand>::INTERLEAVING,)*
            }
        }

        fn storage(ty: TensorType) -> float::Storage {
            match ty {
                $(TensorType::$variant => <blocks::$block as Operand>::storage(),)*
            }
        }
    };
}
for_each_tensor_type!(define_products);

/// Takes a block type to its products.
trait Operand {
    /// `None` where rows cannot be interleaved.
    const INTERLEAVING: Option<Interleaving>;

    /// `None` for floats, which take float activations.
    fn integer_product() -> Option<integer::Product>;

    fn storage() -> float::Storage;
}

impl<T: Format> Operand for T {
    const INTERLEAVING: Option<Interleaving> = Interleaving::of::<T>();

    fn integer_product() -> Option<integer::Product> {
        Some(integer::Product::of::<T>())
    }

    fn storage() -> float::Storage {
        float::Storage::Blocks(float::Decoder::of::<T>())
    }
}

macro_rules! float_operand {
    ($($block:ident)*) => { $(
        impl Operand for blocks::$block {
            const INTERLEAVING: Option<Interleaving> = None;

            fn integer_product() -> Option<integer::Product> {
                None
            }

            fn storage() -> float::Storage {
                float::Storage::$block
            }
        }
    )* };
}
float_operand!(F32 F16 BF16);

/// Where results go: bias, then what the epilogue says.
#[derive(Clone, Copy)]
struct Output<'a> {
    out: SharedMut<'a, f32>,
    rows: usize,
    bias: Option<&'a [f32]>,
    epilogue: Epilogue,
}

impl Output<'_> {
    /// Finishes 16 elements, from `column` on, of each of `N` rows from row `first` on. Elements past the last column are
    /// dropped.
    ///
    /// # Safety
    /// No other task may work on the same elements.
    #[inline(always)]
    unsafe fn finish<I: Isa, const N: usize>(&self, isa: I, first: usize, column: usize, sums: [I::F; N]) {
        let is_short = matches!(self.epilogue, Epilogue::Store | Epilogue::Add);
        if !is_short || self.rows - column < LANES {
            let mut lanes = [Lanes::default(); N];
            for n in 0..N {
                lanes[n] = Lanes::of(isa, sums[n]);
            }
            // Shared by all products: there are many of them, and this is long.
            return isa.call(Finish { output: self, first, column, sums: &lanes });
        }
        let bias = self.bias.map(|bias| bias[column..][..LANES].as_ptr());
        for n in 0..N {
            // SAFETY: the caller's promise; 16 floats each.
            unsafe {
                let out = self.out.slice((first + n) * self.rows + column, LANES).as_mut_ptr();
                let y = if let Some(bias) = bias { isa.add(sums[n], isa.load(bias)) } else { sums[n] };
                let is_added = matches!(self.epilogue, Epilogue::Add);
                isa.store(out, if is_added { isa.add(isa.load(out), y) } else { y });
            }
        }
    }
}

/// The arguments of [`Output::finish`], and its caller's promise.
struct Finish<'a> {
    output: &'a Output<'a>,
    first: usize,
    column: usize,
    sums: &'a [Lanes],
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Output { out, rows, bias, epilogue } = *self.output;
        let len = LANES.min(rows - self.column);
        let mut padded_bias = Lanes::default();
        if let Some(bias) = bias {
            padded_bias.0[..len].copy_from_slice(&bias[self.column..][..len]);
        }
        for (row, sums) in (self.first..).zip(self.sums) {
            // SAFETY: the promise of who made this; arrays of 16 floats.
            unsafe {
                let out = out.slice(row * rows + self.column, len);
                let y = isa.load(sums.0.as_ptr());
                let y = if bias.is_some() { isa.add(y, isa.load(padded_bias.0.as_ptr())) } else { y };
                let y = match epilogue {
                    Epilogue::Store => y,
                    Epilogue::Add => {
                        let mut padded = Lanes::default();
                        padded.0[..len].copy_from_slice(out);
                        isa.add(isa.load(padded.0.as_ptr()), y)
                    }
                    Epilogue::Gelu(Gelu::Erf) => math::gelu_erf(isa, y),
                    Epilogue::Gelu(Gelu::Tanh) => math::gelu_tanh(isa, y),
                };
                // Not read where nothing is added: a load would wait for it to come from memory.
                if len == LANES {
                    isa.store(out.as_mut_ptr(), y);
                } else {
                    out.copy_from_slice(&Lanes::of(isa, y).0[..len]);
                }
            }
        }
    }
}
