//! What `verify` prints: a line per check, tables of errors; or JSON.

use super::super::value;
use super::{Args, Findings};
use crate::exit::IN_JSON;
use pythia_convert::Deviation;
use pythia_convert::verify::{Against, Encoded, TensorError};
use pythia_schema::block_part;
use pythia_show::number::significant;
use pythia_show::{Align, Table, Width, wrap};
use serde::Serialize;

/// The report for people.
pub(super) fn text(findings: &Findings<'_>, args: &Args, width: Width) -> String {
    let mut text = String::new();
    let report = &findings.report;
    for (digests, part) in report.digests.iter().zip(findings.file.parts()).filter(|_| args.sha256) {
        text += &format!("{}  {}\n", digests.whole, pythia_text::path(part.path()));
        for (tensor, digest) in &digests.tensors {
            text += &format!("{digest}  {}\n", value::escaped(tensor));
        }
        text.push('\n');
    }
    if let Some(against) = findings.against.as_ref().filter(|against| !against.tensors.is_empty()) {
        if args.tensors {
            text += &format!("{}\n", tensors_table(&against.tensors).to_terminal(width).with_remark(width, IN_JSON));
        }
        let parts = parts_table(&against.tensors);
        if !parts.is_empty() {
            text += &format!("{}\n", parts.to_terminal(width).with_remark(width, IN_JSON));
        }
    }
    for warning in &report.warnings {
        text += &wrap(&format!("warning: {warning}"), width, "  ");
    }
    for problem in findings.problems() {
        text += &wrap(&format!("WRONG: {problem}"), width, "  ");
    }
    text + &wrap(&summary(findings), width, "  ")
}

fn summary(findings: &Findings<'_>) -> String {
    let report = &findings.report;
    let gguf = findings.file.gguf();
    let mut parts = vec![format!("{} tensors, {} metadata keys", gguf.tensors().len(), gguf.metadata.len())];
    parts.push(match (&report.sidecars[..], findings.file.parts().len()) {
        ([], _) => "no .sha256 file to compare with".to_owned(),
        ([path], 1) => format!("compared with {}", pythia_text::path(path)),
        (paths, files) => format!("{} of {files} files compared with their .sha256 files", paths.len()),
    });
    if let Some(against) = &findings.against {
        let identical = against.tensors.iter().filter(|tensor| tensor.is_identical()).count();
        parts.push(format!("{identical} of {} tensors identical to the source's", against.tensors.len()));
        parts.extend(encoding(against));
    }
    let verdict = match findings.problems().count() {
        0 => "sound".to_owned(),
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    };
    format!("{}: {verdict}; {}", pythia_text::path(findings.file.path()), parts.join("; "))
}

/// The result of encoding the source again.
fn encoding(against: &Against) -> Option<String> {
    let tensors = &against.tensors;
    let n = tensors.len();
    let count = |wanted: fn(&Encoded) -> bool| tensors.iter().filter(|tensor| wanted(&tensor.encoded)).count();
    let equal = count(|encoded| *encoded == Encoded::Equal);
    let otherwise = count(|encoded| *encoded == Encoded::Otherwise);
    if n == 0 {
        return None;
    }
    let mut text = match equal {
        _ if equal == n => "re-encoded: every byte equal".to_owned(),
        _ => format!("re-encoded: {equal} of {n} tensors byte-equal"),
    };
    if otherwise > 0 {
        text += &format!(", {otherwise} encoded differently, with errors that are normal for their types");
    }
    let together = count(|encoded| *encoded == Encoded::Together);
    if let Some(quantizer) = against.quantizer.as_ref().filter(|_| together > 0) {
        let quantizer = value::escaped(quantizer);
        text += &format!(
            ", {together} rounded together by the quantizer {quantizer}, which cannot be repeated from the source: of \
             these only the errors were checked"
        );
    }
    Some(text)
}

fn ratio(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| significant(value, 3))
}

/// `max` says "identical" for tensors without errors, so it is never left out.
const FIGURES: [(&str, Align, u8); 4] =
    [("max", Align::Right, 0), ("RMS", Align::Right, 4), ("relative", Align::Right, 0), ("cosine", Align::Right, 4)];

fn figures(deviation: &Deviation) -> [String; 4] {
    if deviation.is_zero() {
        return ["identical", "", "", ""].map(str::to_owned);
    }
    // Six digits, because cosines differ only in their distance from 1.
    let cosine = deviation.cosine().map_or("-".to_owned(), |cosine| format!("{cosine:.6}"));
    [significant(deviation.max_abs, 3), significant(deviation.rms(), 3), ratio(deviation.relative_rms()), cosine]
}

fn verdict(tensor: &TensorError) -> &'static str {
    match tensor.encoded {
        _ if tensor.is_suspect() => "SUSPECT",
        Encoded::Wrong(_) => "WRONG BLOCKS",
        Encoded::Equal | Encoded::Otherwise | Encoded::Together => "",
    }
}

/// A row per tensor, in the order given.
fn tensors_table(tensors: &[TensorError]) -> Table {
    let words = [("tensor", Align::Left, 0), ("type", Align::Left, 0), ("source", Align::Left, 3)];
    let rest = [("limit", Align::Right, 1), ("", Align::Left, 0)];
    let mut table = Table::new(words.into_iter().chain(FIGURES).chain(rest));
    for tensor in tensors {
        let mut row = vec![tensor.name.clone(), tensor.ty.to_string(), tensor.source.to_string()];
        row.extend(figures(&tensor.deviation));
        row.push(ratio(tensor.limit));
        row.push(verdict(tensor).to_owned());
        table.push(row);
    }
    table
}

