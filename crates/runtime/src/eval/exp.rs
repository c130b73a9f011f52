//! `exp` of many numbers at once.

/// `exp(x)` for `x <= 0`, within 2 units in the last place; 0 below -708, where the result would be subnormal.
///
/// It uses only plain f64 operations without branches. So it gives the same bits everywhere, and a loop over it becomes
/// vector code. libm's takes four times as long, and would be most of the cost of a comparison over 50,304 logits.
#[inline(always)]
pub(super) fn exp_negative(x: f64) -> f64 {
    /// Adding it leaves the nearest integer in the low bits.
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    /// ln 2 in two parts; the first has zeros enough that a multiple of it up to 1024 is exact.
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let clamped = x.max(-708.0);
    let shifted = clamped * std::f64::consts::LOG2_E + MAGIC;
    let k = shifted - MAGIC;
    let r = (clamped - k * LN2_HIGH) - k * LN2_LOW;
    // Taylor's polynomial: for |r| <= ln(2) / 2 the first term left out is 5e-18 of the sum.
    let mut p = INVERSE_FACTORIALS[0];
    for c in &INVERSE_FACTORIALS[1..] {
        p = p * r + c;
    }
    // 2^k: k sits in the low bits of `shifted`, and is at least -1021.
    let two_to_k = f64::from_bits((shifted.to_bits().wrapping_add(1023)) << 52);
    if x < -708.0 { 0.0 } else { p * two_to_k }
}

/// 1/13! to 1/0!.
const INVERSE_FACTORIALS: [f64; 14] = {
    let mut c = [1.0; 14];
    let mut n = 1;
    let mut factorial = 1.0;
    while n < 14 {
        factorial *= n as f64;
        c[13 - n] = 1.0 / factorial;
        n += 1;
    }
    c
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_two_units_of_libm() {
        let mut x = 0.0f64;
        while x > -707.9 {
            let (got, want) = (exp_negative(x), libm::exp(x));
            let ulps = got.to_bits().abs_diff(want.to_bits());
            assert!(ulps <= 2, "exp({x}) = {got:e}, libm has {want:e}");
            x -= 0.000_97 + x.abs() * 1e-5;
        }
    }

    #[test]
    fn ends_of_the_range() {
        assert_eq!(exp_negative(0.0), 1.0);
        assert_eq!(exp_negative(-0.0), 1.0);
        assert_eq!(exp_negative(-708.5), 0.0);
        assert_eq!(exp_negative(f64::NEG_INFINITY), 0.0);
        assert!(exp_negative(-708.0) > 0.0);
    }
}
