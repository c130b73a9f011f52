//! The operations on AVX2 with FMA and F16C: two registers per float vector. `VNNI` adds the dot instruction.

pub(super) mod lanes;

use super::{GemmTile, Operations, Tile, TileSize, Tuning};
use crate::codebook::Codebook;
use lanes::{max_8, max_8_int, max_bits, reduce_each_8, regroup, sum_4, sum_8, transpose_4};
use std::arch::asm;
use std::arch::x86_64::*;

/// Proof of the features in the `isas!` row.
#[derive(Clone, Copy)]
pub(crate) struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    /// # Safety
    /// The CPU must have every feature of the `isas!` row.
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY: the token is made only where the features were found.
unsafe impl<const VNNI: bool> Operations for Avx2<VNNI> {
    type F = [__m256; 2];
    type N = [__m256i; 2];
    type B = __m256i;
    type Q = __m256i;
    type Parts<V: Copy> = [V; 8]; // rows p and p + 8

    const PARTS: usize = 8;
    const HOLDS_UNIT: bool = true;
    const I8_BIAS: i32 = if VNNI { 128 } else { 0 }; // vpdpbusd wants unsigned codes, the sign trick does not
    const TUNING: Tuning = Tuning {
        unroll: true,
        // 8 sums in 16 bits of the 16 registers
        integer_tile: Tile { w: 1, x: TileSize::Four },
        // with more, codes do not stay in the 16 registers (Zen 5: panels are faster from 3 on)
        direct_rows: 2,
        // 12 registers of accumulators of the 16
        float_tile: Tile { w: 2, x: TileSize::Three },
        // 12 registers of accumulators of the 16, 2 of columns
        gemm_tile: GemmTile { rows: 6, vectors: 1 },
        attend_queries: 4,
    };

