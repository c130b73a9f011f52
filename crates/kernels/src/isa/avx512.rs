//! The operations on AVX-512 with VNNI: one register per float vector.

use super::avx2::lanes;
use super::{GemmTile, Operations, Tile, TileSize, Tuning};
use crate::codebook::Codebook;
use std::arch::asm;
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

// SAFETY: the token is made only where the features were found.
unsafe impl Operations for Avx512 {
    type F = __m512;
    type N = __m512i;
    type B = __m512i;
    type Q = __m512i;
    type Parts<V: Copy> = [V; 4]; // rows p, p + 4, p + 8 and p + 12

    const PARTS: usize = 4;
    const I8_BIAS: i32 = 128; // vpdpbusd takes unsigned x signed
    const TUNING: Tuning = Tuning {
        unroll: true,
        // 12 integer and 12 float accumulators of the 32 registers
        integer_tile: Tile { w: 2, x: TileSize::Six },
        // two tiles (Zen 5: 8 rows take 10 to 20 % less time than through panels, 16 the same)
        direct_rows: 12,
        // 24 accumulators of the 32 registers
        float_tile: Tile { w: 4, x: TileSize::Six },
        // 24 accumulators of the 32 registers, 2 vectors of columns
        gemm_tile: GemmTile { rows: 12, vectors: 2 },
        attend_queries: 8,
    };

