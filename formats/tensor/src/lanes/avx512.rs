//! 16 lanes of AVX-512.

use super::{Lanes, Task};
use crate::fit::MAGIC;
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, Div, Mul, Not, Sub};

/// A register of floats. [`Lanes`] says why its methods are safe.
#[derive(Clone, Copy)]
struct Avx512(__m512);

/// A mask register.
#[derive(Clone, Copy)]
struct Mask(__mmask16);

pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// # Safety
/// The CPU must have what [`detected`] asks for.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn run(task: impl Task) {
    task.run::<Avx512>();
}

macro_rules! operator {
    ($trait:ident $name:ident $intrinsic:ident) => {
        impl $trait for Avx512 {
            type Output = Self;
            #[inline(always)]
            fn $name(self, other: Self) -> Self {
                // SAFETY: the type is used only where the CPU has its features.
                Self(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    };
}
operator!(Add add _mm512_add_ps);
operator!(Sub sub _mm512_sub_ps);
operator!(Mul mul _mm512_mul_ps);
operator!(Div div _mm512_div_ps);

impl BitAnd for Mask {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Mask {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        Self(!self.0)
    }
}

// SAFETY: named only in `run`, which has the features.
unsafe impl Lanes for Avx512 {
    const N: usize = 16;
    type Mask = Mask;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: the type is used only where the CPU has its features.
        Self(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from: &[f32; 16] = from.first_chunk().expect("a value per lane");
        // SAFETY: as above; 16 floats are read.
        Self(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to: &mut [f32; 16] = to.first_chunk_mut().expect("a place for every lane");
        // SAFETY: as above; 16 floats are written.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_abs_ps(self.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Mask {
        // SAFETY: as above.
        Mask(unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0) })
    }
    #[inline(always)]
    fn select(mask: Mask, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_mask_blend_ps(mask.0, b.0, a.0) })
    }
    #[inline(always)]
    fn any(mask: Mask) -> bool {
        mask.0 != 0
    }
    #[inline(always)]
    fn nearest_any(self) -> Self {
        // SAFETY: as above.
        Self(unsafe {
            let bits = _mm512_castps_si512(_mm512_add_ps(self.0, _mm512_set1_ps(MAGIC)));
            let mantissa = _mm512_and_si512(bits, _mm512_set1_epi32(0x007f_ffff));
            _mm512_cvtepi32_ps(_mm512_sub_epi32(mantissa, _mm512_set1_epi32(0x0040_0000)))
        })
    }
}
