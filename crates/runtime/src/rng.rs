//! The random generator of sampling: xoshiro256++ 1.0 of Blackman and Vigna, with its state filled by SplitMix64
//! (<https://prng.di.unimi.it>). It is implemented here so that a seed gives the same text in every release.

/// A generator with 256 bits of state.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// The generator of this seed.
    pub fn new(mut seed: u64) -> Self {
        Self(std::array::from_fn(|_| split_mix(&mut seed)))
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-53.
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Outputs of the authors' C code; the same vectors are in the tests of the `rand_xoshiro` crate.
    #[test]
    fn known_answers() {
        let mut rng = Rng([1, 2, 3, 4]);
        let want = [41943041, 58720359, 3588806011781223, 3591011842654386, 9228616714210784205];
        assert_eq!(want.map(|_| rng.next_u64()), want);

        let mut seed = 1477776061723855037;
        let want = [1985237415132408290, 2979275885539914483, 13511426838097143398];
        assert_eq!(want.map(|_| split_mix(&mut seed)), want);
    }

    #[test]
    fn uniform_numbers_stay_below_one() {
        let mut rng = Rng::new(7);
        let mean = (0..10_000).map(|_| rng.next_f64()).inspect(|x| assert!((0.0..1.0).contains(x))).sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
