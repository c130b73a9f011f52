//! The figures of a report, drawn as SVG. Colours come from the classes of the page they stand in.

mod bars;
mod labels;
mod scale;
mod scatter;
mod svg;

use super::answer::{LIMIT_PERCENT, percent};
use super::{Level, Report, Speed, Spread};
use bars::{Bar, Panel};
use pythia_show::number::{bytes, plain, rate, signed, significant};
use scale::Kind;
use scatter::{At, Better, Point, Reference, Scatter};
use svg::{Canvas, Words};

/// A drawing with the words around it.
pub(crate) struct Figure {
    /// What is shown.
    pub(crate) title: &'static str,
    /// The drawing; `None` if there is nothing to draw.
    pub(crate) drawing: Option<Drawing>,
    /// How to read it.
    pub(crate) caption: String,
}

/// The same figure for wide and for narrow screens.
pub(crate) struct Drawing {
    /// For most screens and paper.
    pub(crate) wide: String,
    /// For telephones.
    pub(crate) narrow: String,
}

impl Drawing {
    fn new(render: impl Fn(Canvas) -> Option<String>) -> Option<Self> {
        Some(Self { wide: render(Canvas::Wide)?, narrow: render(Canvas::Narrow)? })
    }

    fn of(figure: &Scatter, words: &Words) -> Option<Self> {
        Self::new(|canvas| figure.render(canvas, words))
    }
}

/// Perplexities this many percent above the base's need a logarithmic axis.
const LOG_FROM_PERCENT: f64 = 100.0;

