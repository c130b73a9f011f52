//! Rotary position embedding of the NeoX kind: dimension i rotates with dimension i + rotated / 2.

/// Cosines and sines per position and pair.
#[derive(Clone, Debug)]
pub struct RopeTable {
    /// `[positions][rotated / 2]` of (cos, sin).
    turns: Vec<(f32, f32)>,
    pairs: usize,
}

impl RopeTable {
    /// For `rotated` dimensions (an even number) of each head, up to `positions`.
    ///
    /// As transformers computes them: inverse frequency and angle are rounded to f32. The functions themselves are
    /// those of the `libm` crate in f64, portable code, so that every machine has the same table.
    pub fn new(base: f32, rotated: usize, positions: usize) -> Self {
        let pairs = rotated / 2;
        let frequencies: Vec<f32> = (0..pairs)
            .map(|i| {
                let exponent = (2 * i) as f32 / rotated as f32;
                1.0 / libm::pow(f64::from(base), f64::from(exponent)) as f32
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
    pub fn rotate(&self, position: usize, head: &mut [f32]) {
        let turns = &self.turns[position * self.pairs..][..self.pairs];
        let (first, second) = head[..2 * self.pairs].split_at_mut(self.pairs);
        for ((a, b), &(cos, sin)) in first.iter_mut().zip(second).zip(turns) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_zero_is_the_identity_and_lengths_are_kept() {
        let table = RopeTable::new(10000.0, 8, 2048);
        let start: Vec<f32> = (0..12).map(|i| i as f32 - 5.0).collect();
        let mut v = start.clone();
        table.rotate(0, &mut v);
        assert_eq!(v, start);
        table.rotate(1777, &mut v);
        assert_eq!(v[8..], start[8..], "dimensions past the rotated ones stay");
        for i in 0..4 {
            let (before, after) = (start[i].hypot(start[i + 4]), v[i].hypot(v[i + 4]));
            assert!((before - after).abs() < 1e-5);
        }
        // The first pair turns by one radian per position.
        let mut unit = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        table.rotate(3, &mut unit);
        assert!((unit[0] - 3f32.cos()).abs() < 1e-6 && (unit[4] - 3f32.sin()).abs() < 1e-6);
    }
}
