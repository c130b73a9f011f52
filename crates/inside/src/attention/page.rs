//! Patterns as a grid of heat maps: one page that needs no other file.

use super::{Attention, Head};
use crate::lens::in_script;
use half::f16;
use pythia_runtime::Tokenizer;
use pythia_show::html as escape;
use pythia_show::number::plain;
use pythia_show::plot;
use serde_json::json;

/// A map has at most this many cells in a row: more could not be told apart.
const MOST_SIDE: usize = 256;
/// Cells of all maps of a page: 8 MB of text.
const MOST_CELLS: usize = 6_000_000;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A page with a small map per head. One that is clicked is enlarged, and tells the weights under the pointer. Long texts
/// are shown in blocks, and the page says so. `model` and `text` say what was read.
pub fn page(attention: &Attention, tokenizer: &Tokenizer, model: &str, text: &str) -> String {
    let n = attention.ids.len();
    let most = (2 * MOST_CELLS / attention.heads.len().max(1)).isqrt().clamp(16, MOST_SIDE);
    let block = n.div_ceil(most);
    let side = n.div_ceil(block);
    let blocks = match block {
        1 => String::new(),
        block => format!(
            " The text is long, so a cell stands for {block} by {block} tokens: it is the weight that a query of these \
             gives to all of these keys together, in the mean over the queries."
        ),
    };
    let summary = format!("{n} tokens of {text}, {} heads.{blocks}", attention.heads.len());
    let grid: String = attention.heads.chunk_by(|a, b| a.layer == b.layer).map(|heads| layer(heads, side)).collect();
    let maps: Vec<String> = attention.heads.iter().map(|head| base64(&map(&head.pattern, n, block, side))).collect();
    let token =
        |id: &u32| pythia_text::Line(format_args!("\u{201c}{}\u{201d}", tokenizer.decode(&[*id], false))).to_string();
    let tokens: Vec<String> = attention.ids.iter().map(token).collect();
    let names: Vec<String> = attention.heads.iter().map(name).collect();
    let about: Vec<String> = attention.heads.iter().map(scores).collect();
    let data = in_script(&json!({
        "side": side, "block": block, "tokens": tokens, "names": names, "scores": about, "maps": maps,
    }));
    let body = format!(
        "<p class=\"summary\">{}</p>\n{ABOUT}<section id=\"large\" class=\"large\" hidden>\n\
         <canvas id=\"map\" width=\"{side}\" height=\"{side}\" tabindex=\"0\" role=\"img\" aria-labelledby=\"name\"></canvas>\n\
         <div>\n<h2 id=\"name\"></h2>\n<p id=\"scores\"></p>\n<output id=\"cell\"></output>\n</div>\n</section>\n{grid}\
         <noscript><p>The maps are drawn by a script, which is switched off.</p></noscript>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n<script>\n{SCRIPT}</script>\n",
        escape(&summary)
    );
    plot::page(&format!("Attention: {model}"), STYLE, &body)
}

const ABOUT: &str = "<p>A map per head: queries from top to bottom, keys from left to right, darker or brighter for more \
    weight (colours follow the root of the weight, so that small ones can be seen). Click a map to enlarge it; then point at \
    a cell, or walk with the arrow keys.</p>\n";

fn name(head: &Head) -> String {
    format!("{}.{}", head.layer, head.head)
}

fn scores(head: &Head) -> String {
    let number = |x: Option<f64>| x.map_or("-".to_owned(), |x| plain(x, 3));
    let s = &head.scores;
    format!(
        "entropy {} nats, previous token {}, first token {}, duplicate {}, induction {}",
        plain(s.entropy, 3),
        number(s.previous),
        number(s.first),
        number(s.duplicate),
        number(s.induction)
    )
}

fn layer(heads: &[Head], side: usize) -> String {
    let head = |head: &Head| {
        let name = name(head);
        format!(
            "<button type=\"button\" aria-label=\"Head {name}: {}\"><canvas width=\"{side}\" height=\"{side}\"></canvas>\
             <span>{name}</span></button>\n",
            escape(&scores(head))
        )
    };
    let number = heads.first().map_or(0, |head| head.layer);
    format!("<h2>Layer {number}</h2>\n<div class=\"maps\">\n{}</div>\n", heads.iter().map(head).collect::<String>())
}

/// The lower triangle of a pattern, row by row, in blocks: a byte per cell, 255 times the root of the weight.
fn map(pattern: &[f16], n: usize, block: usize, side: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(side * (side + 1) / 2);
    for row in 0..side {
        let queries = row * block..n.min((row + 1) * block);
        for col in 0..=row {
            let keys = col * block..n.min((col + 1) * block);
            let weight = |query: usize| -> f64 { pattern[query * n..][keys.clone()].iter().map(|w| w.to_f64()).sum() };
            let mean = queries.clone().map(weight).sum::<f64>() / queries.len() as f64;
            out.push((255.0 * mean.clamp(0.0, 1.0).sqrt()).round() as u8);
        }
    }
    out
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, wanted) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            assert_eq!(base64(text.as_bytes()), wanted);
        }
    }

    #[test]
    fn blocks_keep_the_weight_of_a_query() {
        // Three tokens in blocks of two; the last block has one.
        let weights = [1.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.25, 0.25, 0.5].map(f16::from_f32);
        assert_eq!(map(&weights, 3, 1, 3), [255, 180, 180, 128, 128, 180]);
        assert_eq!(map(&weights, 3, 2, 2), [255, 180, 180]);
    }
}