/// The figures, in order.
pub(crate) fn figures(report: &Report) -> Vec<Figure> {
    vec![divergence(report), perplexity(report), trade(report), speed(report)]
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

/// What is said to those who cannot see a figure: the tips of all its points.
fn words(id: &'static str, title: &str, points: &[Point]) -> Words {
    let tips: Vec<&str> = points.iter().map(|point| point.tip.as_str()).collect();
    Words { id, title: title.to_owned(), description: tips.join("; ") }
}

fn divergence(report: &Report) -> Figure {
    let size = SizeUnit::of(report);
    let points = report.levels.iter().filter_map(|level| {
        let kld = level.against_base.as_ref()?.kld_mean;
        let tip = format!("{}: {}, mean KLD {}", level.name, bytes(level.file_bytes), significant(kld.value, 4));
        Some(Point { label: level.name.clone(), x: size.x(level), y: kld.value, error: kld.se, range: None, tip })
    });
    let figure = Scatter {
        x_title: size.title,
        better: Better::Left,
        y_title: "mean KLD, nats per token".to_owned(),
        y_kind: Kind::Log,
        y_always: Vec::new(),
        points: points.collect(),
        references: Vec::new(),
    };
    let words = words("divergence", "Mean KL divergence of each level against its file size", &figure.points);
    Figure {
        title: "Divergence against size",
        drawing: Drawing::of(&figure, &words),
        caption: format!(
            "Lower left is better. Mean KLD (Kullback-Leibler divergence) says how far a level's predictions are from \
             those of {}: on text drawn from that model itself, a mean KLD of 0.01 would raise perplexity by 1 %. The line \
             joins the levels that no smaller or equal file beats.",
            report.base
        ),
    }
}

fn perplexity(report: &Report) -> Figure {
    let size = SizeUnit::of(report);
    let points = report.levels.iter().filter_map(|level| {
        let over = percent(level)?;
        let tip = format!(
            "{}: {}, PPL {}, {} +- {} %",
            level.name,
            bytes(level.file_bytes),
            plain(level.perplexity.value, 4),
            signed(over.value, 2),
            plain(over.se, 2)
        );
        Some(Point { label: level.name.clone(), x: size.x(level), y: over.value, error: over.se, range: None, tip })
    });
    let points: Vec<Point> = points.collect();
    let worst = points.iter().map(|p| p.y).fold(0.0, f64::max);
    let base = report.base_level().map(|level| Reference {
        at: At::Y(0.0),
        class: "base",
        label: format!("{}: {} at {}", level.name, plain(level.perplexity.value, 4), bytes(level.file_bytes)),
    });
    let limit = Reference {
        at: At::Y(LIMIT_PERCENT),
        class: "limit",
        label: format!("{LIMIT_PERCENT} % above {}", report.base),
    };
    let figure = Scatter {
        x_title: size.title,
        better: Better::Left,
        y_title: format!("perplexity above that of {}, %", report.base),
        y_kind: if worst > LOG_FROM_PERCENT { Kind::Log } else { Kind::Linear },
        y_always: vec![0.0, LIMIT_PERCENT],
        points,
        references: base.into_iter().chain([limit]).collect(),
    };
    let words = words("perplexity", "Perplexity of each level above the base's against its file size", &figure.points);
    let sampling = report.base_level().map_or(0.0, |level| level.perplexity.se);
    Figure {
        title: "Perplexity against size",
        drawing: Drawing::of(&figure, &words),
        caption: format!(
            "Lower left is better; the dashed line is {}. Bars are the standard error of the difference to it, both scored \
             on the same tokens: a level whose bar reaches the line cannot be told from it by this text. (By itself each \
             perplexity is known to +- {} only; that is sampling error and affects all levels alike.)",
            report.base,
            plain(sampling, 2)
        ),
    }
}

fn trade(report: &Report) -> Figure {
    let points = report.levels.iter().filter_map(|level| {
        let kld = level.against_base.as_ref()?.kld_mean;
        let decode = level.speed.decode_tokens_per_second;
        let range = Some((level.speed.decode_spread.min, level.speed.decode_spread.max));
        let tip = format!("{}: {} tokens/s, mean KLD {}", level.name, rate(decode), significant(kld.value, 4));
        Some(Point { label: level.name.clone(), x: decode, y: kld.value, error: kld.se, range, tip })
    });
    let base = report.base_level().map(|level| Reference {
        at: At::X(level.speed.decode_tokens_per_second),
        class: "base",
        label: format!("{}: {}", level.name, rate(level.speed.decode_tokens_per_second)),
    });
    let figure = Scatter {
        x_title: "decode, tokens per second",
        better: Better::Right,
        y_title: "mean KLD, nats per token".to_owned(),
        y_kind: Kind::Log,
        y_always: Vec::new(),
        points: points.collect(),
        references: base.into_iter().collect(),
    };
    let words = words("trade", "Mean KL divergence of each level against its decode speed", &figure.points);
    Figure {
        title: "Speed against divergence",
        drawing: Drawing::of(&figure, &words),
        caption: format!(
            "Lower right is better: faster and nearer to {}, whose speed is the dashed line. The line joins the levels that \
             no other beats in both. Bars across are the slowest and the fastest part of a run.",
            report.base
        ),
    }
}

fn speed(report: &Report) -> Figure {
    let panel = |title, value: fn(&Speed) -> (f64, Spread)| {
        let bar = |level: &Level| {
            let (value, spread) = value(&level.speed);
            Bar { value, range: Some((spread.min, spread.max)), text: rate(value) }
        };
        Panel { title, bars: report.levels.iter().map(bar).collect() }
    };
    let names: Vec<(String, bool)> =
        report.levels.iter().map(|level| (level.name.clone(), level.against_base.is_none())).collect();
    let panels = [
        panel("prefill, tokens per second", |speed| (speed.prefill_tokens_per_second, speed.prefill_spread)),
        panel("decode, tokens per second", |speed| (speed.decode_tokens_per_second, speed.decode_spread)),
    ];
    let speeds = report.levels.iter().map(|level| {
        let (prefill, decode) =
            (rate(level.speed.prefill_tokens_per_second), rate(level.speed.decode_tokens_per_second));
        format!("{}: prefill {prefill}, decode {decode}", level.name)
    });
    let words = Words {
        id: "speed",
        title: "Prefill and decode speed of each level, tokens per second".to_owned(),
        description: speeds.collect::<Vec<_>>().join("; "),
    };
    Figure {
        title: "Speed",
        drawing: Drawing::new(|canvas| bars::render(&names, &panels, canvas, &words)),
        caption: format!(
            "Longer is better; each panel has its own scale, and the base is grey. Prefill is reading a prompt, bound by \
             arithmetic; decode is writing one token after another, bound by reading all weights for each, so that the \
             smaller files of a large model decode faster. Thin marks are the slowest and the fastest repetition. Measured \
             on {}.",
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
            let drawing = figure.drawing.unwrap();
            for svg in [drawing.wide, drawing.narrow] {
                for level in &report.levels {
                    let drawn = svg.contains(&format!(">{}<", level.name));
                    assert!(drawn || level.against_base.is_none(), "{} is missing in '{}'", level.name, figure.title);
                }
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
            let drawing = figure.drawing.unwrap();
            for svg in [drawing.wide, drawing.narrow] {
                assert!(!svg.contains("\"NaN") && !svg.contains("\"inf"), "{svg}");
            }
        }
    }

    #[test]
    fn a_base_alone_has_speeds_only() {
        let drawn: Vec<bool> = figures(&sample::report(1)).iter().map(|f| f.drawing.is_some()).collect();
        assert_eq!(drawn, [false, false, false, true]);
    }
}
