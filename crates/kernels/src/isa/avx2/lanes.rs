//! Sums, maxima and transpositions across the lanes of AVX2 vectors, and what AVX-512 shares.

use std::arch::x86_64::*;

/// Words 0, 1, 2 and 3 of four rows, in each half.
///
/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn transpose_4(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> [__m256i; 4] {
    // SAFETY: the caller has AVX2.
    unsafe {
        let low = [_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d)];
        let high = [_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d)];
        [
            _mm256_unpacklo_epi64(low[0], low[1]),
            _mm256_unpackhi_epi64(low[0], low[1]),
            _mm256_unpacklo_epi64(high[0], high[1]),
            _mm256_unpackhi_epi64(high[0], high[1]),
        ]
    }
}

/// In each half, the sum over the four words of each of four vectors. Words are i32 where `fit` is 0; else two i16 each, of
/// which so many can be added before they need 32 bits. (On Zen 5 unpacking and adding takes less time than a horizontal
/// add.)
///
/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn sum_4(rows: [__m256i; 4], fit: usize) -> __m256i {
    /// Adds what `$unpack` puts side by side, in 16 bits if `$few`.
    macro_rules! pairs {
        ($low:ident $high:ident $a:expr, $b:expr, $few:expr) => {{
            let (low, high) = ($low($a, $b), $high($a, $b));
            if $few { _mm256_add_epi16(low, high) } else { _mm256_add_epi32(low, high) }
        }};
    }
    macro_rules! widened {
        ($v:expr, $now:expr) => {
            if $now { _mm256_madd_epi16($v, _mm256_set1_epi16(1)) } else { $v }
        };
    }
    // SAFETY: the caller has AVX2.
    unsafe {
        let [mut a, mut b, mut c, mut d] = rows;
        let (once, twice) = (fit >= 2, fit >= 4);
        for v in [&mut a, &mut b, &mut c, &mut d] {
            *v = widened!(*v, fit == 1);
        }
        let mut ab = pairs!(_mm256_unpacklo_epi32 _mm256_unpackhi_epi32 a, b, once);
        let mut cd = pairs!(_mm256_unpacklo_epi32 _mm256_unpackhi_epi32 c, d, once);
        for v in [&mut ab, &mut cd] {
            *v = widened!(*v, once && !twice);
        }
        widened!(pairs!(_mm256_unpacklo_epi64 _mm256_unpackhi_epi64 ab, cd, twice), twice)
    }
}

/// The lower halves of both, then the upper halves.
///
/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn regroup(a: __m256i, b: __m256i) -> [__m256i; 2] {
    // SAFETY: the caller has AVX2.
    unsafe { [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)] }
}

/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn max_bits(a: __m256, b: __m256) -> __m256 {
    // SAFETY: the caller has AVX2.
    unsafe { _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(a), _mm256_castps_si256(b))) }
}

/// Lane l: the sum of vector `first + l`, as `sum_8` adds, or its largest bits where `MAX`. A step combines the halves of
/// two vectors and packs what comes out into one; the pairs are those that leave the results in order.
///
/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn reduce_each_8<const MAX: bool>(v: &[__m256; 16], first: usize) -> __m256 {
    /// Parts of `$a` and `$b` that a step's two masks choose, combined.
    macro_rules! step {
        ($shuffle:ident [$first:literal, $second:literal] $a:expr, $b:expr) => {{
            let (a, b) = ($a, $b);
            let (a, b) = ($shuffle::<$first>(a, b), $shuffle::<$second>(a, b));
            if MAX { max_bits(a, b) } else { _mm256_add_ps(a, b) }
        }};
    }
    // SAFETY: the caller has AVX2.
    unsafe {
        let mut fours = [v[0]; 4];
        for (i, four) in fours.iter_mut().enumerate() {
            *four = step!(_mm256_permute2f128_ps [0x20, 0x31] v[first + i], v[first + i + 4]);
        }
        let a = step!(_mm256_shuffle_ps [0x44, 0xEE] fours[0], fours[1]);
        let b = step!(_mm256_shuffle_ps [0x44, 0xEE] fours[2], fours[3]);
        step!(_mm256_shuffle_ps [0x88, 0xDD] a, b)
    }
}

/// Lanes l + 4, then l + 2, then l + 1.
///
/// # Safety
/// AVX2.
#[inline(always)]
pub(in crate::isa) unsafe fn sum_8(a: __m256) -> f32 {
    // SAFETY: the caller has AVX2.
    unsafe {
        let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)))
    }
}

/// # Safety
/// AVX2.
#[inline(always)]
pub(in crate::isa) unsafe fn max_8(a: __m256) -> f32 {
    // SAFETY: the caller has AVX2.
    unsafe {
        let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
    }
}

/// The largest lane; none is negative.
///
/// # Safety
/// AVX2.
#[inline(always)]
pub(in crate::isa) unsafe fn max_8_int(a: __m256i) -> u32 {
    // SAFETY: the caller has AVX2.
    unsafe {
        let a = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
        let a = _mm_max_epi32(a, _mm_shuffle_epi32::<0b00_00_11_10>(a));
        _mm_cvtsi128_si32(_mm_max_epi32(a, _mm_shuffle_epi32::<0b00_00_00_01>(a))) as u32
    }
}

/// # Safety
/// 16 readable words `stride` bytes apart, and AVX2.
#[inline(always)]
pub(in crate::isa) unsafe fn gather_16_words(p: *const u8, stride: usize) -> (__m128i, __m128i) {
    // SAFETY: the caller's promise. Inserted one by one: going through the stack would stall on store forwarding.
    unsafe {
        let word = |l: usize| i32::from(p.add(l * stride).cast::<u16>().read_unaligned());
        let mut lo = _mm_cvtsi32_si128(word(0));
        let mut hi = _mm_cvtsi32_si128(word(8));
        macro_rules! insert { ($($l:literal)*) => { $(
            lo = _mm_insert_epi16::<$l>(lo, word($l));
            hi = _mm_insert_epi16::<$l>(hi, word($l + 8));
        )* } }
        insert!(1 2 3 4 5 6 7);
        (lo, hi)
    }
}

/// Stores 16 signed bytes and returns their sum.
///
/// # Safety
/// 16 writable bytes, and AVX2.
#[inline(always)]
pub(in crate::isa) unsafe fn store_codes(p: *mut u8, codes: __m128i) -> i32 {
    // SAFETY: the caller's promise. The sum of differences to zero wants unsigned bytes: 128 more each.
    unsafe {
        _mm_storeu_si128(p.cast(), codes);
        let sums = _mm_sad_epu8(_mm_xor_si128(codes, _mm_set1_epi8(i8::MIN)), _mm_setzero_si128());
        _mm_cvtsi128_si32(_mm_add_epi64(sums, _mm_unpackhi_epi64(sums, sums))) - 16 * 128
    }
}
