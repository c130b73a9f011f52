//! The verbs on AVX2 with FMA and F16C: two registers per float vector.

use super::Isa;
use std::arch::x86_64::*;

/// Proof of the features in the `isas!` row.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The CPU must have every feature of the `isas!` row.
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY: the token is made only by the dispatcher, which checked the features.
unsafe impl Isa for Avx2 {
    type F = [__m256; 2];
    type N = [__m256i; 2];
    type B = __m256i;
    type Q = __m256i;
    type P = [__m256i; 2];

    const I8_BIAS: i32 = 0; // the sign trick below takes signed codes as they are
    const GEMM_TOKENS: usize = 3; // 6 integer and 6 float accumulators of the 16 registers
    const FLOAT_TILE: (usize, usize) = (2, 2);
    const ATTEND_QUERIES: usize = 2;

    verbs! {
        fn splat(self, x: f32) -> [__m256; 2] { [_mm256_set1_ps(x); 2] }
        unsafe fn load(self, p: *const f32) -> [__m256; 2] { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
        unsafe fn store(self, p: *mut f32, v: [__m256; 2]) -> () {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
        unsafe fn load_f16(self, p: *const u8) -> [__m256; 2] {
            let p = p.cast::<__m128i>();
            [_mm256_cvtph_ps(_mm_loadu_si128(p)), _mm256_cvtph_ps(_mm_loadu_si128(p.add(1)))]
        }
        unsafe fn store_f16(self, p: *mut u8, v: [__m256; 2]) -> () {
            let p = p.cast::<__m128i>();
            _mm_storeu_si128(p, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[0]));
            _mm_storeu_si128(p.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[1]));
        }
        unsafe fn load_bf16(self, p: *const u8) -> [__m256; 2] {
            let p = p.cast::<__m128i>();
            let widen = |h| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(h)));
            [widen(_mm_loadu_si128(p)), widen(_mm_loadu_si128(p.add(1)))]
        }
        unsafe fn gather_f16(self, p: *const u8, stride: usize) -> [__m256; 2] {
            let (lo, hi) = gather_16_words(p, stride);
            [_mm256_cvtph_ps(lo), _mm256_cvtph_ps(hi)]
        }
        unsafe fn gather_i8_pairs(self, p: *const u8, stride: usize) -> [[__m256; 2]; 2] {
            let (lo, hi) = gather_16_words(p, stride);
            let first = |pairs| _mm_srai_epi16::<8>(_mm_slli_epi16::<8>(pairs));
            let float = |words| _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(words));
            [
                [float(first(lo)), float(first(hi))],
                [float(_mm_srai_epi16::<8>(lo)), float(_mm_srai_epi16::<8>(hi))],
            ]
        }
        fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])]
        }
        fn sub(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])]
        }
        fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])]
        }
        fn div(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])]
        }
        fn fma(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
            [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])]
        }
        fn max(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])]
        }
        fn min(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])]
        }
        fn abs(self, a: [__m256; 2]) -> [__m256; 2] {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
        }
        fn copysign(self, a: [__m256; 2], s: [__m256; 2]) -> [__m256; 2] {
            let sign = _mm256_set1_ps(-0.0);
            let one = |a, s| _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, s));
            [one(a[0], s[0]), one(a[1], s[1])]
        }
        fn select_lt(self, a: [__m256; 2], b: [__m256; 2], x: [__m256; 2], y: [__m256; 2]) -> [__m256; 2] {
            [
                _mm256_blendv_ps(y[0], x[0], _mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0])),
                _mm256_blendv_ps(y[1], x[1], _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])),
            ]
        }
        fn sum(self, a: [__m256; 2]) -> f32 { sum_8(_mm256_add_ps(a[0], a[1])) }
        fn max_lane(self, a: [__m256; 2]) -> f32 { max_8(_mm256_max_ps(a[0], a[1])) }
        fn round(self, a: [__m256; 2]) -> [__m256i; 2] { [_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1])] }
        fn to_float(self, a: [__m256i; 2]) -> [__m256; 2] { [_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])] }
        fn pow2(self, n: [__m256i; 2]) -> [__m256; 2] {
            let one = |n| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))));
            [one(n[0]), one(n[1])]
        }
        fn splat_int(self, x: i32) -> [__m256i; 2] { [_mm256_set1_epi32(x); 2] }
        fn add_int(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
            [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])]
        }
        unsafe fn store_i8(self, p: *mut u8, v: [__m256i; 2]) -> () {
            // Packing works within 128-bit lanes; the permutation puts the four-byte runs back in order.
            let words = _mm256_packs_epi32(v[0], v[1]);
            let bytes = _mm256_packs_epi16(words, words);
            let order = _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5);
            _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order)))
        }

        unsafe fn bytes(self, p: *const u8) -> __m256i { _mm256_loadu_si256(p.cast()) }
        unsafe fn store_bytes(self, p: *mut u8, v: __m256i) -> () { _mm256_storeu_si256(p.cast(), v) }
        unsafe fn nibbles(self, p: *const u8) -> __m256i { nibbles(p) }
        unsafe fn fifth_bits(self, p: *const u8) -> __m256i {
            // Byte j / 8 of the word to byte j, then its bit j % 8 alone, then 16 where it is set.
            let word = _mm256_set1_epi32(p.cast::<i32>().read_unaligned());
            let spread = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
            let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
            let chosen = _mm256_and_si256(_mm256_shuffle_epi8(word, spread), bit);
            _mm256_and_si256(_mm256_cmpeq_epi8(chosen, bit), _mm256_set1_epi8(16))
        }
        fn or(self, a: __m256i, b: __m256i) -> __m256i { _mm256_or_si256(a, b) }
        fn and(self, a: __m256i, mask: u8) -> __m256i { _mm256_and_si256(a, _mm256_set1_epi8(mask as i8)) }
        fn prepare_i8(self, a: __m256i) -> __m256i { a }
        unsafe fn doubled(self, p: *const u8) -> [__m256i; 2] {
            let p = p.cast::<__m128i>();
            [
                _mm256_broadcastsi128_si256(_mm_loadu_si128(p)),
                _mm256_broadcastsi128_si256(_mm_loadu_si128(p.add(1))),
            ]
        }
        unsafe fn nibbles_of_two(self, p: *const u8, q: *const u8) -> [__m256i; 2] { nibbles_of_two(p, q) }
        fn regroup(self, a: __m256i, b: __m256i) -> [__m256i; 2] { regroup(a, b) }
        fn zero_quads(self) -> __m256i { _mm256_setzero_si256() }
        fn dot_u7(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i { _mm256_add_epi32(acc, dot_unsigned(w, a)) }
        fn dot_i8(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
            _mm256_add_epi32(acc, dot_unsigned(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w)))
        }
        fn reduce(self, parts: [__m256i; 8]) -> [__m256i; 2] { reduce_8(parts) }
        unsafe fn panel(self, p: *const u8) -> [__m256i; 2] {
            let p = p.cast::<__m256i>();
            [_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1))]
        }
        fn dot4_u7(self, acc: [__m256i; 2], w: [__m256i; 2], a: i32) -> [__m256i; 2] {
            let a = _mm256_set1_epi32(a);
            [_mm256_add_epi32(acc[0], dot_unsigned(w[0], a)), _mm256_add_epi32(acc[1], dot_unsigned(w[1], a))]
        }
        fn dot4_i8(self, acc: [__m256i; 2], w: [__m256i; 2], a: i32) -> [__m256i; 2] {
            let a = _mm256_set1_epi32(a);
            let one = |w| dot_unsigned(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
            [_mm256_add_epi32(acc[0], one(w[0])), _mm256_add_epi32(acc[1], one(w[1]))]
        }
        fn prefetch(self, p: *const u8) -> () { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }

    #[inline(always)]
    fn shr<const N: i32>(self, a: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { shr_bytes::<N>(a) }
    }
    #[inline(always)]
    fn shl<const N: i32>(self, a: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { shl_bytes::<N>(a) }
    }
}

