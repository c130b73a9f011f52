//! What `diff` prints: a table of keys, a table of tensors, a summary; or JSON.

use super::super::value;
use crate::exit::IN_JSON;
use pythia_convert::diff::{Content, Diff, KeyDiff, TensorDiff};
use pythia_gguf::{TensorInfo, Value};
use pythia_show::number::significant;
use pythia_show::{Align, Table, Width, wrap};
use serde::Serialize;
use serde_json::Value as Json;

/// The report for people.
pub(super) fn text(diff: &Diff<'_>, all: bool, width: Width) -> String {
    let mut text = String::new();
    let keys = diff.keys.iter().filter(|key| all || !key.is_same());
    let tensors = diff.tensors.iter().filter(|tensor| all || !tensor.is_same());
    for table in [keys_table(keys), tensors_table(tensors)].iter().filter(|table| !table.is_empty()) {
        text += &format!("{}\n", table.to_terminal(width).with_remark(width, IN_JSON));
    }
    text + &wrap(&summary(diff), width, "  ")
}

fn summary(diff: &Diff<'_>) -> String {
    let counts = [
        ("metadata keys", diff.keys.len(), diff.keys.iter().filter(|key| !key.is_same()).count()),
        ("tensors", diff.tensors.len(), diff.tensors.iter().filter(|tensor| !tensor.is_same()).count()),
    ];
    let counts = counts.iter().filter(|(_, n, _)| *n > 0);
    let parts: Vec<String> = match diff.is_same() {
        true => counts.map(|(what, n, _)| format!("{n} {what}")).collect(),
        false => counts.map(|(what, n, different)| format!("{different} of {n} {what}")).collect(),
    };
    format!("{}: {}", if diff.is_same() { "the same" } else { "different" }, parts.join(", "))
}

fn keys_table<'a>(keys: impl Iterator<Item = &'a KeyDiff<'a>>) -> Table {
    let mut table = Table::new([("key", Align::Left), ("A", Align::Left), ("B", Align::Left)]);
    for diff in keys {
        let (a, b) = key_cells(diff);
        table.push(vec![value::escaped(diff.key), a, b]);
    }
    table
}

/// Both values, long ones from where they begin to differ.
fn key_cells(diff: &KeyDiff<'_>) -> (String, String) {
    let cell = |side: Option<&Value>| match (side, diff.first_difference()) {
        (None, _) => "-".to_owned(),
        (Some(value), Some(at)) => value::excerpt(value, at),
        (Some(value), None) => value::to_text(value),
    };
    match (cell(diff.a), cell(diff.b)) {
        // `7` as u32 and as u64, or -0 and 0.
        (a, b) if a == b && !diff.is_same() => (typed(diff.a, a), typed(diff.b, b)),
        cells => cells,
    }
}

fn typed(value: Option<&Value>, text: String) -> String {
    value.map_or(text.clone(), |value| format!("{} {text}", value.type_name()))
}

fn tensors_table<'a>(tensors: impl Iterator<Item = &'a TensorDiff<'a>>) -> Table {
    let words = [("tensor", Align::Left, 0), ("A", Align::Left, 0), ("B", Align::Left, 0)];
    let numbers = [("bytes A", 4), ("bytes B", 4), ("max |B-A|", 1), ("RMS", 3), ("relative", 0)];
    let numbers = numbers.map(|(title, rank)| (title, Align::Right, rank));
    let mut table = Table::new(words.into_iter().chain(numbers).chain([("", Align::Left, 0)]));
    for diff in tensors {
        let cell = |side: Option<&TensorInfo>, show: fn(&TensorInfo) -> String| side.map_or("-".to_owned(), show);
        let mut row = vec![value::escaped(diff.name)];
        row.extend([diff.a, diff.b].map(|side| cell(side, |tensor| tensor.ty.name().to_owned())));
        row.extend([diff.a, diff.b].map(|side| cell(side, |tensor| tensor.n_bytes.to_string())));
        row.extend(figures(&diff.content));
        row.push(remark(diff));
        table.push(row);
    }
    table
}

/// Largest, root mean square and relative difference.
fn figures(content: &Content) -> [String; 3] {
    match content {
        Content::Values(deviation) => {
            let relative = deviation.relative_rms().map_or("-".to_owned(), |ratio| significant(ratio, 3));
            [significant(deviation.max_abs, 3), significant(deviation.rms(), 3), relative]
        }
        _ => Default::default(),
    }
}

