//! The readings as a heat map: one page that needs no other file.

use super::{Depth, Lens, Reading};
use pythia_runtime::Tokenizer;
use pythia_show::html as escape;
use pythia_show::number::plain;
use pythia_show::plot;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Cells of a page. More would make it slow to open.
const MOST_CELLS: usize = 16_384;
/// A log-likelihood of this and less has no colour: one in 22,000.
const FAINTEST: f64 = -10.0;
/// A divergence of this and more has the full colour.
const FURTHEST: f64 = 10.0;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A page with a cell per depth and position: its likeliest token, coloured by the log-likelihood of the next token, by
/// entropy or by divergence. A cell that is pointed at or walked to with the arrow keys tells all its numbers. `model`
/// and `text` say what was read. Of a long text only the beginning is shown, and the page says so.
pub fn page(lens: &Lens, tokenizer: &Tokenizer, model: &str, text: &str) -> String {
    let shown = lens.ids.len().min((MOST_CELLS / lens.depths.len().max(1)).max(1));
    let part = match shown == lens.ids.len() {
        true => String::new(),
        false => format!(" The page shows the first {shown} of them."),
    };
    let summary = format!("{} tokens of {text}, {} depths.{part}", lens.ids.len(), lens.depths.len());
    let body = format!(
        "<p class=\"summary\">{summary}</p>\n{ABOUT}{CHOICE}<div class=\"scroll lens\" role=\"region\" \
         aria-label=\"Heat map\">\n<table role=\"grid\">\n<thead>{head}</thead>\n<tbody>\n{rows}</tbody>\n</table>\n\
         </div>\n<output id=\"cell\" class=\"cell\">Point at a cell, or walk with the arrow keys.</output>\n\
         <noscript><p>Without scripts the page shows the map only.</p></noscript>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n<script>\n{SCRIPT}</script>\n",
        summary = escape(&summary),
        head = head(lens, tokenizer, shown),
        rows = lens.depths.iter().rev().map(|depth| row(depth, lens, tokenizer, shown)).collect::<String>(),
        data = data(lens, tokenizer, shown),
    );
    plot::page(&format!("Logit lens: {model}"), STYLE, &body)
}

const ABOUT: &str = "<p>Each column is a token of the text, each row a depth of the model, the last block at the top. A \
    cell shows the token that the last norm and the output matrix find likeliest if they read the residual stream there. \
    Cells that name the token which follows in the text are framed.</p>\n";

const CHOICE: &str = "<fieldset class=\"choice\"><legend>Colour</legend>\n\
    <label><input type=\"radio\" name=\"by\" id=\"by-likelihood\" checked> log-likelihood of the next token</label>\n\
    <label><input type=\"radio\" name=\"by\" id=\"by-entropy\"> entropy</label>\n\
    <label><input type=\"radio\" name=\"by\" id=\"by-kl\"> divergence from the final prediction</label>\n\
    <span class=\"key for-likelihood\">-10 nats <i></i> 0</span>\
    <span class=\"key for-entropy\">0 <i></i> that of a uniform guess</span>\
    <span class=\"key for-kl\">0 <i></i> 10 nats</span>\n</fieldset>\n";

fn head(lens: &Lens, tokenizer: &Tokenizer, shown: usize) -> String {
    let mut out = "<tr><th scope=\"col\">layer</th>".to_owned();
    for (position, &id) in lens.ids[..shown].iter().enumerate() {
        let token = text(tokenizer, id);
        let _ = write!(out, "<th scope=\"col\" title=\"token {position}\"><b>{}</b></th>", escape(&visible(&token)));
    }
    out + "</tr>"
}

fn row(depth: &Depth, lens: &Lens, tokenizer: &Tokenizer, shown: usize) -> String {
    let mut out = format!("<tr><th scope=\"row\">{}</th>", escape(&depth.name()));
    for reading in &depth.readings[..shown] {
        out += &cell(reading, lens, tokenizer);
    }
    out + "</tr>\n"
}

fn cell(reading: &Reading, lens: &Lens, tokenizer: &Tokenizer) -> String {
    let percent = |share: f64| (share.clamp(0.0, 1.0) * 100.0).round();
    let likelihood = reading.next.map_or(0.0, |next| percent(1.0 - next.log_likelihood / FAINTEST));
    let entropy = percent(reading.entropy / libm::log(lens.n_vocab as f64));
    let kl = percent(reading.kl / FURTHEST);
    let top = reading.top.first().map(|(id, _)| *id);
    let hit = if top.is_some() && top == reading.next.map(|next| next.id) { " class=\"hit\"" } else { "" };
    let token = visible(&top.map(|id| text(tokenizer, id)).unwrap_or_default());
    format!("<td{hit} style=\"--l:{likelihood}%;--e:{entropy}%;--k:{kl}%\"><b>{}</b></td>", escape(&token))
}

fn text(tokenizer: &Tokenizer, id: u32) -> String {
    tokenizer.decode(&[id], false)
}

/// With a mark for a space at either end, where it would not be seen.
fn visible(token: &str) -> String {
    let end = token.trim_end_matches(' ');
    let start = end.trim_start_matches(' ');
    let marks = |n: usize| "\u{b7}".repeat(n);
    format!("{}{start}{}", marks(end.len() - start.len()), marks(token.len() - end.len()))
}

/// What the script tells of a cell: depths in the order of the rows, for each a list of positions, each with the likeliest
/// tokens and their log-likelihoods, rank and log-likelihood of the next token, entropy and divergence.
fn data(lens: &Lens, tokenizer: &Tokenizer, shown: usize) -> String {
    let mut tokens = BTreeMap::new();
    let mut named = |id: u32| {
        tokens.entry(id.to_string()).or_insert_with(|| escaped(&text(tokenizer, id)));
        id
    };
    let number = |x: f64| plain(x, 3).parse::<f64>().ok();
    let mut cells = Vec::new();
    for depth in lens.depths.iter().rev() {
        let row: Vec<Value> = depth.readings[..shown]
            .iter()
            .map(|reading| {
                let top: Vec<Value> =
                    reading.top.iter().map(|&(id, likelihood)| json!([named(id), number(likelihood)])).collect();
                let next = reading.next.map(|next| json!([next.rank, number(next.log_likelihood)]));
                json!([top, next, number(reading.entropy), number(reading.kl)])
            })
            .collect();
        cells.push(row);
    }
    let ids: Vec<u32> = lens.ids.iter().take(shown + 1).map(|&id| named(id)).collect();
    let names: Vec<String> = lens.depths.iter().rev().map(Depth::name).collect();
    in_script(&json!({ "ids": ids, "depths": names, "cells": cells, "tokens": tokens }))
}

/// Quoted as in Rust's source code, so that every token can be told from every other.
fn escaped(token: &str) -> String {
    pythia_text::Line(format_args!("\u{201c}{token}\u{201d}")).to_string()
}

/// JSON that ends no element of a page.
pub(crate) fn in_script(value: &Value) -> String {
    pythia_text::json(&value.to_string()).replace('<', "\\u003c")
}
