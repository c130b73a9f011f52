//! The operations on AArch64 NEON: four registers per float vector. `DOT` adds the SDOT instruction, `MATRIX` SMMLA.

use super::{GemmTile, Operations, Tile, TileSize, Tuning};
use crate::codebook::Codebook;
use std::arch::aarch64::*;
use std::arch::asm;

/// Proof of NEON, of the dot-product instructions where `DOT`, and of the int8 matrix instructions where `MATRIX`.
#[derive(Clone, Copy)]
pub(crate) struct Neon<const DOT: bool, const MATRIX: bool>(());

impl<const DOT: bool, const MATRIX: bool> Neon<DOT, MATRIX> {
    /// # Safety
    /// The CPU must have the features of the `isas!` row.
    pub(super) unsafe fn new() -> Self {
        Self(())
    }

    /// `acc` + the dot products of four neighbours.
    #[inline(always)]
    fn sdot(self, acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
        if DOT {
            let mut acc = acc;
            // SAFETY: the token of a `DOT` type proves SDOT; the instruction touches only these registers. Inline
            // assembly because the intrinsic is not stable; the directive because the operation may be assembled alone.
            unsafe {
                asm!(
                    ".arch_extension dotprod",
                    "sdot {acc:v}.4s, {w:v}.16b, {a:v}.16b",
                    acc = inout(vreg) acc, w = in(vreg) w, a = in(vreg) a,
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
            return acc;
        }
        // SAFETY: the token proves NEON. Two products fit 16 bits: 2 * 128 * 127.
        unsafe {
            let lo = vmull_s8(vget_low_s8(w), vget_low_s8(a));
            let hi = vmull_high_s8(w, a);
            vpadalq_s16(acc, vpaddq_s16(lo, hi))
        }
    }

    /// `acc` + the products of two rows of eight in `a` with two in `b`: `a0 b0`, `a0 b1`, `a1 b0`, `a1 b1`.
    ///
    /// # Safety
    /// Only where `MATRIX`, whose token proves SMMLA.
    #[inline(always)]
    unsafe fn smmla(self, acc: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        let mut acc = acc;
        // SAFETY: the caller's promise; otherwise as in `sdot`.
        unsafe {
            asm!(
                ".arch_extension i8mm",
                "smmla {acc:v}.4s, {a:v}.16b, {b:v}.16b",
                acc = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        acc
    }
}

/// The same operation on each of four registers.
macro_rules! four {
    ($i:ident => $e:expr) => {
        [
            {
                let $i = 0;
                $e
            },
            {
                let $i = 1;
                $e
            },
            {
                let $i = 2;
                $e
            },
            {
                let $i = 3;
                $e
            },
        ]
    };
}

/// Widens four f16. Inline assembly because Rust's f16 vector types are not stable.
#[inline(always)]
fn widen_f16(h: uint16x4_t) -> float32x4_t {
    let v: float32x4_t;
    // SAFETY: FCVTL is part of base NEON; called from operations of a token holder only.
    unsafe {
        asm!("fcvtl {v:v}.4s, {h:v}.4h", v = out(vreg) v, h = in(vreg) h, options(pure, nomem, nostack, preserves_flags));
    }
    v
}

/// Narrows four f32 to f16, to nearest even.
#[inline(always)]
fn narrow_f16(v: float32x4_t) -> uint16x4_t {
    let h: uint16x4_t;
    // SAFETY: as `widen_f16`; FCVTN rounds by FPCR, which Rust keeps at nearest even.
    unsafe {
        asm!("fcvtn {h:v}.4h, {v:v}.4s", h = out(vreg) h, v = in(vreg) v, options(pure, nomem, nostack, preserves_flags));
    }
    h
}

type F = [float32x4_t; 4];
type N = [int32x4_t; 4];
type B = int8x16_t;

// SAFETY: the token is made only where the features were found.
unsafe impl<const DOT: bool, const MATRIX: bool> Operations for Neon<DOT, MATRIX> {
    type F = F;
    type N = N;
    type B = B;
    type Q = int32x4_t;
    type Parts<V: Copy> = [V; 16];

    const PARTS: usize = 16;
    const I8_BIAS: i32 = 0;
    const TUNING: Tuning = Tuning {
        unroll: true,
        // 12 integer and 12 float accumulators of the 32 registers; SMMLA works on pairs of rows
        integer_tile: Tile { w: 1, x: if MATRIX { TileSize::Four } else { TileSize::Three } },
        // a tile of SDOT; not measured
        direct_rows: 3,
        float_tile: Tile { w: 2, x: TileSize::Two },
        // 24 registers of accumulators of the 32, 4 of columns
        gemm_tile: GemmTile { rows: 6, vectors: 1 },
        attend_queries: 4,
    };

    operations! {
        fn splat(self, x: f32) -> F { [vdupq_n_f32(x); 4] }
        unsafe fn load(self, p: *const f32) -> F { four!(i => vld1q_f32(p.add(4 * i))) }
        unsafe fn store(self, p: *mut f32, v: F) -> () { four!(i => vst1q_f32(p.add(4 * i), v[i])); }
        unsafe fn load_f16(self, p: *const u8) -> F {
            four!(i => widen_f16(vreinterpret_u16_u8(vld1_u8(p.add(8 * i)))))
        }
        unsafe fn store_f16(self, p: *mut u8, v: F) -> () {
            four!(i => vst1_u8(p.add(8 * i), vreinterpret_u8_u16(narrow_f16(v[i]))));
        }
        unsafe fn load_bf16(self, p: *const u8) -> F {
            four!(i => vreinterpretq_f32_u32(vshll_n_u16::<16>(vreinterpret_u16_u8(vld1_u8(p.add(8 * i))))))
        }
        unsafe fn gather_f16(self, p: *const u8, stride: usize) -> F {
            let h: [u16; 16] = std::array::from_fn(|l| p.add(l * stride).cast::<u16>().read_unaligned());
            self.load_f16(h.as_ptr().cast())
        }
        fn add(self, a: F, b: F) -> F { four!(i => vaddq_f32(a[i], b[i])) }
        fn sub(self, a: F, b: F) -> F { four!(i => vsubq_f32(a[i], b[i])) }
        fn mul(self, a: F, b: F) -> F { four!(i => vmulq_f32(a[i], b[i])) }
        fn div(self, a: F, b: F) -> F { four!(i => vdivq_f32(a[i], b[i])) }
        fn fma(self, a: F, b: F, c: F) -> F { four!(i => vfmaq_f32(c[i], a[i], b[i])) }
        fn max(self, a: F, b: F) -> F { four!(i => vmaxq_f32(a[i], b[i])) }
        fn min(self, a: F, b: F) -> F { four!(i => vminq_f32(a[i], b[i])) }
        fn abs(self, a: F) -> F { four!(i => vabsq_f32(a[i])) }
        fn copysign(self, a: F, sign: F) -> F {
            four!(i => vbslq_f32(vdupq_n_u32(0x8000_0000), sign[i], a[i]))
        }
        fn select_lt(self, a: F, b: F, x: F, y: F) -> F { four!(i => vbslq_f32(vcltq_f32(a[i], b[i]), x[i], y[i])) }
        fn sum(self, a: F) -> f32 {
            let a = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
            let a = vadd_f32(vget_low_f32(a), vget_high_f32(a));
            vget_lane_f32::<0>(a) + vget_lane_f32::<1>(a)
        }
        fn sum_each(self, v: [F; 16]) -> F {
            let mut fours = [v[0][0]; 16];
            for (four, v) in fours.iter_mut().zip(v) {
                *four = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
            }
            let mut twos = [v[0][0]; 8];
            for (two, four) in twos.iter_mut().zip(fours.as_chunks::<2>().0) {
                let (a, b) = (vreinterpretq_f64_f32(four[0]), vreinterpretq_f64_f32(four[1]));
                *two = vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(a, b)), vreinterpretq_f32_f64(vzip2q_f64(a, b)));
            }
            four!(i => vpaddq_f32(twos[2 * i], twos[2 * i + 1]))
        }
        fn max_lane(self, a: F) -> f32 { vmaxvq_f32(vmaxq_f32(vmaxq_f32(a[0], a[2]), vmaxq_f32(a[1], a[3]))) }
        fn largest_magnitude(self, a: F, b: F) -> u32 {
            let mut largest = vdupq_n_u32(0);
            for v in [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]] {
                largest = vmaxq_u32(largest, vreinterpretq_u32_f32(vabsq_f32(v)));
            }
            vmaxvq_u32(largest)
        }
        fn max_bits(self, a: F, b: F) -> F {
            let bits = |v| vreinterpretq_u32_f32(v);
            four!(i => vreinterpretq_f32_u32(vmaxq_u32(bits(a[i]), bits(b[i]))))
        }
        fn max_bits_each(self, v: [F; 16]) -> F {
            let mut fours = [vdupq_n_u32(0); 16];
            for (four, v) in fours.iter_mut().zip(v) {
                let v = four!(i => vreinterpretq_u32_f32(v[i]));
                *four = vmaxq_u32(vmaxq_u32(v[0], v[2]), vmaxq_u32(v[1], v[3]));
            }
            let two = |i: usize| vpmaxq_u32(fours[i], fours[i + 1]);
            four!(i => vreinterpretq_f32_u32(vpmaxq_u32(two(4 * i), two(4 * i + 2))))
        }
        fn round(self, a: F) -> N { four!(i => vcvtnq_s32_f32(a[i])) }
        fn to_float(self, a: N) -> F { four!(i => vcvtq_f32_s32(a[i])) }
        fn pow2(self, n: N) -> F {
            four!(i => vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n[i], vdupq_n_s32(127)))))
        }
        fn splat_int(self, x: i32) -> N { [vdupq_n_s32(x); 4] }
        unsafe fn load_int(self, p: *const u32) -> N { four!(i => vld1q_s32(p.add(4 * i).cast())) }
        unsafe fn store_int(self, p: *mut u32, v: N) -> () { four!(i => vst1q_s32(p.add(4 * i).cast(), v[i])); }
        fn add_int(self, a: N, b: N) -> N { four!(i => vaddq_s32(a[i], b[i])) }
        fn or_int(self, a: N, b: N) -> N { four!(i => vorrq_s32(a[i], b[i])) }
        fn and_int(self, a: N, mask: u32) -> N { four!(i => vandq_s32(a[i], vdupq_n_s32(mask as i32))) }
        fn shl_int(self, a: N, by: usize) -> N { four!(i => vshlq_s32(a[i], vdupq_n_s32(by as i32))) }
        fn shr_int(self, a: N, by: usize) -> N {
            // A shift by a negative count goes right.
            four!(i => vshlq_s32(a[i], vdupq_n_s32(-(by as i32))))
        }
        fn half_to_float(self, a: N) -> F { four!(i => widen_f16(vmovn_u32(vreinterpretq_u32_s32(a[i])))) }
        unsafe fn store_i8(self, p: *mut u8, v: N) -> i32 {
            let lo = vcombine_s16(vmovn_s32(v[0]), vmovn_s32(v[1]));
            let hi = vcombine_s16(vmovn_s32(v[2]), vmovn_s32(v[3]));
            vst1q_s8(p.cast(), vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)));
            i32::from(vaddvq_s16(vaddq_s16(lo, hi)))
        }

        fn splat_bytes(self, x: u8) -> B { vdupq_n_s8(x as i8) }
        unsafe fn load_bytes(self, p: *const u8) -> B { vld1q_s8(p.cast()) }
        unsafe fn rows(self, p: *const u8, _stride: usize) -> B { vld1q_s8(p.cast()) }
        fn repeated_word(self, x: i32) -> B { vreinterpretq_s8_s32(vdupq_n_s32(x)) }
        unsafe fn repeated(self, p: *const u8) -> B { vld1q_s8(p.cast()) }
        unsafe fn fifth_bits(self, p: *const u8, _stride: usize) -> [B; 2] {
            // Byte j / 8 of the word to byte j, then its bit j % 8 alone, then 16 where it is set.
            let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
            let half = |lo: u8, hi: u8| {
                let bytes = vcombine_u8(vdup_n_u8(lo), vdup_n_u8(hi));
                vreinterpretq_s8_u8(vandq_u8(vtstq_u8(bytes, bit), vdupq_n_u8(16)))
            };
            [half(*p, *p.add(1)), half(*p.add(2), *p.add(3))]
        }
        fn or(self, a: B, b: B) -> B { vorrq_s8(a, b) }
        fn and(self, a: B, mask: u8) -> B { vandq_s8(a, vdupq_n_s8(mask as i8)) }
        fn shr(self, a: B, by: usize) -> B {
            vreinterpretq_s8_u8(vshlq_u8(vreinterpretq_u8_s8(a), vdupq_n_s8(-(by as i8))))
        }
        fn shl(self, a: B, by: usize) -> B { vshlq_s8(a, vdupq_n_s8(by as i8)) }
        fn lookup(self, table: B, indices: B) -> B { vqtbl1q_s8(table, vreinterpretq_u8_s8(indices)) }
        fn and_each(self, a: B, b: B) -> B { vandq_s8(a, b) }
        fn xor(self, a: B, b: B) -> B { veorq_s8(a, b) }
        fn shl_words(self, a: B, by: usize) -> B {
            vreinterpretq_s8_s32(vshlq_s32(vreinterpretq_s32_s8(a), vdupq_n_s32(by as i32)))
        }
        fn negate(self, codes: B, signs: B) -> B {
            let bit = vreinterpretq_s8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
            vbslq_s8(vtstq_s8(signs, bit), vnegq_s8(codes), codes)
        }
        fn prepare_i8(self, a: B) -> B { a }
        fn widen(self, a: B, _row: usize) -> N {
            let (lo, hi) = (vmovl_s8(vget_low_s8(a)), vmovl_high_s8(a));
            [vmovl_s16(vget_low_s16(lo)), vmovl_high_s16(lo), vmovl_s16(vget_low_s16(hi)), vmovl_high_s16(hi)]
        }
        fn transpose(self, rows: [B; 16]) -> [N; 4] {
            // Words 0 and 1 of rows i..i + 4, and words 2 and 3.
            let four = |i: usize| {
                let word = |r: usize| vreinterpretq_s32_s8(rows[i + r]);
                let [a, b, c, d] = four!(r => word(r));
                let pair = |x, y| vreinterpretq_s64_s32(vzip1q_s32(x, y));
                let pair_high = |x, y| vreinterpretq_s64_s32(vzip2q_s32(x, y));
                let (low, high) = ([pair(a, b), pair(c, d)], [pair_high(a, b), pair_high(c, d)]);
                [
                    vreinterpretq_s32_s64(vzip1q_s64(low[0], low[1])),
                    vreinterpretq_s32_s64(vzip2q_s64(low[0], low[1])),
                    vreinterpretq_s32_s64(vzip1q_s64(high[0], high[1])),
                    vreinterpretq_s32_s64(vzip2q_s64(high[0], high[1])),
                ]
            };
            let quarters = four!(i => four(4 * i));
            four!(w => four!(i => quarters[i][w]))
        }
        fn as_words(self, parts: [B; 16]) -> [N; 4] { four!(w => four!(i => vreinterpretq_s32_s8(parts[4 * w + i]))) }
        fn splat_quads(self, x: i32) -> int32x4_t { vdupq_n_s32(x) }
        fn join_quads(self, parts: [int32x4_t; 16]) -> N { four!(i => parts[i]) }
        fn dot_u7(self, acc: int32x4_t, w: B, a: B) -> int32x4_t { self.sdot(acc, w, a) }
        fn dot_i8(self, acc: int32x4_t, w: B, a: B) -> int32x4_t { self.sdot(acc, w, a) }
        fn kept(self, sums: int32x4_t) -> int32x4_t {
            // No instruction.
            let mut sums = sums;
            asm!("/* {0:v} */", inout(vreg) sums, options(nostack, preserves_flags));
            sums
        }
        fn reduce(self, rows: [int32x4_t; 16]) -> N {
            let two = |i: usize| vpaddq_s32(rows[i], rows[i + 1]);
            four!(i => vpaddq_s32(two(4 * i), two(4 * i + 2)))
        }
        fn dot4_u7(self, acc: N, w: N, a: i32) -> N {
            let a = vreinterpretq_s8_s32(vdupq_n_s32(a));
            four!(i => self.sdot(acc[i], vreinterpretq_s8_s32(w[i]), a))
        }
        fn dot4_i8(self, acc: N, w: N, a: i32) -> N { self.dot4_u7(acc, w, a) }
        fn dot4_by_u7(self, acc: N, w: N, a: i32) -> N { self.dot4_u7(acc, w, a) }
        fn prefetch(self, p: *const u8) -> () {
            asm!("prfm pldl2keep, [{p}]", p = in(reg) p, options(readonly, nostack, preserves_flags))
        }
        fn in_order(self) -> () { asm!("", options(readonly, nostack, preserves_flags)) }
        fn renewed(self, n: usize) -> usize {
            let mut renewed = n;
            asm!("/* {} */", inout(reg) renewed, options(nomem, nostack, preserves_flags));
            renewed
        }
    }

    #[inline(always)]
    fn parts<V: Copy>(self, v: V) -> [V; 16] {
        [v; 16]
    }

    #[inline(always)]
    unsafe fn fours<const ENTRIES: usize>(self, book: &Codebook<4, ENTRIES>, numbers: B) -> [B; 2] {
        // SAFETY: the token proves NEON; the numbers are below `ENTRIES`.
        unsafe {
            let mut stored = [0u16; 8];
            vst1q_u16(stored.as_mut_ptr(), vreinterpretq_u16_s8(numbers));
            let entry = |i: usize| book.magnitudes.get_unchecked(usize::from(stored[i])).as_ptr().cast::<i32>();
            let four = |i: usize| {
                let v = vld1q_lane_s32::<0>(entry(i), vdupq_n_s32(0));
                let v = vld1q_lane_s32::<1>(entry(i + 1), v);
                vreinterpretq_s8_s32(vld1q_lane_s32::<3>(entry(i + 3), vld1q_lane_s32::<2>(entry(i + 2), v)))
            };
            [four(0), four(4)]
        }
    }

    #[inline(always)]
    unsafe fn eights<const ENTRIES: usize>(self, book: &Codebook<8, ENTRIES>, numbers: B, half: usize) -> [B; 2] {
        // SAFETY: as above.
        unsafe {
            let mut stored = [0u16; 8];
            vst1q_u16(stored.as_mut_ptr(), vreinterpretq_u16_s8(numbers));
            let entry = |i: usize| {
                let entry = book.magnitudes.get_unchecked(usize::from(stored[4 * half + i]));
                vld1_s8(entry.as_ptr().cast())
            };
            [vcombine_s8(entry(0), entry(1)), vcombine_s8(entry(2), entry(3))]
        }
    }

    #[inline(always)]
    fn step_word(self, step: usize, lane: usize) -> usize {
        if MATRIX { step / 2 * 32 + 2 * lane + step % 2 } else { 16 * step + lane }
    }

    #[inline(always)]
    unsafe fn store_steps(self, p: *mut u32, steps: [N; 4]) {
        // SAFETY: the caller has 256 bytes; the token proves NEON.
        unsafe {
            if !MATRIX {
                for (i, step) in steps.into_iter().enumerate() {
                    self.store_int(p.add(16 * i), step);
                }
                return;
            }
            for (two, [a, b]) in [[steps[0], steps[1]], [steps[2], steps[3]]].into_iter().enumerate() {
                for i in 0..4 {
                    let p = p.add(32 * two + 8 * i).cast();
                    vst1q_s32(p, vzip1q_s32(a[i], b[i]));
                    vst1q_s32(p.add(4), vzip2q_s32(a[i], b[i]));
                }
            }
        }
    }

    /// With SMMLA, a register of the panel has 8 codes of two rows, and one of activations the same of two tokens.
    #[inline(always)]
    unsafe fn dot_steps<const P: usize, const M: usize>(
        self,
        mut acc: [[N; M]; P],
        w: [*const u32; P],
        a: &[[i32; M]],
        _bits: u32,
    ) -> [[N; M]; P] {
        for p in 0..P {
            if !MATRIX {
                for (step, a) in a.iter().enumerate() {
                    // SAFETY: the caller's promise.
                    let w = unsafe { self.load_int(w[p].add(16 * step)) };
                    for m in 0..M {
                        acc[p][m] = self.dot4_i8(acc[p][m], w, a[m]);
                    }
                }
                continue;
            }
            // SAFETY: the token proves NEON, and SMMLA where `MATRIX`, which holds here; the caller has the steps.
            unsafe {
                // Of tokens m and m + 1: rows 2 i and 2 i + 1. The odd half stays empty.
                let mut squares = [[vdupq_n_s32(0); 8]; M];
                for (two, a) in a.as_chunks::<2>().0.iter().enumerate() {
                    let mut rows = [vdupq_n_s32(0); 8];
                    for i in 0..8 {
                        rows[i] = vld1q_s32(w[p].add(32 * two + 4 * i).cast());
                    }
                    for m in (0..M).step_by(2) {
                        let next = (m + 1).min(M - 1);
                        let tokens = [a[0][m], a[1][m], a[0][next], a[1][next]];
                        let tokens = vld1q_s32(tokens.as_ptr());
                        for i in 0..8 {
                            squares[m][i] = self.smmla(squares[m][i], tokens, rows[i]);
                        }
                    }
                }
                for m in (0..M).step_by(2) {
                    for i in 0..4 {
                        let [low, high] = [squares[m][2 * i], squares[m][2 * i + 1]].map(|q| vreinterpretq_s64_s32(q));
                        acc[p][m][i] = vaddq_s32(acc[p][m][i], vreinterpretq_s32_s64(vzip1q_s64(low, high)));
                        if m + 1 < M {
                            let second = vreinterpretq_s32_s64(vzip2q_s64(low, high));
                            acc[p][m + 1][i] = vaddq_s32(acc[p][m + 1][i], second);
                        }
                    }
                }
            }
        }
        acc
    }
}