fn remark(diff: &TensorDiff<'_>) -> String {
    match (&diff.content, diff.a, diff.b) {
        (Content::Same, ..) => "same bytes".to_owned(),
        (Content::OneSided, Some(_), _) => "only in A".to_owned(),
        (Content::OneSided, ..) => "only in B".to_owned(),
        (Content::Shapes, Some(a), Some(b)) => format!("shape {} in A, {} in B", shape(a), shape(b)),
        (Content::Bytes, ..) => "cannot be decoded".to_owned(),
        (Content::Values(deviation), ..) if deviation.n_not_finite > 0 => {
            format!("{} not finite, left out", deviation.n_not_finite)
        }
        (Content::Values(deviation), ..) if deviation.is_zero() => "same values".to_owned(),
        _ => String::new(),
    }
}

fn shape(tensor: &TensorInfo) -> String {
    tensor.shape().iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ")
}

/// The report for programs.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    same: bool,
    keys_total: usize,
    keys_different: usize,
    tensors_total: usize,
    tensors_different: usize,
    metadata: Vec<JsonKey<'a>>,
    tensors: Vec<JsonTensor<'a>>,
}

#[derive(Debug, Serialize)]
struct JsonKey<'a> {
    key: &'a str,
    same: bool,
    /// `null` where the file does not have it.
    a: Option<JsonValue>,
    b: Option<JsonValue>,
    /// Index of the first character or element that differs.
    first_difference: Option<usize>,
}

#[derive(Debug, Serialize)]
struct JsonValue {
    #[serde(rename = "type")]
    ty: String,
    value: Json,
}

#[derive(Debug, Serialize)]
struct JsonTensor<'a> {
    name: &'a str,
    same: bool,
    a: Option<JsonSide>,
    b: Option<JsonSide>,
    /// `null` where values cannot be compared, or the bytes are the same.
    max_abs: Option<f64>,
    rms: Option<f64>,
    relative_rms: Option<f64>,
    not_finite: Option<u64>,
}

#[derive(Debug, Serialize)]
struct JsonSide {
    #[serde(rename = "type")]
    ty: &'static str,
    shape: Vec<u64>,
    bytes: u64,
}

pub(super) fn json<'a>(diff: &Diff<'a>, all: bool) -> Report<'a> {
    let keys = diff.keys.iter().map(json_key);
    let tensors = diff.tensors.iter().map(json_tensor);
    let different = |same: &mut dyn Iterator<Item = bool>| same.filter(|same| !same).count();
    Report {
        same: diff.is_same(),
        keys_total: diff.keys.len(),
        keys_different: different(&mut diff.keys.iter().map(KeyDiff::is_same)),
        tensors_total: diff.tensors.len(),
        tensors_different: different(&mut diff.tensors.iter().map(TensorDiff::is_same)),
        metadata: keys.filter(|key| all || !key.same).collect(),
        tensors: tensors.filter(|tensor| all || !tensor.same).collect(),
    }
}

fn json_key<'a>(diff: &KeyDiff<'a>) -> JsonKey<'a> {
    let side = |value: &Value| JsonValue { ty: value.type_name(), value: value::to_json(value) };
    JsonKey {
        key: diff.key,
        same: diff.is_same(),
        a: diff.a.map(side),
        b: diff.b.map(side),
        first_difference: diff.first_difference(),
    }
}

fn json_tensor<'a>(diff: &TensorDiff<'a>) -> JsonTensor<'a> {
    let side = |tensor: &TensorInfo| JsonSide { ty: tensor.ty.name(), shape: tensor.shape(), bytes: tensor.n_bytes };
    let deviation = match &diff.content {
        Content::Values(deviation) => Some(deviation),
        _ => None,
    };
    JsonTensor {
        name: diff.name,
        same: diff.is_same(),
        a: diff.a.map(side),
        b: diff.b.map(side),
        max_abs: deviation.map(|deviation| deviation.max_abs),
        rms: deviation.map(|deviation| deviation.rms()),
        relative_rms: deviation.and_then(|deviation| deviation.relative_rms()),
        not_finite: deviation.map(|deviation| deviation.n_not_finite),
    }
}
