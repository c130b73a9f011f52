//! Two axes with ticks, grid, titles and a legend.

use super::scale::{Kind, Scale};
use super::svg::{Anchor, Canvas, Svg, label_width};

/// Where the axes are, in pixels of the view box.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// The left axis.
    pub left: f64,
    /// The end of the lower axis.
    pub right: f64,
    /// The end of the left axis.
    pub top: f64,
    /// The lower axis.
    pub bottom: f64,
}

/// Numbers at a linear left axis, about.
const Y_TICKS: usize = 6;
/// Between them and the axis.
const TICK_GAP: f64 = 8.0;
/// Length of the line before a name in the legend, and radius of the dot on it.
const LEGEND_LINE: f64 = 26.0;
const LEGEND_DOT: f64 = 4.5;

impl Frame {
    /// Height of what is below the lower axis: its numbers and its title.
    pub const FOOT: f64 = 52.0;

    /// How far from the left edge an axis must stand for its numbers. Where there is room, the axes of all plots begin
    /// at the same place.
    pub fn left_of(canvas: Canvas, y: &Scale) -> f64 {
        let labels = y.ticks(Y_TICKS).into_iter().filter_map(|tick| tick.label);
        let least = if canvas == Canvas::Wide { 50.0 } else { 24.0 };
        labels.map(|label| label_width(&label)).fold(least, f64::max) + TICK_GAP + 2.0
    }

    /// Draws the axes with these titles: that of the lower one, then that of the left one.
    pub fn draw_axes(&self, svg: &mut Svg, canvas: Canvas, (x, y): (&Scale, &Scale), (x_title, y_title): (&str, &str)) {
        let &Self { left, right, bottom, .. } = self;
        for tick in y.ticks(Y_TICKS) {
            let at = y.at(tick.value);
            svg.line(if tick.label.is_some() { "grid" } else { "grid minor" }, (left, at), (right, at));
            if let Some(label) = &tick.label {
                svg.text("tick", (left - TICK_GAP, at + 4.0), Anchor::End, label);
            }
        }
        for tick in x.ticks(if canvas == Canvas::Wide { 8 } else { 4 }) {
            let at = x.at(tick.value);
            let length = if tick.label.is_some() { 6.0 } else { 3.0 };
            svg.line("axis", (at, bottom), (at, bottom + length));
            if let Some(label) = &tick.label {
                svg.text("tick", (at, bottom + 19.0), Anchor::Middle, label);
            }
        }
        svg.line("axis", (left, bottom), (right, bottom));
        svg.text("title", (4.0, 16.0), Anchor::Start, &title(y_title, y));
        svg.text("title", (right, bottom + Self::FOOT - 10.0), Anchor::End, &title(x_title, x));
    }

    /// Names of curves with their lines and dots, right of the title of the left axis, or below it on a narrow drawing.
    /// An entry has the class of the line, that of the dot, and the name.
    pub fn draw_legend(&self, svg: &mut Svg, canvas: Canvas, entries: &[(String, String, String)]) {
        let width = |name: &str| LEGEND_LINE + 6.0 + label_width(name) + 12.0;
        let total: f64 = entries.iter().map(|(.., name)| width(name)).sum();
        let y = if canvas == Canvas::Wide { 12.0 } else { 28.0 };
        let mut x = (self.right - total + 12.0).max(4.0);
        for (line, dot, name) in entries {
            svg.line(line, (x, y), (x + LEGEND_LINE, y));
            svg.dot(dot, (x + LEGEND_LINE / 2.0, y), LEGEND_DOT, name);
            svg.text("legend", (x + LEGEND_LINE + 6.0, y + 4.0), Anchor::Start, name);
            x += width(name);
        }
    }
}

fn title(what: &str, scale: &Scale) -> String {
    match scale.kind() {
        Kind::Linear => what.to_owned(),
        Kind::Log => format!("{what} (log scale)"),
    }
}
