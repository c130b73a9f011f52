//! Every operation of every ISA this CPU has, against the scalar one, on bits.

use super::{Isa, IsaLevel, Kernel, Supported};
use crate::codebook;

/// Results of all operations on one input, as bytes.
struct AllOperations<'a> {
    floats: &'a [f32; 48],
    bytes: &'a [u8; 512],
    activations: &'a [u8; 32],
}

impl Kernel for AllOperations<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Vec<u32> {
        let mut out = Vec::new();
        let mut float = |v: I::F| push_float(isa, &mut out, v);
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
        let mut vectors = [a; 16];
        for (i, v) in vectors.iter_mut().enumerate() {
            // SAFETY: 16 floats from each of the first 16.
            *v = unsafe { isa.load(self.floats.as_ptr().add(2 * i)) };
        }
        float(isa.sum_each(vectors));
        float(isa.max_bits(a, b));
        float(isa.max_bits_each(vectors));
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
            let mut codes = [0u8; 16];
            out.push(isa.store_i8(codes.as_mut_ptr(), isa.round(small)) as u32);
            out.extend(codes.map(u32::from));
        }
        out.push(isa.largest_magnitude(a, b));
        for broken in [f32::NAN, f32::NEG_INFINITY] {
            let bits = isa.largest_magnitude(isa.copysign(isa.splat(broken), a), b);
            out.push(u32::from(bits >= f32::INFINITY.to_bits()));
        }
        self.integer_operations(isa, &mut out);
        self.byte_operations(isa, &mut out);
        self.entries(isa, &mut out);
        self.sums(isa, &mut out);
        out
    }
}

/// Bytes between the rows that gathers and vectors of bytes are tried with.
const STRIDE: usize = 29;

