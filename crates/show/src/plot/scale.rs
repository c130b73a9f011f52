//! Axes: from values to pixels, and where the ticks go.

use crate::number::{plain, significant};

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Equal distances for equal differences.
    Linear,
    /// Equal distances for equal ratios; only values above 0 have a place.
    Log,
}

/// An axis: a range of values over a range of pixels.
#[derive(Debug)]
pub struct Scale {
    kind: Kind,
    low: f64,
    high: f64,
    /// Where `low` is drawn, then `high`; the second may be smaller.
    pixels: (f64, f64),
}

/// A mark on an axis.
#[derive(Debug)]
pub struct Tick {
    /// Its value.
    pub value: f64,
    /// What is written there; nothing at the minor ticks of a logarithmic axis.
    pub label: Option<String>,
}

/// A logarithmic axis covers at least this ratio, so that it always has several labelled ticks.
const LEAST_RATIO: f64 = 3.0;
/// Up to how many decades a logarithmic axis has labels at which multiples of a power of ten.
const LABELLED: [(f64, &[f64]); 3] =
    [(0.9, &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]), (2.2, &[1.0, 2.0, 5.0]), (f64::INFINITY, &[1.0])];
/// Room left at both ends, as a share of the range.
const MARGIN: f64 = 0.07;

impl Scale {
    /// An axis that shows all of `values` that it can, with room at both ends.
    pub fn new(kind: Kind, values: impl IntoIterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let usable = |v: &f64| v.is_finite() && (kind == Kind::Linear || *v > 0.0);
        let (low, high) = values
            .into_iter()
            .filter(usable)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = match (kind, low <= high) {
            (Kind::Linear, false) => (0.0, 1.0),
            (Kind::Log, false) => (0.1, 1.0),
            (_, true) => (low, high),
        };
        let (low, high) = match kind {
            Kind::Linear => widen_linear(low, high),
            Kind::Log => widen_log(low, high),
        };
        Self { kind, low, high, pixels }
    }

    /// An axis of lengths: from 0 to `high`, without room at the ends.
    pub fn from_zero(high: f64, pixels: (f64, f64)) -> Self {
        let high = if high.is_finite() && high > 0.0 { high } else { 1.0 };
        Self { kind: Kind::Linear, low: 0.0, high, pixels }
    }

    /// How values are spread.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The pixel of a value; values outside are drawn at the nearer end.
    pub fn at(&self, value: f64) -> f64 {
        let share = match self.kind {
            Kind::Linear => (value - self.low) / (self.high - self.low),
            Kind::Log if value > 0.0 => (value / self.low).ln() / (self.high / self.low).ln(),
            Kind::Log => 0.0,
        };
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// Whether a value has a place of its own, rather than the nearer end.
    pub fn shows(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Round values on the axis, ascending; about `wanted` of them on a linear one.
    pub fn ticks(&self, wanted: usize) -> Vec<Tick> {
        match self.kind {
            Kind::Linear => self.linear_ticks(wanted),
            Kind::Log => self.log_ticks(),
        }
    }

    fn linear_ticks(&self, wanted: usize) -> Vec<Tick> {
        let step = round_step((self.high - self.low) / wanted.max(1) as f64);
        let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
        let tick = |i: i64| {
            let value = i as f64 * step;
            Tick { value, label: Some(plain(value, decimals)) }
        };
        (first..=last).map(tick).collect()
    }

    fn log_ticks(&self) -> Vec<Tick> {
        let decades = (self.high / self.low).log10();
        let labelled = LABELLED.iter().find(|(most, _)| decades <= *most).map_or(&[][..], |(_, labelled)| labelled);
        // A very long axis would be crowded by every power of ten.
        let stride = (decades / 8.0).ceil().max(1.0) as i32;
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let mut ticks = Vec::new();
        for exponent in first..=last {
            for multiple in [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0] {
                // Parsed, not multiplied: 3 * 1e-4 is not the double nearest to 3e-4.
                let value: f64 = format!("{multiple}e{exponent}").parse().unwrap_or(f64::NAN);
                let has_label = labelled.contains(&multiple) && exponent % stride == 0;
                let is_minor = multiple.fract() == 0.0 && stride == 1;
                if self.shows(value) && (has_label || is_minor) {
                    let digits = if multiple.fract() == 0.0 { 1 } else { 2 };
                    ticks.push(Tick { value, label: has_label.then(|| significant(value, digits)) });
                }
            }
        }
        ticks
    }
}

fn widen_linear(low: f64, high: f64) -> (f64, f64) {
    let range = high - low;
    // All values equal, or equal but for rounding: a range that is round around them.
    let range = if range > 1e-9 * high.abs().max(low.abs()) { range } else { (0.1 * high.abs()).max(1e-6) };
    let middle = low + (high - low) / 2.0;
    let half = range * (0.5 + MARGIN);
    (middle - half, middle + half)
}

fn widen_log(low: f64, high: f64) -> (f64, f64) {
    let room = (high / low).powf(MARGIN).max(1.15);
    let (low, high) = (low / room, high * room);
    let short = (LEAST_RATIO / (high / low)).max(1.0).sqrt();
    // Values near the ends of f64 leave no room to widen.
    ((low / short).max(f64::MIN_POSITIVE), (high * short).min(f64::MAX))
}

/// The number nearest to `step`, by ratio, of 1, 2 and 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = match step / power {
        f if f >= 50f64.sqrt() => 10.0,
        f if f >= 10f64.sqrt() => 5.0,
        f if f >= 2f64.sqrt() => 2.0,
        _ => 1.0,
    };
    factor * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(scale: &Scale) -> Vec<String> {
        scale.ticks(5).into_iter().filter_map(|tick| tick.label).collect()
    }

