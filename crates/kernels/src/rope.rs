//! Rotary position embedding of the NeoX kind: dimension i rotates with dimension i + rotated / 2.

/// Which dimensions of a head turn, and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotary {
    /// Base of the frequencies.
    pub base: f32,
    /// What the frequencies are divided by: 1, or the factor of linear scaling.
    pub factor: f32,
    /// Dimensions at the start of each head that turn, an even number.
    pub dims: usize,
}

/// Cosines and sines per position and pair.
#[derive(Clone, Debug)]
pub struct RopeTable {
    /// `[positions][rotated / 2]` of (cos, sin).
    turns: Vec<(f32, f32)>,
    pairs: usize,
}

impl RopeTable {
    /// For positions from 0 up to `positions`.
    ///
    /// As transformers computes them: inverse frequency, its quotient by the factor, and angle are rounded to f32. The
    /// functions themselves are those of the `libm` crate in f64, portable code, so that every machine has the same
    /// table.
    pub fn new(rotary: Rotary, positions: usize) -> Self {
        let Rotary { base, factor, dims } = rotary;
        let pairs = dims / 2;
        let frequencies: Vec<f32> = (0..pairs)
            .map(|i| {
                let exponent = (2 * i) as f32 / dims as f32;
                let frequency = 1.0 / libm::pow(f64::from(base), f64::from(exponent)) as f32;
                frequency / factor
            })
            .collect();
        let turn = |p: usize, f: f32| {
            let angle = f64::from(p as f32 * f);
            (libm::cos(angle) as f32, libm::sin(angle) as f32)
        };
        let turns = (0..positions).flat_map(|p| frequencies.iter().map(move |&f| turn(p, f))).collect();
        Self { turns, pairs }
    }

    /// (cosine, sine) of each pair of dimensions, position by position.
    pub fn turns(&self) -> &[(f32, f32)] {
        &self.turns
    }

    /// Pairs of dimensions that turn.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// Rotates the first dimensions of one head's vector in place. Plain multiplies and adds, none fused.
    ///
    /// # Panics
    /// If the table has no such position, or the vector is shorter than the rotated part.
    // Inlined, so that a kernel compiles it for its ISA.
    #[inline(always)]
    pub fn rotate(&self, position: usize, head: &mut [f32]) {
        self.turn(position, head, |a, b, cos, sin| (a * cos - b * sin, b * cos + a * sin));
    }

    /// Rotates the other way: the gradient at the output of [`rotate`](Self::rotate) becomes that at its input.
    ///
    /// # Panics
    /// As [`rotate`](Self::rotate).
    pub fn rotate_back(&self, position: usize, head: &mut [f32]) {
        self.turn(position, head, |a, b, cos, sin| (a * cos + b * sin, b * cos - a * sin));
    }

    #[inline(always)]
    fn turn(&self, position: usize, head: &mut [f32], turned: impl Fn(f32, f32, f32, f32) -> (f32, f32)) {
        let turns = &self.turns[position * self.pairs..][..self.pairs];
        let (first, second) = head[..2 * self.pairs].split_at_mut(self.pairs);
        for ((a, b), &(cos, sin)) in first.iter_mut().zip(second).zip(turns) {
            (*a, *b) = turned(*a, *b, cos, sin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_zero_is_the_identity_and_lengths_are_kept() {
        let table = RopeTable::new(Rotary { base: 10000.0, factor: 1.0, dims: 8 }, 2048);
        let start: Vec<f32> = (0..12).map(|i| i as f32 - 5.0).collect();
        let mut v = start.clone();
        table.rotate(0, &mut v);
        assert_eq!(v, start);
        table.rotate(1777, &mut v);
        assert_eq!(v[8..], start[8..], "dimensions past the rotated ones stay");
        let turned = v.clone();
        table.rotate_back(1777, &mut v);
        assert!(v.iter().zip(&start).all(|(back, start)| (back - start).abs() < 1e-5), "{v:?}");
        v = turned;
        for i in 0..4 {
            let (before, after) = (start[i].hypot(start[i + 4]), v[i].hypot(v[i + 4]));
            assert!((before - after).abs() < 1e-5);
        }
        // The first pair turns by one radian per position.
        let mut unit = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        table.rotate(3, &mut unit);
        assert!((unit[0] - 3f32.cos()).abs() < 1e-6 && (unit[4] - 3f32.sin()).abs() < 1e-6);
    }

    #[test]
    fn a_factor_stretches_the_positions() {
        let plain = Rotary { base: 10000.0, factor: 1.0, dims: 16 };
        let tables = |factor| RopeTable::new(Rotary { factor, ..plain }, 64);
        // Halves are exact, so every second position is one of the plain table, to the bit.
        for (p, turns) in tables(1.0).turns().chunks(8).take(32).enumerate() {
            assert_eq!(&tables(2.0).turns()[2 * p * 8..][..8], turns, "position {p}");
        }
        // Not so here: the quotient is what is rounded.
        let frequency = (1.0f32 / 2.5) * 63.0;
        let (cos, sin) = tables(2.5).turns()[63 * 8];
        assert_eq!((cos, sin), (libm::cos(frequency.into()) as f32, libm::sin(frequency.into()) as f32));
    }
}
