//! exp, erf and tanh in vector form: our own polynomials, so that every machine gives the same bits.
//!
//! The coefficients are least-squares fits on Chebyshev nodes, rounded to f32.

use crate::isa::Isa;

/// Inputs below give 0: e^x would be subnormal there, which some units flush.
const EXP_MIN: f32 = -87.3;
/// Inputs above are clamped: 2^127 is the largest power the exponent field takes.
const EXP_MAX: f32 = 88.3;

/// e^x, relative error below 2 ulp; 0 below -87.3 (also for -inf), clamped above 88.3.
#[inline(always)]
pub(crate) fn exp<I: Isa>(isa: I, x: I::F) -> I::F {
    let clamped = isa.min(isa.max(x, isa.splat(EXP_MIN)), isa.splat(EXP_MAX));
    // x = n ln 2 + r. ln 2 in two parts: the first has few bits, so that n times it is exact.
    let n = isa.round(isa.mul(clamped, isa.splat(std::f32::consts::LOG2_E)));
    let nf = isa.to_float(n);
    let r = isa.fma(nf, isa.splat(-0.693_359_4), clamped);
    let r = isa.fma(nf, isa.splat(2.121_944_4e-4), r);
    let p = polynomial(isa, r, &[0.001_393_363_6, 0.008_363_177, 0.041_666_467, 0.166_665_76, 0.5]);
    let e = isa.add(isa.fma(isa.mul(r, r), p, r), isa.splat(1.0));
    isa.select_lt(x, isa.splat(EXP_MIN), isa.splat(0.0), isa.mul(e, isa.pow2(n)))
}

/// 2^x for x <= 0, relative error below 3 ulp; below -126 that of -126. It takes two thirds of the operations of [`exp`].
/// Above 0 it is 1: a row of scores that has a NaN may have an element above its largest.
#[inline(always)]
pub(crate) fn exp2_of_negative<I: Isa>(isa: I, x: I::F) -> I::F {
    let x = isa.min(isa.max(x, isa.splat(-126.0)), isa.splat(0.0));
    let n = isa.round(x);
    let r = isa.sub(x, isa.to_float(n));
    let p = polynomial(isa, r, &[0.001_321_867_2, 0.009_671_698, 0.055_508_93, 0.240_222_38, 0.693_146_9, 1.0]);
    isa.mul(p, isa.pow2(n))
}

/// erf(x), absolute error below 2e-7.
#[inline(always)]
fn erf<I: Isa>(isa: I, x: I::F) -> I::F {
    // |x| < 1: x P(x^2). Else 1 - exp(Q(|x|)), with |x| cut at 4, where erf is 1 to the last bit.
    let z = isa.min(isa.abs(x), isa.splat(4.0));
    let t = isa.mul(z, z);
    let small = polynomial(
        isa,
        t,
        &[
            7.933_412_4e-5,
            -8.034_819e-4,
            5.191_215e-3,
            -2.685_539_8e-2,
            0.112_836_26,
            -0.376_126_3,
            std::f32::consts::FRAC_2_SQRT_PI,
        ],
    );
    let exponent = polynomial(
        isa,
        z,
        &[
            1.576_718_7e-6,
            -4.493_233_4e-5,
            5.879_252_6e-4,
            -4.720_914e-3,
            2.631_949e-2,
            -0.109_915_14,
            -0.631_987_6,
            -1.130_146,
            3.000_924e-4,
        ],
    );
    let large = isa.sub(isa.splat(1.0), exp(isa, exponent));
    isa.copysign(isa.select_lt(z, isa.splat(1.0), isa.mul(z, small), large), x)
}

/// GELU in its exact form: x / 2 * (1 + erf(x / sqrt 2)).
#[inline(always)]
pub(crate) fn gelu_erf<I: Isa>(isa: I, x: I::F) -> I::F {
    let e = erf(isa, isa.mul(x, isa.splat(std::f32::consts::FRAC_1_SQRT_2)));
    isa.mul(isa.mul(x, isa.splat(0.5)), isa.add(isa.splat(1.0), e))
}

const SQRT_2_OVER_PI: f32 = 0.797_884_6;

/// GELU's tanh approximation: x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
#[inline(always)]
pub(crate) fn gelu_tanh<I: Isa>(isa: I, x: I::F) -> I::F {
    let inner = isa.mul(isa.splat(0.044_715), isa.mul(x, x));
    let u = isa.mul(isa.mul(isa.splat(SQRT_2_OVER_PI), x), isa.add(isa.splat(1.0), inner));
    // (1 + tanh u) / 2 = 1 / (1 + e^(-2u))
    let e = exp(isa, isa.mul(u, isa.splat(-2.0)));
    isa.div(x, isa.add(isa.splat(1.0), e))
}

/// The derivative of [`gelu_erf`]: the distribution function of the normal distribution, plus x times its density.
#[inline(always)]
pub(crate) fn gelu_erf_slope<I: Isa>(isa: I, x: I::F) -> I::F {
    const INVERSE_SQRT_2_PI: f32 = 0.398_942_3;
    let e = erf(isa, isa.mul(x, isa.splat(std::f32::consts::FRAC_1_SQRT_2)));
    let below = isa.mul(isa.splat(0.5), isa.add(isa.splat(1.0), e));
    let density = exp(isa, isa.mul(isa.mul(x, x), isa.splat(-0.5)));
    isa.fma(isa.mul(x, isa.splat(INVERSE_SQRT_2_PI)), density, below)
}

