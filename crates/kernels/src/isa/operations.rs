//! The operations that every instruction set provides.

use super::Tuning;
use crate::codebook::Codebook;
use crate::matmul::CACHE_LINE_BYTES;
use std::ops::IndexMut;

/// The operations. See the documentation of the module above for what they may rely on.
///
/// # Safety
/// A value of an implementing type must exist only where the CPU has the features its operations use.
/// The operations that take a pointer need as many readable (writable) bytes behind it as they name, at any alignment.
#[allow(clippy::missing_safety_doc)] // the pointer operations' duty is stated once, above
pub(crate) unsafe trait Operations: Copy + Send + Sync + 'static {
    /// 16 f32.
    type F: Copy;
    /// 16 i32, or 16 lanes of 4 bytes.
    type N: Copy;
    /// 16 bytes of each of `16 / PARTS` rows.
    type B: Copy;
    /// 4 i32 of each of those rows: sums over 4 neighbouring bytes of a [`Self::B`].
    type Q: Copy;
    /// A value for every part of 16 rows: an array of [`Self::PARTS`].
    type Parts<V: Copy>: Copy + IndexMut<usize, Output = V>;

    /// Vectors of bytes that hold 16 rows together. Part p has rows p, p + PARTS, p + 2 PARTS and so on.
    const PARTS: usize;
    /// Whether a vector of bytes has 32, so that it also holds a unit of one row; see [`Self::reduce_rows`].
    const HOLDS_UNIT: bool = false;
    /// What [`Self::prepare_i8`] adds to codes: 128 where the dot instruction wants its left side unsigned.
    const I8_BIAS: i32;
    /// How kernels use the registers.
    const TUNING: Tuning;

    fn splat(self, x: f32) -> Self::F;
    /// 16 floats.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// 16 floats.
    unsafe fn store(self, p: *mut f32, v: Self::F);
    /// 16 f16.
    unsafe fn load_f16(self, p: *const u8) -> Self::F;
    /// 16 f16, rounded to nearest even.
    unsafe fn store_f16(self, p: *mut u8, v: Self::F);
    /// 16 bf16.
    unsafe fn load_bf16(self, p: *const u8) -> Self::F;
    /// 16 f16, `stride` bytes apart.
    unsafe fn gather_f16(self, p: *const u8, stride: usize) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger; operands are never NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller; operands are never NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    /// Magnitude of `a`, sign of `sign`.
    fn copysign(self, a: Self::F, sign: Self::F) -> Self::F;
    /// Per lane `if a < b { x } else { y }`.
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F;
    /// Sum of the lanes by halving: l + (l + 8), then 4, 2, 1.
    fn sum(self, a: Self::F) -> f32;
    /// Lane l: [`Self::sum`] of vector l.
    fn sum_each(self, vectors: [Self::F; 16]) -> Self::F;
    /// Largest lane.
    fn max_lane(self, a: Self::F) -> f32;
    /// Bits of the largest magnitude in both: those of infinity or above if a lane is not finite.
    fn largest_magnitude(self, a: Self::F, b: Self::F) -> u32;
    /// Per lane the larger of the bits as unsigned numbers: of floats that are not negative the larger, or one that is not
    /// a number.
    fn max_bits(self, a: Self::F, b: Self::F) -> Self::F;
    /// Lane l: the largest of the lanes of vector l, as [`Self::max_bits`] has it.
    fn max_bits_each(self, vectors: [Self::F; 16]) -> Self::F;
    /// Nearest integers, ties to even.
    fn round(self, a: Self::F) -> Self::N;
    fn to_float(self, a: Self::N) -> Self::F;
    /// 2^n for n in -126..=127.
    fn pow2(self, n: Self::N) -> Self::F;

    fn splat_int(self, x: i32) -> Self::N;
    /// 64 bytes.
    unsafe fn load_int(self, p: *const u32) -> Self::N;
    /// 64 bytes.
    unsafe fn store_int(self, p: *mut u32, v: Self::N);
    fn add_int(self, a: Self::N, b: Self::N) -> Self::N;
    fn or_int(self, a: Self::N, b: Self::N) -> Self::N;
    fn and_int(self, a: Self::N, mask: u32) -> Self::N;
    /// Every lane shifted left by `by` bits.
    fn shl_int(self, a: Self::N, by: usize) -> Self::N;
    /// Every lane shifted right by `by` bits, copies of its sign moving in.
    fn shr_int(self, a: Self::N, by: usize) -> Self::N;
    /// The f16 in the lower half of every lane.
    fn half_to_float(self, a: Self::N) -> Self::F;
    /// 16 integers in -128..=127, as bytes; returns their sum.
    unsafe fn store_i8(self, p: *mut u8, v: Self::N) -> i32;

    /// The same value for every part.
    fn parts<V: Copy>(self, v: V) -> Self::Parts<V>;
    fn splat_bytes(self, x: u8) -> Self::B;
    /// As many bytes as a vector has: 16 of each row of a part, one row after another.
    unsafe fn load_bytes(self, p: *const u8) -> Self::B;
    /// 16 bytes of each row of a part, `stride` bytes apart.
    unsafe fn rows(self, p: *const u8, stride: usize) -> Self::B;
    /// The same 4 bytes in every word.
    fn repeated_word(self, x: i32) -> Self::B;
    /// The same 16 bytes for every row.
    unsafe fn repeated(self, p: *const u8) -> Self::B;
    /// The bits of 4 bytes of each row, `stride` bytes apart: of the first 2 bytes, then of the last 2. A byte is 16
    /// where its bit is set, else 0.
    unsafe fn fifth_bits(self, p: *const u8, stride: usize) -> [Self::B; 2];
    fn or(self, a: Self::B, b: Self::B) -> Self::B;
    fn and(self, a: Self::B, mask: u8) -> Self::B;
    /// Every byte shifted right by `by` bits.
    fn shr(self, a: Self::B, by: usize) -> Self::B;
    /// Every byte shifted left by `by` bits.
    fn shl(self, a: Self::B, by: usize) -> Self::B;
    /// Every byte replaced by the one it numbers, 0..16, among the 16 of its row in `table`, and 128 by 0.
    fn lookup(self, table: Self::B, indices: Self::B) -> Self::B;
    fn and_each(self, a: Self::B, b: Self::B) -> Self::B;
    fn xor(self, a: Self::B, b: Self::B) -> Self::B;
    /// Every 4 bytes, as a little-endian word, shifted left by `by` bits.
    fn shl_words(self, a: Self::B, by: usize) -> Self::B;
    /// Prepared codes, negated where bit `j % 8` of byte `j` of `signs` is set.
    fn negate(self, codes: Self::B, signs: Self::B) -> Self::B;
    /// Finds the entries that 8 u16 per row number, of 16 rows, for `fours` and `eights`. The default leaves the
    /// numbers as they are, and those two look the entries up.
    ///
    /// # Safety
    /// Numbers are below `N`.
    #[inline(always)]
    unsafe fn find<const DIM: usize, const N: usize>(
        self,
        _book: &Codebook<DIM, N>,
        numbers: Self::Parts<Self::B>,
    ) -> Self::Parts<Self::B> {
        numbers
    }
    /// Of 8 entries of a row that were found, prepared codes: of the first four, then of the last.
    ///
    /// # Safety
    /// `found` comes from `find`, for the same codebook.
    unsafe fn fours<const N: usize>(self, book: &Codebook<4, N>, found: Self::B) -> [Self::B; 2];
    /// Of the first four or the last four entries of a row that were found, as `half` is 0 or 1, prepared codes: of the
    /// first two of them, then of the last.
    ///
    /// # Safety
    /// As above.
    unsafe fn eights<const N: usize>(self, book: &Codebook<8, N>, found: Self::B, half: usize) -> [Self::B; 2];
    /// Two's complement codes as [`Self::dot_i8`] wants its left side: plus [`Self::I8_BIAS`].
    fn prepare_i8(self, a: Self::B) -> Self::B;
    /// The 16 bytes of one row of a part, the `row`th, as integers: signs extended.
    fn widen(self, a: Self::B, row: usize) -> Self::N;
    /// The 16 bytes of each of 16 rows as 4 words: vector w has word w of row l in lane l.
    fn transpose(self, rows: Self::Parts<Self::B>) -> [Self::N; 4];
    /// The same for rows in memory, `stride` bytes apart.
    #[inline(always)]
    unsafe fn words(self, p: *const u8, stride: usize) -> [Self::N; 4] {
        let mut rows = self.parts(self.splat_bytes(0));
        for part in 0..Self::PARTS {
            // SAFETY: the caller's promise.
            rows[part] = unsafe { self.rows(p.wrapping_add(part * stride), Self::PARTS * stride) };
        }
        self.transpose(rows)
    }

    /// The same for interleaved rows, whose parts are the words of all rows, one part after another.
    fn as_words(self, parts: Self::Parts<Self::B>) -> [Self::N; 4];

    fn splat_quads(self, x: i32) -> Self::Q;
    /// The sums of 16 interleaved rows: of the first `PARTS / 4` parts.
    fn join_quads(self, parts: Self::Parts<Self::Q>) -> Self::N;
    /// `acc` plus the sums of `w * a` over 4 neighbours; `w` in 0..=127, `a` in -127..=127.
    fn dot_u7(self, acc: Self::Q, w: Self::B, a: Self::B) -> Self::Q;
    /// The same for prepared signed codes.
    fn dot_i8(self, acc: Self::Q, w: Self::B, a: Self::B) -> Self::Q;
    /// Lane l: the sum over the 4 of row l.
    fn reduce(self, rows: Self::Parts<Self::Q>) -> Self::N;
    /// What `dot_u7` does, for codes of at most 6 bits. Sums may be of 16 bits: at most two products are added, and only
    /// `reduce_few` and `reduce_rows` read them.
    #[inline(always)]
    fn dot_few(self, acc: Self::Q, w: Self::B, a: Self::B) -> Self::Q {
        self.dot_u7(acc, w, a)
    }
    /// The same sums, kept in their register, and later loads behind them. Else the compiler may load for all parts first,
    /// and put what the registers do not hold back into memory.
    #[inline(always)]
    fn made(self, sums: Self::Q) -> Self::Q {
        sums
    }
    /// What `reduce` does, for sums of `products` products by `dot_few`, of codes of `bits` bits.
    #[inline(always)]
    fn reduce_few(self, rows: Self::Parts<Self::Q>, _bits: u32, _products: usize) -> Self::N {
        self.reduce(rows)
    }
    /// The same for 16 vectors of one product each, where every vector has 32 codes of one row: sums of the first 16 and of
    /// the last, or twice of all 32 if not `split`.
    #[inline(always)]
    unsafe fn reduce_rows(self, _rows: *const Self::Q, _bits: u32, _split: bool) -> [Self::N; 2] {
        unreachable!("vectors hold no unit")
    }

    /// The same for products of interleaved rows, where it pays on more ISAs: AVX-512 loses a third of its speed with `made`
    /// in products of rows.
    #[inline(always)]
    fn kept(self, sums: Self::Q) -> Self::Q {
        sums
    }
    /// `acc[m]` plus the products of words of interleaved rows with `a[..][m]`, `kept`. Codes are as in `dot_steps`.
    #[inline(always)]
    fn dot_words<const W: usize, const M: usize>(
        self,
        mut acc: [Self::Q; M],
        w: [Self::B; W],
        a: &[[i32; M]; W],
        bits: u32,
    ) -> [Self::Q; M] {
        for m in 0..M {
            for i in 0..W {
                let a = self.repeated_word(a[i][m]);
                acc[m] = if bits == 8 { self.dot_i8(acc[m], w[i], a) } else { self.dot_u7(acc[m], w[i], a) };
            }
            acc[m] = self.kept(acc[m]);
        }
        acc
    }

    /// Per lane `acc + w . a` over 4 bytes; `w` in 0..=127; `a` holds the same 4 signed bytes for every lane.
    fn dot4_u7(self, acc: Self::N, w: Self::N, a: i32) -> Self::N;
    /// The same for prepared signed codes.
    fn dot4_i8(self, acc: Self::N, w: Self::N, a: i32) -> Self::N;
    /// The same for signed codes in -127..=127, not prepared, where the bytes of `a` are in 0..=127.
    fn dot4_by_u7(self, acc: Self::N, w: Self::N, a: i32) -> Self::N;
    /// Where the word `lane` of step `step` is among those that `dot_steps` reads.
    #[inline(always)]
    fn step_word(self, step: usize, lane: usize) -> usize {
        16 * step + lane
    }
    /// 4 steps of the integer GEMM: 4 codes of each of 16 rows in each, unsigned or prepared. 256 bytes, laid out as
    /// `dot_steps` reads them; by default one after another.
    #[inline(always)]
    unsafe fn store_steps(self, p: *mut u32, steps: [Self::N; 4]) {
        for (i, step) in steps.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { self.store_int(p.add(16 * i), step) };
        }
    }
    /// `acc[p][m]` plus the products of `a.len()` steps (a multiple of 4) at `w[p]` with `a[..][m]`. Codes are in
    /// `0..1 << bits`, at most 7, or prepared signed ones where `bits` is 8.
    #[inline(always)]
    unsafe fn dot_steps<const P: usize, const M: usize>(
        self,
        mut acc: [[Self::N; M]; P],
        w: [*const u32; P],
        a: &[[i32; M]],
        bits: u32,
    ) -> [[Self::N; M]; P] {
        for (step, a) in a.iter().enumerate() {
            for p in 0..P {
                // SAFETY: the caller's promise.
                let w = unsafe { self.load_int(w[p].add(16 * step)) };
                for m in 0..M {
                    acc[p][m] =
                        if bits == 8 { self.dot4_i8(acc[p][m], w, a[m]) } else { self.dot4_u7(acc[p][m], w, a[m]) };
                }
            }
        }
        acc
    }

    /// Asks for the cache line of `p`, into the second cache; the address need not be readable.
    fn prefetch(self, p: *const u8);
    /// The same for all lines of `bytes` bytes, a line's distance from `p` each.
    #[inline(always)]
    fn prefetch_bytes(self, p: *const u8, bytes: usize) {
        // Not `step_by`, which is not unrolled.
        let mut at = 0;
        while at < bytes {
            self.prefetch(p.wrapping_add(at));
            at += CACHE_LINE_BYTES;
        }
    }
    /// Keeps the compiler from moving loads and prefetches past this point, though not from reusing what was loaded.
    fn in_order(self);
    /// The same number, which the compiler must take for a new one: multiples of a stride are then found where they are
    /// used. Sixteen of them kept from block to block would not fit the registers, and fetching them is dearer.
    fn renewed(self, n: usize) -> usize;
}
