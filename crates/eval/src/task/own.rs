//! A user's own task: a file of rows, and a TOML file beside it that says what they are.

use super::columns::Columns;
use super::examples::Sampler;
use super::form::{Form, Gold, Question};
use super::{Dataset, Files, Task};
use crate::python::count_words;
use crate::{Error, Extract, Filter, Kind, Metric, Row};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The longest description of a task.
const LIMIT_BYTES: u64 = 1 << 20;

/// What a TOML file may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    name: String,
    kind: String,
    data: Option<PathBuf>,
    examples: Option<PathBuf>,
    #[serde(default = "one")]
    version: f64,
    #[serde(default)]
    shots: usize,
    #[serde(default)]
    description: String,
    prompt: Option<String>,
    #[serde(default = "space")]
    delimiter: String,
    metrics: Option<Vec<String>>,
    until: Option<Vec<String>>,
    max_tokens: Option<usize>,
    #[serde(default)]
    filters: Vec<Taken>,
    #[serde(default)]
    fields: Columned,
}

/// A filter of a generated text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Taken {
    name: String,
    pattern: String,
    #[serde(default)]
    last: bool,
}

/// Names of columns.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct Columned {
    context: String,
    choices: String,
    gold: String,
    continuation: String,
    text: String,
    answers: String,
}

impl Default for Columned {
    fn default() -> Self {
        let [context, choices, gold, continuation, text, answers] =
            ["context", "choices", "gold", "continuation", "text", "answers"].map(str::to_owned);
        Self { context, choices, gold, continuation, text, answers }
    }
}

fn one() -> f64 {
    1.0
}

fn space() -> String {
    " ".to_owned()
}

/// How the rows of an own task are read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fields {
    kind: Kind,
    pub(crate) description: String,
    pub(crate) delimiter: String,
    pub(crate) until: Vec<String>,
    pub(crate) max_tokens: Option<usize>,
    /// A text with names of columns in braces, instead of the column of the context.
    prompt: Option<Vec<Piece>>,
    columns: Columned,
}

/// A piece of a prompt.
#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Column(String),
}

/// Reads the description of a task.
pub(super) fn open(path: &Path) -> Result<Task, Error> {
    let shown = pythia_text::path(path);
    let wrong = |problem: String| Error::data(&shown, problem);
    let text = pythia_text::read_text(path, LIMIT_BYTES).map_err(Error::read(path))?;
    let found: Description = toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        wrong(format!("line {line}: {}", e.message()))
    })?;
    found.task(path).map_err(wrong)
}

impl Description {
    fn task(self, path: &Path) -> Result<Task, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(plain) {
            return Err(format!("name: found {:?}, wanted letters, digits, -, _ and .", self.name));
        }
        if Task::find(&self.name).is_some() || super::Group::find(&self.name).is_some() {
            return Err(format!("name: {:?} is a built-in task", self.name));
        }
        let kinds = [Kind::MultipleChoice, Kind::LogLikelihood, Kind::Rolling, Kind::Generate];
        let kind = kinds.into_iter().find(|kind| kind.name() == self.kind);
        let kind =
            kind.ok_or_else(|| format!("kind: found {:?}, wanted {}", self.kind, kinds.map(Kind::name).join(", ")))?;
        let metrics = metrics(kind, self.metrics.as_deref())?;
        let generates = kind == Kind::Generate;
        if !generates && (self.until.is_some() || self.max_tokens.is_some() || !self.filters.is_empty()) {
            return Err(format!("until, max_tokens and filters belong to generate_until, not to {}", kind.name()));
        }
        if kind == Kind::Rolling && (self.shots > 0 || self.prompt.is_some() || !self.description.is_empty()) {
            return Err("loglikelihood_rolling scores a text alone: no shots, prompt or description".to_owned());
        }
        let beside = |file: &Path| path.parent().unwrap_or(Path::new("")).join(file);
        let stem = path.file_stem().map(|stem| Path::new(stem).with_extension("jsonl")).unwrap_or_default();
        let files = Files {
            rows: beside(self.data.as_deref().unwrap_or(&stem)),
            examples: self.examples.as_deref().map(beside),
        };
        let excludes_document = files.examples.is_none();
        let fields = Fields {
            kind,
            description: self.description,
            delimiter: self.delimiter,
            // The harness ends an answer where the next example would begin.
            until: self.until.unwrap_or_else(|| if generates { vec!["\n\n".to_owned()] } else { Vec::new() }),
            max_tokens: self.max_tokens,
            prompt: self.prompt.as_deref().map(pieces).transpose()?,
            columns: self.fields,
        };
        Ok(Task {
            name: self.name,
            version: self.version,
            kind,
            metrics,
            filters: filters(self.filters)?,
            shots: self.shots,
            has_fixed_shots: kind == Kind::Rolling,
            dataset: Dataset {
                repo: String::new(),
                config: None,
                split: "test".to_owned(),
                example_split: if excludes_document { "test" } else { "examples" }.to_owned(),
                files: Some(files),
            },
            sampler: Sampler::Random { excludes_document },
            form: Form::Own(Box::new(fields)),
        })
    }
}

