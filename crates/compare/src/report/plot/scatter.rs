//! Points with labels and error bars over two axes.

mod draw;

use pythia_show::plot::{Canvas, Frame, Kind, Scale, Words};

/// One labelled point.
pub(super) struct Point {
    /// Its name; empty for a point that stands below one of the same name.
    pub(super) label: String,
    /// Index of its series in [`Scatter::series`], if there are several.
    pub(super) series: usize,
    /// Place along the lower axis.
    pub(super) x: f64,
    /// Place along the left axis.
    pub(super) y: f64,
    /// Half the length of its error bar.
    pub(super) error: f64,
    /// Ends of the bar across, for what has been measured several times.
    pub(super) range: Option<(f64, f64)>,
    /// What appears under the pointer.
    pub(super) tip: String,
}

/// A line to compare with.
pub(super) struct Reference {
    /// Where.
    pub(super) at: At,
    /// Class of the line and of its label: `base` or `limit`.
    pub(super) class: &'static str,
    /// What is written at it.
    pub(super) label: String,
}

/// Which way a reference goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum At {
    /// Entry, at this place of the left axis.
    Y(f64),
    /// Upright, at this place of the lower axis.
    X(f64),
}

/// Which end of the lower axis is the better one. Of the left axis it is always the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    Left,
    Right,
}

/// A figure of points.
pub(super) struct Scatter {
    /// Title of the lower axis, with the unit.
    pub(super) x_title: &'static str,
    /// Which way is better on it.
    pub(super) better: Better,
    /// Title of the left axis, with the unit.
    pub(super) y_title: String,
    /// Spread of the left axis.
    pub(super) y_kind: Kind,
    /// Values that the left axis shows whether there are points or not.
    pub(super) y_always: Vec<f64>,
    /// The points; those that are not finite are left out.
    pub(super) points: Vec<Point>,
    /// Names of series, each of which gets a line and a colour; empty if there is only one.
    pub(super) series: Vec<String>,
    /// The lines.
    pub(super) references: Vec<Reference>,
    /// Whether a line joins the points that no other beats. Points of a series are always joined.
    pub(super) has_frontier: bool,
}

/// From this ratio of the largest to the smallest x on, a linear axis would crowd the small ones.
const LOG_X_FROM_RATIO: f64 = 2.5;
/// The lower axis covers at least this ratio: files that are nearly as large as each other stand near each other.
const LEAST_X_RATIO: f64 = 1.6;

/// Upper end of the left axis.
const TOP: f64 = 34.0;

/// A point with its pixels.
struct Drawn<'a> {
    point: &'a Point,
    at: (f64, f64),
    /// Upper and lower end of the error bar.
    bar: (f64, f64),
    /// Left and right end of the bar across.
    range: Option<(f64, f64)>,
    /// Whether the value is below anything the axis can show.
    is_below: bool,
}

impl Scatter {
    /// The drawing; `None` without a single point.
    pub(super) fn render(&self, canvas: Canvas, words: &Words) -> Option<String> {
        let finite: Vec<&Point> = self.points.iter().filter(|p| p.x.is_finite() && p.y.is_finite()).collect();
        if finite.is_empty() {
            return None;
        }
        // Many labels need room.
        let n_labels = finite.iter().filter(|point| !point.label.is_empty()).count();
        let bottom = match (n_labels > 10 || !self.series.is_empty(), canvas) {
            (false, _) => 320.0,
            (true, Canvas::Wide) => 430.0,
            (true, Canvas::Narrow) => 560.0,
        };
        // On a narrow drawing the legend has a line of its own.
        let has_legend_line = canvas == Canvas::Narrow && !self.series.is_empty();
        let top = if has_legend_line { TOP + 12.0 } else { TOP };
        let y = self.y_scale(&finite, (bottom, top));
        let frame = Frame { left: Frame::left_of(canvas, &y), right: canvas.width() - 18.0, top, bottom };
        let x = self.x_scale(&finite, &frame);
        let drawn: Vec<Drawn<'_>> = finite
            .into_iter()
            .map(|point| {
                let error = if point.error.is_finite() { point.error } else { 0.0 };
                Drawn {
                    point,
                    at: (x.at(point.x), y.at(point.y)),
                    bar: (y.at(point.y + error), y.at(point.y - error)),
                    range: point.range.map(|(low, high)| (x.at(low), x.at(high))),
                    is_below: self.y_kind == Kind::Log && point.y <= 0.0,
                }
            })
            .collect();
        Some(self.draw(canvas, words, frame, (&x, &y), &drawn))
    }

