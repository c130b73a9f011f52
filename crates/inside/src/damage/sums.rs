//! Sums over rows of two models. They are f64, and their order does not depend on threads or batches.

/// Sums over the rows of a hook.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sums {
    /// Of the squared differences.
    pub(super) difference: f64,
    /// Of the base's squares.
    pub(super) base: f64,
    /// Of the cosines of rows.
    cosine: f64,
    /// Of the divergences of rows, where they are distributions.
    kl: f64,
    rows: u64,
}

impl Sums {
    /// Of one row.
    pub(super) fn of(base: &[f32], level: &[f32]) -> Self {
        let (mut d, mut x, mut y, mut xy) = ([0.0f64; 4], [0.0f64; 4], [0.0f64; 4], [0.0f64; 4]);
        for (base, level) in base.chunks(4).zip(level.chunks(4)) {
            for (i, (&b, &l)) in base.iter().zip(level).enumerate() {
                let (b, l) = (f64::from(b), f64::from(l));
                d[i] += (l - b) * (l - b);
                x[i] += b * b;
                y[i] += l * l;
                xy[i] += b * l;
            }
        }
        let [difference, base, level, product] = [d, x, y, xy].map(|s| (s[0] + s[1]) + (s[2] + s[3]));
        // Rows without a difference have no angle between them, whatever the square roots are rounded to.
        let cosine = match (difference == 0.0, base == 0.0 || level == 0.0) {
            (true, _) => 1.0,
            (false, true) => 0.0,
            (false, false) => product / (base.sqrt() * level.sqrt()),
        };
        Self { difference, base, cosine, kl: 0.0, rows: 1 }
    }

    /// Of one row of an attention pattern.
    pub(super) fn of_pattern(base: &[f32], level: &[f32]) -> Self {
        Self { kl: divergence(base, level), ..Self::of(base, level) }
    }

    /// Whether all of it is.
    pub(super) fn is_finite(&self) -> bool {
        self.difference.is_finite() && self.base.is_finite()
    }

    /// Adds others.
    pub(super) fn add(&mut self, other: &Self) {
        self.difference += other.difference;
        self.base += other.base;
        self.cosine += other.cosine;
        self.kl += other.kl;
        self.rows += other.rows;
    }

    /// `|y - x| / |x|`; 0 if both are 0.
    pub(super) fn relative_error(&self) -> f64 {
        relative(self.difference, self.base)
    }

    /// Mean of the rows.
    pub(super) fn cosine(&self) -> f64 {
        self.cosine / self.rows as f64
    }

    /// Mean of the rows, in nats.
    pub(super) fn kl(&self) -> f64 {
        self.kl / self.rows as f64
    }
}

/// The root of the quotient of two sums of squares; 0 if both are 0.
pub(super) fn relative(difference: f64, base: f64) -> f64 {
    if difference == 0.0 { 0.0 } else { (difference / base).sqrt() }
}

/// `sum of p ln(p / q)`, in nats. A weight of the level that was rounded to 0 counts as the smallest normal number.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let term = |(&p, &q): (&f32, &f32)| match p {
        0.0 => 0.0,
        p if p == q => 0.0,
        p => f64::from(p) * libm::log(f64::from(p) / f64::from(q.max(f32::MIN_POSITIVE))),
    };
    p.iter().zip(q).map(term).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_definitions() {
        let x = [3.0f32, 0.0, 4.0, 0.0, 0.0];
        let y = [3.0f32, 0.0, 3.0, 0.0, 1.0];
        let mut sums = Sums::of(&x, &y);
        assert!((sums.relative_error() - (2.0f64 / 25.0).sqrt()).abs() < 1e-15);
        assert!((sums.cosine() - 21.0 / (5.0 * 19f64.sqrt())).abs() < 1e-15);
        sums.add(&Sums::of(&x, &x));
        assert!((sums.relative_error() - (2.0f64 / 50.0).sqrt()).abs() < 1e-15);
        assert!((sums.cosine() - (21.0 / (5.0 * 19f64.sqrt()) + 1.0) / 2.0).abs() < 1e-15);
    }

    #[test]
    fn a_row_is_no_distance_from_itself() {
        for row in [&[0.1f32, 0.7, -0.3][..], &[0.0; 4], &[1e-30; 7]] {
            let sums = Sums::of_pattern(row, row);
            assert_eq!((sums.relative_error(), sums.cosine(), sums.kl()), (0.0, 1.0, 0.0));
        }
        assert_eq!(Sums::of(&[0.0], &[1.0]).cosine(), 0.0);
        assert!(!Sums::of(&[f32::NAN], &[1.0]).is_finite() && !Sums::of(&[1.0], &[f32::INFINITY]).is_finite());
    }

    #[test]
    fn the_divergence_of_a_pattern_by_hand() {
        let sums = Sums::of_pattern(&[0.5, 0.25, 0.25, 0.0], &[0.25, 0.5, 0.25, 0.0]);
        // 0.5 ln 2 + 0.25 ln 0.5
        assert!((sums.kl() - 0.25 * 2f64.ln()).abs() < 1e-15);
        let far = Sums::of_pattern(&[1.0, 0.0], &[0.0, 1.0]).kl();
        assert!((far + f64::from(f32::MIN_POSITIVE).ln()).abs() < 1e-9 && far.is_finite());
    }
}