impl AllOperations<'_> {
    #[inline(always)]
    fn integer_operations<I: Isa>(&self, isa: I, out: &mut Vec<u32>) {
        let q = self.bytes.as_ptr().cast::<u32>();
        // SAFETY: `bytes` has 512 bytes.
        let (a, b) = unsafe { (isa.load_int(q), isa.load_int(q.add(16))) };
        push_int(isa, out, isa.or_int(a, b));
        push_int(isa, out, isa.add_int(a, isa.splat_int(-32)));
        push_int(isa, out, isa.and_int(a, 0xF00F_0FF5));
        for by in [0, 1, 8, 24] {
            push_int(isa, out, isa.shl_int(a, by));
            push_int(isa, out, isa.shr_int(a, by));
        }
        // Without the halves that are not numbers, whose bits are nobody's promise.
        push_float(isa, out, isa.half_to_float(isa.and_int(a, 0xFFFF_BFFF)));
    }

    /// Vectors of bytes are a row's 16 on one ISA and several rows' on another: what is compared is all 16 rows.
    #[inline(always)]
    fn byte_operations<I: Isa>(&self, isa: I, out: &mut Vec<u32>) {
        let q = self.bytes.as_ptr();
        let mut results = [isa.parts(isa.splat_bytes(7)); 16];
        for part in 0..I::PARTS {
            // SAFETY: `bytes` has 512 bytes, of which the last row reaches 15 * 29 + 33; `activations` has 32.
            unsafe {
                let p = q.add(part * STRIDE);
                let (a, b) = (isa.rows(p, I::PARTS * STRIDE), isa.rows(p.add(17), I::PARTS * STRIDE));
                let fifth = isa.fifth_bits(p.add(3), I::PARTS * STRIDE);
                let table = isa.repeated(self.activations.as_ptr().add(11));
                let both = [
                    a,
                    isa.or(a, b),
                    isa.and(a, 0x35),
                    isa.shr(a, 4),
                    isa.shr(a, 0),
                    isa.shl(a, 2),
                    isa.lookup(table, isa.and(a, 15)),
                    fifth[0],
                    fifth[1],
                    table,
                    isa.prepare_i8(isa.splat_bytes(I::I8_BIAS as u8)),
                    isa.lookup(table, isa.splat_bytes(128)),
                    isa.and_each(a, b),
                    isa.xor(a, b),
                    isa.shl_words(a, 3),
                    // Prepared again: as they were.
                    isa.xor(isa.negate(isa.prepare_i8(a), b), isa.splat_bytes(I::I8_BIAS as u8)),
                ];
                for (result, bytes) in results.iter_mut().zip(both) {
                    result[part] = bytes;
                }
            }
        }
        // SAFETY: as above.
        for words in unsafe { isa.words(q.add(3), STRIDE) } {
            push_int(isa, out, words);
        }
        for rows in results {
            // Row after row, whatever part it is in.
            for row in 0..16 {
                push_int(isa, out, isa.widen(rows[row % I::PARTS], row / I::PARTS));
            }
            for words in isa.transpose(rows) {
                push_int(isa, out, words);
            }
        }
    }

    /// Entries of both kinds of codebooks, looked up by numbers at random.
    #[inline(always)]
    fn entries<I: Isa>(&self, isa: I, out: &mut Vec<u32>) {
        let mut results = [isa.parts(isa.splat_bytes(0)); 6];
        let mut numbers = isa.parts(isa.splat_bytes(0));
        for part in 0..I::PARTS {
            let below_512 = [255u8, 1].repeat(8);
            // SAFETY: as in `byte_operations`; 16 bytes.
            numbers[part] = unsafe {
                let bytes = isa.rows(self.bytes.as_ptr().add(part * STRIDE), I::PARTS * STRIDE);
                isa.and_each(bytes, isa.repeated(below_512.as_ptr()))
            };
        }
        // SAFETY: the numbers are below 512, and what is found comes from `find`.
        unsafe {
            let fours = isa.find(&codebook::IQ3_S, numbers);
            let (eights, large) = (isa.find(&codebook::IQ2_XS, numbers), isa.find(&codebook::IQ2_S, numbers));
            for part in 0..I::PARTS {
                [results[0][part], results[1][part]] = isa.fours(&codebook::IQ3_S, fours[part]);
                [results[2][part], results[3][part]] = isa.eights(&codebook::IQ2_XS, eights[part], 0);
                [results[4][part], results[5][part]] = isa.eights(&codebook::IQ2_S, large[part], 1);
            }
        }
        for rows in results {
            for row in 0..16 {
                // Prepared again: as they were.
                let codes = isa.xor(rows[row % I::PARTS], isa.splat_bytes(I::I8_BIAS as u8));
                push_int(isa, out, isa.widen(codes, row / I::PARTS));
            }
        }
    }

    #[inline(always)]
    fn sums<I: Isa>(&self, isa: I, out: &mut Vec<u32>) {
        let q = self.bytes.as_ptr();
        let zero = isa.splat_quads(0);
        let (mut unsigned, mut signed) = (isa.parts(zero), isa.parts(zero));
        for part in 0..I::PARTS {
            // SAFETY: as in `byte_operations`.
            unsafe {
                let a = [isa.repeated(self.activations.as_ptr()), isa.repeated(self.activations.as_ptr().add(16))];
                let w = isa.rows(q.add(part * STRIDE), I::PARTS * STRIDE);
                let seven = isa.and(w, 127);
                unsigned[part] = isa.dot_u7(isa.dot_u7(zero, seven, a[0]), seven, a[1]);
                signed[part] = isa.dot_i8(zero, isa.prepare_i8(w), a[0]);
            }
        }
        push_int(isa, out, isa.reduce(unsigned));
        let sum = |a: &[u8]| a.iter().map(|&a| i32::from(a as i8)).sum::<i32>();
        let bias = isa.splat_int(-I::I8_BIAS * sum(&self.activations[..16]));
        push_int(isa, out, isa.add_int(isa.reduce(signed), bias));

        // A panel step: 64 bytes against four activations, unsigned and signed.
        let four = &self.activations[..4];
        let a = i32::from_le_bytes(four.try_into().expect("four bytes"));
        let bias = isa.splat_int(-I::I8_BIAS * sum(four));
        // What `prepare_i8` does to every byte.
        let prepare = u32::from_ne_bytes([I::I8_BIAS as u8; 4]);
        let (mut codes, acc) = ([0u32; 16], isa.splat_int(5));
        for (code, bytes) in codes.iter_mut().zip(self.bytes.as_chunks::<4>().0) {
            *code = u32::from_le_bytes(*bytes) ^ prepare;
        }
        // SAFETY: 64 bytes each.
        let (w, prepared) = unsafe { (isa.load_int(q.cast()), isa.load_int(codes.as_ptr())) };
        push_int(isa, out, isa.dot4_u7(acc, isa.and_int(w, 0x7F7F_7F7F), a));
        push_int(isa, out, isa.add_int(isa.dot4_i8(acc, prepared, a), bias));
        push_int(isa, out, isa.dot4_by_u7(acc, w, a & 0x7F7F_7F7F));
        self.few_bits(isa, out);
        self.steps(isa, out);
        self.interleaved(isa, out);
    }

    /// Words of 16 rows, and their products with two rows of activations: at random and at their largest.
    #[inline(always)]
    fn interleaved<I: Isa>(&self, isa: I, out: &mut Vec<u32>) {
        let (quads, mut parts) = (I::PARTS / 4, isa.parts(isa.splat_bytes(0)));
        for part in 0..I::PARTS {
            // SAFETY: 256 bytes of all parts.
            parts[part] = unsafe { isa.load_bytes(self.bytes.as_ptr().add(part * size_of::<I::B>())) };
        }
        isa.as_words(parts).into_iter().for_each(|words| push_int(isa, out, words));
        for (bits, extreme) in (1..=8).flat_map(|bits| [None, Some(127i8), Some(-127)].map(|extreme| (bits, extreme))) {
            let word = |i: usize| self.activations.as_chunks::<4>().0[i].map(|a| extreme.map_or(a, |a| a as u8));
            let mut x = [[0; 2]; 8];
            for i in 0..8 {
                x[i] = [i, 7 - i].map(|i| i32::from_le_bytes(word(i)));
            }
            let mut sums = [isa.parts(isa.splat_quads(0)); 2];
            for quad in 0..quads {
                let mut w = [isa.splat_bytes(0); 8];
                for i in 0..8 {
                    let codes = if extreme.is_some() { isa.splat_bytes(255) } else { parts[i % 4 * quads + quad] };
                    w[i] = if bits == 8 { isa.prepare_i8(codes) } else { isa.and(codes, (1 << bits) - 1) };
                }
                let start = [isa.splat_quads(7), isa.splat_quads(-7)];
                let first = w.first_chunk::<4>().expect("of eight");
                let four = isa.dot_words(start, *first, x.first_chunk().expect("of eight"), bits);
                let eight = isa.dot_words(four, w, &x, bits);
                [sums[0][quad], sums[1][quad]] = eight;
            }
            for m in 0..2 {
                let sum = |i: usize| x[i][m].to_le_bytes().map(|a| i32::from(a as i8));
                let twice: i32 = (0..8).map(|i| sum(i).iter().sum::<i32>() * if i < 4 { 2 } else { 1 }).sum();
                let bias = isa.splat_int(if bits == 8 { -I::I8_BIAS * twice } else { 0 });
                push_int(isa, out, isa.add_int(isa.join_quads(sums[m]), bias));
            }
        }
    }

    /// Sums of products of codes of few bits: codes and activations at random and at their largest.
    #[inline(always)]
    fn few_bits<I: Isa>(&self, isa: I, out: &mut Vec<u32>) {
        let (q, a) = (self.bytes.as_ptr(), self.activations.as_ptr());
        for bits in 1..=6 {
            let mask = (1 << bits) - 1;
            // SAFETY: as in `byte_operations`.
            unsafe {
                for extreme in [None, Some(127), Some(-127i8 as u8)] {
                    let [mut first, mut last, mut both] = [isa.parts(isa.splat_quads(0)); 3];
                    for part in 0..I::PARTS {
                        let row = q.add(part * STRIDE);
                        for (i, sums) in [&mut first, &mut last].into_iter().enumerate() {
                            let (w, a) = match extreme {
                                None => (isa.rows(row.add(16 * i), I::PARTS * STRIDE), isa.repeated(a.add(16 * i))),
                                Some(a) => (isa.splat_bytes(255), isa.splat_bytes(a)),
                            };
                            let w = isa.and(w, mask);
                            sums[part] = isa.made(isa.dot_few(isa.splat_quads(0), w, a));
                            both[part] = isa.dot_few(both[part], w, a);
                        }
                    }
                    let halves = [isa.reduce_few(first, bits, 1), isa.reduce_few(last, bits, 1)];
                    let all = isa.reduce_few(both, bits, 2);
                    for sums in [halves[0], halves[1], all] {
                        push_int(isa, out, sums);
                    }
                    if !I::HOLDS_UNIT {
                        continue;
                    }
                    let mut products = [isa.splat_quads(0); 16];
                    for (row, product) in products.iter_mut().enumerate() {
                        let (w, a) = match extreme {
                            None => (isa.rows(q.add(row * STRIDE), 16), isa.rows(a, 16)),
                            Some(a) => (isa.splat_bytes(255), isa.splat_bytes(a)),
                        };
                        *product = isa.dot_few(*product, isa.and(w, mask), a);
                    }
                    let (mut got, mut want) = (Vec::new(), Vec::new());
                    for (split, expected) in [(true, halves), (false, [all; 2])] {
                        for (sums, expected) in
                            isa.reduce_rows(products.as_ptr(), bits, split).into_iter().zip(expected)
                        {
                            push_int(isa, &mut got, sums);
                            push_int(isa, &mut want, expected);
                        }
                    }
                    assert_eq!(got, want, "rows of {bits} bits");
                }
            }
        }
    }

    /// The loop of the integer GEMM: three tokens; codes at random and at their largest.
    #[inline(always)]
    fn steps<I: Isa>(&self, isa: I, out: &mut Vec<u32>) {
        let largest = [[127, 127, 127, 127], [-127, -127, -127, -127], [127, -127, 0, 1]].map(i8_word);
        let random = self.activations.as_chunks::<4>().0;
        let mut a = [[0i32; 3]; 8];
        for (step, a) in a.iter_mut().enumerate() {
            *a = largest;
            if step % 4 == 3 {
                a[2] = i32::from_le_bytes(random[step]);
            }
        }
        let prepare = u32::from_ne_bytes([I::I8_BIAS as u8; 4]);
        for bits in 1..=8 {
            let mask = if bits == 8 { u32::MAX } else { 0x0101_0101 * ((1 << bits) - 1) };
            for random in [false, true] {
                let mut words = [mask; 128];
                if random {
                    for (word, bytes) in words.iter_mut().zip(self.bytes.as_chunks::<4>().0) {
                        *word = u32::from_le_bytes(*bytes) & mask;
                    }
                }
                let mut stored = [0u32; 128];
                for (four, stored) in words.as_chunks::<64>().0.iter().zip(stored.as_chunks_mut::<64>().0) {
                    let mut steps = [isa.splat_int(0); 4];
                    for (step, words) in steps.iter_mut().zip(four.as_chunks::<16>().0) {
                        let codes = words.map(|w| if bits == 8 { w ^ prepare } else { w });
                        // SAFETY: 16 words.
                        *step = unsafe { isa.load_int(codes.as_ptr()) };
                    }
                    // SAFETY: 256 bytes.
                    unsafe { isa.store_steps(stored.as_mut_ptr(), steps) };
                }
                for (step, words) in words.as_chunks::<16>().0.iter().enumerate() {
                    for (lane, &word) in words.iter().enumerate() {
                        let word = if bits == 8 { word ^ prepare } else { word };
                        assert_eq!(stored[isa.step_word(step, lane)], word, "where a word is");
                    }
                }
                for len in [4, 8] {
                    // SAFETY: as many steps of 64 bytes as there are rows of `a`.
                    let sums = unsafe { isa.dot_steps([[isa.splat_int(0); 3]], [stored.as_ptr()], &a[..len], bits) };
                    for (m, sum) in sums[0].into_iter().enumerate() {
                        let total: i32 =
                            a[..len].iter().flat_map(|a| a[m].to_le_bytes()).map(|a| i32::from(a as i8)).sum();
                        let bias = if bits == 8 { -I::I8_BIAS * total } else { 0 };
                        push_int(isa, out, isa.add_int(sum, isa.splat_int(bias)));
                    }
                }
            }
        }
    }
}

