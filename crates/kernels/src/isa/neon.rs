//! The verbs on AArch64 NEON: four registers per float vector. `DOT` adds the SDOT instruction.

use super::Isa;
use std::arch::aarch64::*;
use std::arch::asm;

/// Proof of NEON, and of the dot-product instructions where `DOT`.
#[derive(Clone, Copy)]
pub(crate) struct Neon<const DOT: bool>(());

impl<const DOT: bool> Neon<DOT> {
    /// # Safety
    /// The CPU must have NEON, and the dot-product instructions where `DOT`.
    pub(super) unsafe fn new() -> Self {
        Self(())
    }

    /// `acc` + the dot products of four neighbours.
    #[inline(always)]
    fn sdot(self, acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
        if DOT {
            let mut acc = acc;
            // SAFETY: the token of a `DOT` type proves SDOT; the instruction touches only these registers. Inline
            // assembly because the intrinsic is not stable; the directive because the verb may be assembled alone.
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
    // SAFETY: FCVTL is part of base NEON; called from verbs of a token holder only.
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
type B = [int8x16_t; 2];

// SAFETY: the token is made only by the dispatcher, which checked the features.
unsafe impl<const DOT: bool> Isa for Neon<DOT> {
    type F = F;
    type N = N;
    type B = B;
    type Q = [int32x4_t; 2];
    type P = [int8x16_t; 4];

    const I8_BIAS: i32 = 0;
    const GEMM_TOKENS: usize = 3; // 12 integer and 12 float accumulators of the 32 registers
    const FLOAT_TILE: (usize, usize) = (2, 2);
    const ATTEND_QUERIES: usize = 2;

    verbs! {
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
        unsafe fn gather_i8_pairs(self, p: *const u8, stride: usize) -> [F; 2] {
            [0, 1].map(|i| {
                let v: [i32; 16] = std::array::from_fn(|l| i32::from(*p.add(l * stride + i) as i8));
                four!(i => vcvtq_f32_s32(vld1q_s32(v.as_ptr().add(4 * i))))
            })
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
        fn max_lane(self, a: F) -> f32 { vmaxvq_f32(vmaxq_f32(vmaxq_f32(a[0], a[2]), vmaxq_f32(a[1], a[3]))) }
        fn round(self, a: F) -> N { four!(i => vcvtnq_s32_f32(a[i])) }
        fn to_float(self, a: N) -> F { four!(i => vcvtq_f32_s32(a[i])) }
        fn pow2(self, n: N) -> F {
            four!(i => vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n[i], vdupq_n_s32(127)))))
        }
        fn splat_int(self, x: i32) -> N { [vdupq_n_s32(x); 4] }
        fn add_int(self, a: N, b: N) -> N { four!(i => vaddq_s32(a[i], b[i])) }
        unsafe fn store_i8(self, p: *mut u8, v: N) -> () {
            let lo = vcombine_s16(vmovn_s32(v[0]), vmovn_s32(v[1]));
            let hi = vcombine_s16(vmovn_s32(v[2]), vmovn_s32(v[3]));
            vst1q_s8(p.cast(), vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)))
        }

        unsafe fn bytes(self, p: *const u8) -> B { [vld1q_s8(p.cast()), vld1q_s8(p.add(16).cast())] }
        unsafe fn store_bytes(self, p: *mut u8, v: B) -> () {
            vst1q_s8(p.cast(), v[0]);
            vst1q_s8(p.add(16).cast(), v[1]);
        }
        unsafe fn nibbles(self, p: *const u8) -> B {
            let b = vld1q_u8(p);
            [vreinterpretq_s8_u8(vandq_u8(b, vdupq_n_u8(15))), vreinterpretq_s8_u8(vshrq_n_u8::<4>(b))]
        }
        unsafe fn fifth_bits(self, p: *const u8) -> B {
            // Byte j / 8 of the word to byte j, then its bit j % 8 alone, then 16 where it is set.
            let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
            let half = |lo: u8, hi: u8| {
                let bytes = vcombine_u8(vdup_n_u8(lo), vdup_n_u8(hi));
                vreinterpretq_s8_u8(vandq_u8(vtstq_u8(bytes, bit), vdupq_n_u8(16)))
            };
            [half(*p, *p.add(1)), half(*p.add(2), *p.add(3))]
        }
        fn or(self, a: B, b: B) -> B { [vorrq_s8(a[0], b[0]), vorrq_s8(a[1], b[1])] }
        fn and(self, a: B, mask: u8) -> B {
            let m = vdupq_n_s8(mask as i8);
            [vandq_s8(a[0], m), vandq_s8(a[1], m)]
        }
        fn prepare_i8(self, a: B) -> B { a }
        unsafe fn doubled(self, p: *const u8) -> [B; 2] {
            let [a, b] = self.bytes(p);
            [[a, a], [b, b]]
        }
        unsafe fn nibbles_of_two(self, p: *const u8, q: *const u8) -> [B; 2] {
            self.regroup(self.nibbles(p), self.nibbles(q))
        }
        fn regroup(self, a: B, b: B) -> [B; 2] { [[a[0], b[0]], [a[1], b[1]]] }
        fn zero_quads(self) -> [int32x4_t; 2] { [vdupq_n_s32(0); 2] }
        fn dot_u7(self, acc: [int32x4_t; 2], w: B, a: B) -> [int32x4_t; 2] {
            [self.sdot(acc[0], w[0], a[0]), self.sdot(acc[1], w[1], a[1])]
        }
        fn dot_i8(self, acc: [int32x4_t; 2], w: B, a: B) -> [int32x4_t; 2] { self.dot_u7(acc, w, a) }
        fn reduce(self, p: [[int32x4_t; 2]; 8]) -> N {
            let four = |i: usize, h: usize| {
                vpaddq_s32(vpaddq_s32(p[i][h], p[i + 1][h]), vpaddq_s32(p[i + 2][h], p[i + 3][h]))
            };
            [four(0, 0), four(4, 0), four(0, 1), four(4, 1)]
        }
        unsafe fn panel(self, p: *const u8) -> [int8x16_t; 4] { four!(i => vld1q_s8(p.add(16 * i).cast())) }
        fn dot4_u7(self, acc: N, w: [int8x16_t; 4], a: i32) -> N {
            let a = vreinterpretq_s8_s32(vdupq_n_s32(a));
            four!(i => self.sdot(acc[i], w[i], a))
        }
        fn dot4_i8(self, acc: N, w: [int8x16_t; 4], a: i32) -> N { self.dot4_u7(acc, w, a) }
        fn prefetch(self, p: *const u8) -> () {
            asm!("prfm pldl2keep, [{p}]", p = in(reg) p, options(readonly, nostack, preserves_flags))
        }
    }

    #[inline(always)]
    fn shr<const S: i32>(self, a: B) -> B {
        // SAFETY: the token proves NEON. A shift by a negative count goes right.
        unsafe {
            let by = vdupq_n_s8(-(S as i8));
            a.map(|x| vreinterpretq_s8_u8(vshlq_u8(vreinterpretq_u8_s8(x), by)))
        }
    }
    #[inline(always)]
    fn shl<const S: i32>(self, a: B) -> B {
        // SAFETY: the token proves NEON.
        unsafe {
            let by = vdupq_n_s8(S as i8);
            a.map(|x| vshlq_s8(x, by))
        }
    }
}
