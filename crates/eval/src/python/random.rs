//! Python's `random.Random`: which examples precede a document depends on every bit of it.
//!
//! The generator is MT19937 (Matsumoto and Nishimura 1998, seeded by an array as in their code of 2002). What is drawn
//! from it is that of CPython 3.11's `Lib/random.py`: `sample` and `shuffle` by `_randbelow_with_getrandbits`. The values in
//! the tests were printed by CPython.

use std::collections::HashSet;

const N: usize = 624;
const M: usize = 397;

/// A generator.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: [u32; N],
    next: usize,
}

impl Random {
    /// `random.Random(seed)`.
    pub(crate) fn new(seed: u32) -> Self {
        let mut state = [0; N];
        state[0] = 19_650_218u32;
        for i in 1..N {
            state[i] = step(state[i - 1]).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        let mut i = 1;
        for _ in 0..N {
            state[i] = (state[i] ^ step(state[i - 1]).wrapping_mul(1_664_525)).wrapping_add(seed);
            i = after(&mut state, i);
        }
        for _ in 1..N {
            state[i] = (state[i] ^ step(state[i - 1]).wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i = after(&mut state, i);
        }
        state[0] = 0x8000_0000;
        Self { state, next: N }
    }

    fn word(&mut self) -> u32 {
        if self.next == N {
            for i in 0..N {
                let joined = self.state[i] & 0x8000_0000 | self.state[(i + 1) % N] & 0x7fff_ffff;
                let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + M) % N] ^ (joined >> 1) ^ twist;
            }
            self.next = 0;
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    /// A number of `n_bits` bits, 1 to 64.
    fn bits(&mut self, n_bits: u32) -> u64 {
        let low = n_bits.min(32);
        let first = u64::from(self.word() >> (32 - low));
        if n_bits <= 32 { first } else { first | u64::from(self.word() >> (64 - n_bits)) << 32 }
    }

    /// `random()`: uniform in `[0, 1)`, a multiple of 2^-53.
    pub(crate) fn unit(&mut self) -> f64 {
        let (high, low) = (self.word() >> 5, self.word() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// A number below `n`, which is at least 1.
    fn below(&mut self, n: usize) -> usize {
        let n_bits = usize::BITS - n.leading_zeros();
        loop {
            let drawn = self.bits(n_bits) as usize;
            if drawn < n {
                return drawn;
            }
        }
    }

    /// `sample(range(n), k)`, of which `k` may be at most `n`.
    pub(crate) fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        assert!(k <= n, "a sample of {k} of {n}");
        // Python keeps the smaller of a list of all and a set of those drawn, by its estimate of their sizes.
        let mut set_size = 21;
        if k > 5 {
            set_size +=
                (0..).map(|power| 4usize.saturating_pow(power)).find(|&size| size >= 3 * k).unwrap_or(usize::MAX);
        }
        if n <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            let draw = |i| {
                let j = self.below(n - i);
                let drawn = pool[j];
                pool[j] = pool[n - i - 1];
                drawn
            };
            return (0..k).map(draw).collect();
        }
        let mut drawn = Vec::with_capacity(k);
        let mut seen = HashSet::new();
        while drawn.len() < k {
            let j = self.below(n);
            if seen.insert(j) {
                drawn.push(j);
            }
        }
        drawn
    }
}

fn step(before: u32) -> u32 {
    before ^ before >> 30
}

/// The next index to mix; after the last comes the second, and the first becomes the last.
fn after(state: &mut [u32; N], i: usize) -> usize {
    if i + 1 < N {
        return i + 1;
    }
    state[0] = state[N - 1];
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_pythons() {
        let mut random = Random::new(1234);
        assert_eq!([(); 3].map(|()| random.bits(32)), [4_150_886_329, 3_342_196_574, 1_892_932_127]);
        let mut random = Random::new(42);
        assert_eq!([(); 2].map(|()| random.bits(64)), [2_053_695_854_357_871_005, 13_679_192_365_072_849_617]);
        let mut random = Random::new(0);
        let far = (0..2000).map(|_| random.bits(32)).fold(0u64, |sum, word| sum * 31 % 1_000_003 + word);
        assert_eq!(far, FAR);
    }

    /// Words 0 to 1999 of seed 0, folded: every part of the state was used three times.
    const FAR: u64 = 3_908_682_874;

    #[test]
    fn samples_are_pythons_whichever_way_they_are_kept() {
        let mut random = Random::new(1234);
        assert_eq!(random.sample(10, 3), [7, 1, 0]);
        assert_eq!(random.sample(1000, 5), [92, 932, 965, 961, 826]);
        assert_eq!(random.sample(21, 6), [18, 1, 2, 3, 11, 7]);
        assert_eq!(random.sample(22, 6), [0, 21, 20, 11, 15, 14]);
        let mut random = Random::new(1234);
        assert_eq!(random.sample(5_000_000_000, 3), [1_892_932_127, 32_175_636, 2_500_648_409]);
        assert_eq!(random.sample(7, 7), [5, 6, 0, 4, 1, 3, 2]);
        // The last size that is kept as a list, and the first that is not.
        assert_eq!(random.sample(85, 6), [3, 2, 44, 79, 61, 78]);
        assert_eq!(random.sample(86, 6), [59, 19, 11, 23, 14, 1]);
        assert_eq!(random.sample(3, 0), [0usize; 0]);
    }
}
