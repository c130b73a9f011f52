//! The verbs on AVX-512 with VNNI: one register per float vector.

use super::Isa;
use std::arch::x86_64::*;

/// Proof of the features in the `isas!` row.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The CPU must have every feature of the `isas!` row.
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY: the token is made only by the dispatcher, which checked the features.
unsafe impl Isa for Avx512 {
    type F = __m512;
    type N = __m512i;
    type B = __m256i;
    type Q = __m256i;
    type P = __m512i;

    const I8_BIAS: i32 = 128; // vpdpbusd takes unsigned x signed
    const GEMM_TOKENS: usize = 12; // 12 integer and 12 float accumulators of the 32 registers
    const FLOAT_TILE: (usize, usize) = (4, 4);
    const ATTEND_QUERIES: usize = 4;

    verbs! {
        fn splat(self, x: f32) -> __m512 { _mm512_set1_ps(x) }
        unsafe fn load(self, p: *const f32) -> __m512 { _mm512_loadu_ps(p) }
        unsafe fn store(self, p: *mut f32, v: __m512) -> () { _mm512_storeu_ps(p, v) }
        unsafe fn load_f16(self, p: *const u8) -> __m512 { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
        unsafe fn store_f16(self, p: *mut u8, v: __m512) -> () {
            _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v))
        }
        unsafe fn load_bf16(self, p: *const u8) -> __m512 {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()))))
        }
        unsafe fn gather_f16(self, p: *const u8, stride: usize) -> __m512 {
            let (lo, hi) = super::avx2::gather_16_words(p, stride);
            _mm512_cvtph_ps(_mm256_set_m128i(hi, lo))
        }
        unsafe fn gather_i8_pairs(self, p: *const u8, stride: usize) -> [__m512; 2] {
            let (lo, hi) = super::avx2::gather_16_words(p, stride);
            let pairs = _mm256_set_m128i(hi, lo);
            let first = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(pairs));
            let float = |words| _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(words));
            [float(first), float(_mm256_srai_epi16::<8>(pairs))]
        }
        fn add(self, a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub(self, a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul(self, a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(self, a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn max(self, a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn min(self, a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn abs(self, a: __m512) -> __m512 { _mm512_abs_ps(a) }
        fn copysign(self, a: __m512, sign: __m512) -> __m512 {
            // Bitwise select by the sign bit: (a & !m) | (sign & m).
            let m = _mm512_set1_epi32(i32::MIN);
            _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xCA>(m, _mm512_castps_si512(sign), _mm512_castps_si512(a)))
        }
        fn select_lt(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x)
        }
        fn sum(self, a: __m512) -> f32 {
            super::avx2::sum_8(_mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a)))
        }
        fn max_lane(self, a: __m512) -> f32 {
            super::avx2::max_8(_mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a)))
        }
        fn round(self, a: __m512) -> __m512i { _mm512_cvtps_epi32(a) }
        fn to_float(self, a: __m512i) -> __m512 { _mm512_cvtepi32_ps(a) }
        fn pow2(self, n: __m512i) -> __m512 {
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(n, _mm512_set1_epi32(127))))
        }
        fn splat_int(self, x: i32) -> __m512i { _mm512_set1_epi32(x) }
        fn add_int(self, a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        unsafe fn store_i8(self, p: *mut u8, v: __m512i) -> () { _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(v)) }

        unsafe fn bytes(self, p: *const u8) -> __m256i { _mm256_loadu_si256(p.cast()) }
        unsafe fn store_bytes(self, p: *mut u8, v: __m256i) -> () { _mm256_storeu_si256(p.cast(), v) }
        unsafe fn nibbles(self, p: *const u8) -> __m256i { super::avx2::nibbles(p) }
        unsafe fn fifth_bits(self, p: *const u8) -> __m256i {
            _mm256_maskz_set1_epi8(p.cast::<u32>().read_unaligned(), 16)
        }
        fn or(self, a: __m256i, b: __m256i) -> __m256i { _mm256_or_si256(a, b) }
        fn and(self, a: __m256i, mask: u8) -> __m256i { _mm256_and_si256(a, _mm256_set1_epi8(mask as i8)) }
        fn prepare_i8(self, a: __m256i) -> __m256i { _mm256_xor_si256(a, _mm256_set1_epi8(i8::MIN)) }
        unsafe fn doubled(self, p: *const u8) -> [__m256i; 2] {
            let p = p.cast::<__m128i>();
            [
                _mm256_broadcastsi128_si256(_mm_loadu_si128(p)),
                _mm256_broadcastsi128_si256(_mm_loadu_si128(p.add(1))),
            ]
        }
        unsafe fn nibbles_of_two(self, p: *const u8, q: *const u8) -> [__m256i; 2] { super::avx2::nibbles_of_two(p, q) }
        fn regroup(self, a: __m256i, b: __m256i) -> [__m256i; 2] { super::avx2::regroup(a, b) }
        fn zero_quads(self) -> __m256i { _mm256_setzero_si256() }
        fn dot_u7(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i { _mm256_dpbusd_epi32(acc, w, a) }
        fn dot_i8(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i { _mm256_dpbusd_epi32(acc, w, a) }
        fn reduce(self, parts: [__m256i; 8]) -> __m512i {
            let [lo, hi] = super::avx2::reduce_8(parts);
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(lo), hi)
        }
        unsafe fn panel(self, p: *const u8) -> __m512i { _mm512_loadu_si512(p.cast()) }
        fn dot4_u7(self, acc: __m512i, w: __m512i, a: i32) -> __m512i {
            _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(a))
        }
        fn dot4_i8(self, acc: __m512i, w: __m512i, a: i32) -> __m512i {
            _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(a))
        }
        fn prefetch(self, p: *const u8) -> () { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }

    #[inline(always)]
    fn shr<const N: i32>(self, a: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { super::avx2::shr_bytes::<N>(a) }
    }
    #[inline(always)]
    fn shl<const N: i32>(self, a: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { super::avx2::shl_bytes::<N>(a) }
    }
}
