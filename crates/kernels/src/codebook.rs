//! Codebooks of the grid formats, in the two shapes that ISAs look entries up in.

use pythia_tensor::grid;

pub(crate) static IQ2_XXS: Codebook<8, 256> = Codebook::new(&grid::IQ2_XXS);
pub(crate) static IQ2_XS: Codebook<8, 512> = Codebook::new(&grid::IQ2_XS);
pub(crate) static IQ2_S: Codebook<8, 1024> = Codebook::new(&grid::IQ2_S);
pub(crate) static IQ3_XXS: Codebook<4, 256> = Codebook::new(&grid::IQ3_XXS);
pub(crate) static IQ3_S: Codebook<4, 512> = Codebook::new(&grid::IQ3_S);

/// `N` entries of `DIM` magnitudes each: 4 of eight levels, or 8 of three.
#[repr(C, align(64))]
pub(crate) struct Codebook<const DIM: usize, const N: usize> {
    /// For tables that are looked up in registers: entries of 16 bits. The level of each magnitude is a number of
    /// `16 / DIM` bits, the first one lowest.
    pub(crate) packed: [u16; N],
    /// The levels by number. Where there are three, the number may also be shifted left by two.
    pub(crate) levels: [u8; 16],
    /// For tables that are read from memory.
    pub(crate) magnitudes: &'static [[u8; DIM]; N],
}

impl<const DIM: usize, const N: usize> Codebook<DIM, N> {
    const fn new(magnitudes: &'static [[u8; DIM]; N]) -> Self {
        let levels = levels(magnitudes.as_flattened());
        let mut packed = [0; N];
        let mut at = 0;
        while at < N * DIM {
            let mut number = 0;
            while levels[number] != magnitudes[at / DIM][at % DIM] {
                number += 1;
            }
            packed[at / DIM] |= (number << (16 / DIM * (at % DIM))) as u16;
            at += 1;
        }
        let mut table = [0; 16];
        let mut number = 0;
        while number < 16 {
            // Of eights, either two bits hold a number, or the two above them.
            let is_shifted = DIM == 8 && number % 4 == 0;
            table[number] = levels[if is_shifted { number / 4 } else { number }];
            number += 1;
        }
        Self { packed, levels: table, magnitudes }
    }
}

/// The different values, ascending; the rest is 0.
const fn levels(magnitudes: &[u8]) -> [u8; 16] {
    let mut occurs = [false; 256];
    let mut i = 0;
    while i < magnitudes.len() {
        occurs[magnitudes[i] as usize] = true;
        i += 1;
    }
    let (mut levels, mut n, mut value) = ([0; 16], 0, 0);
    while value < 256 {
        if occurs[value] {
            levels[n] = value as u8;
            n += 1;
        }
        value += 1;
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<const DIM: usize, const N: usize>(book: &Codebook<DIM, N>) {
        let bits = 16 / DIM;
        for (packed, magnitudes) in book.packed.iter().zip(book.magnitudes) {
            for (i, &magnitude) in magnitudes.iter().enumerate() {
                let number = usize::from(packed >> (bits * i)) & ((1 << bits) - 1);
                assert_eq!(book.levels[number], magnitude);
                if DIM == 8 {
                    assert_eq!(book.levels[4 * number], magnitude);
                }
            }
        }
    }

    #[test]
    fn both_shapes_have_the_same_entries() {
        check(&IQ2_XXS);
        check(&IQ2_XS);
        check(&IQ2_S);
        check(&IQ3_XXS);
        check(&IQ3_S);
    }
}
