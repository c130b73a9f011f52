//! However many lanes: one answer. What the answer must be is held to llama.cpp's files elsewhere.

use super::{Encode, Search};
use crate::TensorType;
use crate::blocks;
use crate::lanes::{Lanes, Portable, Task, run_with_each};

/// A generator that is the same everywhere.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    /// Uniform in -1..1.
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Rows that searches find hard: the ends of the range, groups of one kind, one value among zeros.
pub(crate) fn rows(cols: usize) -> Vec<f32> {
    let mut noise = Noise(7);
    let shapes: [fn(usize, f32) -> f32; 14] = [
        |_, x| x * x * x,
        |_, x| x * 0.02,
        |_, _| 0.0,
        |_, _| 1.0,
        |_, _| -0.25,
        |i, x| if i % 37 == 5 { x } else { 0.0 },
        |i, x| if i % 256 == 77 { x * 1e4 } else { 0.0 },
        |i, x| if i % 64 < 32 { x } else { 0.0 },
        |_, x| x.abs(),
        |_, x| -x.abs(),
        |_, x| x * 1e-20,
        |_, x| x * 1e-38,
        |_, x| x * 6e4,
        |i, x| if i % 2 == 0 { 1.0 + x * 1e-6 } else { -1.0 },
    ];
    shapes.iter().flat_map(|shape| (0..cols).map(|i| shape(i, noise.next())).collect::<Vec<_>>()).collect()
}

/// Encodes into bytes that are not what any encoder writes, then hands them over.
struct Run<'a, B: Search> {
    encode: Encode<'a, B>,
    want: &'a [u8],
    what: String,
}

impl<B: Search> Task for Run<'_, B> {
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let mut bytes = vec![0xa5; self.want.len()];
        Encode { dst: blocks::cast_mut::<B>(&mut bytes), ..self.encode }.run::<V>();
        let wrong = bytes.iter().zip(self.want).position(|(got, want)| got != want);
        assert_eq!(wrong.map(|byte| byte / size_of::<B>()), None, "first wrong block, {}", self.what);
    }
}

fn same_in_all_widths<B: Search>(name: &str) {
    let cols = 512;
    let src = rows(cols);
    let mut noise = Noise(9);
    let importance: Vec<f32> = (0..cols).map(|c| if c % 50 == 3 { 0.0 } else { noise.next().abs() * 4.0 }).collect();
    for importance in [None, Some(&importance[..])] {
        let mut want = vec![0; src.len() / B::ELEMS * size_of::<B>()];
        Encode { src: &src, importance, dst: blocks::cast_mut::<B>(&mut want) }.run::<Portable<1>>();
        run_with_each(|lanes| Run::<B> {
            encode: Encode { src: &src, importance, dst: &mut [] },
            want: &want,
            what: format!("{name}, {lanes}, {} importance", if importance.is_some() { "with" } else { "without" }),
        });
    }
}

macro_rules! formats {
    ($($name:ident)*) => { $(same_in_all_widths::<blocks::$name>(stringify!($name));)* };
}

#[test]
fn bytes_do_not_depend_on_the_number_of_lanes() {
    formats!(IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS Q4_0 Q4_1 Q5_0 Q5_1);
}

/// Columns that never saw input, and some that saw far too much.
#[test]
fn importances_of_any_size_give_finite_values() {
    let cols = 512;
    let src = rows(cols).iter().map(|x| x.clamp(-6e4, 6e4)).collect::<Vec<_>>();
    let kinds: [fn(usize) -> f32; 5] = [
        |_| 0.0,
        |c| if (64..96).contains(&c) { 0.0 } else { 1.0 },
        |_| 1e20,
        |_| 1e-30,
        |c| 10f32.powi(c as i32 % 40 - 20),
    ];
    for &ty in TensorType::ALL {
        for (kind, importance) in kinds.iter().enumerate() {
            let importance: Vec<f32> = (0..cols).map(importance).collect();
            let mut bytes = vec![0; ty.row_bytes(src.len()).unwrap()];
            ty.encode_weighted(&src, &importance, &mut bytes);
            let mut back = vec![f32::NAN; src.len()];
            ty.decode(&bytes, &mut back);
            let broken = back.iter().position(|x| !x.is_finite());
            assert_eq!(broken, None, "{ty}, importances {kind}: first broken element");
        }
    }
}

