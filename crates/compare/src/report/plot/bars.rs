//! Horizontal bars in panels: side by side with one row of names for all, or below each other where there is less room.

use pythia_show::plot::{Anchor, Canvas, Scale, Svg, Words, label_width};
use pythia_show::shorten;

/// One bar.
pub(super) struct Bar {
    /// Its length.
    pub(super) value: f64,
    /// The least and the most that was measured.
    pub(super) range: Option<(f64, f64)>,
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

const ROW: f64 = 24.0;
const BAR: f64 = 15.0;
const TOP: f64 = 30.0;
/// Below a panel: the numbers of its axis.
const FOOT: f64 = 28.0;
/// Between two panels, and from the end of the longest bar to the edge: room for the number.
const GAP: f64 = 24.0;
const NUMBER: f64 = 60.0;
const LONGEST_NAME: usize = 24;
/// Half the height of the mark at the end of a range.
const CAP: f64 = 3.5;

/// Where a panel is drawn.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// The drawing: a row per name (the second field marks the base). `None` without a positive number.
pub(super) fn render(names: &[(String, bool)], panels: &[Panel], canvas: Canvas, words: &Words) -> Option<String> {
    if panels.iter().all(|panel| longest(panel) <= 0.0) {
        return None;
    }
    let longest_name = if canvas == Canvas::Wide { LONGEST_NAME } else { LONGEST_NAME / 2 };
    let shown: Vec<String> = names.iter().map(|(name, _)| shorten(name, longest_name)).collect();
    let gutter = shown.iter().map(|name| label_width(name)).fold(40.0, f64::max) + 10.0;
    let height = TOP + ROW * names.len() as f64 + FOOT;
    let (across, down) = match canvas {
        Canvas::Wide => (panels.len() as f64, 1.0),
        Canvas::Narrow => (1.0, panels.len() as f64),
    };
    let width = (canvas.width() - gutter) / across;
    let mut svg = Svg::new(canvas, height * down, words);
    for (i, panel) in panels.iter().enumerate() {
        let (column, row) = if canvas == Canvas::Wide { (i as f64, 0.0) } else { (0.0, i as f64) };
        let left = gutter + width * column;
        let right = left + width - NUMBER - if across > 1.0 { GAP } else { 0.0 };
        let top = height * row + TOP;
        if column == 0.0 {
            for (row, name) in shown.iter().enumerate() {
                svg.text("label", (gutter - 8.0, top + middle_of(row) + 4.0), Anchor::End, name);
            }
        }
        draw(&mut svg, panel, names, &Frame { left, right, top, bottom: top + height - TOP - FOOT });
    }
    Some(svg.finish())
}

fn draw(svg: &mut Svg, panel: &Panel, names: &[(String, bool)], frame: &Frame) {
    let &Frame { left, right, top, bottom } = frame;
    let scale = Scale::from_zero(longest(panel), (left, right));
    svg.text("title", (left, top - 14.0), Anchor::Start, panel.title);
    for tick in scale.ticks(if right - left < 300.0 { 4 } else { 5 }) {
        let at = scale.at(tick.value);
        svg.line("grid", (at, top), (at, bottom));
        svg.text("tick", (at, bottom + 16.0), Anchor::Middle, &tick.label.unwrap_or_default());
    }
    for (row, (bar, (_, is_base))) in panel.bars.iter().zip(names).enumerate() {
        let (end, middle) = (scale.at(bar.value), top + middle_of(row));
        let class = if *is_base { "bar base-bar" } else { "bar" };
        svg.rect(class, (left, middle - BAR / 2.0), (end - left, BAR));
        let mut text_at = end;
        if let Some((low, high)) = bar.range.filter(|(low, high)| low.is_finite() && high.is_finite()) {
            let (low, high) = (scale.at(low), scale.at(high));
            svg.line("range", (low, middle), (high, middle));
            svg.line("range", (low, middle - CAP), (low, middle + CAP));
            svg.line("range", (high, middle - CAP), (high, middle + CAP));
            text_at = text_at.max(high);
        }
        svg.text("label", (text_at + 6.0, middle + 4.0), Anchor::Start, &bar.text);
    }
    svg.line("axis", (left, top), (left, bottom));
}

/// The largest number of a panel.
fn longest(panel: &Panel) -> f64 {
    let numbers = panel.bars.iter().flat_map(|bar| [bar.value, bar.range.map_or(0.0, |range| range.1)]);
    numbers.filter(|v| v.is_finite()).fold(0.0, f64::max)
}

fn middle_of(row: usize) -> f64 {
    ROW * (row as f64 + 0.5)
}

#[cfg(test)]
mod tests {
    use super::super::test_words;
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bars = [10.0, 5.0, f64::NAN].map(|value| Bar { value, range: None, text: String::new() });
        let names = ["a", "b", "c"].map(|name| (name.to_owned(), false));
        let panels = [Panel { title: "t", bars: bars.into() }];
        for canvas in [Canvas::Wide, Canvas::Narrow] {
            let svg = render(&names, &panels, canvas, &test_words()).unwrap();
            let widths: Vec<f64> = svg
                .lines()
                .filter(|line| line.starts_with("<rect"))
                .map(|line| line.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
                .collect();
            assert!((widths[0] - 2.0 * widths[1]).abs() < 0.2, "{widths:?}");
            assert_eq!(widths[2], 0.0);
        }
    }

    #[test]
    fn no_numbers_no_figure() {
        let panel = Panel { title: "t", bars: vec![Bar { value: f64::NAN, range: None, text: String::new() }] };
        assert!(render(&[("a".to_owned(), true)], &[panel], Canvas::Wide, &test_words()).is_none());
    }
}