/// The metrics of these names, which must suit `kind`; the usual ones if none are named.
fn metrics(kind: Kind, names: Option<&[String]>) -> Result<Vec<Metric>, String> {
    let (usual, others): (&[Metric], &[Metric]) = match kind {
        Kind::MultipleChoice => (&[Metric::Acc, Metric::AccNorm], &[Metric::AccBytes]),
        Kind::LogLikelihood => (&[Metric::Perplexity, Metric::Acc], &[]),
        Kind::Rolling => (&[Metric::WordPerplexity, Metric::BytePerplexity, Metric::BitsPerByte], &[]),
        Kind::Generate => (&[Metric::ExactMatch], &[Metric::Em, Metric::F1]),
    };
    let Some(names) = names else { return Ok(usual.to_vec()) };
    let known: Vec<Metric> = usual.iter().chain(others).copied().collect();
    let find = |name: &String| {
        let all = || known.iter().map(|metric| metric.name()).collect::<Vec<_>>().join(", ");
        let found = known.iter().copied().find(|metric| metric.name() == name);
        found.ok_or_else(|| format!("metrics: found {name:?}, {} has {}", kind.name(), all()))
    };
    if names.is_empty() {
        return Err("metrics: an empty list".to_owned());
    }
    if let Some(twice) = (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
        return Err(format!("metrics: {:?} is there twice", names[twice]));
    }
    names.iter().map(find).collect()
}

fn filters(taken: Vec<Taken>) -> Result<Vec<Filter>, String> {
    if taken.is_empty() {
        return Ok(vec![Filter::none()]);
    }
    for (i, Taken { name, .. }) in taken.iter().enumerate() {
        if name.is_empty() || name.contains(',') || taken[..i].iter().any(|other| other.name == *name) {
            return Err(format!("filters: found the name {name:?}, wanted a different one for each, without a comma"));
        }
    }
    let filter = |Taken { name, pattern, last }| {
        Regex::new(&pattern).map_err(|_| format!("filters: {pattern:?} is not a regular expression"))?;
        Ok(Filter { name, extract: Some(Extract { pattern, last }) })
    };
    taken.into_iter().map(filter).collect()
}

/// Splits a prompt at the names in braces. Doubled braces are text.
fn pieces(prompt: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = prompt;
    while let Some(at) = rest.find(['{', '}']) {
        text += &rest[..at];
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            text += brace;
            rest = after;
        } else if let Some((name, after)) = rest.split_once('}').filter(|(name, _)| brace == "{" && !name.is_empty()) {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
            pieces.push(Piece::Column(name.to_owned()));
            rest = after;
        } else {
            return Err(
                "prompt: a brace that is not around the name of a column; double it for the character".to_owned()
            );
        }
    }
    pieces.push(Piece::Text(text + rest));
    Ok(pieces)
}

impl Fields {
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn question(&self, row: &Row, place: &str) -> Result<Question, Error> {
        let columns = Columns::new(row, place);
        let names = &self.columns;
        let context = || match &self.prompt {
            None => columns.text(&names.context),
            Some(pieces) => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) => Ok(text.clone()),
                    Piece::Column(name) => columns.text(name),
                })
                .collect(),
        };
        match self.kind {
            Kind::MultipleChoice => {
                let choices = columns.texts(&names.choices)?;
                if choices.is_empty() {
                    return Err(columns.wrong(&names.choices, "wanted at least one choice"));
                }
                let gold = gold(&columns, &names.gold, &choices)?;
                Ok(Question::Choices { context: context()?, choices, gold })
            }
            Kind::LogLikelihood => Ok(Question::Continuation {
                context: context()?,
                continuation: format!("{}{}", self.delimiter, columns.text(&names.continuation)?),
            }),
            Kind::Rolling => {
                let text = columns.text(&names.text)?;
                Ok(Question::Text { words: count_words(&text), bytes: text.len(), text })
            }
            Kind::Generate => {
                let answers = match columns.value(&names.answers)? {
                    Value::Array(_) => columns.texts(&names.answers)?,
                    _ => vec![columns.text(&names.answers)?],
                };
                let Some(first) = answers.first() else {
                    return Err(columns.wrong(&names.answers, "wanted at least one answer"));
                };
                let target = first.clone();
                let answers = answers.into_iter().map(|answer| vec![answer]).collect();
                Ok(Question::Generate { context: context()?, target, answers })
            }
        }
    }
}

/// The right choices: an index, a list of indices, or the text of a choice.
fn gold(columns: &Columns, name: &str, choices: &[String]) -> Result<Gold, Error> {
    let wrong = || {
        columns.wrong(
            name,
            &format!("wanted a number from 0 to {}, a list of them, or one of the choices", choices.len() - 1),
        )
    };
    let index = |value: &Value| value.as_u64().map(|index| index as usize).filter(|&index| index < choices.len());
    match columns.value(name)? {
        Value::String(text) => {
            let index = choices.iter().position(|choice| choice == text).ok_or_else(wrong)?;
            Ok(Gold { indices: vec![index], target: text.clone() })
        }
        Value::Array(list) if !list.is_empty() => {
            let indices: Vec<usize> = list.iter().map(index).collect::<Option<_>>().ok_or_else(wrong)?;
            Ok(Gold { target: format!("{indices:?}"), indices })
        }
        value => {
            let index = index(value).ok_or_else(wrong)?;
            Ok(Gold { indices: vec![index], target: index.to_string() })
        }
    }
}
