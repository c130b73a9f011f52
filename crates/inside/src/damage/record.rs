//! From sums to results, and results for programs.

use super::sums::{Sums, relative};
use super::watch::Watch;
use super::{Block, Damage, Row, lens, made_by};
use pythia_model::{Hook, Site};
use pythia_show::{Cell, Csv, Quotes};
use serde_json::{Value, json};

/// The rows and blocks of a comparison.
pub(super) fn results(watch: &Watch, own: &Watch, lens: &lens::Sums) -> (Vec<Row>, Vec<Block>) {
    let mut rows = Vec::new();
    for &hook in watch.hooks() {
        let is_pattern = hook.site == Site::Pattern;
        for (head, (sums, own)) in watch.sums(hook).iter().zip(own.sums(hook)).enumerate() {
            let (kl, disagreement) = lens.of(hook).unzip();
            rows.push(Row {
                hook,
                head: is_pattern.then_some(head),
                relative_error: sums.relative_error(),
                own_error: hook.layer.map(|_| own.relative_error()),
                cosine: sums.cosine(),
                kl: if is_pattern { Some(sums.kl()) } else { kl },
                disagreement,
            });
        }
    }
    let logits = Hook { site: Site::Logits, layer: None };
    if let Some((kl, disagreement)) = lens.of(logits) {
        let sums = lens.logits();
        rows.push(Row {
            hook: logits,
            head: None,
            relative_error: sums.relative_error(),
            own_error: None,
            cosine: sums.cosine(),
            kl: Some(kl),
            disagreement: Some(disagreement),
        });
    }
    let layers = watch.hooks().iter().filter(|hook| hook.site == Site::ResidPost).filter_map(|hook| hook.layer);
    (rows, layers.map(|layer| block(layer, watch, own, lens)).collect())
}

fn block(layer: usize, watch: &Watch, own: &Watch, lens: &lens::Sums) -> Block {
    let hook = |site| Hook { site, layer: Some(layer) };
    let one = |watch: &Watch, site| watch.sums(hook(site)).first().copied().unwrap_or_default();
    let stream = one(watch, Site::ResidPost);
    let to_stream = |sums: Sums| relative(sums.difference, stream.base);
    let patterns = watch.sums(hook(Site::Pattern));
    let (lens_kl, lens_disagreement) = lens.of(hook(Site::ResidPost)).unwrap_or((f64::NAN, f64::NAN));
    Block {
        layer,
        stream: stream.relative_error(),
        own: to_stream(one(own, Site::ResidPost)),
        own_attention: to_stream(one(own, Site::AttnOut)),
        own_mlp: to_stream(one(own, Site::MlpOut)),
        added: to_stream(watch.added()[layer]),
        pattern_kl: patterns.iter().map(Sums::kl).sum::<f64>() / patterns.len() as f64,
        lens_kl,
        lens_disagreement,
    }
}

/// Numbers of rows and columns in full, empty where there is none.
pub fn csv(damage: &Damage) -> String {
    const FIELDS: [&str; 10] =
        ["hook", "layer", "site", "head", "tensor", "relative_error", "own_error", "cosine", "kl", "disagreement"];
    let number = |x: Option<f64>| Cell::Value(x.filter(|x| x.is_finite()).map_or_else(String::new, |x| x.to_string()));
    let index = |i: Option<usize>| Cell::Value(i.map_or_else(String::new, |i| i.to_string()));
    let mut csv = Csv::new(FIELDS, Quotes::WhereNeeded);
    for row in &damage.rows {
        csv.push([
            Cell::Value(row.hook.to_string()),
            index(row.hook.layer),
            Cell::Value(row.hook.site.name().to_owned()),
            index(row.head),
            Cell::Value(made_by(row.hook).map_or_else(String::new, |tensor| tensor.gguf())),
            number(Some(row.relative_error)),
            number(row.own_error),
            number(Some(row.cosine)),
            number(row.kl),
            number(row.disagreement),
        ]);
    }
    csv.finish()
}

/// The same with the blocks, as JSON.
pub fn json(damage: &Damage) -> Value {
    let rows = damage.rows.iter().map(|row| {
        json!({
            "hook": row.hook.to_string(),
            "layer": row.hook.layer,
            "site": row.hook.site.name(),
            "head": row.head,
            "tensor": made_by(row.hook).map(|tensor| tensor.gguf()),
            "relative_error": row.relative_error,
            "own_error": row.own_error,
            "cosine": row.cosine,
            "kl": row.kl,
            "disagreement": row.disagreement,
        })
    });
    let blocks = damage.blocks.iter().map(|block| {
        json!({
            "layer": block.layer,
            "stream": block.stream,
            "own": block.own,
            "own_attention": block.own_attention,
            "own_mlp": block.own_mlp,
            "added": block.added,
            "pattern_kl": block.pattern_kl,
            "lens_kl": block.lens_kl,
            "lens_disagreement": block.lens_disagreement,
        })
    });
    json!({
        "format": "pythia-damage/1",
        "windows": damage.windows,
        "tokens": damage.tokens,
        "lens_positions": damage.lens_positions,
        "blocks": blocks.collect::<Vec<_>>(),
        "rows": rows.collect::<Vec<_>>(),
    })
}