    operations! {
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
            let (lo, hi) = lanes::gather_16_words(p, stride);
            [_mm256_cvtph_ps(lo), _mm256_cvtph_ps(hi)]
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
        fn sum_each(self, v: [[__m256; 2]; 16]) -> [__m256; 2] {
            let mut eights = [v[0][0]; 16];
            for (eight, v) in eights.iter_mut().zip(v) {
                *eight = _mm256_add_ps(v[0], v[1]);
            }
            [reduce_each_8::<false>(&eights, 0), reduce_each_8::<false>(&eights, 8)]
        }
        fn max_lane(self, a: [__m256; 2]) -> f32 { max_8(_mm256_max_ps(a[0], a[1])) }
        fn largest_magnitude(self, a: [__m256; 2], b: [__m256; 2]) -> u32 {
            // As integers: all but the sign.
            let mask = _mm256_set1_epi32(i32::MAX);
            let mut largest = _mm256_setzero_si256();
            for v in [a[0], a[1], b[0], b[1]] {
                largest = _mm256_max_epi32(largest, _mm256_and_si256(_mm256_castps_si256(v), mask));
            }
            max_8_int(largest)
        }
        fn max_bits(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            [max_bits(a[0], b[0]), max_bits(a[1], b[1])]
        }
        fn max_bits_each(self, v: [[__m256; 2]; 16]) -> [__m256; 2] {
            let mut eights = [v[0][0]; 16];
            for (eight, v) in eights.iter_mut().zip(v) {
                *eight = max_bits(v[0], v[1]);
            }
            [reduce_each_8::<true>(&eights, 0), reduce_each_8::<true>(&eights, 8)]
        }
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
        unsafe fn load_int(self, p: *const u32) -> [__m256i; 2] {
            let p = p.cast::<__m256i>();
            [_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1))]
        }
        unsafe fn store_int(self, p: *mut u32, v: [__m256i; 2]) -> () {
            let p = p.cast::<__m256i>();
            _mm256_storeu_si256(p, v[0]);
            _mm256_storeu_si256(p.add(1), v[1]);
        }
        fn or_int(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
            [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])]
        }
        fn and_int(self, a: [__m256i; 2], mask: u32) -> [__m256i; 2] {
            let mask = _mm256_set1_epi32(mask as i32);
            [_mm256_and_si256(a[0], mask), _mm256_and_si256(a[1], mask)]
        }
        fn shl_int(self, a: [__m256i; 2], by: usize) -> [__m256i; 2] {
            let by = _mm_cvtsi32_si128(by as i32);
            [_mm256_sll_epi32(a[0], by), _mm256_sll_epi32(a[1], by)]
        }
        fn shr_int(self, a: [__m256i; 2], by: usize) -> [__m256i; 2] {
            let by = _mm_cvtsi32_si128(by as i32);
            [_mm256_sra_epi32(a[0], by), _mm256_sra_epi32(a[1], by)]
        }
        fn half_to_float(self, a: [__m256i; 2]) -> [__m256; 2] {
            // Packing works within 128-bit lanes; the permutation puts the runs of four back in order.
            let a = self.and_int(a, 0xFFFF);
            let halves = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(a[0], a[1]));
            [_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(halves))]
        }
        unsafe fn store_i8(self, p: *mut u8, v: [__m256i; 2]) -> i32 {
            // Packing works within 128-bit lanes; the permutation puts the four-byte runs back in order.
            let words = _mm256_packs_epi32(v[0], v[1]);
            let bytes = _mm256_packs_epi16(words, words);
            let order = _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5);
            lanes::store_codes(p, _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order)))
        }

        fn splat_bytes(self, x: u8) -> __m256i { _mm256_set1_epi8(x as i8) }
        unsafe fn load_bytes(self, p: *const u8) -> __m256i { _mm256_loadu_si256(p.cast()) }
        unsafe fn rows(self, p: *const u8, stride: usize) -> __m256i {
            let row = |i: usize| _mm_loadu_si128(p.add(i * stride).cast());
            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(row(0)), row(1))
        }
        fn repeated_word(self, x: i32) -> __m256i { _mm256_set1_epi32(x) }
        unsafe fn repeated(self, p: *const u8) -> __m256i {
            _mm256_broadcastsi128_si256(_mm_loadu_si128(p.cast()))
        }
        unsafe fn fifth_bits(self, p: *const u8, stride: usize) -> [__m256i; 2] {
            // Byte j / 8 of the word to byte j, then its bit j % 8 alone, then 16 where it is set.
            let word = |i: usize| _mm256_set1_epi32(p.add(i * stride).cast::<i32>().read_unaligned());
            let words = _mm256_blend_epi32::<0xF0>(word(0), word(1));
            let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
            let half = |spread| {
                let bytes = _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(spread));
                let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
                _mm256_and_si256(set, _mm256_set1_epi8(16))
            };
            let first = _mm_set_epi64x(0x0101_0101_0101_0101, 0);
            [half(first), half(_mm_add_epi8(first, _mm_set1_epi8(2)))]
        }
        fn or(self, a: __m256i, b: __m256i) -> __m256i { _mm256_or_si256(a, b) }
        fn and(self, a: __m256i, mask: u8) -> __m256i { _mm256_and_si256(a, _mm256_set1_epi8(mask as i8)) }
        fn prepare_i8(self, a: __m256i) -> __m256i {
            if VNNI { _mm256_xor_si256(a, _mm256_set1_epi8(i8::MIN)) } else { a }
        }
        fn shr(self, a: __m256i, by: usize) -> __m256i {
            let words = _mm256_srl_epi16(a, _mm_cvtsi32_si128(by as i32));
            _mm256_and_si256(words, _mm256_set1_epi8((0xFF_u8 >> by) as i8))
        }
        fn shl(self, a: __m256i, by: usize) -> __m256i {
            let words = _mm256_sll_epi16(a, _mm_cvtsi32_si128(by as i32));
            _mm256_and_si256(words, _mm256_set1_epi8((0xFF_u8 << by) as i8))
        }
        fn lookup(self, table: __m256i, indices: __m256i) -> __m256i { _mm256_shuffle_epi8(table, indices) }
        fn and_each(self, a: __m256i, b: __m256i) -> __m256i { _mm256_and_si256(a, b) }
        fn xor(self, a: __m256i, b: __m256i) -> __m256i { _mm256_xor_si256(a, b) }
        fn shl_words(self, a: __m256i, by: usize) -> __m256i { _mm256_sll_epi32(a, _mm_cvtsi32_si128(by as i32)) }
        fn negate(self, codes: __m256i, signs: __m256i) -> __m256i {
            // Modulo 256 this also takes 128 + code to 128 - code.
            let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
            let minus = _mm256_cmpeq_epi8(_mm256_and_si256(signs, bit), bit);
            _mm256_sub_epi8(_mm256_xor_si256(codes, minus), minus)
        }
        fn widen(self, a: __m256i, row: usize) -> [__m256i; 2] {
            let a = if row == 0 { _mm256_castsi256_si128(a) } else { _mm256_extracti128_si256::<1>(a) };
            [_mm256_cvtepi8_epi32(a), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(a))]
        }
        fn transpose(self, rows: [__m256i; 8]) -> [[__m256i; 2]; 4] {
            let a = transpose_4(rows[0], rows[1], rows[2], rows[3]);
            let b = transpose_4(rows[4], rows[5], rows[6], rows[7]);
            [regroup(a[0], b[0]), regroup(a[1], b[1]), regroup(a[2], b[2]), regroup(a[3], b[3])]
        }
        unsafe fn words(self, p: *const u8, stride: usize) -> [[__m256i; 2]; 4] {
            // With rows r and r + 4 in one vector, what comes out is in order.
            let rows = [0, 1, 2, 3, 8, 9, 10, 11].map(|r| p.wrapping_add(r * stride));
            let [a, b, c, d, e, f, g, h] = rows;
            let s = 4 * stride;
            let low = transpose_4(self.rows(a, s), self.rows(b, s), self.rows(c, s), self.rows(d, s));
            let high = transpose_4(self.rows(e, s), self.rows(f, s), self.rows(g, s), self.rows(h, s));
            [[low[0], high[0]], [low[1], high[1]], [low[2], high[2]], [low[3], high[3]]]
        }
        fn as_words(self, parts: [__m256i; 8]) -> [[__m256i; 2]; 4] {
            let [a, b, c, d, e, f, g, h] = parts;
            [[a, b], [c, d], [e, f], [g, h]]
        }
        fn splat_quads(self, x: i32) -> __m256i { _mm256_set1_epi32(x) }
        fn join_quads(self, parts: [__m256i; 8]) -> [__m256i; 2] { [parts[0], parts[1]] }
        fn dot_u7(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i { dot_unsigned::<VNNI>(acc, w, a) }
        fn dot_i8(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i { dot_signed::<VNNI>(acc, w, a) }
        fn reduce(self, rows: [__m256i; 8]) -> [__m256i; 2] {
            // Two levels of horizontal adds leave, per 128-bit half, the sums of four rows.
            let two = |i: usize| _mm256_hadd_epi32(rows[i], rows[i + 1]);
            regroup(_mm256_hadd_epi32(two(0), two(2)), _mm256_hadd_epi32(two(4), two(6)))
        }
        fn dot_few(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
            if VNNI { dot_unsigned::<true>(acc, w, a) } else { _mm256_add_epi16(acc, _mm256_maddubs_epi16(w, a)) }
        }
        fn made(self, sums: __m256i) -> __m256i { self.kept(sums) }
        fn kept(self, sums: __m256i) -> __m256i { pinned(sums) }
        fn reduce_few(self, rows: [__m256i; 8], bits: u32, products: usize) -> [__m256i; 2] {
            let [a, b, c, d, e, f, g, h] = rows;
            let fit = if VNNI { 0 } else { products_that_fit(bits) / products };
            regroup(sum_4([a, b, c, d], fit), sum_4([e, f, g, h], fit))
        }
        unsafe fn reduce_rows(self, rows: *const __m256i, bits: u32, split: bool) -> [[__m256i; 2]; 2] {
            let fit = if VNNI { 0 } else { products_that_fit(bits) };
            // In this order, of as few registers as it takes: see `pinned`.
            let mut rows = rows.cast::<[__m256i; 4]>();
            asm!("/* {} */", inout(reg) rows, options(nostack, preserves_flags));
            let [a, b] = regroup(sum_4(*rows, fit), sum_4(*rows.add(1), fit));
            let [c, d] = regroup(sum_4(*rows.add(2), fit), sum_4(*rows.add(3), fit));
            if split {
                return [[pinned(a), pinned(c)], [pinned(b), pinned(d)]];
            }
            [[pinned(_mm256_add_epi32(a, b)), pinned(_mm256_add_epi32(c, d))]; 2]
        }
        fn dot4_u7(self, acc: [__m256i; 2], w: [__m256i; 2], a: i32) -> [__m256i; 2] {
            let a = _mm256_set1_epi32(a);
            [dot_unsigned::<VNNI>(acc[0], w[0], a), dot_unsigned::<VNNI>(acc[1], w[1], a)]
        }
        fn dot4_i8(self, acc: [__m256i; 2], w: [__m256i; 2], a: i32) -> [__m256i; 2] {
            let a = _mm256_set1_epi32(a);
            [dot_signed::<VNNI>(acc[0], w[0], a), dot_signed::<VNNI>(acc[1], w[1], a)]
        }
        fn dot4_by_u7(self, acc: [__m256i; 2], w: [__m256i; 2], a: i32) -> [__m256i; 2] {
            let a = _mm256_set1_epi32(a);
            [dot_unsigned::<VNNI>(acc[0], a, w[0]), dot_unsigned::<VNNI>(acc[1], a, w[1])]
        }
        fn prefetch(self, p: *const u8) -> () { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        fn in_order(self) -> () { asm!("", options(readonly, nostack, preserves_flags)) }
        fn renewed(self, n: usize) -> usize {
            let mut renewed = n;
            asm!("/* {} */", inout(reg) renewed, options(nomem, nostack, preserves_flags));
            renewed
        }
    }

    #[inline(always)]
    fn parts<V: Copy>(self, v: V) -> [V; 8] {
        [v; 8]
    }

    #[inline(always)]
    unsafe fn fours<const N: usize>(self, book: &Codebook<4, N>, numbers: __m256i) -> [__m256i; 2] {
        // SAFETY: the token proves AVX2; the caller's numbers are below `N`.
        unsafe {
            let numbers = in_memory(numbers);
            let entry = |i: usize| {
                let entry = book.magnitudes.get_unchecked(usize::from(numbers[i]));
                entry.as_ptr().cast::<i32>().read_unaligned()
            };
            let four = |i: usize| {
                let v = _mm_insert_epi32::<1>(_mm_cvtsi32_si128(entry(i)), entry(i + 1));
                _mm_insert_epi32::<3>(_mm_insert_epi32::<2>(v, entry(i + 2)), entry(i + 3))
            };
            [_mm256_set_m128i(four(8), four(0)), _mm256_set_m128i(four(12), four(4))].map(|v| self.prepare_i8(v))
        }
    }

    #[inline(always)]
    unsafe fn eights<const N: usize>(self, book: &Codebook<8, N>, numbers: __m256i, half: usize) -> [__m256i; 2] {
        // SAFETY: as above.
        unsafe {
            let numbers = in_memory(numbers);
            let entry = |i: usize| book.magnitudes.get_unchecked(usize::from(numbers[4 * half + i])).as_ptr();
            let two = |i: usize| {
                let first = _mm_castsi128_pd(_mm_loadl_epi64(entry(i).cast()));
                _mm_castpd_si128(_mm_loadh_pd(first, entry(i + 1).cast()))
            };
            [_mm256_set_m128i(two(8), two(0)), _mm256_set_m128i(two(10), two(2))].map(|v| self.prepare_i8(v))
        }
    }

    /// Without VNNI, products of unsigned codes are summed in 16 bits as long as they fit.
    #[inline(always)]
    fn dot_words<const W: usize, const M: usize>(
        self,
        mut acc: [__m256i; M],
        w: [__m256i; W],
        a: &[[i32; M]; W],
        bits: u32,
    ) -> [__m256i; M] {
        let chain = if VNNI || bits == 8 { 1 } else { products_that_fit(bits) };
        for m in 0..M {
            for first in (0..W).step_by(chain) {
                // SAFETY: the token proves the features of the `isas!` row.
                unsafe {
                    let word = self.repeated_word(a[first][m]);
                    if chain == 1 {
                        acc[m] = if bits == 8 {
                            dot_signed::<VNNI>(acc[m], w[first], word)
                        } else {
                            dot_unsigned::<VNNI>(acc[m], w[first], word)
                        };
                        continue;
                    }
                    let mut sums = _mm256_maddubs_epi16(w[first], word);
                    for i in first + 1..(first + chain).min(W) {
                        sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(w[i], self.repeated_word(a[i][m])));
                    }
                    acc[m] = _mm256_add_epi32(acc[m], _mm256_madd_epi16(sums, _mm256_set1_epi16(1)));
                }
            }
            acc[m] = self.kept(acc[m]);
        }
        acc
    }

    /// Without VNNI, products of unsigned codes are summed in 16 bits as long as they fit, which saves an instruction
    /// and half of the multiplications.
    #[inline(always)]
    unsafe fn dot_steps<const P: usize, const M: usize>(
        self,
        mut acc: [[[__m256i; 2]; M]; P],
        w: [*const u32; P],
        a: &[[i32; M]],
        bits: u32,
    ) -> [[[__m256i; 2]; M]; P] {
        // With VNNI, unsigned codes are what prepared ones are.
        let direct = VNNI || bits == 8;
        let chain = if direct { 1 } else { products_that_fit(bits) };
        for (first, a) in a.chunks(chain).enumerate() {
            for p in 0..P {
                // SAFETY: the token proves the features of the `isas!` row; the caller has the steps.
                unsafe {
                    let mut sums = [[_mm256_setzero_si256(); 2]; M];
                    for (step, a) in a.iter().enumerate() {
                        let w = self.load_int(w[p].add(16 * (first * chain + step)));
                        for m in 0..M {
                            let a = _mm256_set1_epi32(a[m]);
                            for i in 0..2 {
                                if direct {
                                    acc[p][m][i] = pinned(dot_signed::<VNNI>(acc[p][m][i], w[i], a));
                                } else {
                                    let products = _mm256_maddubs_epi16(w[i], a);
                                    sums[m][i] = pinned(_mm256_add_epi16(sums[m][i], products));
                                }
                            }
                        }
                    }
                    for m in 0..if direct { 0 } else { M } {
                        for i in 0..2 {
                            let sum = _mm256_madd_epi16(sums[m][i], _mm256_set1_epi16(1));
                            acc[p][m][i] = _mm256_add_epi32(acc[p][m][i], sum);
                        }
                    }
                }
            }
        }
        acc
    }
}

