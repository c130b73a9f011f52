//! The grid formats as others are: a code per element, which is a magnitude and a sign.

use super::{Encoded, Neighbours, Unit};
use crate::scales::Scales;

/// Implements [`Quantized`](crate::blocks::Quantized) for a format that has `unit` and `store`, whose codebook is
/// `$codes` and whose levels are `$levels`. `$step` is the step of a group from `d` and the code of the group's scale.
macro_rules! quantized {
    (
        $name:ident, $codes:ident, $levels:ident,
        group_elems = $group_elems:expr, even_signs = $even:expr, step = $step:expr
    ) => {
        impl crate::blocks::Quantized for $name {
            const GROUP_ELEMS: usize = $group_elems;
            const LEVELS: crate::scales::Levels = crate::scales::Levels::Listed(&crate::grid::$levels);
            const SCALES: Option<(i8, i8)> = Some((0, 15));
            const CODEBOOK: Option<crate::format::Codebook> = Some(crate::format::Codebook {
                entry_elems: crate::grid::$codes[0].len(),
                entries: (&crate::grid::$codes).as_flattened(),
                even_signs: $even,
            });

            fn group(scales: &crate::scales::Scales, g: usize) -> crate::scales::Group {
                let step: fn(f32, f32) -> f32 = $step;
                crate::scales::Group::symmetric(step(scales.d.to_f32(), f32::from(scales.scales[g])))
            }

            fn pack(scales: &crate::scales::Scales, codes: &[u8]) -> Self {
                Self::store(&crate::grid::Encoded::of_codes(scales, codes, &NEIGHBOURS, $even))
            }

            fn unpack(&self, codes: &mut [u8]) -> crate::scales::Scales {
                crate::grid::unpack(self.d, $group_elems, |u| self.unit(u), &crate::grid::$codes, codes)
            }
        }
    };
}
pub(crate) use quantized;

impl Encoded {
    /// The super-block with these scales and codes.
    ///
    /// # Panics
    /// If the magnitudes of a run are no entry of the codebook, or signs are to be even and are not.
    pub(crate) fn of_codes<const DIM: usize>(
        scales: &Scales,
        codes: &[u8],
        neighbours: &Neighbours<DIM>,
        even_signs: bool,
    ) -> Self {
        let mut this = Self {
            d: scales.d.to_f32(),
            scales: scales.scales.map(|scale| scale as u8),
            entries: [0; 64],
            signs: [0; 32],
        };
        let levels = neighbours.levels;
        for (entry, codes) in this.entries.iter_mut().zip(codes.chunks_exact(DIM)) {
            let number = |&code: &u8| u16::from(if code < levels { levels - 1 - code } else { code - levels });
            let point = codes.iter().rev().fold(0, |point, code| point * u16::from(levels) + number(code));
            *entry = neighbours.entry(point).expect("an entry of the codebook");
        }
        for (signs, codes) in this.signs.iter_mut().zip(codes.chunks_exact(8)) {
            *signs = codes.iter().rev().fold(0, |bits, &code| bits << 1 | u8::from(code < levels));
            if even_signs {
                assert!(signs.count_ones().is_multiple_of(2), "an even number of minuses");
                *signs &= 127;
            }
        }
        this
    }
}

/// The scales of a super-block of units, and the code of every element into `codes`. `codebook` has the numbers of the
/// magnitudes of every entry.
pub(crate) fn unpack<const N: usize, const DIM: usize>(
    d: [u8; 2],
    group_elems: usize,
    unit: impl Fn(usize) -> Unit<N>,
    codebook: &[[u8; DIM]],
    codes: &mut [u8],
) -> Scales {
    let levels = if DIM == 8 { 3 } else { 8 };
    let mut scales = Scales::read(d, [0; 2]);
    for (u, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let unit = unit(u);
        for (half, &scale) in unit.scales.iter().enumerate() {
            scales.scales[(2 * u + half) * 16 / group_elems] = scale as i8;
        }
        for (j, code) in codes.iter_mut().enumerate() {
            let number = codebook[usize::from(unit.entries[j / DIM])][j % DIM];
            let minus = unit.signs[j / 8] >> (j % 8) & 1 == 1;
            *code = if minus { levels - 1 - number } else { levels + number };
        }
    }
    scales
}