fn i8_word(bytes: [i8; 4]) -> i32 {
    i32::from_le_bytes(bytes.map(|b| b as u8))
}

#[inline(always)]
fn push_float<I: Isa>(isa: I, out: &mut Vec<u32>, v: I::F) {
    let mut x = [0.0f32; 16];
    // SAFETY: the array has 16 floats.
    unsafe { isa.store(x.as_mut_ptr(), v) };
    out.extend(x.map(f32::to_bits));
}

#[inline(always)]
fn push_int<I: Isa>(isa: I, out: &mut Vec<u32>, v: I::N) {
    let mut x = [0; 16];
    // SAFETY: the array has 16 words.
    unsafe { isa.store_int(x.as_mut_ptr(), v) };
    out.extend(x);
}

/// A small generator, so that inputs are the same everywhere.
fn noise(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[test]
fn every_isa_agrees_with_scalar_on_every_operation() {
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
        let operations = || AllOperations { floats: &floats, bytes: &bytes, activations: &activations };
        let want = Supported::scalar().dispatch(operations());
        for isa in Supported::all() {
            let got = isa.dispatch(operations());
            let first = got.iter().zip(&want).position(|(a, b)| a != b);
            assert!(first.is_none() && got.len() == want.len(), "{}, round {round}, result {first:?}", isa.level());
        }
    }
}

#[test]
fn levels_parse_by_name() {
    assert_eq!("SCALAR".parse(), Ok(IsaLevel::Scalar));
    assert!("mmx".parse::<IsaLevel>().is_err());
    assert!(IsaLevel::detect().is_supported());
}
