//! How a figure of points becomes lines and labels.

use super::{At, Drawn, Reference, Scatter};
use pythia_show::plot::{
    Anchor, Canvas, Frame, LABEL_HEIGHT, Rect, Scale, Scene, Segment, Svg, Target, Words, label_width, place,
};
use pythia_show::shorten;

const RADIUS: f64 = 4.5;
const LONGEST_LABEL: usize = 22;
/// Places along a level line where its label may stand.
const STEPS: i32 = 12;
/// Styles of series in the page. More series than that share them.
const SERIES_STYLES: usize = 4;

impl Scatter {
    pub(super) fn draw(
        &self,
        canvas: Canvas,
        words: &Words,
        frame: Frame,
        scales: (&Scale, &Scale),
        drawn: &[Drawn<'_>],
    ) -> String {
        let mut svg = Svg::new(canvas, frame.bottom + Frame::FOOT, words);
        frame.draw_axes(&mut svg, canvas, scales, (self.x_title, &self.y_title));
        self.draw_legend(&mut svg, canvas, &frame);
        self.draw_points(&mut svg, &frame, scales, drawn);
        svg.finish()
    }

    fn draw_points(&self, svg: &mut Svg, frame: &Frame, scales: (&Scale, &Scale), drawn: &[Drawn<'_>]) {
        let curves = match (self.series.is_empty(), self.has_frontier) {
            (true, true) => vec![self.frontier(drawn)],
            (true, false) => Vec::new(),
            (false, _) => self.series_lines(drawn),
        };
        let bars: Vec<Segment> = drawn.iter().flat_map(Drawn::bars).collect();
        let segments = curves.iter().flat_map(|curve| curve.windows(2).map(|pair| (pair[0], pair[1])));
        let mut lines: Vec<Segment> = segments.collect();
        lines.extend(&bars);
        let mut taken = Vec::new();
        for reference in &self.references {
            let Some((from, to)) = reference.segment(frame, scales) else { continue };
            lines.push((from, to));
            let rect = reference.place_label((from, to), frame, &bars, drawn);
            taken.push(rect);
            svg.line(reference.class, from, to);
            let class = format!("label {}-label", reference.class);
            svg.text(&class, (rect.x + 4.0, rect.y + 11.0), Anchor::Start, &reference.label);
        }
        for (index, curve) in curves.iter().enumerate() {
            svg.polyline(&self.class("frontier", "series-line", index), curve);
        }
        for d in drawn {
            d.draw_bars(svg, &self.class("error", "error", d.point.series));
        }
        // A point without a name only keeps the labels of others away.
        let mut named: Vec<&Drawn<'_>> = drawn.iter().filter(|d| !d.point.label.is_empty()).collect();
        named.sort_by_key(|d| d.point.series);
        let nameless = drawn.iter().filter(|d| d.point.label.is_empty());
        taken.extend(nameless.map(|d| Rect { x: d.at.0 - RADIUS, y: d.at.1 - RADIUS, width: 9.0, height: 9.0 }));
        let names: Vec<String> = named.iter().map(|d| d.name()).collect();
        let targets = named.iter().zip(&names).map(|(d, name)| Target { at: d.at, width: label_width(name) });
        let targets: Vec<Target> = targets.collect();
        let &Frame { left, right, top, bottom } = frame;
        let inside = Rect { x: left, y: top - 12.0, width: right + 14.0 - left, height: bottom + 10.0 - top };
        let places = place(&targets, &Scene { frame: inside, taken: &taken, lines: &lines });
        for (d, place) in named.iter().zip(&places) {
            place.draw_leader(svg, d.at);
        }
        for d in drawn {
            let class = if d.is_below { "dot below" } else { "dot" };
            svg.dot(&self.class(class, class, d.point.series), d.at, RADIUS, &d.point.tip);
        }
        for (name, place) in names.iter().zip(&places) {
            place.draw(svg, "label", name);
        }
    }

    /// The class of something in a series: `alone` if there is only one.
    fn class(&self, alone: &str, among: &str, series: usize) -> String {
        match self.series.is_empty() {
            true => alone.to_owned(),
            false => format!("{among} series-{}", series % SERIES_STYLES),
        }
    }

    fn draw_legend(&self, svg: &mut Svg, canvas: Canvas, frame: &Frame) {
        let entry = |(index, name): (usize, &String)| {
            (self.class("", "series-line", index), self.class("", "dot", index), name.clone())
        };
        let entries: Vec<_> = self.series.iter().enumerate().map(entry).collect();
        frame.draw_legend(svg, canvas, &entries);
    }
}

impl Drawn<'_> {
    fn bars(&self) -> impl Iterator<Item = Segment> {
        let upright = ((self.at.0, self.bar.0), (self.at.0, self.bar.1));
        let across = self.range.map(|(low, high)| ((low, self.at.1), (high, self.at.1)));
        std::iter::once(upright).chain(across)
    }

    /// Bars that the dot hides are not drawn.
    fn draw_bars(&self, svg: &mut Svg, class: &str) {
        let ((x, y), (high, low)) = (self.at, self.bar);
        if low - high > 2.0 * RADIUS {
            svg.error_bar(class, (x, high), (x, low));
        }
        if let Some((low, high)) = self.range.filter(|(low, high)| high - low > 2.0 * RADIUS) {
            svg.error_bar(class, (low, y), (high, y));
        }
    }

    fn name(&self) -> String {
        let name = shorten(&self.point.label, LONGEST_LABEL);
        match (self.is_below, self.point.y < 0.0) {
            (true, true) => format!("{name} (below 0)"),
            (true, false) => format!("{name} (0)"),
            (false, _) => name,
        }
    }
}

impl Reference {
    /// The line; `None` where the axis does not show the value.
    fn segment(&self, frame: &Frame, (x, y): (&Scale, &Scale)) -> Option<Segment> {
        match self.at {
            At::Y(value) => y.shows(value).then(|| ((frame.left, y.at(value)), (frame.right, y.at(value)))),
            At::X(value) => x.shows(value).then(|| ((x.at(value), frame.top), (x.at(value), frame.bottom))),
        }
    }

