//! Curves that are published, and marks of one's own on top.

use pythia_show::plot::{
    Anchor, Canvas, Frame, Kind, Rect, Scale, Scene, Segment, Svg, Target, Words, label_width, place,
};
use pythia_show::shorten;

/// A published curve.
pub(super) struct Curve {
    /// Written at its end; empty for one that has the end of another.
    pub(super) label: String,
    /// Classes of the line and of its dots.
    pub(super) class: String,
    /// Whether its points get dots, with these tips.
    pub(super) dots: Option<Vec<String>>,
    /// In the order of the lower axis.
    pub(super) points: Vec<(f64, f64)>,
}

/// A result of one's own.
pub(super) struct Mark {
    pub(super) label: String,
    pub(super) x: f64,
    pub(super) y: f64,
    /// Standard error.
    pub(super) error: f64,
    pub(super) tip: String,
}

/// A plot of accuracies.
pub(super) struct Chart {
    pub(super) x_title: &'static str,
    pub(super) curves: Vec<Curve>,
    pub(super) marks: Vec<Mark>,
    /// Marks to join, by index, each list in the order of the lower axis.
    pub(super) joined: Vec<Vec<usize>>,
    /// Class of the line, that of the dot, and the name.
    pub(super) legend: Vec<(String, String, String)>,
    /// Accuracy of a random choice.
    pub(super) chance: Option<f64>,
}

const TOP: f64 = 44.0;
const RADIUS: f64 = 3.0;
const MARK: f64 = 6.5;
/// Between marks of the same place on the lower axis.
const APART: f64 = 10.0;
/// Between labels of curves at the right edge.
const LINE: f64 = 13.0;
const LONGEST_LABEL: usize = 24;

impl Chart {
    pub(super) fn render(&self, canvas: Canvas, words: &Words) -> Option<String> {
        let bottom = 350.0;
        let curves = self.curves.iter().flat_map(|curve| &curve.points).copied();
        let marks = self.marks.iter().flat_map(|mark| [(mark.x, mark.y - mark.error), (mark.x, mark.y + mark.error)]);
        let points: Vec<(f64, f64)> = curves.chain(marks).collect();
        let y = Scale::new(Kind::Linear, points.iter().map(|p| p.1).chain(self.chance), (bottom, TOP));
        let gutter = self.curves.iter().map(|curve| label_width(&curve.label)).fold(0.0, f64::max);
        let (left, right) = (Frame::left_of(canvas, &y), canvas.width() - 12.0 - gutter - self.overhang());
        let x = Scale::new(Kind::Log, points.iter().map(|p| p.0), (left, right));
        let frame = Frame { left, right, top: TOP, bottom };
        let mut svg = Svg::new(canvas, bottom + Frame::FOOT, words);
        frame.draw_axes(&mut svg, canvas, (&x, &y), (self.x_title, "accuracy"));
        frame.draw_legend(&mut svg, canvas, &self.legend);
        self.draw_chance(&mut svg, &frame, &y);
        let mut lines = self.draw_curves(&mut svg, &frame, (&x, &y));
        self.draw_marks(&mut svg, &frame, (&x, &y), &mut lines);
        Some(svg.finish())
    }

    fn draw_chance(&self, svg: &mut Svg, frame: &Frame, y: &Scale) {
        if let Some(chance) = self.chance {
            let at = y.at(chance);
            svg.line("limit", (frame.left, at), (frame.right, at));
            svg.text("label limit-label", (frame.left + 4.0, at + 14.0), Anchor::Start, "chance");
        }
    }