/// The derivative of [`gelu_tanh`]. With s = 1 / (1 + e^(-2u)): s + x s (1 - s) 2u'.
#[inline(always)]
pub(crate) fn gelu_tanh_slope<I: Isa>(isa: I, x: I::F) -> I::F {
    let square = isa.mul(x, x);
    let inner = isa.fma(isa.splat(0.044_715), square, isa.splat(1.0));
    let u = isa.mul(isa.mul(isa.splat(SQRT_2_OVER_PI), x), inner);
    let s = isa.div(isa.splat(1.0), isa.add(isa.splat(1.0), exp(isa, isa.mul(u, isa.splat(-2.0)))));
    let inner_slope = isa.fma(isa.splat(3.0 * 0.044_715), square, isa.splat(1.0));
    let twice_slope = isa.mul(isa.splat(2.0 * SQRT_2_OVER_PI), inner_slope);
    let rest = isa.mul(isa.mul(x, s), isa.sub(isa.splat(1.0), s));
    isa.fma(rest, twice_slope, s)
}

/// Horner's rule, highest power first.
#[inline(always)]
fn polynomial<I: Isa, const N: usize>(isa: I, x: I::F, coefficients: &[f32; N]) -> I::F {
    let mut p = isa.splat(coefficients[0]);
    for &c in &coefficients[1..] {
        p = isa.fma(p, x, isa.splat(c));
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{Kernel, Supported};

    #[derive(Clone, Copy)]
    enum Function {
        Exp,
        Exp2OfNegative,
        GeluErf,
        GeluTanh,
    }

    struct Apply(Function, [f32; 16]);

    impl Kernel for Apply {
        type Output = [f32; 16];

        #[inline(always)]
        fn run<I: Isa>(self, isa: I) -> [f32; 16] {
            let mut out = [0.0; 16];
            // SAFETY: both arrays have 16 floats.
            unsafe {
                let x = isa.load(self.1.as_ptr());
                let y = match self.0 {
                    Function::Exp => exp(isa, x),
                    Function::Exp2OfNegative => exp2_of_negative(isa, x),
                    Function::GeluErf => gelu_erf(isa, x),
                    Function::GeluTanh => gelu_tanh(isa, x),
                };
                isa.store(out.as_mut_ptr(), y);
            }
            out
        }
    }

    /// Values over `range`, denser towards 0, on every ISA; `check` sees x and y, and the bits must agree.
    fn sweep(function: Function, lo: f32, hi: f32, check: impl Fn(f32, f32)) {
        let steps = 40_000;
        for i in (0..steps).step_by(16) {
            let x: [f32; 16] = std::array::from_fn(|l| lo + (hi - lo) * (i + l) as f32 / steps as f32);
            let want = Supported::scalar().dispatch(Apply(function, x));
            for isa in Supported::all() {
                assert_eq!(
                    isa.dispatch(Apply(function, x)).map(f32::to_bits),
                    want.map(f32::to_bits),
                    "{}",
                    isa.level()
                );
            }
            x.into_iter().zip(want).for_each(|(x, y)| check(x, y));
        }
    }

    /// erf in f64: its series below 3, its continued fraction above.
    fn erf_reference(x: f64) -> f64 {
        let a = x.abs();
        let y = if a < 3.0 {
            let (mut term, mut sum) = (a, a);
            for n in 1..120 {
                term *= -a * a / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            sum * std::f64::consts::FRAC_2_SQRT_PI
        } else {
            let fraction = (1..60).rev().fold(0.0, |f, k| f64::from(k) / 2.0 / (a + f));
            1.0 - (-a * a).exp() / std::f64::consts::PI.sqrt() / (a + fraction)
        };
        y.copysign(x)
    }

    #[test]
    fn exp_is_within_two_ulp() {
        sweep(Function::Exp, -87.29, 88.29, |x, y| {
            let want = f64::from(x).exp();
            assert!((f64::from(y) / want - 1.0).abs() < 2.4e-7, "exp({x}) = {y}, want {want}");
        });
        let edges = Supported::scalar().dispatch(Apply(Function::Exp, [f32::NEG_INFINITY; 16]));
        assert_eq!(edges, [0.0; 16]);
        assert_eq!(Supported::scalar().dispatch(Apply(Function::Exp, [0.0; 16])), [1.0; 16]);
    }

    #[test]
    fn powers_of_two_are_within_three_ulp() {
        sweep(Function::Exp2OfNegative, -126.0, 0.0, |x, y| {
            let want = f64::from(x).exp2();
            assert!((f64::from(y) / want - 1.0).abs() < 3.6e-7, "2^{x} = {y}, want {want}");
        });
        let of = |x: f32| Supported::scalar().dispatch(Apply(Function::Exp2OfNegative, [x; 16]))[0];
        assert_eq!(
            [0.0, -1.0, -126.0, -127.0, -1e9, f32::MIN].map(of),
            [1.0, 0.5, 2f32.powi(-126), 2f32.powi(-126), 2f32.powi(-126), 2f32.powi(-126)]
        );
    }

    #[test]
    fn gelu_erf_is_exact_to_rounding() {
        sweep(Function::GeluErf, -12.0, 12.0, |x, y| {
            let x = f64::from(x);
            let want = 0.5 * x * (1.0 + erf_reference(x * std::f64::consts::FRAC_1_SQRT_2));
            assert!((f64::from(y) - want).abs() < 1.5e-7 * x.abs().max(1.0), "gelu({x}) = {y}, want {want}");
        });
    }

    #[test]
    fn gelu_tanh_is_exact_to_rounding() {
        sweep(Function::GeluTanh, -12.0, 12.0, |x, y| {
            let x = f64::from(x);
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            let want = 0.5 * x * (1.0 + u.tanh());
            assert!((f64::from(y) - want).abs() < 3e-7 * x.abs().max(1.0), "gelu({x}) = {y}, want {want}");
        });
    }
}
