//! Points with labels and error bars over two axes.

use super::labels::{self, Rect, Scene, Segment, Target};
use super::scale::{Kind, Scale};
use super::svg::{Anchor, Svg, shorten, text_width};

/// One labelled point.
pub(super) struct Point {
    /// Its name.
    pub(super) label: String,
    /// Place along the lower axis.
    pub(super) x: f64,
    /// Place along the left axis.
    pub(super) y: f64,
    /// Half the length of its error bar.
    pub(super) error: f64,
    /// What appears under the pointer.
    pub(super) tip: String,
}

/// A horizontal line to compare with.
pub(super) struct Reference {
    /// Its height.
    pub(super) y: f64,
    /// What is written at it.
    pub(super) label: String,
}

/// A figure of points. Lower and further left is better.
pub(super) struct Scatter {
    /// Title of the lower axis, with the unit.
    pub(super) x_title: &'static str,
    /// Title of the left axis, with the unit.
    pub(super) y_title: &'static str,
    /// Spread of the left axis.
    pub(super) y_kind: Kind,
    /// The points; those that are not finite are left out.
    pub(super) points: Vec<Point>,
    /// The line.
    pub(super) reference: Option<Reference>,
}

const WIDTH: f64 = 960.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 940.0;
const TOP: f64 = 34.0;
/// Below the plot: ticks and the title of the axis.
const FOOT: f64 = 54.0;
const RADIUS: f64 = 4.5;
const LONGEST_LABEL: usize = 22;
/// From this ratio of the largest to the smallest x on, a linear axis would crowd the small ones.
const LOG_X_FROM_RATIO: f64 = 2.5;

/// A point with its pixels.
struct Drawn<'a> {
    point: &'a Point,
    at: (f64, f64),
    /// Upper and lower end of the error bar.
    bar: (f64, f64),
    /// Whether the value is below anything the axis can show.
    is_below: bool,
}

impl Scatter {
    /// The drawing; `None` without a single point.
    pub(super) fn render(&self, describe: &str) -> Option<String> {
        let finite: Vec<&Point> = self.points.iter().filter(|p| p.x.is_finite() && p.y.is_finite()).collect();
        if finite.is_empty() {
            return None;
        }
        // Many labels need room.
        let bottom = if finite.len() > 10 { 440.0 } else { 346.0 };
        let x = x_scale(&finite);
        let y = self.y_scale(&finite, bottom);
        let drawn: Vec<Drawn<'_>> = finite
            .into_iter()
            .map(|point| {
                let error = if point.error.is_finite() { point.error } else { 0.0 };
                Drawn {
                    point,
                    at: (x.at(point.x), y.at(point.y)),
                    bar: (y.at(point.y + error), y.at(point.y - error)),
                    is_below: self.y_kind == Kind::Log && point.y <= 0.0,
                }
            })
            .collect();
        let mut svg = Svg::new(WIDTH, bottom + FOOT, describe);
        self.draw_axes(&mut svg, &x, &y, bottom);
        self.draw_points(&mut svg, &y, bottom, &drawn);
        Some(svg.finish())
    }

    fn y_scale(&self, points: &[&Point], bottom: f64) -> Scale {
        let mut values: Vec<f64> = points.iter().map(|p| p.y).chain(self.reference.iter().map(|r| r.y)).collect();
        // On a logarithmic axis the lower end of a wide bar may lie anywhere, down to below 0.
        if self.y_kind == Kind::Linear {
            values.extend(points.iter().flat_map(|p| [p.y - p.error, p.y + p.error]));
        }
        Scale::new(self.y_kind, values, (bottom, TOP))
    }

    fn draw_axes(&self, svg: &mut Svg, x: &Scale, y: &Scale, bottom: f64) {
        for tick in y.ticks(6) {
            let at = y.at(tick.value);
            svg.line(if tick.label.is_some() { "grid" } else { "grid minor" }, (LEFT, at), (RIGHT, at));
            if let Some(label) = &tick.label {
                svg.text("tick", (LEFT - 8.0, at + 4.0), Anchor::End, label);
            }
        }
        for tick in x.ticks(8) {
            let at = x.at(tick.value);
            let length = if tick.label.is_some() { 6.0 } else { 3.0 };
            svg.line("axis", (at, bottom), (at, bottom + length));
            if let Some(label) = &tick.label {
                svg.text("tick", (at, bottom + 19.0), Anchor::Middle, label);
            }
        }
        svg.line("axis", (LEFT, bottom), (RIGHT, bottom));
        svg.text("title", (4.0, 16.0), Anchor::Start, &title(self.y_title, y));
        svg.text("title", (RIGHT, bottom + FOOT - 12.0), Anchor::End, &title(self.x_title, x));
    }