    operations! {
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
            let (lo, hi) = lanes::gather_16_words(p, stride);
            _mm512_cvtph_ps(_mm256_set_m128i(hi, lo))
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
            lanes::sum_8(_mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a)))
        }
        fn sum_each(self, v: [__m512; 16]) -> __m512 { reduce_each::<false>(&v) }
        fn max_lane(self, a: __m512) -> f32 {
            lanes::max_8(_mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a)))
        }
        fn largest_magnitude(self, a: __m512, b: __m512) -> u32 {
            let (a, b) = (_mm512_castps_si512(_mm512_abs_ps(a)), _mm512_castps_si512(_mm512_abs_ps(b)));
            let largest = _mm512_max_epi32(a, b);
            let half = _mm512_extracti64x4_epi64::<1>(largest);
            lanes::max_8_int(_mm256_max_epi32(_mm512_castsi512_si256(largest), half))
        }
        fn max_bits(self, a: __m512, b: __m512) -> __m512 { max_bits(a, b) }
        fn max_bits_each(self, v: [__m512; 16]) -> __m512 { reduce_each::<true>(&v) }
        fn round(self, a: __m512) -> __m512i { _mm512_cvtps_epi32(a) }
        fn to_float(self, a: __m512i) -> __m512 { _mm512_cvtepi32_ps(a) }
        fn pow2(self, n: __m512i) -> __m512 {
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(n, _mm512_set1_epi32(127))))
        }
        fn splat_int(self, x: i32) -> __m512i { _mm512_set1_epi32(x) }
        unsafe fn load_int(self, p: *const u32) -> __m512i { _mm512_loadu_si512(p.cast()) }
        unsafe fn store_int(self, p: *mut u32, v: __m512i) -> () { _mm512_storeu_si512(p.cast(), v) }
        fn add_int(self, a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        fn or_int(self, a: __m512i, b: __m512i) -> __m512i { _mm512_or_si512(a, b) }
        fn and_int(self, a: __m512i, mask: u32) -> __m512i { _mm512_and_si512(a, _mm512_set1_epi32(mask as i32)) }
        fn shl_int(self, a: __m512i, by: usize) -> __m512i { _mm512_sll_epi32(a, _mm_cvtsi32_si128(by as i32)) }
        fn shr_int(self, a: __m512i, by: usize) -> __m512i { _mm512_sra_epi32(a, _mm_cvtsi32_si128(by as i32)) }
        fn half_to_float(self, a: __m512i) -> __m512 { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)) }
        unsafe fn store_i8(self, p: *mut u8, v: __m512i) -> i32 { lanes::store_codes(p, _mm512_cvtepi32_epi8(v)) }

        fn splat_bytes(self, x: u8) -> __m512i { _mm512_set1_epi8(x as i8) }
        unsafe fn load_bytes(self, p: *const u8) -> __m512i { _mm512_loadu_si512(p.cast()) }
        unsafe fn rows(self, p: *const u8, stride: usize) -> __m512i {
            let row = |i: usize| _mm_loadu_si128(p.add(i * stride).cast());
            let v = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(row(0)), row(1));
            _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(v, row(2)), row(3))
        }
        fn repeated_word(self, x: i32) -> __m512i { _mm512_set1_epi32(x) }
        unsafe fn repeated(self, p: *const u8) -> __m512i { _mm512_broadcast_i32x4(_mm_loadu_si128(p.cast())) }
        unsafe fn fifth_bits(self, p: *const u8, stride: usize) -> [__m512i; 2] {
            // Byte j / 8 of the word to byte j, then 16 where its bit j % 8 is set.
            let word = |i: usize| p.add(i * stride).cast::<i32>().read_unaligned();
            let v = _mm512_mask_set1_epi32(_mm512_set1_epi32(word(0)), 0x00F0, word(1));
            let words = _mm512_mask_set1_epi32(_mm512_mask_set1_epi32(v, 0x0F00, word(2)), 0xF000, word(3));
            let bit = _mm512_set1_epi64(0x8040_2010_0804_0201_u64 as i64);
            let half = |spread| {
                let bytes = _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(spread));
                _mm512_maskz_set1_epi8(_mm512_test_epi8_mask(bytes, bit), 16)
            };
            let first = _mm_set_epi64x(0x0101_0101_0101_0101, 0);
            [half(first), half(_mm_add_epi8(first, _mm_set1_epi8(2)))]
        }
        fn or(self, a: __m512i, b: __m512i) -> __m512i { _mm512_or_si512(a, b) }
        fn and(self, a: __m512i, mask: u8) -> __m512i { _mm512_and_si512(a, _mm512_set1_epi8(mask as i8)) }
        fn shr(self, a: __m512i, by: usize) -> __m512i {
            let words = _mm512_srl_epi16(a, _mm_cvtsi32_si128(by as i32));
            _mm512_and_si512(words, _mm512_set1_epi8((0xFF_u8 >> by) as i8))
        }
        fn shl(self, a: __m512i, by: usize) -> __m512i {
            let words = _mm512_sll_epi16(a, _mm_cvtsi32_si128(by as i32));
            _mm512_and_si512(words, _mm512_set1_epi8((0xFF_u8 << by) as i8))
        }
        fn lookup(self, table: __m512i, indices: __m512i) -> __m512i { _mm512_shuffle_epi8(table, indices) }
        fn and_each(self, a: __m512i, b: __m512i) -> __m512i { _mm512_and_si512(a, b) }
        fn xor(self, a: __m512i, b: __m512i) -> __m512i { _mm512_xor_si512(a, b) }
        fn shl_words(self, a: __m512i, by: usize) -> __m512i { _mm512_sll_epi32(a, _mm_cvtsi32_si128(by as i32)) }
        fn negate(self, codes: __m512i, signs: __m512i) -> __m512i {
            // Modulo 256 this also takes 128 + code to 128 - code.
            let bit = _mm512_set1_epi64(0x8040_2010_0804_0201_u64 as i64);
            _mm512_mask_sub_epi8(codes, _mm512_test_epi8_mask(signs, bit), _mm512_setzero_si512(), codes)
        }
        fn prepare_i8(self, a: __m512i) -> __m512i { _mm512_xor_si512(a, _mm512_set1_epi8(i8::MIN)) }
        fn widen(self, a: __m512i, row: usize) -> __m512i {
            _mm512_cvtepi8_epi32(match row {
                0 => _mm512_castsi512_si128(a),
                1 => _mm512_extracti32x4_epi32::<1>(a),
                2 => _mm512_extracti32x4_epi32::<2>(a),
                _ => _mm512_extracti32x4_epi32::<3>(a),
            })
        }
        fn transpose(self, rows: [__m512i; 4]) -> [__m512i; 4] {
            // Part p has rows p, p + 4, ... in its quarters, so that a transposition within quarters is all of it.
            let low = [_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpacklo_epi32(rows[2], rows[3])];
            let high = [_mm512_unpackhi_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[2], rows[3])];
            [
                _mm512_unpacklo_epi64(low[0], low[1]),
                _mm512_unpackhi_epi64(low[0], low[1]),
                _mm512_unpacklo_epi64(high[0], high[1]),
                _mm512_unpackhi_epi64(high[0], high[1]),
            ]
        }
        fn as_words(self, parts: [__m512i; 4]) -> [__m512i; 4] { parts }
        fn splat_quads(self, x: i32) -> __m512i { _mm512_set1_epi32(x) }
        fn join_quads(self, parts: [__m512i; 4]) -> __m512i { parts[0] }
        fn dot_u7(self, acc: __m512i, w: __m512i, a: __m512i) -> __m512i { _mm512_dpbusd_epi32(acc, w, a) }
        fn dot_i8(self, acc: __m512i, w: __m512i, a: __m512i) -> __m512i { _mm512_dpbusd_epi32(acc, w, a) }
        fn kept(self, sums: __m512i) -> __m512i { pinned(sums) }
        fn reduce(self, rows: [__m512i; 4]) -> __m512i {
            let two = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (a, b) = (two(rows[0], rows[1]), two(rows[2], rows[3]));
            _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
        }
        fn dot4_u7(self, acc: __m512i, w: __m512i, a: i32) -> __m512i {
            _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(a))
        }
        fn dot4_i8(self, acc: __m512i, w: __m512i, a: i32) -> __m512i {
            _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(a))
        }
        fn dot4_by_u7(self, acc: __m512i, w: __m512i, a: i32) -> __m512i {
            _mm512_dpbusd_epi32(acc, _mm512_set1_epi32(a), w)
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
    fn parts<V: Copy>(self, v: V) -> [V; 4] {
        [v; 4]
    }

    #[inline(always)]
    unsafe fn find<const DIM: usize, const N: usize>(
        self,
        book: &Codebook<DIM, N>,
        numbers: [__m512i; 4],
    ) -> [__m512i; 4] {
        // SAFETY: the token proves AVX-512.
        unsafe {
            if N <= 512 {
                return packed_entries(&book.packed, numbers);
            }
            // Four times what the choice among so many tables keeps would not fit the registers.
            let mut found = numbers;
            for k in [0, 2] {
                [found[k], found[k + 1]] = packed_entries(&book.packed, [numbers[k], numbers[k + 1]]);
            }
            found
        }
    }

    #[inline(always)]
    unsafe fn fours<const N: usize>(self, book: &Codebook<4, N>, found: __m512i) -> [__m512i; 2] {
        // SAFETY: the token proves AVX-512; 16 bytes of levels.
        unsafe {
            let levels = self.prepare_i8(self.repeated(book.levels.as_ptr()));
            // Levels are numbered by 3 bits, 4 apart. A lookup heeds the lowest 4 bits of a byte and the highest, so
            // that what is above a number does not matter.
            let odd = _mm512_srli_epi16::<4>(found);
            [
                _mm512_shuffle_epi8(levels, _mm512_unpacklo_epi8(found, odd)),
                _mm512_shuffle_epi8(levels, _mm512_unpackhi_epi8(found, odd)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn eights<const N: usize>(self, book: &Codebook<8, N>, found: __m512i, half: usize) -> [__m512i; 2] {
        /// Each byte of two entries, four times; of each pair of entries.
        static FOURFOLD: [[u8; 16]; 4] = {
            let mut bytes = [[0; 16]; 4];
            let mut i = 0;
            while i < 64 {
                bytes[i / 16][i % 16] = (i / 4) as u8;
                i += 1;
            }
            bytes
        };
        // SAFETY: the token proves AVX-512; 16 bytes each.
        unsafe {
            let levels = self.prepare_i8(self.repeated(book.levels.as_ptr()));
            let pair = |i: usize| {
                // Levels are numbered by 2 bits. Bytes 0 to 3 get theirs to the lowest bits, or above the lowest two.
                let bytes = _mm512_shuffle_epi8(found, self.repeated(FOURFOLD[2 * half + i].as_ptr()));
                let shifted = _mm512_srlv_epi16(bytes, _mm512_set1_epi32(4 << 16));
                _mm512_shuffle_epi8(levels, _mm512_and_si512(shifted, _mm512_set1_epi16(0x0C03)))
            };
            [pair(0), pair(1)]
        }
    }
}

/// Keeps sums in their register. Loads that come later in the program stay later.
///
/// It has its own feature list, since only then may its assembly name such a register.
#[inline]
#[target_feature(enable = "avx512f")]
fn pinned(sums: __m512i) -> __m512i {
    let mut sums = sums;
    // SAFETY: no instruction.
    unsafe { asm!("/* {0} */", inout(zmm_reg) sums, options(nostack, preserves_flags)) };
    sums
}

/// The entries that u16 below `N` number, of `K` vectors side by side: they share the tables in registers, and hide each
/// other's latency.
///
/// # Safety
/// AVX-512.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)] // there is no instruction in it
unsafe fn packed_entries<const N: usize, const K: usize>(table: &[u16; N], numbers: [__m512i; K]) -> [__m512i; K] {
    const { assert!(N == 256 || N == 512 || N == 1024) }
    let mut p = table.as_ptr();
    // SAFETY: the caller has AVX-512; the table has that many entries; the assembly is no instruction.
    unsafe {
        if N > 256 {
            // Else it is loaded once for all, and then put on the stack, because it does not fit the registers.
            asm!("/* {} */", inout(reg) p, options(nomem, nostack, preserves_flags));
        }
        let mut found = among_256(p, numbers);
        if N >= 512 {
            found = choose(numbers, 256, found, among_256(p.add(256), numbers));
        }
        if N == 1024 {
            let upper = choose(numbers, 256, among_256(p.add(512), numbers), among_256(p.add(768), numbers));
            found = choose(numbers, 512, found, upper);
        }
        found
    }
}

/// # Safety
/// AVX-512, and 256 entries.
#[inline(always)]
unsafe fn among_256<const K: usize>(p: *const u16, numbers: [__m512i; K]) -> [__m512i; K] {
    // SAFETY: the caller's promise.
    unsafe {
        let lower = choose(numbers, 64, among_64(p, numbers), among_64(p.add(64), numbers));
        let upper = choose(numbers, 64, among_64(p.add(128), numbers), among_64(p.add(192), numbers));
        choose(numbers, 128, lower, upper)
    }
}

/// # Safety
/// AVX-512, and 64 entries.
#[inline(always)]
unsafe fn among_64<const K: usize>(p: *const u16, numbers: [__m512i; K]) -> [__m512i; K] {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = (_mm512_loadu_si512(p.cast()), _mm512_loadu_si512(p.add(32).cast()));
        let mut found = numbers;
        for k in 0..K {
            found[k] = _mm512_permutex2var_epi16(low, numbers[k], high);
        }
        found
    }
}

/// `set` where the numbers have this bit, else `clear`.
///
/// # Safety
/// AVX-512.
#[inline(always)]
unsafe fn choose<const K: usize>(
    numbers: [__m512i; K],
    bit: i16,
    clear: [__m512i; K],
    set: [__m512i; K],
) -> [__m512i; K] {
    let mut chosen = clear;
    for k in 0..K {
        // SAFETY: the caller has AVX-512.
        unsafe {
            let is_set = _mm512_test_epi16_mask(numbers[k], _mm512_set1_epi16(bit));
            chosen[k] = _mm512_mask_blend_epi16(is_set, clear[k], set[k]);
        }
    }
    chosen
}

/// # Safety
/// AVX-512.
#[inline(always)]
unsafe fn max_bits(a: __m512, b: __m512) -> __m512 {
    // SAFETY: the caller has AVX-512.
    unsafe { _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b))) }
}

