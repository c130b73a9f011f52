//! Damage as colours: a row per model or level, a column per step.

use super::chart::short;
use pythia_show::number::significant;
use pythia_show::plot::{Anchor, Canvas, Svg, Words, label_width};
use pythia_show::shorten;

/// A map of positive values.
pub(super) struct Heat {
    /// Names of the rows.
    pub(super) rows: Vec<String>,
    /// Steps of the columns.
    pub(super) steps: Vec<u64>,
    /// By row, then by column.
    pub(super) values: Vec<Vec<Option<f64>>>,
    /// What the values are.
    pub(super) title: String,
}

/// Colours, from small to large values. The style has a class for each.
const COLOURS: usize = 7;
const TOP: f64 = 30.0;
const LEGEND: f64 = 34.0;
/// A value is written where a cell is as wide as this.
const WRITTEN: f64 = 46.0;

impl Heat {
    /// The least and the largest value; `None` if there is none above 0.
    fn range(&self) -> Option<(f64, f64)> {
        let values = self.values.iter().flatten().flatten().copied().filter(|value| *value > 0.0 && value.is_finite());
        let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
        (low <= high).then_some((low, high))
    }

    pub(super) fn render(&self, canvas: Canvas, words: &Words) -> Option<String> {
        let (low, high) = self.range()?;
        let longest = if canvas == Canvas::Wide { 24 } else { 13 };
        let names: Vec<String> = self.rows.iter().map(|name| shorten(name, longest)).collect();
        let left = names.iter().map(|name| label_width(name)).fold(30.0, f64::max) + 12.0;
        let (width, row) = (canvas.width() - 8.0 - left, if self.rows.len() > 20 { 15.0 } else { 20.0 });
        let cell = width / self.steps.len() as f64;
        let bottom = TOP + row * self.rows.len() as f64;
        let mut svg = Svg::new(canvas, bottom + 28.0 + LEGEND, words);
        svg.text("title", (4.0, 14.0), Anchor::Start, &self.title);
        for (r, (values, name)) in self.values.iter().zip(&names).enumerate() {
            let top = TOP + row * r as f64;
            svg.text("label", (left - 6.0, top + 0.5 * row + 4.0), Anchor::End, name);
            let colours: Vec<Option<usize>> =
                values.iter().map(|value| value.filter(|v| v.is_finite()).map(|v| colour(v, low, high))).collect();
            // Neighbours of one colour are one rectangle: a page has tens of thousands of cells.
            let mut from = 0;
            for run in colours.chunk_by(|a, b| a == b) {
                if let Some(colour) = run[0] {
                    let at = (left + cell * from as f64, top);
                    // Neighbours overlap by a hair, which hides the seams between them.
                    svg.rect(&format!("heat-{colour}"), at, (cell * run.len() as f64 + 0.3, row));
                }
                from += run.len();
            }
            for (c, (value, colour)) in values.iter().zip(&colours).enumerate().filter(|_| cell >= WRITTEN) {
                if let (Some(value), Some(colour)) = (value, colour) {
                    let at = (left + cell * (c as f64 + 0.5), top + 0.5 * row + 4.0);
                    svg.text(&format!("heat-text-{colour}"), at, Anchor::Middle, &significant(*value, 2));
                }
            }
        }
        self.draw_steps(&mut svg, left, cell, bottom);
        draw_legend(&mut svg, canvas, bottom + 28.0, (low, high));
        Some(svg.finish())
    }

    /// Numbers of the columns: the last one, then the roundest ones that have a place.
    fn draw_steps(&self, svg: &mut Svg, left: f64, cell: f64, bottom: f64) {
        const GAP: f64 = 7.0;
        let last = self.steps.len() - 1;
        let zeros = |step: u64| (1..10).take_while(|n| step.is_multiple_of(10u64.pow(*n))).count();
        let mut order: Vec<usize> = (0..last).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(zeros(self.steps[i])));
        let edge = left + cell * self.steps.len() as f64 + 6.0;
        let mut taken: Vec<(f64, f64)> = Vec::new();
        for i in std::iter::once(last).chain(order) {
            let label = short(self.steps[i]);
            let (middle, half) = (left + cell * (i as f64 + 0.5), 0.5 * label_width(&label));
            let at = middle.min(edge - half);
            if taken.iter().all(|(from, to)| at + half + GAP < *from || at - half - GAP > *to) {
                svg.line("axis", (middle, bottom), (middle, bottom + 4.0));
                svg.text("tick", (at, bottom + 17.0), Anchor::Middle, &label);
                taken.push((at - half, at + half));
            }
        }
    }
}

/// The colour of a value: bands of equal ratios.
fn colour(value: f64, low: f64, high: f64) -> usize {
    if value <= low || high <= low {
        return 0;
    }
    let share = (value / low).ln() / (high / low).ln();
    ((share * COLOURS as f64) as usize).min(COLOURS - 1)
}

/// Swatches with the least and the largest value of each band's edge.
fn draw_legend(svg: &mut Svg, canvas: Canvas, top: f64, (low, high): (f64, f64)) {
    let ends = [low, high].map(|value| significant(value, 2));
    let swatch = if canvas == Canvas::Wide { 40.0 } else { 24.0 };
    let right = canvas.width() - 8.0 - label_width(&ends[1]) - 6.0;
    let left = right - swatch * COLOURS as f64;
    svg.text("tick", (left - 6.0, top + 12.0 + 10.0), Anchor::End, &ends[0]);
    svg.text("tick", (right + 6.0, top + 12.0 + 10.0), Anchor::Start, &ends[1]);
    for colour in 0..COLOURS {
        svg.rect(&format!("heat-{colour}"), (left + swatch * colour as f64, top + 10.0), (swatch + 0.3, 15.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_bands_of_equal_ratios() {
        assert_eq!(colour(1.0, 1.0, 128.0), 0);
        assert_eq!(colour(3.0, 1.0, 128.0), 1);
        assert_eq!(colour(128.0, 1.0, 128.0), COLOURS - 1);
        assert_eq!(colour(0.0, 1.0, 128.0), 0);
        assert_eq!(colour(5.0, 5.0, 5.0), 0);
    }
}