/// The tensors of the same name in all blocks that are stored as the same type.
struct Part<'a> {
    name: &'a str,
    ty: &'static str,
    n: usize,
    /// Over all of their elements.
    deviation: Deviation,
    worst: &'a TensorError,
    n_suspect: usize,
}

/// Groups tensors by part. Tensors come worst first, so the first of a part is its worst.
fn parts(tensors: &[TensorError]) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    for tensor in tensors {
        let (name, ty) = (block_part(&tensor.name).unwrap_or(&tensor.name), tensor.ty.name());
        let index = parts.iter().position(|part| part.name == name && part.ty == ty).unwrap_or_else(|| {
            parts.push(Part { name, ty, n: 0, deviation: Deviation::default(), worst: tensor, n_suspect: 0 });
            parts.len() - 1
        });
        let part = &mut parts[index];
        part.n += 1;
        part.deviation = part.deviation.merge(&tensor.deviation);
        part.n_suspect += usize::from(tensor.is_suspect());
    }
    parts
}

/// A row per part that differs from the source, the one with the worst tensor first.
fn parts_table(tensors: &[TensorError]) -> Table {
    let words = [("part", Align::Left, 0), ("type", Align::Left, 0), ("tensors", Align::Right, 1)];
    let rest = [("worst relative", Align::Right, 2), ("in", Align::Left, 3), ("", Align::Left, 0)];
    let mut table = Table::new(words.into_iter().chain(FIGURES).chain(rest));
    for part in parts(tensors).iter().filter(|part| !part.deviation.is_zero()) {
        let mut row = vec![part.name.to_owned(), part.ty.to_owned(), part.n.to_string()];
        row.extend(figures(&part.deviation));
        row.push(ratio(part.worst.deviation.relative_rms()));
        row.push(part.worst.name.clone());
        row.push(if part.n_suspect > 0 { format!("{} SUSPECT", part.n_suspect) } else { String::new() });
        table.push(row);
    }
    table
}

/// The report for programs.
#[derive(Debug, Serialize)]
pub(super) struct Json<'a> {
    file: String,
    sound: bool,
    problems: Vec<JsonProblem>,
    warnings: &'a [String],
    /// `null` if digests were neither asked for nor compared, and of a split model, whose files have one each.
    sha256: Option<&'a str>,
    /// Whether every file has a `FILE.sha256`.
    sidecar: bool,
    /// The files that the model consists of: one unless it is split.
    files: Vec<JsonFile<'a>>,
    tensors: Vec<JsonTensor<'a>>,
}

#[derive(Debug, Serialize)]
struct JsonFile<'a> {
    path: String,
    bytes: u64,
    sha256: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct JsonProblem {
    /// The tensor at fault, if it is a tensor.
    tensor: Option<String>,
    message: String,
}

#[derive(Debug, Serialize)]
struct JsonTensor<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    ty: &'static str,
    sha256: Option<&'a str>,
    /// `null` without `--against`.
    error: Option<JsonError>,
}

#[derive(Debug, Serialize)]
struct JsonError {
    source: &'static str,
    identical: bool,
    suspect: bool,
    max_abs: f64,
    rms: f64,
    relative_rms: Option<f64>,
    cosine: Option<f64>,
    not_finite: u64,
    /// The largest relative RMS that is not suspect.
    limit: Option<f64>,
    /// How the bytes compare with a new encoding of the source: `equal`, `otherwise`, `together` or
    /// `wrong`.
    encoded: &'static str,
}

pub(super) fn json<'a>(findings: &'a Findings<'_>) -> Json<'a> {
    let report = &findings.report;
    let problems = findings
        .problems()
        .map(|problem| JsonProblem { tensor: problem.tensor().map(str::to_owned), message: problem.to_string() });
    let problems: Vec<JsonProblem> = problems.collect();
    // Tensors are in the order of the files.
    let mut digests = report.digests.iter().flat_map(|digests| &digests.tensors).map(|(_, digest)| digest.as_str());
    let files = findings.file.parts().iter().enumerate().map(|(index, part)| JsonFile {
        path: part.path().display().to_string(),
        bytes: part.n_bytes(),
        sha256: report.digests.get(index).map(|digests| digests.whole.as_str()),
    });
    let files: Vec<_> = files.collect();
    let only = files.first().filter(|_| files.len() == 1);
    let tensors = findings.file.gguf().tensors().iter().map(|tensor| JsonTensor {
        name: &tensor.name,
        ty: tensor.ty.name(),
        sha256: digests.next(),
        error: findings.against.iter().flat_map(|against| &against.tensors).find(|e| e.name == tensor.name).map(error),
    });
    Json {
        file: findings.file.path().display().to_string(),
        sound: problems.is_empty(),
        problems,
        warnings: &report.warnings,
        sha256: only.and_then(|file| file.sha256),
        sidecar: report.sidecars.len() == files.len(),
        tensors: tensors.collect(),
        files,
    }
}

fn error(tensor: &TensorError) -> JsonError {
    let deviation = &tensor.deviation;
    JsonError {
        source: tensor.source.name(),
        identical: tensor.is_identical(),
        suspect: tensor.is_suspect(),
        max_abs: deviation.max_abs,
        rms: deviation.rms(),
        relative_rms: deviation.relative_rms(),
        cosine: deviation.cosine(),
        not_finite: deviation.n_not_finite,
        limit: tensor.limit,
        encoded: match tensor.encoded {
            Encoded::Equal => "equal",
            Encoded::Otherwise => "otherwise",
            Encoded::Together => "together",
            Encoded::Wrong(_) => "wrong",
        },
    }
}