    /// The position at the line where its label covers least.
    fn place_label(&self, (from, to): Segment, frame: &Frame, bars: &[Segment], drawn: &[Drawn<'_>]) -> Rect {
        let width = label_width(&self.label) + 8.0;
        let place = |x: f64, y: f64| Rect { x, y, width, height: LABEL_HEIGHT };
        let places: Vec<Rect> = match self.at {
            At::Y(_) => {
                let (left, right) = (frame.left + 4.0, frame.right - width - 4.0);
                let (above, below) = (from.1 - LABEL_HEIGHT - 4.0, from.1 + 4.0);
                let corners = [(left, below), (left, above), (right, above), (right, below)];
                let between = |i: i32| left + (right - left) * f64::from(i) / f64::from(STEPS);
                let others = (1..STEPS).flat_map(|i| [(between(i), below), (between(i), above)]);
                corners.into_iter().chain(others).map(|(x, y)| place(x, y)).collect()
            }
            At::X(_) => {
                let (left, right) = (from.0 - width - 2.0, from.0 + 2.0);
                let (top, bottom) = (from.1 + 2.0, to.1 - LABEL_HEIGHT - 6.0);
                vec![place(right, top), place(left, top), place(right, bottom), place(left, bottom)]
            }
        };
        let covered = |rect: &Rect| {
            let near = |(low, high): (f64, f64), (top, bottom): (f64, f64)| {
                low < rect.x + rect.width + 12.0
                    && high > rect.x - 12.0
                    && top < rect.y + rect.height + 8.0
                    && bottom > rect.y - 8.0
            };
            let bars = bars.iter().filter(|((x1, y1), (x2, y2))| near((*x1, *x2), (*y1, *y2))).count();
            let dots = drawn.iter().filter(|d| near((d.at.0, d.at.0), (d.at.1, d.at.1))).count();
            let is_outside = rect.y < frame.top - 12.0
                || rect.y + rect.height > frame.bottom
                || rect.x < frame.left
                || rect.x + rect.width > frame.right + 10.0;
            bars + dots + if is_outside { 1000 } else { 0 }
        };
        let first = places[0];
        places.into_iter().min_by_key(covered).unwrap_or(first)
    }
}
