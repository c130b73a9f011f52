//! The figures of a report, drawn as SVG. Colours come from the classes of the page they stand in.

mod bars;
mod labels;
mod scale;
mod scatter;
mod svg;

use super::number::{bytes, plain, rate, signed, significant};
use super::{Level, Report};
use bars::{Bar, Panel};
use scale::Kind;
use scatter::{Point, Reference, Scatter};

/// A drawing with the words around it.
pub(crate) struct Figure {
    /// What is shown.
    pub(crate) title: &'static str,
    /// The drawing; `None` if there is nothing to draw.
    pub(crate) svg: Option<String>,
    /// How to read it.
    pub(crate) caption: String,
}

/// Perplexities this many times the base's need a logarithmic axis.
const LOG_FROM_RATIO: f64 = 3.0;

/// The figures, in order.
pub(crate) fn figures(report: &Report) -> Vec<Figure> {
    vec![divergence(report), perplexity(report), speed(report)]
}

/// File sizes in one unit for a whole axis.
struct SizeUnit {
    bytes: f64,
    title: &'static str,
}

impl SizeUnit {
    fn of(report: &Report) -> Self {
        match report.levels.iter().map(|level| level.file_bytes).max().unwrap_or(0) {
            2_000_000_000.. => Self { bytes: 1e9, title: "file size, GB" },
            2_000_000.. => Self { bytes: 1e6, title: "file size, MB" },
            _ => Self { bytes: 1e3, title: "file size, kB" },
        }
    }

    fn x(&self, level: &Level) -> f64 {
        level.file_bytes as f64 / self.bytes
    }
}

fn divergence(report: &Report) -> Figure {
    let size = SizeUnit::of(report);
    let points = report.levels.iter().filter_map(|level| {
        let kld = level.against_base.as_ref()?.kld_mean;
        let tip = format!("{}: {}, mean KLD {}", level.name, bytes(level.file_bytes), significant(kld.value, 4));
        Some(Point { label: level.name.clone(), x: size.x(level), y: kld.value, error: kld.se, tip })
    });
    let figure = Scatter {
        x_title: size.title,
        y_title: "mean KLD, nats per token",
        y_kind: Kind::Log,
        points: points.collect(),
        reference: None,
    };
    Figure {
        title: "Divergence against size",
        svg: figure.render("Mean KL divergence of each level against its file size"),
        caption: format!(
            "Lower left is better. Mean KLD says how far the predictions are from those of {}: on text drawn from that \
             model itself, a mean KLD of 0.01 would raise perplexity by 1 %. The line joins the levels that no smaller or \
             equal file beats. Bars are standard errors, mostly shorter than the dots are wide.",
            report.base
        ),
    }
}

fn perplexity(report: &Report) -> Figure {
    let size = SizeUnit::of(report);
    let points: Vec<Point> = report
        .levels
        .iter()
        .filter_map(|level| {
            let delta = level.against_base.as_ref()?.perplexity_delta;
            let ppl = level.perplexity.value;
            let tip = format!(
                "{}: {}, PPL {} ({} +- {})",
                level.name,
                bytes(level.file_bytes),
                plain(ppl, 4),
                signed(delta.value, 4),
                plain(delta.se, 4)
            );
            Some(Point { label: level.name.clone(), x: size.x(level), y: ppl, error: delta.se, tip })
        })
        .collect();
    let base = report.base_level();
    let base_ppl = base.map_or(f64::NAN, |level| level.perplexity.value);
    let worst = points.iter().map(|p| p.y).filter(|y| y.is_finite()).fold(base_ppl, f64::max);
    let figure = Scatter {
        x_title: size.title,
        y_title: "perplexity",
        y_kind: if worst > LOG_FROM_RATIO * base_ppl { Kind::Log } else { Kind::Linear },
        points,
        reference: base.map(|level| Reference {
            y: level.perplexity.value,
            label: format!("{}: {} at {}", level.name, plain(level.perplexity.value, 4), bytes(level.file_bytes)),
        }),
    };
    let sampling = base.map_or(0.0, |level| level.perplexity.se);
    Figure {
        title: "Perplexity against size",
        svg: figure.render("Perplexity of each level against its file size, with the base as a line"),
        caption: format!(
            "Lower left is better; the dashed line is {}. Bars are the standard error of the difference to it, both scored \
             on the same tokens: a level whose bar reaches the line cannot be told from it by this text. (By itself each \
             perplexity is known to +- {} only, the luck of the text, but that moves all levels together.)",
            report.base,
            plain(sampling, 2)
        ),
    }
}

fn speed(report: &Report) -> Figure {
    let panel = |title, value: fn(&Level) -> f64| Panel {
        title,
        bars: report.levels.iter().map(|level| Bar { value: value(level), text: rate(value(level)) }).collect(),
    };
    let names: Vec<(String, bool)> =
        report.levels.iter().map(|level| (level.name.clone(), level.against_base.is_none())).collect();
    let panels = [
        panel("prefill, tokens per second", |level| level.speed.prefill_tokens_per_second),
        panel("decode, tokens per second", |level| level.speed.decode_tokens_per_second),
    ];
    Figure {
        title: "Speed",
        svg: bars::render(&names, &panels, "Prefill and decode speed of each level"),
        caption: format!(
            "Longer is better; each panel has its own scale, and the base is grey. Prefill is reading a prompt, bound by \
             arithmetic; decode is writing one token after another, bound by reading all weights for each, so that the \
             smaller files of a large model decode faster. Measured on {}.",
            report.machine
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_level_is_drawn_in_every_figure() {
        let report = sample::report(20);
        for figure in figures(&report) {
            let svg = figure.svg.unwrap();
            for level in &report.levels {
                let drawn = svg.contains(&format!(">{}<", level.name));
                assert!(drawn || level.against_base.is_none(), "{} is missing in '{}'", level.name, figure.title);
            }
        }
    }

    #[test]
    fn numbers_that_are_none_do_no_harm() {
        let mut report = sample::report(7);
        report.levels[0].perplexity.value = f64::NAN;
        report.levels[1].perplexity.value = f64::INFINITY;
        report.levels[2].speed.decode_tokens_per_second = f64::NAN;
        let against = report.levels[3].against_base.as_mut().unwrap();
        (against.kld_mean.value, against.kld_mean.se) = (f64::NAN, f64::NAN);
        report.levels[4].against_base.as_mut().unwrap().kld_mean.value = 0.0;
        for figure in figures(&report) {
            let svg = figure.svg.unwrap();
            assert!(!svg.contains("\"NaN") && !svg.contains("\"inf"), "{svg}");
        }
    }

    #[test]
    fn a_base_alone_has_speeds_only() {
        let drawn: Vec<bool> = figures(&sample::report(1)).iter().map(|f| f.svg.is_some()).collect();
        assert_eq!(drawn, [false, false, true]);
    }
}