/// The rounding that reaches further than its name says, against the bits of the float it is defined by.
#[test]
fn nearest_any_takes_23_bits_of_the_sum() {
    struct Check;
    impl Task for Check {
        #[inline(always)]
        fn run<V: Lanes>(self) {
            for x in [0.5, -0.5, 1.5, 2.5, -2.5, 4e6, -4e6, 1.3e7, -2.6e7, 1e20, -1e30, f32::INFINITY, f32::NAN] {
                let want = Portable::<1>::splat(x).nearest_any().to_array()[0];
                let got = V::splat(x).nearest_any().to_array();
                assert!(got[..V::N].iter().all(|lane| lane.to_bits() == want.to_bits()), "{x}: {got:?}, want {want}");
            }
            assert_eq!(V::splat(-3.5).nearest_any().to_array()[0], -4.0);
        }
    }
    run_with_each(|_| Check);
}

/// Digests of what the encoders make of the rows above without importances and with them, when their bytes had been
/// compared with llama.cpp's.
const DIGESTS: &[(&str, u64, u64)] = &[
    ("Q4_0", 0xc68a27ccff80de33, 0xa9682bd201e335e8),
    ("Q4_1", 0xb702e5a6ad892c06, 0x93a02148122395a7),
    ("Q5_0", 0xe4acdb3d35cbc5da, 0xea476024e41a913a),
    ("Q5_1", 0xd2b2947f1a0d5080, 0x9a210accf1e0058f),
    ("Q8_0", 0xbc4379f738b3e98f, 0xbc4379f738b3e98f),
    ("Q2_K", 0x2357f4501221b36b, 0xa1d9a4a29f9c4f7a),
    ("Q3_K", 0x2b195c3bb4dc2970, 0xce96536022f2cc75),
    ("Q4_K", 0x71740dab78b1b7fd, 0x819e135401925e66),
    ("Q5_K", 0xed356f3d3669f1c6, 0xaf77a01cc430e52b),
    ("Q6_K", 0x9643fa92acaef396, 0x822b46ce21c30da2),
    ("IQ2_XXS", 0xf1e0290c1b23ffb1, 0x2190489f359c4d48),
    ("IQ2_XS", 0xca34ad37e88fb495, 0x818dc18cd5a17460),
    ("IQ3_XXS", 0xa0da3bcf410daeeb, 0xf4b4b12fe0653eb3),
    ("IQ4_NL", 0x3ca049228c5c8e3b, 0x2756f15a9d1b7eb6),
    ("IQ3_S", 0xa7fbbb5b4a00db62, 0x70446945633207b3),
    ("IQ2_S", 0xc83636093e12f1fc, 0xec4323b43af508dc),
    ("IQ4_XS", 0x1c4c55074f296e89, 0x31d28123eecdf5cf),
];

#[test]
fn bytes_stay_as_they_are() {
    let cols = 512;
    let src = rows(cols);
    let mut noise = Noise(9);
    let importance: Vec<f32> = (0..cols).map(|c| if c % 50 == 3 { 0.0 } else { noise.next().abs() * 4.0 }).collect();
    for ty in TensorType::ALL.iter().filter(|ty| ty.is_quantized()) {
        let mut bytes = vec![0; ty.row_bytes(src.len()).unwrap()];
        let fnv = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
        };
        ty.encode(&src, &mut bytes);
        let plain = fnv(&bytes);
        ty.encode_weighted(&src, &importance, &mut bytes);
        let want = DIGESTS.iter().find(|row| row.0 == ty.name()).expect("a digest");
        assert_eq!((plain, fnv(&bytes)), (want.1, want.2), "{ty}");
    }
}
