//! The readings for programs: a row per depth and position.

use super::{Lens, Reading};
use pythia_runtime::Tokenizer;
use pythia_show::{Cell, Csv, Quotes};
use serde_json::{Value, json};

/// An object per depth and position, the positions of a depth together. Likelihoods, entropy and divergence are in nats;
/// `layer` is `null` before the first block.
pub fn records(lens: &Lens, tokenizer: &Tokenizer) -> impl Iterator<Item = Value> {
    let text = |id: u32| tokenizer.decode(&[id], false);
    lens.depths.iter().flat_map(move |depth| {
        depth.readings.iter().zip(&lens.ids).enumerate().map(move |(position, (reading, &id))| {
            let top: Vec<Value> = reading
                .top
                .iter()
                .map(|&(id, likelihood)| json!({ "id": id, "token": text(id), "log_likelihood": likelihood }))
                .collect();
            json!({
                "hook": depth.hook.to_string(),
                "layer": depth.hook.layer,
                "position": position,
                "id": id,
                "token": text(id),
                "next_id": reading.next.map(|next| next.id),
                "next": reading.next.map(|next| text(next.id)),
                "rank": reading.next.map(|next| next.rank),
                "log_likelihood": reading.next.map(|next| next.log_likelihood),
                "entropy": reading.entropy,
                "kl": reading.kl,
                "same_top": reading.same_top,
                "top": top,
            })
        })
    })
}

/// The [`records`], a line of JSON each.
pub fn jsonl(lens: &Lens, tokenizer: &Tokenizer) -> String {
    records(lens, tokenizer).map(|record| pythia_text::json(&record.to_string()) + "\n").collect()
}

const FIELDS: [&str; 12] = [
    "hook",
    "layer",
    "position",
    "id",
    "token",
    "next_id",
    "next",
    "rank",
    "log_likelihood",
    "entropy",
    "kl",
    "same_top",
];

/// The same as a table of comma-separated values, with three columns for each of the likeliest tokens. Texts are escaped.
pub fn csv(lens: &Lens, tokenizer: &Tokenizer) -> String {
    let text = |id: u32| tokenizer.decode(&[id], false);
    let most = lens.depths.iter().flat_map(|depth| &depth.readings).map(|reading| reading.top.len()).max().unwrap_or(0);
    let tops = (1..=most).flat_map(|i| [format!("top{i}_id"), format!("top{i}"), format!("top{i}_log_likelihood")]);
    let tops: Vec<String> = tops.collect();
    let mut csv = Csv::new(FIELDS.into_iter().chain(tops.iter().map(String::as_str)), Quotes::WhereNeeded);
    for depth in &lens.depths {
        let hook = depth.hook.to_string();
        for (position, (reading, &id)) in depth.readings.iter().zip(&lens.ids).enumerate() {
            // Texts of cells live as long as the row.
            let (token, next) = (text(id), reading.next.map(|next| text(next.id)).unwrap_or_default());
            let tops: Vec<String> = reading.top.iter().map(|(id, _)| text(*id)).collect();
            let cells = cells(reading).into_iter();
            let about = [
                Cell::Text(&hook),
                value(depth.hook.layer),
                value(Some(position)),
                value(Some(id)),
                Cell::Text(&token),
                value(reading.next.map(|next| next.id)),
                Cell::Text(&next),
            ];
            let tops =
                reading.top.iter().zip(&tops).flat_map(|(&(id, likelihood), token)| {
                    [value(Some(id)), Cell::Text(token), value(Some(likelihood))]
                });
            csv.push(about.into_iter().chain(cells).chain(tops));
        }
    }
    csv.finish()
}

fn cells<'a>(reading: &Reading) -> [Cell<'a>; 5] {
    [
        value(reading.next.map(|next| next.rank)),
        value(reading.next.map(|next| next.log_likelihood)),
        value(Some(reading.entropy)),
        value(Some(reading.kl)),
        value(Some(reading.same_top)),
    ]
}

fn value<'a>(value: Option<impl ToString>) -> Cell<'a> {
    Cell::Value(value.map_or_else(String::new, |value| value.to_string()))
}