// What AVX-512 shares.

/// Sums of four neighbouring products. `w <= 128` and `|a| <= 127`, so that two products fit 16 bits: 2 * 128 * 127.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn dot_unsigned(w: __m256i, a: __m256i) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe { _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1)) }
}

/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn shr_bytes<const N: i32>(a: __m256i) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe { _mm256_and_si256(_mm256_srli_epi16::<N>(a), _mm256_set1_epi8((0xFF_u8 >> N) as i8)) }
}

/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn shl_bytes<const N: i32>(a: __m256i) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe { _mm256_and_si256(_mm256_slli_epi16::<N>(a), _mm256_set1_epi8((0xFF_u8 << N) as i8)) }
}

/// # Safety
/// 16 readable bytes, and AVX2.
#[inline(always)]
pub(super) unsafe fn nibbles(p: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let b = _mm_loadu_si128(p.cast());
        let both = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(b), _mm_srli_epi16::<4>(b));
        _mm256_and_si256(both, _mm256_set1_epi8(15))
    }
}

/// # Safety
/// 16 readable words `stride` bytes apart, and AVX2.
#[inline(always)]
pub(super) unsafe fn gather_16_words(p: *const u8, stride: usize) -> (__m128i, __m128i) {
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

/// Lanes l + 4, then l + 2, then l + 1.
///
/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn sum_8(a: __m256) -> f32 {
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
pub(super) unsafe fn max_8(a: __m256) -> f32 {
    // SAFETY: the caller has AVX2.
    unsafe {
        let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
    }
}

/// # Safety
/// 16 readable bytes behind each, and AVX2.
#[inline(always)]
pub(super) unsafe fn nibbles_of_two(p: *const u8, q: *const u8) -> [__m256i; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let (p, q) = (_mm_loadu_si128(p.cast()), _mm_loadu_si128(q.cast()));
        let both = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(p), q);
        let mask = _mm256_set1_epi8(15);
        [_mm256_and_si256(both, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(both), mask)]
    }
}

/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn regroup(a: __m256i, b: __m256i) -> [__m256i; 2] {
    // SAFETY: the caller has AVX2.
    unsafe { [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)] }
}

/// Two levels of horizontal adds leave, per 128-bit half, the sums of four parts; the halves are then regrouped.
///
/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn reduce_8(p: [__m256i; 8]) -> [__m256i; 2] {
    // SAFETY: the caller has AVX2.
    unsafe {
        let four =
            |i: usize| _mm256_hadd_epi32(_mm256_hadd_epi32(p[i], p[i + 1]), _mm256_hadd_epi32(p[i + 2], p[i + 3]));
        regroup(four(0), four(4))
    }
}
