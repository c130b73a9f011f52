//! Where the damage enters, as a page that needs no other file.

use super::{Block, Damage};
use pythia_model::Site;
use pythia_show::html as escape;
use pythia_show::number::{plain, significant};
use pythia_show::plot::{self, Anchor, Canvas, Drawing, Frame, Scale, Svg, Words};
use std::collections::BTreeMap;

const STYLE: &str = include_str!("page.css");

/// A page with the plot, a row per block, and the error at every place of every block. `base` and `level` name the files,
/// `text` says what they read.
pub fn page(damage: &Damage, base: &str, level: &str, text: &str) -> String {
    let title = format!("Inside {level}: what is different from {base}");
    let summary = format!(
        "{} tokens of {text} in {} windows; the lens read {} of the positions.",
        damage.tokens, damage.windows, damage.lens_positions
    );
    let figure = Drawing::new(|canvas| draw(&damage.blocks, canvas)).map_or(String::new(), |d| d.figure(CAPTION));
    let body = format!(
        "<p class=\"summary\">{}</p>\n<h2>Where the damage enters</h2>\n{figure}<h2>Blocks</h2>\n{}{}<h2>Places</h2>\n{}{}",
        escape(&summary),
        blocks(damage),
        ABOUT_BLOCKS,
        sites(damage),
        ABOUT_SITES,
    );
    plot::page(&title, STYLE, &body)
}

const CAPTION: &str = "All three are errors relative to the norm of the base's residual stream after the block. Stream: of \
    the residual stream, each model on its own, so with all that came before. Added: of what the block adds to the stream, \
    each model on its own, so with what the block makes of earlier errors. New: of the stream after the block where it was \
    given the base's stream, so the error that comes from this block alone. A block with much new error is one that \
    deserves more bits.";

const ABOUT_BLOCKS: &str = "<p class=\"note\">Attention and MLP: the parts of the new error that they add. Pattern KL: \
    mean divergence of the attention patterns over heads and queries, in nats. Lens KL and differs: mean divergence of the \
    logit lens after the block, in nats, and the share of positions where its likeliest token is another one. Each model is \
    read with its own last norm and output matrix.</p>\n";

const ABOUT_SITES: &str = "<p class=\"note\">Relative error of the values at each place, in percent of their own norm, \
    where the block was given the base's residual stream.</p>\n";

/// A curve of the plot.
struct Curve {
    name: &'static str,
    /// Its place in the colours of series.
    series: usize,
    of: fn(&Block) -> f64,
}

const CURVES: [Curve; 3] = [
    Curve { name: "stream", series: 2, of: |block| block.stream },
    Curve { name: "added", series: 0, of: |block| block.added },
    Curve { name: "new", series: 1, of: |block| block.own },
];

