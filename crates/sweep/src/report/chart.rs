//! Curves over training steps.

use pythia_show::plot::{Anchor, Canvas, Frame, Kind, Scale, Svg, Words, label_width};
use pythia_show::shorten;

/// A curve with its name at the end.
pub(super) struct Curve {
    /// Classes of the line, of its dots and of its name.
    pub(super) class: String,
    pub(super) label: String,
    /// By step.
    pub(super) points: Vec<(u64, f64)>,
}

/// A value that is called out.
pub(super) struct Mark {
    pub(super) step: u64,
    pub(super) y: f64,
    pub(super) tip: String,
}

/// One plot. Those of several models have the same axes.
pub(super) struct Chart {
    pub(super) y_title: String,
    pub(super) y_kind: Kind,
    /// What the left axis spans.
    pub(super) y_span: Vec<f64>,
    /// What the lower axis spans.
    pub(super) steps: Vec<u64>,
    pub(super) curves: Vec<Curve>,
    pub(super) marks: Vec<Mark>,
}

const TOP: f64 = 30.0;
const DOT: f64 = 3.0;
const MARK: f64 = 6.5;
/// Between two names at the end of curves.
const LINE: f64 = 13.5;
const LONGEST_LABEL: usize = 16;
/// Curves with more points have no dots.
const MOST_DOTS: usize = 40;
/// Between two numbers at the lower axis.
const TICK_GAP: f64 = 5.0;
/// An axis with more numbers has no lines between them.
const MOST_WITH_MINOR: usize = 4;

/// Training steps on a logarithmic axis. Step 0 has no place there: it stands left of the others, behind a gap in the axis.
pub(super) struct StepAxis {
    zero: Option<f64>,
    scale: Scale,
}

impl StepAxis {
    pub(super) fn new(steps: &[u64], (left, right): (f64, f64)) -> Self {
        const INSET: f64 = 8.0;
        let gap = (0.06 * (right - left)).clamp(22.0, 36.0);
        let has_zero = steps.contains(&0);
        let start = if has_zero { left + INSET + gap } else { left };
        let positive = steps.iter().filter(|step| **step > 0).map(|step| *step as f64);
        Self { zero: has_zero.then_some(left + INSET), scale: Scale::new(Kind::Log, positive, (start, right)) }
    }

    pub(super) fn at(&self, step: u64) -> f64 {
        match self.zero {
            Some(zero) if step == 0 => zero,
            _ => self.scale.at(step as f64),
        }
    }

    /// The axis with its numbers and its title.
    fn draw(&self, svg: &mut Svg, frame: &Frame) {
        let &Frame { left, right, bottom, .. } = frame;
        svg.line("axis", (left, bottom), (right, bottom));
        let mut free = f64::NEG_INFINITY;
        if let Some(zero) = self.zero {
            svg.line("axis", (zero, bottom), (zero, bottom + 6.0));
            svg.text("tick", (zero, bottom + 19.0), Anchor::Middle, "0");
            free = zero + 14.0;
            let gap = zero + 9.0;
            svg.line("gap", (gap - 2.0, bottom), (gap + 4.0, bottom));
            for shift in [-2.0, 4.0] {
                svg.line("axis", (gap + shift - 2.0, bottom + 4.0), (gap + shift + 2.0, bottom - 4.0));
            }
        }
        for tick in self.scale.ticks(8).into_iter().filter(|tick| tick.value >= 1.0) {
            let at = self.scale.at(tick.value);
            let label = tick.label.filter(|_| tick.value.fract() == 0.0).map(|_| short(tick.value as u64));
            svg.line("axis", (at, bottom), (at, bottom + if label.is_some() { 6.0 } else { 3.0 }));
            let Some(label) = label else { continue };
            let half = 0.5 * label_width(&label);
            if at - half >= free {
                svg.text("tick", (at, bottom + 19.0), Anchor::Middle, &label);
                free = at + half + TICK_GAP;
            }
        }
        svg.text("title", (right, bottom + Frame::FOOT - 14.0), Anchor::End, "training step (log scale)");
    }
}

/// `512`, `1k`, `143k`.
pub(super) fn short(step: u64) -> String {
    match step {
        0..1000 => step.to_string(),
        _ if step.is_multiple_of(1000) => format!("{}k", step / 1000),
        _ => step.to_string(),
    }
}

impl Chart {
    /// Whether there is anything to see.
    pub(super) fn is_empty(&self) -> bool {
        self.curves.iter().all(|curve| curve.points.is_empty())
    }

