//! Every verb of every ISA this CPU has, against the scalar one, on bits.

use super::{Isa, Kernel, Level};

/// Results of all verbs on one input, as bytes.
struct AllVerbs<'a> {
    floats: &'a [f32; 48],
    bytes: &'a [u8; 512],
    activations: &'a [u8; 32],
}

impl Kernel for AllVerbs<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Vec<u32> {
        let mut out = Vec::new();
        let mut float = |v: I::F| {
            let mut x = [0.0f32; 16];
            // SAFETY: the array has 16 floats.
            unsafe { isa.store(x.as_mut_ptr(), v) };
            out.extend(x.map(f32::to_bits));
        };
        // SAFETY: the arrays are long enough for every offset below.
        let (a, b, c) = unsafe {
            let p = self.floats.as_ptr();
            (isa.load(p), isa.load(p.add(16)), isa.load(p.add(32)))
        };
        for v in [isa.add(a, b), isa.sub(a, b), isa.mul(a, b), isa.div(a, b), isa.fma(a, b, c)] {
            float(v);
        }
        for v in [isa.max(a, b), isa.min(a, b), isa.abs(a), isa.copysign(a, b), isa.select_lt(a, b, c, a)] {
            float(v);
        }
        let small = isa.min(isa.max(isa.mul(a, isa.splat(0.5)), isa.splat(-100.0)), isa.splat(100.0));
        float(isa.to_float(isa.round(small)));
        float(isa.pow2(isa.round(small)));
        float(isa.splat(isa.sum(a)));
        float(isa.splat(isa.max_lane(b)));
        float(isa.to_float(isa.add_int(isa.round(small), isa.splat_int(-7))));
        let mut half = [0u8; 32];
        let q = self.bytes.as_ptr();
        // SAFETY: `half` has 32 bytes; `bytes` has 512, of which gathers reach 15 * 24 + 2.
        unsafe {
            isa.store_f16(half.as_mut_ptr(), a);
            float(isa.load_f16(half.as_ptr()));
            float(isa.load_bf16(q));
            let halves = half.repeat(16);
            float(isa.gather_f16(halves.as_ptr(), 24));
            let pairs = isa.gather_i8_pairs(q, 24);
            float(pairs[0]);
            float(pairs[1]);
            let mut codes = [0u8; 16];
            isa.store_i8(codes.as_mut_ptr(), isa.round(small));
            out.extend(codes.map(u32::from));
        }
        self.byte_verbs(isa, &mut out);
        out
    }
}

impl AllVerbs<'_> {
    #[inline(always)]
    fn byte_verbs<I: Isa>(&self, isa: I, out: &mut Vec<u32>) {
        let q = self.bytes.as_ptr();
        let mut push = |v: I::B| {
            let mut x = [0u8; 32];
            // SAFETY: the array has 32 bytes.
            unsafe { isa.store_bytes(x.as_mut_ptr(), v) };
            out.extend(x.map(u32::from));
        };
        // SAFETY: `bytes` has 512 bytes and `activations` 32.
        let (w, a) = unsafe {
            push(isa.nibbles(q));
            push(isa.fifth_bits(q));
            (isa.bytes(q), isa.bytes(self.activations.as_ptr()))
        };
        push(isa.or(w, a));
        for v in isa.regroup(w, a) {
            push(v);
        }
        // SAFETY: 16 and 32 bytes, within the arrays.
        for v in unsafe { [isa.nibbles_of_two(q, q.add(33)), isa.doubled(q)] }.into_iter().flatten() {
            push(v);
        }
        push(isa.and(w, 0x35));
        push(isa.shr::<2>(w));
        push(isa.shl::<2>(w));

        let seven = isa.and(w, 127);
        let signed = isa.prepare_i8(w);
        let mut int = |v: I::N| {
            let mut x = [0.0f32; 16];
            // SAFETY: the array has 16 floats.
            unsafe { isa.store(x.as_mut_ptr(), isa.to_float(v)) };
            out.extend(x.map(|x| x as i32 as u32));
        };
        let zero = isa.zero_quads();
        let mut parts = [zero; 8];
        for (i, part) in parts.iter_mut().enumerate() {
            // SAFETY: 32 bytes each, within `bytes`.
            let w = unsafe { isa.and(isa.bytes(q.add(32 * i)), 127) };
            *part = isa.dot_u7(isa.dot_u7(zero, w, a), seven, a);
        }
        int(isa.reduce(parts));
        // The same 16 activations in both halves, so that one bias serves all lanes.
        // SAFETY: `activations` has 32 bytes.
        let first = unsafe { isa.doubled(self.activations.as_ptr()) }[0];
        let sum: i32 = self.activations[..16].iter().map(|&a| i32::from(a as i8)).sum();
        let biased = isa.reduce([isa.dot_i8(zero, signed, first); 8]);
        int(isa.add_int(biased, isa.splat_int(-I::I8_BIAS * sum)));

        // A panel step: 64 bytes against four activations, unsigned and signed.
        let four = self.activations[..4].try_into().expect("four bytes");
        let sum_four: i32 = self.activations[..4].iter().map(|&a| i32::from(a as i8)).sum();
        let mut panel = [0u8; 64];
        for masked in [true, false] {
            for half in 0..2 {
                // SAFETY: 32 bytes each, within both arrays.
                unsafe {
                    let w = isa.bytes(q.add(32 * half));
                    let w = if masked { isa.and(w, 127) } else { isa.prepare_i8(w) };
                    isa.store_bytes(panel.as_mut_ptr().add(32 * half), w);
                }
            }
            // SAFETY: the panel has 64 bytes.
            let w = unsafe { isa.panel(panel.as_ptr()) };
            let acc = isa.splat_int(5);
            if masked {
                int(isa.dot4_u7(acc, w, i32::from_le_bytes(four)));
            } else {
                let biased = isa.dot4_i8(acc, w, i32::from_le_bytes(four));
                int(isa.add_int(biased, isa.splat_int(-I::I8_BIAS * sum_four)));
            }
        }
    }
}

/// A small generator, so that inputs are the same everywhere.
fn noise(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[test]
fn every_isa_agrees_with_scalar_on_every_verb() {
    let mut seed = 1;
    for round in 0..200 {
        let floats = std::array::from_fn(|_| (noise(&mut seed) as f32 / 1e7 - 107.0) * 1.5f32.powi(round % 9));
        // Both extremes of a byte turn up often: they are where saturation would show.
        let bytes = std::array::from_fn(|_| match noise(&mut seed) % 4 {
            0 => 0x80,
            1 => 0x7F,
            _ => noise(&mut seed) as u8,
        });
        let activations = std::array::from_fn(|_| match noise(&mut seed) % 3 {
            0 => -127i8 as u8,
            1 => 127,
            _ => (noise(&mut seed) as i8).max(-127) as u8,
        });
        let verbs = || AllVerbs { floats: &floats, bytes: &bytes, activations: &activations };
        let want = Level::Scalar.dispatch(verbs());
        for &level in Level::ALL.iter().filter(|l| l.is_supported()) {
            let got = level.dispatch(verbs());
            let first = got.iter().zip(&want).position(|(a, b)| a != b);
            assert!(first.is_none() && got.len() == want.len(), "{level}, round {round}, result {first:?}");
        }
    }
}

#[test]
fn levels_parse_by_name() {
    assert_eq!("SCALAR".parse(), Ok(Level::Scalar));
    assert!("mmx".parse::<Level>().is_err());
    assert!(Level::detect().is_supported());
}
