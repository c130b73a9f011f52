//! The few SVG elements the figures are made of.

use crate::markup::html as escape;
use std::fmt::{Display, Write};

/// Where a text stands relative to its position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing under construction. Coordinates are pixels of the view box, y downwards.
pub(super) struct Svg {
    out: String,
}

impl Svg {
    /// An empty drawing; `describe` is its text for those who cannot see it.
    pub(super) fn new(width: f64, height: f64, describe: &str) -> Self {
        let describe = escape(describe);
        let out = format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{describe}\">\n");
        Self { out }
    }

    /// A straight line.
    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    /// A line through points.
    pub(super) fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.push(format_args!("<polyline class=\"{class}\" points=\"{}\"/>", points.join(" ")));
    }

    /// A dot with a tip that appears under the pointer.
    pub(super) fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64, tip: &str) {
        let tip = escape(tip);
        self.push(format_args!(
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"><title>{tip}</title></circle>"
        ));
    }

    /// A filled rectangle from its upper left corner.
    pub(super) fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        self.push(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        ));
    }

    /// One line of text on its baseline.
    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let text = escape(text);
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// The whole drawing.
    pub(super) fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }

    fn push(&mut self, element: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{element}");
    }
}

/// Names longer than a label should be, with their middle left out.
pub(super) fn shorten(name: &str, max_chars: usize) -> String {
    let chars: Vec<char> = name.chars().collect();
    if chars.len() <= max_chars {
        return name.to_owned();
    }
    let (head, tail) = (max_chars.div_ceil(2) - 1, max_chars / 2);
    let head: String = chars[..head].iter().collect();
    let tail: String = chars[chars.len() - tail..].iter().collect();
    format!("{head}\u{2026}{tail}")
}

/// Width of a label of 12 pixels, on the generous side: fonts differ from reader to reader.
pub(super) fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * 7.6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_text() {
        let mut svg = Svg::new(10.0, 10.0, "a\"b");
        svg.text("label", (1.0, 2.0), Anchor::Start, "<script>alert('x')</script>\u{0}");
        let out = svg.finish();
        assert!(!out.contains("<script") && !out.contains('\u{0}') && out.contains("a&quot;b"), "{out}");
    }

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(shorten("Q4_0", 10), "Q4_0");
        let short = shorten("pythia-docs-6m-Q4_K_M", 13);
        assert_eq!(short.chars().count(), 13);
        assert!(short.starts_with("pythia") && short.ends_with("Q4_K_M"), "{short}");
    }
}
