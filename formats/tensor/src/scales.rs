//! What a quantized block stores: scales, and codes that stand for levels.

use crate::lanes::{Lanes, Portable};
use half::f16;

/// Groups of a block, at most.
pub(crate) const MAX_GROUPS: usize = 16;

/// Everything that a block stores except its codes. A field that a format does not have is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scales {
    /// Scale of the block, or of its group scales.
    pub d: f16,
    /// Scale of the group minima. In Q4_1 and Q5_1 it is the block's minimum itself, which is added.
    pub dmin: f16,
    /// Group scales, in multiples of `d`. In the grid formats they are the 4-bit codes that a step is computed from.
    pub scales: [i8; MAX_GROUPS],
    /// Group minima, in multiples of `dmin`.
    pub mins: [u8; MAX_GROUPS],
}

impl Scales {
    /// Without groups, from the bytes of a block.
    pub(crate) fn read(d: [u8; 2], dmin: [u8; 2]) -> Self {
        Self { d: f16::from_le_bytes(d), dmin: f16::from_le_bytes(dmin), ..Self::default() }
    }
}

/// What the elements of a group have in common: `value = step * level - min`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Group {
    /// Distance between two neighbouring integer levels. May be zero or negative.
    pub step: f32,
    /// What is subtracted.
    pub min: f32,
}

impl Group {
    /// Without a minimum.
    pub(crate) fn symmetric(step: f32) -> Self {
        Self { step, min: 0.0 }
    }

    /// Group `g` of a super-block that has a scale per group.
    pub(crate) fn scaled(scales: &Scales, g: usize) -> Self {
        Self::symmetric(scales.d.to_f32() * f32::from(scales.scales[g]))
    }

    /// Group `g` of a super-block that has a scale and a minimum per group.
    pub(crate) fn affine(scales: &Scales, g: usize) -> Self {
        Self { min: scales.dmin.to_f32() * f32::from(scales.mins[g]), ..Self::scaled(scales, g) }
    }
}

/// The level that each code stands for, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// Consecutive integers.
    Integers {
        /// The level of code 0.
        first: i16,
        /// How many there are.
        n: u16,
    },
    /// The level of every code.
    Listed(&'static [i8]),
}

impl Levels {
    /// Integers from `first` to `last`.
    pub(crate) const fn integers(first: i16, last: i16) -> Self {
        Self::Integers { first, n: (last - first + 1) as u16 }
    }

    /// The number of codes; they count from 0.
    pub const fn n_codes(self) -> usize {
        match self {
            Self::Integers { n, .. } => n as usize,
            Self::Listed(levels) => levels.len(),
        }
    }

    /// The level of a code.
    ///
    /// # Panics
    /// May panic if there is no such code.
    #[inline(always)]
    pub fn level(self, code: u8) -> f32 {
        match self {
            Self::Integers { first, .. } => (i32::from(code) + i32::from(first)) as f32,
            Self::Listed(levels) => f32::from(levels[usize::from(code)]),
        }
    }

    /// The code of the level nearest to `x`. Of two integers equally near it is the even one, of two listed levels the
    /// upper one, as in the reference. What is not a number has the code 0 or the last one.
    pub fn nearest(self, x: f32) -> u8 {
        self.code(Portable::<1>::splat(x)).to_array()[0] as u8
    }

    /// The same for every lane.
    #[inline(always)]
    pub(crate) fn code<V: Lanes>(self, x: V) -> V {
        match self {
            Self::Integers { first, n } => {
                let first = f32::from(first);
                x.nearest().clamp(first, first + f32::from(n - 1)) - V::splat(first)
            }
            // The reference compares the distances to two neighbours. Near the middle between them both differences are
            // exact in f32, so that comparing with the middle is the same.
            Self::Listed(levels) => {
                let mut code = V::splat(0.0);
                for pair in levels.windows(2) {
                    code = V::select(x.lt(middle(pair)), code, code + V::splat(1.0));
                }
                code
            }
        }
    }
}

/// The middle between two neighbouring levels.
#[inline(always)]
pub(crate) fn middle<V: Lanes>(pair: &[i8]) -> V {
    V::splat((f32::from(pair[0]) + f32::from(pair[1])) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_level_of_a_level_is_its_own() {
        for levels in [Levels::integers(-8, 7), Levels::integers(0, 31), Levels::Listed(&[-127, -49, 1, 113])] {
            for code in 0..levels.n_codes() as u8 {
                assert_eq!(levels.nearest(levels.level(code)), code, "{levels:?}");
            }
            let last = levels.n_codes() as u8 - 1;
            assert_eq!((levels.nearest(-1e30), levels.nearest(1e30)), (0, last), "{levels:?}");
        }
        assert_eq!([0.5, 1.5, 2.5].map(|x| Levels::integers(0, 3).nearest(x)), [0, 2, 2]);
    }
}
