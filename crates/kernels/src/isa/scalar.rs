//! The operations in portable Rust: what each of them means.

use super::{GemmTile, Operations, Tile, TileSize, Tuning};
use crate::codebook::Codebook;
use half::f16;
use std::array::from_fn;

/// Needs no feature.
#[derive(Clone, Copy)]
pub(crate) struct Scalar(());

impl Scalar {
    /// Safe on every CPU; `unsafe` only to look like the others.
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

/// 16 elements of `N` bytes from `p`, `stride` bytes apart.
///
/// # Safety
/// All of them must be readable.
unsafe fn gather<const N: usize>(p: *const u8, stride: usize) -> [[u8; N]; 16] {
    // SAFETY: the caller's promise; arrays of bytes have no alignment.
    from_fn(|l| unsafe { p.add(l * stride).cast::<[u8; N]>().read() })
}

// SAFETY: no features are needed.
unsafe impl Operations for Scalar {
    type F = [f32; 16];
    type N = [i32; 16];
    type B = [u8; 16];
    type Q = [i32; 4];
    type Parts<V: Copy> = [V; 16];

    const PARTS: usize = 16;
    const I8_BIAS: i32 = 0;
    const TUNING: Tuning = Tuning {
        unroll: false,
        // Vectors are 16 scalars here: with tiles of 4 and 2, this level had more code than all others together.
        integer_tile: Tile { w: 1, x: TileSize::One },
        direct_rows: 1,
        float_tile: Tile { w: 2, x: TileSize::One },
        gemm_tile: GemmTile { rows: 6, vectors: 1 },
        attend_queries: 4,
    };

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 16] {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> [f32; 16] {
        // SAFETY: the caller has 16 readable floats there.
        unsafe { p.cast::<[f32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: [f32; 16]) {
        // SAFETY: the caller has 16 writable floats there.
        unsafe { p.cast::<[f32; 16]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u8) -> [f32; 16] {
        // SAFETY: the caller's promise.
        unsafe { self.gather_f16(p, 2) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u8, v: [f32; 16]) {
        // SAFETY: the caller has 32 writable bytes there.
        unsafe { p.cast::<[[u8; 2]; 16]>().write(v.map(|x| f16::from_f32(x).to_le_bytes())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u8) -> [f32; 16] {
        // SAFETY: the caller has 32 readable bytes there.
        unsafe { gather::<2>(p, 2) }.map(|b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))
    }
    #[inline(always)]
    unsafe fn gather_f16(self, p: *const u8, stride: usize) -> [f32; 16] {
        // SAFETY: the caller's promise.
        unsafe { gather::<2>(p, stride) }.map(|b| f16::from_le_bytes(b).to_f32())
    }
    #[inline(always)]
    fn add(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|l| a[l] + b[l])
    }
    #[inline(always)]
    fn sub(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|l| a[l] - b[l])
    }
    #[inline(always)]
    fn mul(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|l| a[l] * b[l])
    }
    #[inline(always)]
    fn div(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|l| a[l] / b[l])
    }
    #[inline(always)]
    fn fma(self, a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        from_fn(|l| a[l].mul_add(b[l], c[l]))
    }
    #[inline(always)]
    fn max(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|l| if a[l] > b[l] { a[l] } else { b[l] })
    }
    #[inline(always)]
    fn min(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|l| if a[l] < b[l] { a[l] } else { b[l] })
    }
    #[inline(always)]
    fn abs(self, a: [f32; 16]) -> [f32; 16] {
        a.map(f32::abs)
    }
    #[inline(always)]
    fn copysign(self, a: [f32; 16], sign: [f32; 16]) -> [f32; 16] {
        from_fn(|l| a[l].copysign(sign[l]))
    }
    #[inline(always)]
    fn select_lt(self, a: [f32; 16], b: [f32; 16], x: [f32; 16], y: [f32; 16]) -> [f32; 16] {
        from_fn(|l| if a[l] < b[l] { x[l] } else { y[l] })
    }
    #[inline(always)]
    fn sum(self, a: [f32; 16]) -> f32 {
        let a: [f32; 8] = from_fn(|l| a[l] + a[l + 8]);
        let a: [f32; 4] = from_fn(|l| a[l] + a[l + 4]);
        (a[0] + a[2]) + (a[1] + a[3])
    }
    #[inline(always)]
    fn sum_each(self, vectors: [[f32; 16]; 16]) -> [f32; 16] {
        vectors.map(|v| self.sum(v))
    }
    #[inline(always)]
    fn max_lane(self, a: [f32; 16]) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
    }
    #[inline(always)]
    fn largest_magnitude(self, a: [f32; 16], b: [f32; 16]) -> u32 {
        a.into_iter().chain(b).fold(0, |m, x| m.max(x.abs().to_bits()))
    }
    #[inline(always)]
    fn max_bits(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|l| f32::from_bits(a[l].to_bits().max(b[l].to_bits())))
    }
    #[inline(always)]
    fn max_bits_each(self, vectors: [[f32; 16]; 16]) -> [f32; 16] {
        vectors.map(|v| f32::from_bits(v.into_iter().fold(0, |m, x| m.max(x.to_bits()))))
    }
    #[inline(always)]
    fn round(self, a: [f32; 16]) -> [i32; 16] {
        a.map(|x| x.round_ties_even() as i32)
    }
    #[inline(always)]
    fn to_float(self, a: [i32; 16]) -> [f32; 16] {
        a.map(|x| x as f32)
    }
    #[inline(always)]
    fn pow2(self, n: [i32; 16]) -> [f32; 16] {
        n.map(|n| f32::from_bits(((n + 127) << 23) as u32))
    }
    #[inline(always)]
    fn splat_int(self, x: i32) -> [i32; 16] {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn load_int(self, p: *const u32) -> [i32; 16] {
        // SAFETY: the caller has 64 readable bytes there.
        unsafe { p.cast::<[i32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_int(self, p: *mut u32, v: [i32; 16]) {
        // SAFETY: the caller has 64 writable bytes there.
        unsafe { p.cast::<[i32; 16]>().write_unaligned(v) }
    }
    #[inline(always)]
    fn add_int(self, a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        from_fn(|l| a[l] + b[l])
    }
    #[inline(always)]
    fn or_int(self, a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        from_fn(|l| a[l] | b[l])
    }
    #[inline(always)]
    fn and_int(self, a: [i32; 16], mask: u32) -> [i32; 16] {
        a.map(|x| x & mask as i32)
    }
    #[inline(always)]
    fn shl_int(self, a: [i32; 16], by: usize) -> [i32; 16] {
        a.map(|x| x << by)
    }
    #[inline(always)]
    fn shr_int(self, a: [i32; 16], by: usize) -> [i32; 16] {
        a.map(|x| x >> by)
    }
    #[inline(always)]
    fn half_to_float(self, a: [i32; 16]) -> [f32; 16] {
        a.map(|x| f16::from_bits(x as u16).to_f32())
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut u8, v: [i32; 16]) -> i32 {
        // SAFETY: the caller has 16 writable bytes there.
        unsafe { p.cast::<[u8; 16]>().write(v.map(|x| x as u8)) }
        v.into_iter().sum()
    }
    #[inline(always)]
    fn parts<V: Copy>(self, v: V) -> [V; 16] {
        [v; 16]
    }
    #[inline(always)]
    fn splat_bytes(self, x: u8) -> [u8; 16] {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8) -> [u8; 16] {
        // SAFETY: the caller has 16 readable bytes there.
        unsafe { p.cast::<[u8; 16]>().read() }
    }
    #[inline(always)]
    unsafe fn rows(self, p: *const u8, _: usize) -> [u8; 16] {
        // SAFETY: the caller's promise.
        unsafe { self.load_bytes(p) }
    }
    #[inline(always)]
    fn repeated_word(self, x: i32) -> [u8; 16] {
        from_fn(|j| x.to_le_bytes()[j % 4])
    }
    #[inline(always)]
    unsafe fn repeated(self, p: *const u8) -> [u8; 16] {
        // SAFETY: the caller's promise.
        unsafe { self.rows(p, 0) }
    }
    #[inline(always)]
    unsafe fn fifth_bits(self, p: *const u8, _: usize) -> [[u8; 16]; 2] {
        // SAFETY: the caller has 4 readable bytes there.
        let bits = u32::from_le_bytes(unsafe { p.cast::<[u8; 4]>().read() });
        [0, 16].map(|first| from_fn(|j| ((bits >> (first + j) & 1) << 4) as u8))
    }
    #[inline(always)]
    fn or(self, a: [u8; 16], b: [u8; 16]) -> [u8; 16] {
        from_fn(|j| a[j] | b[j])
    }
    #[inline(always)]
    fn and(self, a: [u8; 16], mask: u8) -> [u8; 16] {
        a.map(|x| x & mask)
    }
    #[inline(always)]
    fn shr(self, a: [u8; 16], by: usize) -> [u8; 16] {
        a.map(|x| x >> by)
    }
    #[inline(always)]
    fn shl(self, a: [u8; 16], by: usize) -> [u8; 16] {
        a.map(|x| x << by)
    }
    #[inline(always)]
    fn lookup(self, table: [u8; 16], indices: [u8; 16]) -> [u8; 16] {
        indices.map(|i| table.get(usize::from(i)).copied().unwrap_or(0))
    }
    #[inline(always)]
    fn and_each(self, a: [u8; 16], b: [u8; 16]) -> [u8; 16] {
        from_fn(|j| a[j] & b[j])
    }
    #[inline(always)]
    fn xor(self, a: [u8; 16], b: [u8; 16]) -> [u8; 16] {
        from_fn(|j| a[j] ^ b[j])
    }
    #[inline(always)]
    fn shl_words(self, a: [u8; 16], by: usize) -> [u8; 16] {
        let mut words = a;
        for word in words.as_chunks_mut::<4>().0 {
            *word = (u32::from_le_bytes(*word) << by).to_le_bytes();
        }
        words
    }
    #[inline(always)]
    fn negate(self, codes: [u8; 16], signs: [u8; 16]) -> [u8; 16] {
        from_fn(|j| if signs[j] >> (j % 8) & 1 == 1 { codes[j].wrapping_neg() } else { codes[j] })
    }
    #[inline(always)]
    unsafe fn fours<const N: usize>(self, book: &Codebook<4, N>, numbers: [u8; 16]) -> [[u8; 16]; 2] {
        [0, 4].map(|first| from_fn(|j| book.magnitudes[number(numbers, first + j / 4)][j % 4]))
    }
    #[inline(always)]
    unsafe fn eights<const N: usize>(self, book: &Codebook<8, N>, numbers: [u8; 16], half: usize) -> [[u8; 16]; 2] {
        [0, 2].map(|first| from_fn(|j| book.magnitudes[number(numbers, 4 * half + first + j / 8)][j % 8]))
    }
    #[inline(always)]
    fn prepare_i8(self, a: [u8; 16]) -> [u8; 16] {
        a
    }
    #[inline(always)]
    fn widen(self, a: [u8; 16], _row: usize) -> [i32; 16] {
        a.map(|x| i32::from(x as i8))
    }
    #[inline(always)]
    fn transpose(self, rows: [[u8; 16]; 16]) -> [[i32; 16]; 4] {
        from_fn(|w| rows.map(|row| i32::from_le_bytes(row.as_chunks::<4>().0[w])))
    }
    #[inline(always)]
    fn as_words(self, parts: [[u8; 16]; 16]) -> [[i32; 16]; 4] {
        from_fn(|w| from_fn(|l| i32::from_le_bytes(parts[4 * w + l / 4].as_chunks::<4>().0[l % 4])))
    }
    #[inline(always)]
    fn splat_quads(self, x: i32) -> [i32; 4] {
        [x; 4]
    }
    #[inline(always)]
    fn join_quads(self, parts: [[i32; 4]; 16]) -> [i32; 16] {
        from_fn(|l| parts[l / 4][l % 4])
    }
    #[inline(always)]
    fn dot_u7(self, acc: [i32; 4], w: [u8; 16], a: [u8; 16]) -> [i32; 4] {
        self.dot_i8(acc, w, a)
    }
    #[inline(always)]
    fn dot_i8(self, acc: [i32; 4], w: [u8; 16], a: [u8; 16]) -> [i32; 4] {
        let product = |j: usize| i32::from(w[j] as i8) * i32::from(a[j] as i8);
        from_fn(|l| acc[l] + (4 * l..4 * l + 4).map(product).sum::<i32>())
    }
    #[inline(always)]
    fn reduce(self, rows: [[i32; 4]; 16]) -> [i32; 16] {
        rows.map(|row| row.iter().sum())
    }
    #[inline(always)]
    fn dot4_u7(self, acc: [i32; 16], w: [i32; 16], a: i32) -> [i32; 16] {
        self.dot4_i8(acc, w, a)
    }
    #[inline(always)]
    fn dot4_i8(self, acc: [i32; 16], w: [i32; 16], a: i32) -> [i32; 16] {
        // Byte j, its sign extended.
        let byte = |x: i32, j: usize| x << (24 - 8 * j) >> 24;
        from_fn(|l| acc[l] + (0..4).map(|j| byte(w[l], j) * byte(a, j)).sum::<i32>())
    }
    #[inline(always)]
    fn dot4_by_u7(self, acc: [i32; 16], w: [i32; 16], a: i32) -> [i32; 16] {
        self.dot4_i8(acc, w, a)
    }
    #[inline(always)]
    fn prefetch(self, _: *const u8) {}
    #[inline(always)]
    fn in_order(self) {}

    #[inline(always)]
    fn renewed(self, n: usize) -> usize {
        n
    }
}

/// The `i`th of 8 u16.
#[inline(always)]
fn number(numbers: [u8; 16], i: usize) -> usize {
    usize::from(u16::from_le_bytes(numbers.as_chunks::<2>().0[i]))
}
