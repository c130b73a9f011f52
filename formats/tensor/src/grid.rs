//! Codebooks of the grid formats: 8 (or 4) magnitudes at a time are one entry of a list.
//!
//! The lists are data of the formats, chosen by their author; `tools/codebooks.py` reads them out of a reference
//! decoder and writes `grid/codebooks.bin`. Entry 0 of each is the lowest level throughout.

mod codes;
mod group;
mod neighbours;
mod search;
#[cfg(test)]
mod tests;
mod unit;

pub(crate) use codes::{quantized, unpack};
pub(crate) use group::Plain;
pub(crate) use neighbours::Neighbours;
pub(crate) use search::{Again, Encoded, GridSearch, Start};
pub use unit::Unit;
pub(crate) use unit::{even_signs, pack_scales, pack_signs_and_scale, unpack_scales, unpack_signs_and_scale};

/// Codes of all codebooks, in the order of the tables below.
const CODES: &[u8; 5120] = include_bytes!("grid/codebooks.bin");

/// What the codes of the 2-bit formats stand for.
const LEVELS_2: [u8; 3] = [8, 25, 43];
/// What the codes of IQ3_XXS stand for.
const LEVELS_3_XXS: [u8; 8] = [4, 12, 20, 28, 36, 44, 52, 62];
/// What the codes of IQ3_S stand for.
const LEVELS_3_S: [u8; 8] = [1, 3, 5, 7, 9, 11, 13, 15];

/// The same with signs, ascending.
pub(crate) static SIGNED_2: [i8; 6] = signed(&LEVELS_2);
pub(crate) static SIGNED_3_XXS: [i8; 16] = signed(&LEVELS_3_XXS);
pub(crate) static SIGNED_3_S: [i8; 16] = signed(&LEVELS_3_S);

/// Magnitudes of the entries of IQ2_XXS.
pub static IQ2_XXS: [[u8; 8]; 256] = magnitudes(&IQ2_XXS_CODES, &LEVELS_2);
/// Magnitudes of the entries of IQ2_XS.
pub static IQ2_XS: [[u8; 8]; 512] = magnitudes(&IQ2_XS_CODES, &LEVELS_2);
/// Magnitudes of the entries of IQ2_S.
pub static IQ2_S: [[u8; 8]; 1024] = magnitudes(&IQ2_S_CODES, &LEVELS_2);
/// Magnitudes of the entries of IQ3_XXS.
pub static IQ3_XXS: [[u8; 4]; 256] = magnitudes(&IQ3_XXS_CODES, &LEVELS_3_XXS);
/// Magnitudes of the entries of IQ3_S.
pub static IQ3_S: [[u8; 4]; 512] = magnitudes(&IQ3_S_CODES, &LEVELS_3_S);

pub(crate) const IQ2_XXS_CODES: [[u8; 8]; 256] = codes(0);
pub(crate) const IQ2_XS_CODES: [[u8; 8]; 512] = codes(256);
pub(crate) const IQ2_S_CODES: [[u8; 8]; 1024] = codes(256 + 512);
pub(crate) const IQ3_XXS_CODES: [[u8; 4]; 256] = codes(256 + 512 + 1024);
pub(crate) const IQ3_S_CODES: [[u8; 4]; 512] = codes(256 + 512 + 1024 + 256);

/// Codes of `N` entries of `DIM` elements, after the `first` entries of other codebooks.
const fn codes<const DIM: usize, const N: usize>(first: usize) -> [[u8; DIM]; N] {
    let bits = if DIM == 8 { 2 } else { 3 };
    let mut codes = [[0; DIM]; N];
    let mut n = 0;
    while n < N {
        let at = 2 * (first + n);
        let packed = u16::from_le_bytes([CODES[at], CODES[at + 1]]);
        let mut i = 0;
        while i < DIM {
            codes[n][i] = (packed >> (bits * i)) as u8 & ((1 << bits) - 1);
            i += 1;
        }
        n += 1;
    }
    codes
}

const fn magnitudes<const DIM: usize, const N: usize>(codes: &[[u8; DIM]; N], levels: &[u8]) -> [[u8; DIM]; N] {
    let mut magnitudes = *codes;
    let mut n = 0;
    while n < N {
        let mut i = 0;
        while i < DIM {
            magnitudes[n][i] = levels[codes[n][i] as usize];
            i += 1;
        }
        n += 1;
    }
    magnitudes
}

const fn signed<const N: usize, const TWICE: usize>(levels: &[u8; N]) -> [i8; TWICE] {
    assert!(TWICE == 2 * N);
    let mut signed = [0; TWICE];
    let mut n = 0;
    while n < N {
        signed[N + n] = levels[n] as i8;
        signed[N - 1 - n] = -(levels[n] as i8);
        n += 1;
    }
    signed
}
