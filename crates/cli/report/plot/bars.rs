//! Horizontal bars in panels side by side, one row of names for all.

use super::scale::Scale;
use super::svg::{Anchor, Svg, shorten, text_width};

/// One bar.
pub(super) struct Bar {
    /// Its length.
    pub(super) value: f64,
    /// What is written at its end.
    pub(super) text: String,
}

/// Bars that share a scale.
pub(super) struct Panel {
    /// What is measured, with the unit.
    pub(super) title: &'static str,
    /// A bar per name.
    pub(super) bars: Vec<Bar>,
}

const WIDTH: f64 = 960.0;
const ROW: f64 = 24.0;
const BAR: f64 = 15.0;
const TOP: f64 = 30.0;
/// Between two panels, and from the end of the longest bar to the edge: room for the number.
const GAP: f64 = 24.0;
const NUMBER: f64 = 60.0;
const LONGEST_NAME: usize = 24;

/// The drawing: a row per name (the second field marks the base). `None` without a positive number.
pub(super) fn render(names: &[(String, bool)], panels: &[Panel], describe: &str) -> Option<String> {
    let longest = |panel: &Panel| panel.bars.iter().map(|b| b.value).filter(|v| v.is_finite()).fold(0.0, f64::max);
    if panels.iter().all(|panel| longest(panel) <= 0.0) {
        return None;
    }
    let shown: Vec<String> = names.iter().map(|(name, _)| shorten(name, LONGEST_NAME)).collect();
    let gutter = shown.iter().map(|name| text_width(name)).fold(40.0, f64::max) + 10.0;
    let bottom = TOP + ROW * names.len() as f64;
    let mut svg = Svg::new(WIDTH, bottom + 28.0, describe);
    for (row, name) in shown.iter().enumerate() {
        svg.text("label", (gutter - 8.0, middle_of(row) + 4.0), Anchor::End, name);
    }
    let width = (WIDTH - gutter) / panels.len() as f64;
    for (i, panel) in panels.iter().enumerate() {
        let left = gutter + width * i as f64;
        let right = left + width - GAP - NUMBER;
        let scale = Scale::from_zero(longest(panel), (left, right));
        svg.text("title", (left, 16.0), Anchor::Start, panel.title);
        for tick in scale.ticks(5) {
            let at = scale.at(tick.value);
            svg.line("grid", (at, TOP), (at, bottom));
            svg.text("tick", (at, bottom + 16.0), Anchor::Middle, &tick.label.unwrap_or_default());
        }
        for (row, (bar, (_, is_base))) in panel.bars.iter().zip(names).enumerate() {
            let end = scale.at(bar.value);
            let class = if *is_base { "bar base-bar" } else { "bar" };
            svg.rect(class, (left, middle_of(row) - BAR / 2.0), (end - left, BAR));
            svg.text("label", (end + 6.0, middle_of(row) + 4.0), Anchor::Start, &bar.text);
        }
        svg.line("axis", (left, TOP), (left, bottom));
    }
    Some(svg.finish())
}

fn middle_of(row: usize) -> f64 {
    TOP + ROW * (row as f64 + 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bars = [10.0, 5.0, f64::NAN].map(|value| Bar { value, text: String::new() });
        let names = ["a", "b", "c"].map(|name| (name.to_owned(), false));
        let svg = render(&names, &[Panel { title: "t", bars: bars.into() }], "").unwrap();
        let widths: Vec<f64> = svg
            .lines()
            .filter(|line| line.starts_with("<rect"))
            .map(|line| line.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!((widths[0] - 2.0 * widths[1]).abs() < 0.2, "{widths:?}");
        assert_eq!(widths[2], 0.0);
    }

    #[test]
    fn no_numbers_no_figure() {
        let panel = Panel { title: "t", bars: vec![Bar { value: f64::NAN, text: String::new() }] };
        assert!(render(&[("a".to_owned(), true)], &[panel], "").is_none());
    }
}
