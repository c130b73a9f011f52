//! 8 lanes of AVX2.

use super::{Lanes, Task};
use crate::fit::MAGIC;
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, Div, Mul, Not, Sub};

/// A register of floats. [`Lanes`] says why its methods are safe.
#[derive(Clone, Copy)]
struct Avx2(__m256);

/// All bits of a lane set, or none.
#[derive(Clone, Copy)]
struct Mask(__m256);

pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx2")
}

/// # Safety
/// The CPU must have what [`detected`] asks for.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run(task: impl Task) {
    task.run::<Avx2>();
}

macro_rules! operator {
    ($trait:ident $name:ident $intrinsic:ident) => {
        impl $trait for Avx2 {
            type Output = Self;
            #[inline(always)]
            fn $name(self, other: Self) -> Self {
                // SAFETY: the type is used only where the CPU has its features.
                Self(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    };
}
operator!(Add add _mm256_add_ps);
operator!(Sub sub _mm256_sub_ps);
operator!(Mul mul _mm256_mul_ps);
operator!(Div div _mm256_div_ps);

impl BitAnd for Mask {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm256_and_ps(self.0, other.0) })
    }
}

impl Not for Mask {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm256_xor_ps(self.0, _mm256_castsi256_ps(_mm256_set1_epi32(-1))) })
    }
}

// SAFETY: named only in `run`, which has the features.
unsafe impl Lanes for Avx2 {
    const N: usize = 8;
    type Mask = Mask;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: the type is used only where the CPU has its features.
        Self(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from: &[f32; 8] = from.first_chunk().expect("a value per lane");
        // SAFETY: as above; 8 floats are read.
        Self(unsafe { _mm256_loadu_ps(from.as_ptr()) })
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to: &mut [f32; 8] = to.first_chunk_mut().expect("a place for every lane");
        // SAFETY: as above; 8 floats are written.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Mask {
        // SAFETY: as above.
        Mask(unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0) })
    }
    #[inline(always)]
    fn select(mask: Mask, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm256_blendv_ps(b.0, a.0, mask.0) })
    }
    #[inline(always)]
    fn any(mask: Mask) -> bool {
        // SAFETY: as above.
        unsafe { _mm256_movemask_ps(mask.0) != 0 }
    }
    #[inline(always)]
    fn nearest_any(self) -> Self {
        // SAFETY: as above.
        Self(unsafe {
            let bits = _mm256_castps_si256(_mm256_add_ps(self.0, _mm256_set1_ps(MAGIC)));
            let mantissa = _mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff));
            _mm256_cvtepi32_ps(_mm256_sub_epi32(mantissa, _mm256_set1_epi32(0x0040_0000)))
        })
    }
}