    #[test]
    fn ticks_are_round() {
        let linear = Scale::new(Kind::Linear, [28.5795, 28.83], (0.0, 100.0));
        assert_eq!(labels(&linear), ["28.60", "28.65", "28.70", "28.75", "28.80"]);
        let whole = Scale::from_zero(9000.0, (0.0, 100.0));
        assert_eq!(labels(&whole), ["0", "2000", "4000", "6000", "8000"]);
        let log = Scale::new(Kind::Log, [0.000116, 0.0083], (0.0, 100.0));
        assert_eq!(labels(&log), ["0.0001", "0.0002", "0.0005", "0.001", "0.002", "0.005", "0.01"]);
        let short = Scale::new(Kind::Log, [3.3, 13.8], (0.0, 100.0));
        assert_eq!(labels(&short), ["3", "4", "5", "6", "8", "10", "15"]);
        let long = Scale::new(Kind::Log, [2e-6, 0.3], (0.0, 100.0));
        assert_eq!(labels(&long), ["1e-6", "1e-5", "0.0001", "0.001", "0.01", "0.1"]);
        assert!(long.ticks(5).len() > 40, "minor ticks between");
    }

    #[test]
    fn values_without_a_place_go_to_the_end() {
        let log = Scale::new(Kind::Log, [0.0, -1.0, f64::NAN, 0.01], (200.0, 0.0));
        assert_eq!(log.at(0.0), 200.0);
        assert_eq!(log.at(-3.0), 200.0);
        assert_eq!(log.at(1e9), 0.0);
        assert!(log.shows(0.01) && !log.shows(0.0));
        assert!(!labels(&Scale::new(Kind::Log, [], (0.0, 1.0))).is_empty());
    }

    proptest! {
        #[test]
        fn any_values_get_a_few_distinct_ticks(a in 1e-12f64..1e12, b in 1e-12f64..1e12, log: bool) {
            let kind = if log { Kind::Log } else { Kind::Linear };
            let scale = Scale::new(kind, [a, b], (0.0, 500.0));
            prop_assert!(scale.shows(a) && scale.shows(b));
            let ticks = scale.ticks(5);
            let labels = labels(&scale);
            prop_assert!((2..=24).contains(&labels.len()), "{labels:?}");
            let mut unique = labels.clone();
            unique.dedup();
            prop_assert_eq!(unique.len(), labels.len(), "{:?}", labels);
            prop_assert!(ticks.windows(2).all(|w| w[0].value < w[1].value && scale.at(w[0].value) < scale.at(w[1].value)));
        }
    }
}
