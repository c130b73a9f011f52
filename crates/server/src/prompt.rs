//! Prompts in the forms that clients send, and their token ids.

use crate::fields::{token, wanted};
use crate::limits;
use crate::refusal::Refusal;
use pythia_runtime::Tokenizer;
use serde_json::Value;

/// A prompt: texts and token ids one after the other. Mostly it is one text, or only ids.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Prompt(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Ids(Vec<u32>),
}

const FORMS: &str = "a string, a list of token ids, or a list of these";

impl Prompt {
    /// The prompts of a request: a text, ids, texts and ids mixed, or a list of such prompts. A list of texts is a list
    /// of prompts.
    pub(crate) fn all(value: Value) -> Result<Vec<Self>, Refusal> {
        let refused = |problem: String| Refusal::field("prompt", problem);
        let list = match value {
            Value::Array(list) if list.is_empty() => {
                return Err(refused(format!("found an empty list, wanted {FORMS}")));
            }
            Value::Array(list) if list.iter().all(|item| item.is_string() || item.is_array()) => list,
            one => vec![one],
        };
        if list.len() > limits::PROMPTS {
            return Err(refused(format!("found {} prompts, wanted at most {}", list.len(), limits::PROMPTS)));
        }
        list.into_iter().map(|prompt| Self::one(prompt).map_err(refused)).collect()
    }

    /// One prompt.
    fn one(value: Value) -> Result<Self, String> {
        let list = match value {
            Value::String(text) => return Ok(Self(vec![Part::Text(text)])),
            Value::Array(list) if !list.is_empty() => list,
            Value::Array(_) => return Err("found an empty list of token ids, wanted at least one".to_owned()),
            other => return Err(wanted(&other, FORMS)),
        };
        let mut parts = Vec::new();
        for item in list {
            match (item, parts.last_mut()) {
                (Value::String(text), _) => parts.push(Part::Text(text)),
                (item, last) => {
                    let id = token(&item).ok_or_else(|| wanted(&item, "a token id"))?;
                    match last {
                        Some(Part::Ids(ids)) => ids.push(id),
                        _ => parts.push(Part::Ids(vec![id])),
                    }
                }
            }
        }
        Ok(Self(parts))
    }

    /// Its token ids; for an empty text the token that texts begin with, as transformers does.
    pub(crate) fn encode(&self, tokenizer: &Tokenizer, n_vocab: usize, most: usize) -> Result<Vec<u32>, Refusal> {
        let mut ids = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => encode(tokenizer, text, most, &mut ids)?,
                Part::Ids(more) => ids.extend_from_slice(more),
            }
        }
        if ids.is_empty() {
            ids.extend(tokenizer.bos().or(tokenizer.eos()));
        }
        if ids.is_empty() {
            return Err(Refusal::field("prompt", "found no text, wanted some"));
        }
        if ids.len() > most {
            return Err(too_long(ids.len(), most));
        }
        match ids.iter().find(|&&id| id as usize >= n_vocab) {
            Some(id) => Err(Refusal::field("prompt", format_args!("found token {id}, wanted ids below {n_vocab}"))),
            None => Ok(ids),
        }
    }
}

/// Appends the ids of `text`, or at least more than `most` in all if it is longer.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str, most: usize, ids: &mut Vec<u32>) -> Result<(), Refusal> {
    let refused = |e: pythia_runtime::Error| Refusal::field("prompt", e);
    for segment in tokenizer.segments().split(text) {
        let segment = segment.map_err(|e| refused(e.into()))?;
        if segment.len() > limits::WORD_BYTES {
            let bytes = limits::WORD_BYTES;
            return Err(Refusal::invalid(format_args!(
                "the text has more than {bytes} bytes that can only be tokenized together, such as a word of that length"
            )));
        }
        tokenizer.encode_segment(segment, ids).map_err(|e| refused(e.into()))?;
        if ids.len() > most {
            return Ok(());
        }
    }
    Ok(())
}

/// A prompt of `tokens` or more.
fn too_long(tokens: usize, most: usize) -> Refusal {
    Refusal::field("prompt", format_args!("found {tokens} tokens or more, wanted at most {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    #[test]
    fn every_form_of_a_prompt_is_read() {
        let ids = |ids: &[u32]| Part::Ids(ids.to_vec());
        for (value, wanted) in [
            (json!("a"), vec![vec![text("a")]]),
            (json!(""), vec![vec![text("")]]),
            (json!(["a", "b"]), vec![vec![text("a")], vec![text("b")]]),
            (json!([1, 2]), vec![vec![ids(&[1, 2])]]),
            (json!([[1, 2], [3]]), vec![vec![ids(&[1, 2])], vec![ids(&[3])]]),
            (json!(["a", [3, "b", 4, 5]]), vec![vec![text("a")], vec![ids(&[3]), text("b"), ids(&[4, 5])]]),
            (json!([1, "b"]), vec![vec![ids(&[1]), text("b")]]),
        ] {
            let found: Vec<Vec<Part>> = Prompt::all(value.clone()).unwrap().into_iter().map(|p| p.0).collect();
            assert_eq!(found, wanted, "{value}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let many = Value::from(vec!["a"; limits::PROMPTS + 1]);
        for value in [
            json!([]),
            json!([[]]),
            json!([[1], 2]),
            json!([-1]),
            json!([4294967296u64]),
            json!([1.5]),
            json!([[[1]]]),
            json!(7),
            json!({}),
            json!(true),
            json!([null]),
            many,
        ] {
            assert_eq!(Prompt::all(value.clone()).unwrap_err().status.as_u16(), 400, "{value:.50}");
        }
    }
}