/// How many `_mm256_maddubs_epi16` can be added in 16 bits, up to 8: each is at most 2 * (2^bits - 1) * 127. A power of two.
#[inline(always)]
fn products_that_fit(bits: u32) -> usize {
    1 << (i16::MAX as usize / (2 * ((1 << bits) - 1) * 127)).ilog2().min(3)
}

/// `acc` plus the sums of four neighbouring products. `w <= 128` and `|a| <= 127`, so that two products fit 16 bits:
/// 2 * 128 * 127; with VNNI, any `w`.
///
/// # Safety
/// AVX2, and AVX-VNNI where `VNNI`.
#[inline(always)]
unsafe fn dot_unsigned<const VNNI: bool>(acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
    // SAFETY: the caller has the features.
    unsafe {
        if VNNI {
            return _mm256_dpbusd_avx_epi32(acc, w, a);
        }
        _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1)))
    }
}

/// The same for prepared signed codes. Without VNNI the sign of a code moves to its activation.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn dot_signed<const VNNI: bool>(acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
    // SAFETY: the caller has the features.
    unsafe {
        if VNNI {
            return dot_unsigned::<VNNI>(acc, w, a);
        }
        dot_unsigned::<VNNI>(acc, _mm256_abs_epi8(w), _mm256_sign_epi8(a, w))
    }
}

/// Keeps a sum in its register and the loads of later steps behind it. Without, the optimizer adds up in another order,
/// reads all steps beforehand and has to put them on the stack: half of the speed.
///
/// It has its own feature list, since only then may its assembly name such a register.
#[inline]
#[target_feature(enable = "avx2")]
fn pinned(sum: __m256i) -> __m256i {
    let mut sum = sum;
    // SAFETY: no instruction.
    unsafe { asm!("/* {0} */", inout(ymm_reg) sum, options(nostack, preserves_flags)) };
    sum
}

/// Stored, and not taken out of the register one by one, which takes twice the time.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn in_memory(numbers: __m256i) -> [u16; 16] {
    let mut stored = [0u16; 16];
    // SAFETY: the caller has AVX2; 32 bytes, which the assembly leaves alone, but the optimizer has to believe otherwise.
    unsafe {
        _mm256_storeu_si256(stored.as_mut_ptr().cast(), numbers);
        asm!("/* {} */", in(reg) stored.as_mut_ptr(), options(nostack, preserves_flags));
    }
    stored
}
