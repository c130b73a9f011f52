//! Block formats: one file each, with the layout, the values it stands for and the reference encoder.

mod float;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod six_bit;

pub use float::{BF16, F16, F32};
pub use iq2_s::IQ2_S;
pub use iq2_xs::IQ2_XS;
pub use iq2_xxs::IQ2_XXS;
pub use iq3_s::IQ3_S;
pub use iq3_xxs::IQ3_XXS;
pub use iq4_nl::{IQ4_NL, LEVELS};
pub use iq4_xs::IQ4_XS;
pub use q2_k::Q2_K;
pub use q3_k::Q3_K;
pub use q4_0::Q4_0;
pub use q4_1::Q4_1;
pub use q4_k::Q4_K;
pub use q5_0::Q5_0;
pub use q5_1::Q5_1;
pub use q5_k::Q5_K;
pub use q6_k::Q6_K;
pub use q8_0::Q8_0;

use crate::format::{BlockFormat, Codebook};
use crate::scales::{Group, Levels, Scales};
use crate::search::{self, Search};

/// A block, with the layout of a file.
///
/// # Safety
/// The type must be `repr(C)` and made of bytes and byte arrays only: alignment 1, no padding, every bit pattern valid.
pub unsafe trait Block: Copy + Send + Sync + 'static {
    /// Elements in a block.
    const ELEMS: usize;
}

/// How values become blocks and come back.
pub(crate) trait Codec: Block {
    /// The format of its scales and codes, if it has them.
    const FORMAT: Option<BlockFormat> = None;
    /// Quantizes whole blocks by the reference algorithm. `importance`, where it is known, holds the mean squared
    /// activation of every column of a row, and `src` whole rows; formats that have no use for it ignore it.
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [Self]);
    /// Restores `ELEMS` values.
    fn decode(&self, values: &mut [f32]);
}

/// A format of scales and codes.
pub(crate) trait Quantized: Block {
    /// Elements that share a step and a minimum.
    const GROUP_ELEMS: usize = Self::ELEMS;
    /// What codes stand for.
    const LEVELS: Levels;
    /// The smallest and the largest scale of a group, if groups have scales.
    const SCALES: Option<(i8, i8)> = None;
    /// The smallest and the largest minimum of a group, if groups have minima.
    const MINS: Option<(u8, u8)> = None;
    /// Whether a block has `dmin`.
    const HAS_DMIN: bool = Self::MINS.is_some();
    /// Which combinations of codes can be stored, if not all.
    const CODEBOOK: Option<Codebook> = None;

    /// Step and minimum of group `g`.
    fn group(scales: &Scales, g: usize) -> Group;
    /// Stores scales and the codes of `ELEMS` elements, in the bytes of the format.
    fn pack(scales: &Scales, codes: &[u8]) -> Self;
    /// The inverse of [`pack`](Self::pack).
    fn unpack(&self, codes: &mut [u8]) -> Scales;
}

impl<B: Search> Codec for B {
    const FORMAT: Option<BlockFormat> = Some(BlockFormat::of::<B>());

    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [Self]) {
        match (B::PLAIN, importance) {
            (Some(plain), None) => encode_each(src, dst, plain),
            _ => search::encode(src, importance, dst),
        }
    }

    fn decode(&self, values: &mut [f32]) {
        let mut codes = [0; MAX_ELEMS];
        let codes = &mut codes[..Self::ELEMS];
        let scales = self.unpack(codes);
        let groups = values.chunks_exact_mut(Self::GROUP_ELEMS).zip(codes.chunks_exact(Self::GROUP_ELEMS));
        for (g, (values, codes)) in groups.enumerate() {
            let Group { step, min } = Self::group(&scales, g);
            for (v, &code) in values.iter_mut().zip(codes) {
                *v = step * Self::LEVELS.level(code) - min;
            }
        }
    }
}

/// Elements of the largest block.
pub(crate) const MAX_ELEMS: usize = 256;

/// Encodes block by block, for formats that have nothing to search for.
fn encode_each<B: Block>(src: &[f32], dst: &mut [B], encode: impl Fn(&[f32]) -> B) {
    for (values, block) in src.chunks_exact(B::ELEMS).zip(dst) {
        *block = encode(values);
    }
}

/// The codes of a block, of which there are `N`.
fn whole<const N: usize>(codes: &[u8]) -> &[u8; N] {
    codes.try_into().expect("a code for every element")
}

/// Implements [`Block`] and proves at compile time what the cast below relies on.
macro_rules! block {
    ($name:ident, elems = $elems:expr, bytes = $bytes:expr) => {
        // SAFETY: `repr(C)` over byte arrays (see the struct); size and alignment are asserted right here.
        unsafe impl $crate::blocks::Block for $name {
            const ELEMS: usize = $elems;
        }
        const _: () = assert!(size_of::<$name>() == $bytes && align_of::<$name>() == 1);
    };
}
use block;

/// Views bytes as blocks.
///
/// # Panics
/// If `bytes` is not a whole number of blocks.
pub fn cast<B: Block>(bytes: &[u8]) -> &[B] {
    assert!(bytes.len().is_multiple_of(size_of::<B>()), "not a whole number of blocks");
    // SAFETY: `Block` promises alignment 1 and that any bytes are valid; the length is whole and in bounds.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<B>()) }
}

/// Views mutable bytes as blocks.
///
/// # Panics
/// If `bytes` is not a whole number of blocks.
pub fn cast_mut<B: Block>(bytes: &mut [u8]) -> &mut [B] {
    assert!(bytes.len().is_multiple_of(size_of::<B>()), "not a whole number of blocks");
    // SAFETY: as in `cast`; the borrow is exclusive, and a `Block` has no padding, so writing one writes plain bytes.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / size_of::<B>()) }
}
