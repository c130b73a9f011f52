//! However many lanes: one answer. What the answer must be is held to llama.cpp's files elsewhere.

use super::{Encode, Search};
use crate::TensorType;
use crate::blocks;
use crate::lanes::{Lanes, Portable, Task, run_with_each};

/// A generator that is the same everywhere.
struct Noise(u64);

impl Noise {
    /// Uniform in -1..1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Rows that searches find hard: the ends of the range, groups of one kind, one value among zeros.
fn rows(cols: usize) -> Vec<f32> {
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