/// Lane l: the sum of vector l, or its largest bits where `MAX`. A step combines the halves of two vectors and packs what
/// comes out into one; the pairs are those that leave the results in order.
///
/// # Safety
/// AVX-512.
#[inline(always)]
unsafe fn reduce_each<const MAX: bool>(v: &[__m512; 16]) -> __m512 {
    /// Parts of `$a` and `$b` that a step's two masks choose, combined.
    macro_rules! step {
        ($shuffle:ident [$first:literal, $second:literal] $a:expr, $b:expr) => {{
            let (a, b) = ($a, $b);
            let (a, b) = ($shuffle::<$first>(a, b), $shuffle::<$second>(a, b));
            if MAX { max_bits(a, b) } else { _mm512_add_ps(a, b) }
        }};
    }
    // SAFETY: the caller has AVX-512.
    unsafe {
        let mut fours = [v[0]; 4];
        for (i, four) in fours.iter_mut().enumerate() {
            let a = step!(_mm512_shuffle_f32x4 [0x44, 0xEE] v[i], v[i + 4]);
            let b = step!(_mm512_shuffle_f32x4 [0x44, 0xEE] v[i + 8], v[i + 12]);
            *four = step!(_mm512_shuffle_f32x4 [0x88, 0xDD] a, b);
        }
        let a = step!(_mm512_shuffle_ps [0x44, 0xEE] fours[0], fours[1]);
        let b = step!(_mm512_shuffle_ps [0x44, 0xEE] fours[2], fours[3]);
        step!(_mm512_shuffle_ps [0x88, 0xDD] a, b)
    }
}