    fn draw_points(&self, svg: &mut Svg, y: &Scale, bottom: f64, drawn: &[Drawn<'_>]) {
        let frontier = frontier(drawn);
        let bars: Vec<Segment> = drawn.iter().map(|d| ((d.at.0, d.bar.0), (d.at.0, d.bar.1))).collect();
        let mut lines: Vec<Segment> = frontier.windows(2).map(|pair| (pair[0], pair[1])).collect();
        lines.extend(&bars);
        let mut taken = Vec::new();
        let reference = self.reference.as_ref().filter(|r| r.y.is_finite());
        if let Some(reference) = reference {
            let at = y.at(reference.y);
            lines.push(((LEFT, at), (RIGHT, at)));
            let rect = reference_label(at, bottom, text_width(&reference.label), &bars);
            taken.push(rect);
            svg.line("base", (LEFT, at), (RIGHT, at));
            svg.text("label base-label", (rect.x + 4.0, rect.y + 11.0), Anchor::Start, &reference.label);
        }
        svg.polyline("frontier", &frontier);
        for &((x, high), (_, low)) in &bars {
            svg.line("error", (x, high), (x, low));
            // Caps would only thicken a bar that the dot hides.
            if low - high > 2.0 * RADIUS {
                svg.line("error", (x - 4.0, high), (x + 4.0, high));
                svg.line("error", (x - 4.0, low), (x + 4.0, low));
            }
        }
        let names: Vec<String> = drawn.iter().map(name).collect();
        let targets: Vec<Target> =
            drawn.iter().zip(&names).map(|(d, name)| Target { at: d.at, width: text_width(name) }).collect();
        let frame = Rect { x: LEFT, y: TOP - 12.0, width: RIGHT + 14.0 - LEFT, height: bottom + 10.0 - TOP };
        let places = labels::place(&targets, &Scene { frame, taken: &taken, lines: &lines });
        for (d, place) in drawn.iter().zip(&places) {
            if let Some(end) = place.leader {
                svg.line("leader", d.at, end);
            }
        }
        for d in drawn {
            svg.dot(if d.is_below { "dot below" } else { "dot" }, d.at, RADIUS, &d.point.tip);
        }
        for (name, place) in names.iter().zip(&places) {
            let middle = place.rect.x + place.rect.width / 2.0;
            svg.text("label", (middle, place.rect.y + 11.0), Anchor::Middle, name);
        }
    }
}

fn x_scale(points: &[&Point]) -> Scale {
    let (low, high) = points.iter().fold((f64::INFINITY, 0.0f64), |(low, high), p| (low.min(p.x), high.max(p.x)));
    let kind = if low > 0.0 && high / low > LOG_X_FROM_RATIO { Kind::Log } else { Kind::Linear };
    Scale::new(kind, points.iter().map(|p| p.x), (LEFT, RIGHT))
}

fn title(what: &str, scale: &Scale) -> String {
    match scale.kind() {
        Kind::Linear => what.to_owned(),
        Kind::Log => format!("{what} (log scale)"),
    }
}

fn name(drawn: &Drawn<'_>) -> String {
    let name = shorten(&drawn.point.label, LONGEST_LABEL);
    if drawn.is_below { format!("{name} (0)") } else { name }
}

/// The points that no point of the same or a smaller x beats, from left to right.
fn frontier(drawn: &[Drawn<'_>]) -> Vec<(f64, f64)> {
    let mut order: Vec<&Drawn<'_>> = drawn.iter().collect();
    order.sort_by(|a, b| a.point.x.total_cmp(&b.point.x).then(a.point.y.total_cmp(&b.point.y)));
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

/// The corner of the reference line where its label covers least.
fn reference_label(at: f64, bottom: f64, width: f64, bars: &[Segment]) -> Rect {
    let place = |x: f64, y: f64| Rect { x, y, width: width + 8.0, height: labels::HEIGHT };
    let (left, right) = (LEFT + 4.0, RIGHT - width - 12.0);
    let (above, below) = (at - labels::HEIGHT - 4.0, at + 4.0);
    let places = [place(left, below), place(left, above), place(right, above), place(right, below)];
    let covered = |rect: &Rect| {
        let near = |x: f64, low: f64, high: f64| {
            (rect.x - 12.0..rect.x + rect.width + 12.0).contains(&x)
                && low > rect.y - 8.0
                && high < rect.y + rect.height + 8.0
        };
        let bars = bars.iter().filter(|((x, high), (_, low))| near(*x, *low, *high)).count();
        let outside = rect.y < TOP - 12.0 || rect.y + rect.height > bottom;
        bars + if outside { 1000 } else { 0 }
    };
    places.into_iter().min_by_key(covered).unwrap_or(places[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(label: &str, x: f64, y: f64) -> Point {
        Point { label: label.into(), x, y, error: 0.1, tip: String::new() }
    }

    fn scatter(points: Vec<Point>, y_kind: Kind) -> Scatter {
        Scatter { x_title: "x", y_title: "y", y_kind, points, reference: None }
    }

    #[test]
    fn the_frontier_leaves_out_what_is_beaten() {
        let figure = scatter(
            vec![point("d", 4.0, 1.0), point("a", 1.0, 3.0), point("b", 2.0, 3.5), point("c", 3.0, 2.0)],
            Kind::Linear,
        );
        let svg = figure.render("").unwrap();
        let line = svg.lines().find(|line| line.contains("polyline")).unwrap();
        assert_eq!(line.matches(',').count(), 3, "{line}");
    }

    #[test]
    fn zero_has_a_mark_of_its_own_on_a_logarithmic_axis() {
        let svg = scatter(vec![point("same", 1.0, 0.0), point("other", 2.0, 0.1)], Kind::Log).render("").unwrap();
        assert!(svg.contains("dot below") && svg.contains(">same (0)<"), "{svg}");
    }

    #[test]
    fn nothing_to_draw_is_no_figure() {
        assert!(scatter(vec![point("a", 1.0, f64::NAN)], Kind::Linear).render("").is_none());
    }
}
