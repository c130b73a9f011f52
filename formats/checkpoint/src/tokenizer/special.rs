//! Which tokens begin and end a text: `tokenizer_config.json` by text, `config.json` by id.

use super::TokenizerFile;
use super::document::id_of;
use crate::config::Config;
use crate::error::{Error, excerpt};
use crate::json;
use serde::Deserialize;
use std::path::Path;

/// The special tokens that count here, by their texts.
#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) bos_token: Option<TokenText>,
    pub(super) eos_token: Option<TokenText>,
    pub(super) unk_token: Option<TokenText>,
}

impl Named {
    /// Those of the text of a `tokenizer_config.json`.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        json::parse(path, text)
    }
}

/// Transformers writes a plain string, or an object if the token has options.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum TokenText {
    Plain(String),
    Detailed { content: String },
}

impl TokenizerFile {
    /// Sets `bos`, `eos` and `unk`. The tokenizer's own word comes before the model's, as in the reference converter. A
    /// token that was left out is none.
    pub(super) fn name_special(&mut self, path: &Path, named: Named, config: &Config) -> Result<(), Error> {
        let left_out = &self.left_out;
        let by_text = |key: &str, token: Option<TokenText>| match token {
            None => Ok(None),
            Some(TokenText::Plain(text) | TokenText::Detailed { content: text })
                if left_out.iter().any(|(_, other)| *other == text) =>
            {
                Ok(None)
            }
            Some(TokenText::Plain(text) | TokenText::Detailed { content: text }) => id_of(&self.tokens, &text)
                .map(Some)
                .ok_or_else(|| Error::json(path, key, format!("{} is not in tokenizer.json", excerpt(&text)))),
        };
        let by_id = |key: &str, id: Option<u32>| match id {
            Some(id) if left_out.iter().any(|(other, _)| *other == id) => Ok(None),
            Some(id) if id as usize >= self.tokens.len() => {
                let reason = format!("{id}, but vocab_size is {}", self.tokens.len());
                Err(Error::json(&path.with_file_name("config.json"), key, reason))
            }
            id => Ok(id),
        };
        let bos = by_text("bos_token", named.bos_token)?.or(by_id("bos_token_id", config.bos_token)?);
        let eos = by_text("eos_token", named.eos_token)?.or(by_id("eos_token_id", config.eos_token)?);
        let unk = by_text("unk_token", named.unk_token)?.or(self.unk);
        (self.bos, self.eos, self.unk) = (bos, eos, unk);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Matching;
    use super::*;

    fn named(special: &str, ids: &str) -> Result<[Option<u32>; 3], String> {
        let config = format!(
            r#"{{"model_type": "gpt_neox", "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1,
                "vocab_size": 3, "max_position_embeddings": 8, "rotary_pct": 1.0{ids}}}"#
        );
        let config = Config::parse(Path::new("config.json"), &config).unwrap();
        let mut tokenizer = TokenizerFile {
            json: String::new(),
            tokens: ["<a>", "b", "<c>"].map(str::to_owned).to_vec(),
            kinds: Vec::new(),
            merges: Vec::new(),
            normalizes: true,
            matching: Matching::default(),
            bos: None,
            eos: None,
            unk: Some(1),
            left_out: vec![(3, "<pad>".to_owned())],
        };
        let path = Path::new("m/tokenizer_config.json");
        let named = Named::parse(path, special).map_err(|e| e.to_string())?;
        tokenizer.name_special(path, named, &config).map_err(|e| e.to_string())?;
        Ok([tokenizer.bos, tokenizer.eos, tokenizer.unk])
    }

    #[test]
    fn the_tokenizers_word_comes_first() {
        assert_eq!(named("{}", ""), Ok([None, None, Some(1)]));
        assert_eq!(named("{}", r#", "bos_token_id": 2, "eos_token_id": [0, 1]"#), Ok([Some(2), Some(0), Some(1)]));
        let special = r#"{"bos_token": "<a>", "eos_token": {"content": "<c>", "lstrip": false}, "unk_token": "<a>"}"#;
        assert_eq!(named(special, r#", "bos_token_id": 2, "eos_token_id": 1"#), Ok([Some(0), Some(2), Some(0)]));
        // What has no row in the embedding is no token to end with.
        assert_eq!(named(r#"{"eos_token": "<pad>"}"#, r#", "eos_token_id": 1"#), Ok([None, Some(1), Some(1)]));
        assert_eq!(named(r#"{"eos_token": "<pad>"}"#, r#", "eos_token_id": 3"#), Ok([None, None, Some(1)]));
    }

    #[test]
    fn tokens_that_are_not_there_are_refused() {
        for (special, ids, wanted) in [
            (r#"{"eos_token": "</s>"}"#, "", r#"m/tokenizer_config.json: eos_token: "</s>" is not in tokenizer.json"#),
            ("{}", r#", "eos_token_id": 4"#, "m/config.json: eos_token_id: 4, but vocab_size is 3"),
            (r#"{"bos_token": 1}"#, "", "m/tokenizer_config.json: not the JSON expected"),
            ("[]", "", "m/tokenizer_config.json: "),
        ] {
            let message = named(special, ids).unwrap_err();
            assert!(message.starts_with(wanted), "{message}");
        }
    }
}