    fn x_scale(&self, points: &[&Point], frame: &Frame) -> Scale {
        let references = self.references.iter().filter_map(|reference| match reference.at {
            At::X(x) => Some(x),
            At::Y(_) => None,
        });
        let ranges = points.iter().flat_map(|p| p.range).flat_map(|(low, high)| [low, high]);
        let mut values: Vec<f64> = points.iter().map(|p| p.x).chain(references).chain(ranges).collect();
        values.retain(|x| x.is_finite());
        let (low, high) = values.iter().fold((f64::INFINITY, 0.0f64), |(low, high), &x| (low.min(x), high.max(x)));
        let kind = if low > 0.0 && high / low > LOG_X_FROM_RATIO { Kind::Log } else { Kind::Linear };
        if low > 0.0 && high / low < LEAST_X_RATIO {
            let low = (low + high) / (1.0 + LEAST_X_RATIO);
            values.extend([low, low * LEAST_X_RATIO]);
        }
        Scale::new(kind, values, (frame.left, frame.right))
    }

    /// Over these pixels, the lower end of the axis first.
    fn y_scale(&self, points: &[&Point], pixels: (f64, f64)) -> Scale {
        let mut values: Vec<f64> = points.iter().map(|p| p.y).chain(self.y_always.iter().copied()).collect();
        // On a logarithmic axis the lower end of a wide bar may lie anywhere, down to below 0.
        if self.y_kind == Kind::Linear {
            values.extend(points.iter().flat_map(|p| [p.y - p.error, p.y + p.error]));
        }
        Scale::new(self.y_kind, values, pixels)
    }

    /// The points of each series, in the order of the lower axis.
    fn series_lines(&self, drawn: &[Drawn<'_>]) -> Vec<Vec<(f64, f64)>> {
        let line = |series: usize| {
            let mut line: Vec<_> = drawn.iter().filter(|d| d.point.series == series).map(|d| d.at).collect();
            line.sort_by(|a, b| a.0.total_cmp(&b.0));
            line
        };
        (0..self.series.len()).map(line).collect()
    }

    /// The points that no point as good or better in x beats, in the order of the lower axis.
    fn frontier(&self, drawn: &[Drawn<'_>]) -> Vec<(f64, f64)> {
        let sign = if self.better == Better::Left { 1.0 } else { -1.0 };
        let mut order: Vec<&Drawn<'_>> = drawn.iter().collect();
        order.sort_by(|a, b| (sign * a.point.x).total_cmp(&(sign * b.point.x)).then(a.point.y.total_cmp(&b.point.y)));
        let mut best = f64::INFINITY;
        let mut line = Vec::new();
        for d in order {
            if d.point.y < best {
                best = d.point.y;
                line.push(d.at);
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_words;
    use super::*;

    fn point(label: &str, x: f64, y: f64) -> Point {
        Point { label: label.into(), series: 0, x, y, error: 0.1, range: None, tip: String::new() }
    }

    fn scatter(points: Vec<Point>, y_kind: Kind) -> Scatter {
        let (x_title, y_title, better) = ("x", "y".to_owned(), Better::Left);
        let (y_always, series, references) = (Vec::new(), Vec::new(), Vec::new());
        Scatter { x_title, better, y_title, y_kind, y_always, points, series, references, has_frontier: true }
    }

    /// Where the circles are.
    fn centres(svg: &str) -> Vec<f64> {
        let circles = svg.lines().filter(|line| line.starts_with("<circle"));
        circles.map(|line| line.split("cx=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn the_frontier_leaves_out_what_is_beaten() {
        let points = || vec![point("d", 4.0, 1.0), point("a", 1.0, 3.0), point("b", 2.0, 3.5), point("c", 3.0, 2.0)];
        for (better, corners) in [(Better::Left, 3), (Better::Right, 1)] {
            let figure = Scatter { better, ..scatter(points(), Kind::Linear) };
            let svg = figure.render(Canvas::Wide, &test_words()).unwrap();
            let line = svg.lines().find(|line| line.contains("polyline")).unwrap();
            assert_eq!(line.matches(',').count(), corners, "{line}");
        }
    }

    #[test]
    fn zero_has_a_mark_of_its_own_on_a_logarithmic_axis() {
        let figure = scatter(vec![point("same", 1.0, 0.0), point("other", 2.0, 0.1)], Kind::Log);
        let svg = figure.render(Canvas::Wide, &test_words()).unwrap();
        assert!(svg.contains("dot below") && svg.contains(">same (0)<"), "{svg}");
    }

    #[test]
    fn nothing_to_draw_is_no_figure() {
        let figure = scatter(vec![point("a", 1.0, f64::NAN)], Kind::Linear);
        assert!(figure.render(Canvas::Narrow, &test_words()).is_none());
    }

    #[test]
    fn sizes_that_are_nearly_equal_stand_near_each_other() {
        for (canvas, most) in [(Canvas::Wide, 40.0), (Canvas::Narrow, 15.0)] {
            let close = scatter(vec![point("a", 4.40, 1.0), point("b", 4.48, 2.0)], Kind::Linear);
            let at = centres(&close.render(canvas, &test_words()).unwrap());
            assert!(at[0] < at[1] && at[1] - at[0] < most, "{at:?}");
            let far = scatter(vec![point("a", 2.0, 1.0), point("b", 8.0, 2.0)], Kind::Linear);
            let at = centres(&far.render(canvas, &test_words()).unwrap());
            assert!(at[1] - at[0] > 0.6 * canvas.width(), "{at:?}");
        }
    }
}