fn draw(blocks: &[Block], canvas: Canvas) -> Option<String> {
    let finite = |value: f64| value.is_finite().then_some(100.0 * value);
    let most = CURVES.iter().flat_map(|curve| blocks.iter().filter_map(move |block| finite((curve.of)(block))));
    let most = most.fold(0.0, f64::max);
    let (top, bottom) = (if canvas == Canvas::Wide { 34.0 } else { 46.0 }, 330.0);
    // Files without a difference still get their axes.
    let y = Scale::from_zero(if most > 0.0 { most } else { 1.0 }, (bottom, top));
    let frame = Frame { left: Frame::left_of(canvas, &y), right: canvas.width() - 18.0, top, bottom };
    let x = |i: usize| frame.left + (i as f64 + 0.5) * (frame.right - frame.left) / blocks.len() as f64;
    let tips: Vec<String> = blocks.iter().map(tip).collect();
    let words = Words {
        id: "damage".to_owned(),
        title: "Errors of the residual stream by block".to_owned(),
        description: tips.join("; "),
    };
    let mut svg = Svg::new(canvas, bottom + Frame::FOOT, &words);
    for tick in y.ticks(6) {
        let at = y.at(tick.value);
        svg.line(if tick.label.is_some() { "grid" } else { "grid minor" }, (frame.left, at), (frame.right, at));
        if let Some(label) = &tick.label {
            svg.text("tick", (frame.left - 8.0, at + 4.0), Anchor::End, label);
        }
    }
    svg.line("axis", (frame.left, bottom), (frame.right, bottom));
    svg.text("title", (4.0, 16.0), Anchor::Start, "error, %");
    svg.text("title", (frame.right, bottom + Frame::FOOT - 10.0), Anchor::End, "block");
    let every = blocks.len().div_ceil(if canvas == Canvas::Wide { 24 } else { 8 });
    for (i, block) in blocks.iter().enumerate().step_by(every.max(1)) {
        svg.text("tick", (x(i), bottom + 19.0), Anchor::Middle, &block.layer.to_string());
    }
    for Curve { name, series, of } in CURVES {
        let points = blocks.iter().enumerate().filter_map(|(i, block)| Some((i, x(i), y.at(finite(of(block))?))));
        let points: Vec<(usize, f64, f64)> = points.collect();
        let line: Vec<(f64, f64)> = points.iter().map(|&(_, x, y)| (x, y)).collect();
        svg.polyline(&format!("series-line series-{series}"), &line);
        for (i, x, y) in points {
            svg.dot(&format!("dot series-{series}"), (x, y), 4.0, &format!("{name}; {}", tips[i]));
        }
    }
    let legend = CURVES.map(|Curve { name, series, .. }| {
        (format!("series-line series-{series}"), format!("dot series-{series}"), name.to_owned())
    });
    frame.draw_legend(&mut svg, canvas, &legend);
    (!blocks.is_empty()).then(|| svg.finish())
}

fn tip(block: &Block) -> String {
    let parts = CURVES.map(|Curve { name, of, .. }| format!("{name} {}", percent(of(block))));
    format!("block {}: {}", block.layer, parts.join(", "))
}

fn percent(value: f64) -> String {
    format!("{} %", significant(100.0 * value, 3))
}

fn blocks(damage: &Damage) -> String {
    let heads = ["block", "stream", "added", "new", "attention", "MLP", "pattern KL", "lens KL", "lens differs"];
    let rows = damage.blocks.iter().map(|block| {
        let errors = [block.stream, block.added, block.own, block.own_attention, block.own_mlp];
        [block.layer.to_string()]
            .into_iter()
            .chain(errors.map(percent))
            .chain([block.pattern_kl, block.lens_kl].map(|kl| significant(kl, 3)))
            .chain([format!("{} %", plain(100.0 * block.lens_disagreement, 1))])
            .collect()
    });
    plot::table("Blocks", "", heads.map(|head| (head, "")), rows)
}

/// Places of a block by layer, with colours by error.
fn sites(damage: &Damage) -> String {
    let mut by_layer: BTreeMap<usize, BTreeMap<Site, f64>> = BTreeMap::new();
    for row in &damage.rows {
        if let (Some(layer), None, Some(error)) = (row.hook.layer, row.head, row.own_error) {
            by_layer.entry(layer).or_default().insert(row.hook.site, error);
        }
    }
    let Some(sites) = by_layer.values().next().map(|sites| sites.keys().copied().collect::<Vec<Site>>()) else {
        return String::new();
    };
    let most = by_layer.values().flat_map(BTreeMap::values).copied().filter(|e| e.is_finite()).fold(0.0, f64::max);
    let name = |site: &Site| site.name().replace("hook_", "").replace(".normalized", "").replace("attn.", "");
    let heads = [("block".to_owned(), "")].into_iter().chain(sites.iter().map(|site| (name(site), site.name())));
    let rows = by_layer.iter().map(|(layer, errors)| {
        let cell = |site: &Site| {
            let error = errors.get(site).copied().unwrap_or(f64::NAN);
            let share = if most > 0.0 && error.is_finite() { (100.0 * error / most).round() } else { 0.0 };
            format!("<span class=\"heat\" style=\"--share:{share}%\">{}</span>", significant(100.0 * error, 2))
        };
        [layer.to_string()].into_iter().chain(sites.iter().map(cell)).collect()
    });
    plot::table("Errors by place", "heat", heads, rows)
}
