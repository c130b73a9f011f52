//! Added tokens beyond the embedding, such as a padding token of fine-tuning, for which the model has no row.
//!
//! The model can neither read nor generate them, so they are left out of the vocabulary and of the embedded
//! `tokenizer.json`.

use super::parse;
use crate::Error;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::path::Path;

/// The part of a `tokenizer.json` that added tokens are in, as it is written.
#[derive(Deserialize)]
struct Document<'t> {
    #[serde(borrow)]
    added_tokens: Option<&'t RawValue>,
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

/// The text of a `tokenizer.json` without the added tokens with `ids`. What remains is as it was, to the byte.
pub(super) fn without(path: &Path, text: &str, ids: &HashSet<u32>) -> Result<String, Error> {
    let Document { added_tokens: Some(list) } = parse(path, text)? else { return Ok(text.to_owned()) };
    let tokens: Vec<&RawValue> = parse(path, list.get())?;
    let mut kept = Vec::new();
    for token in tokens {
        let Id { id } = parse(path, token.get())?;
        if !ids.contains(&id) {
            kept.push(token.get());
        }
    }
    // It is a part of the text.
    let start = list.get().as_ptr() as usize - text.as_ptr() as usize;
    let (before, rest) = text.split_at(start);
    Ok(format!("{before}[{}]{}", kept.join(", "), &rest[list.get().len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_text_stays_as_it_is() {
        let path = Path::new("tokenizer.json");
        let text = "{\"a\": 1.0,\n \"added_tokens\" : [ {\"id\":7, \"content\":\"é\"},\n{\"content\":\"[PAD]\",\"id\":9} ], \"z\":[]}";
        let cut = without(path, text, &HashSet::from([9])).unwrap();
        assert_eq!(cut, "{\"a\": 1.0,\n \"added_tokens\" : [{\"id\":7, \"content\":\"é\"}], \"z\":[]}");
        assert_eq!(
            without(path, text, &HashSet::from([7, 9])).unwrap(),
            "{\"a\": 1.0,\n \"added_tokens\" : [], \"z\":[]}"
        );
        assert_eq!(without(path, "{\"z\": 1}", &HashSet::from([1])).unwrap(), "{\"z\": 1}");
    }
}