    /// The curves with their names; returns their lines.
    fn draw_curves(&self, svg: &mut Svg, frame: &Frame, (x, y): (&Scale, &Scale)) -> Vec<Segment> {
        let mut lines = Vec::new();
        let mut ends: Vec<(f64, f64, &Curve)> = Vec::new();
        for curve in &self.curves {
            let points: Vec<(f64, f64)> = curve.points.iter().map(|&(px, py)| (x.at(px), y.at(py))).collect();
            svg.polyline(&format!("series-line {}", curve.class), &points);
            lines.extend(points.windows(2).map(|pair| (pair[0], pair[1])));
            for (at, tip) in points.iter().zip(curve.dots.iter().flatten()) {
                svg.dot(&format!("dot {}", curve.class), *at, RADIUS, tip);
            }
            if let Some(&end) = points.last().filter(|_| !curve.label.is_empty()) {
                ends.push((end.0, end.1, curve));
            }
        }
        // Names stand right of the ends, pushed apart from the lowest upwards, and down again below the title.
        ends.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut rows: Vec<f64> = Vec::new();
        for (_, end, _) in &ends {
            let free = rows.last().map_or(frame.bottom - 4.0, |below| below - LINE);
            rows.push(end.min(free));
        }
        let mut least = frame.top - 4.0;
        for row in rows.iter_mut().rev() {
            *row = row.max(least);
            least = *row + LINE;
        }
        for ((end, _, curve), row) in ends.iter().zip(rows) {
            svg.text("label", (end + 6.0 + self.overhang(), row + 4.0), Anchor::Start, &curve.label);
        }
        lines
    }

    fn draw_marks(&self, svg: &mut Svg, frame: &Frame, (x, y): (&Scale, &Scale), lines: &mut Vec<Segment>) {
        let places: Vec<(f64, f64)> =
            (0..self.marks.len()).map(|i| (x.at(self.marks[i].x) + self.shift(i), y.at(self.marks[i].y))).collect();
        for joined in &self.joined {
            let points: Vec<(f64, f64)> = joined.iter().map(|&i| places[i]).collect();
            svg.polyline("mine-line", &points);
            lines.extend(points.windows(2).map(|pair| (pair[0], pair[1])));
        }
        let square = |&(x, y): &(f64, f64)| Rect { x: x - MARK, y: y - MARK, width: 2.0 * MARK, height: 2.0 * MARK };
        let mut taken: Vec<Rect> = places.iter().map(square).collect();
        for (mark, &(at, _)) in self.marks.iter().zip(&places) {
            let (high, low) = (y.at(mark.y + mark.error), y.at(mark.y - mark.error));
            if low - high > 1.0 {
                svg.error_bar("mine-error", (at, high), (at, low));
                taken.push(Rect { x: at - MARK, y: high, width: 2.0 * MARK, height: low - high });
            }
        }
        let names: Vec<String> = self.marks.iter().map(|mark| shorten(&mark.label, LONGEST_LABEL)).collect();
        let named: Vec<usize> = (0..names.len()).filter(|&i| !names[i].is_empty()).collect();
        let targets: Vec<Target> =
            named.iter().map(|&i| Target { at: places[i], width: label_width(&names[i]) }).collect();
        let inside = Rect {
            x: frame.left,
            y: frame.top - 8.0,
            width: frame.right - frame.left,
            height: frame.bottom - frame.top + 4.0,
        };
        let labels = place(&targets, &Scene { frame: inside, taken: &taken, lines });
        for (&i, label) in named.iter().zip(&labels) {
            label.draw_leader(svg, places[i]);
        }
        for (mark, &at) in self.marks.iter().zip(&places) {
            svg.diamond("mine", at, MARK, &mark.tip);
        }
        for (&i, label) in named.iter().zip(&labels) {
            label.draw(svg, "label mine-label", &names[i]);
        }
    }

    /// How far marks stand right of the ends of the curves, where the names of these begin.
    fn overhang(&self) -> f64 {
        let ends = self.curves.iter().flat_map(|curve| curve.points.last()).map(|end| end.0).fold(0.0, f64::max);
        let at_end = (0..self.marks.len()).filter(|&i| self.marks[i].x == ends);
        at_end.map(|i| self.shift(i) + MARK).fold(0.0, f64::max)
    }

    /// How far a mark stands beside its place, which others may have too.
    fn shift(&self, i: usize) -> f64 {
        let same: Vec<usize> = (0..self.marks.len()).filter(|&j| self.marks[j].x == self.marks[i].x).collect();
        let rank = same.iter().position(|&j| j == i).unwrap_or(0);
        (rank as f64 - (same.len() as f64 - 1.0) / 2.0) * APART
    }
}