    pub(super) fn render(&self, canvas: Canvas, words: &Words) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let names = self.curves.iter().filter(|curve| !curve.points.is_empty()).count() as f64;
        let least = if canvas == Canvas::Wide { 290.0 } else { 190.0 };
        let bottom = TOP + f64::max(least, LINE * names + 10.0);
        let y = Scale::new(self.y_kind, self.y_span.iter().copied(), (bottom, TOP));
        let labels = self.curves.iter().map(|curve| label_width(&shorten(&curve.label, LONGEST_LABEL)));
        let gutter = labels.fold(0.0, f64::max) + 18.0;
        let frame = Frame { left: Frame::left_of(canvas, &y), right: canvas.width() - gutter, top: TOP, bottom };
        let x = StepAxis::new(&self.steps, (frame.left, frame.right));
        let mut svg = Svg::new(canvas, bottom + Frame::FOOT - 8.0, words);
        let ticks = y.ticks(6);
        let has_minor = ticks.iter().filter(|tick| tick.label.is_some()).count() <= MOST_WITH_MINOR;
        for tick in ticks.iter().filter(|tick| has_minor || tick.label.is_some()) {
            let at = y.at(tick.value);
            svg.line(if tick.label.is_some() { "grid" } else { "grid minor" }, (frame.left, at), (frame.right, at));
            if let Some(label) = &tick.label {
                svg.text("tick", (frame.left - 8.0, at + 4.0), Anchor::End, label);
            }
        }
        let log = if self.y_kind == Kind::Log { " (log scale)" } else { "" };
        svg.text("title", (4.0, 14.0), Anchor::Start, &format!("{}{log}", self.y_title));
        x.draw(&mut svg, &frame);
        let mut ends: Vec<(f64, f64, &Curve)> = Vec::new();
        for curve in &self.curves {
            let places: Vec<(f64, f64)> = curve.points.iter().map(|&(step, v)| (x.at(step), y.at(v))).collect();
            svg.polyline(&format!("series-line {}", curve.class), &places);
            if places.len() <= MOST_DOTS {
                for (&at, (step, value)) in places.iter().zip(&curve.points) {
                    let value = pythia_show::number::significant(*value, 4);
                    svg.dot(
                        &format!("dot {}", curve.class),
                        at,
                        DOT,
                        &format!("{}, step {step}: {value}", curve.label),
                    );
                }
            }
            ends.extend(places.last().map(|&(end_x, end_y)| (end_x, end_y, curve)));
        }
        for mark in &self.marks {
            svg.dot("mark", (x.at(mark.step), y.at(mark.y)), MARK, &mark.tip);
        }
        draw_names(&mut svg, &frame, ends);
        Some(svg.finish())
    }
}

/// Names right of the ends of curves, pushed apart from the lowest upwards, and down again below the title.
fn draw_names(svg: &mut Svg, frame: &Frame, mut ends: Vec<(f64, f64, &Curve)>) {
    ends.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut rows: Vec<f64> = Vec::new();
    for (_, end, _) in &ends {
        let free = rows.last().map_or(frame.bottom - 2.0, |below| below - LINE);
        rows.push(end.min(free));
    }
    let mut least = frame.top;
    for row in rows.iter_mut().rev() {
        *row = row.max(least);
        least = *row + LINE;
    }
    for ((x, y, curve), row) in ends.iter().zip(rows) {
        let start = frame.right + 8.0;
        if (row - y).abs() > 5.0 || start - x > 24.0 {
            svg.line("leader", (x + 4.0, *y), (start - 2.0, row));
        }
        let name = shorten(&curve.label, LONGEST_LABEL);
        svg.text(&format!("label name {}", curve.class), (start, row + 4.0), Anchor::Start, &name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_0_stands_left_of_a_gap() {
        let axis = StepAxis::new(&[0, 1, 2, 143_000], (50.0, 350.0));
        let places: Vec<f64> = [0, 1, 2, 143_000].map(|step| axis.at(step)).into();
        assert!(places[0] >= 50.0 && places[1] - places[0] > 20.0 && places[2] > places[1] && places[3] <= 350.0);
        let without = StepAxis::new(&[1000, 2000], (50.0, 350.0));
        assert!(without.at(1000) < 120.0);
        let alone = StepAxis::new(&[0], (50.0, 350.0));
        assert!((50.0..100.0).contains(&alone.at(0)));
    }

    #[test]
    fn steps_are_short() {
        assert_eq!([0, 512, 1000, 143_000, 1250].map(short), ["0", "512", "1k", "143k", "1250"]);
    }
}
