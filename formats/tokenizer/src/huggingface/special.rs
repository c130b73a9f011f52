//! The tokens that begin and end a text: by text in `tokenizer_config.json`, by id in `config.json`.

use super::TokenizerFile;
use super::vocabulary::id_of;
use super::{ForModel, parse};
use crate::error::{Error, excerpt};
use serde::Deserialize;
use std::path::Path;

/// The relevant special tokens, by their texts.
#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) bos_token: Option<TokenText>,
    pub(super) eos_token: Option<TokenText>,
    pub(super) unk_token: Option<TokenText>,
}

impl Named {
    /// Those of the text of a `tokenizer_config.json`.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        parse(path, text)
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
    /// Sets `bos`, `eos` and `unk`. The tokenizer's files take precedence over the model's config, as in the reference
    /// converter. A token that was left out is ignored.
    pub(super) fn name_special(&mut self, path: &Path, named: Named, model: &ForModel) -> Result<(), Error> {
        let left_out = &self.left_out;
        let by_text = |key: &str, token: Option<TokenText>| match token {
            None => Ok(None),
            Some(TokenText::Plain(text) | TokenText::Detailed { content: text })
                if left_out.iter().any(|(_, other)| *other == text) =>
            {
                Ok(None)
            }
            Some(TokenText::Plain(text) | TokenText::Detailed { content: text }) => id_of(&self.vocab.tokens, &text)
                .map(Some)
                .ok_or_else(|| Error::file(path, key, format!("{} is not in tokenizer.json", excerpt(&text)))),
        };
        let by_id = |key: &str, id: Option<u32>| match id {
            Some(id) if left_out.iter().any(|(other, _)| *other == id) => Ok(None),
            Some(id) if id as usize >= self.vocab.tokens.len() => {
                let reason = format!("{id}, but vocab_size is {}", self.vocab.tokens.len());
                Err(Error::file(&path.with_file_name("config.json"), key, reason))
            }
            id => Ok(id),
        };
        let bos = by_text("bos_token", named.bos_token)?.or(by_id("bos_token_id", model.bos)?);
        let eos = by_text("eos_token", named.eos_token)?.or(by_id("eos_token_id", model.eos)?);
        let unk = by_text("unk_token", named.unk_token)?.or(self.vocab.unk);
        (self.vocab.bos, self.vocab.eos, self.vocab.unk) = (bos, eos, unk);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TokenizerExtras, Vocab};

    fn named(special: &str, bos: Option<u32>, eos: Option<u32>) -> Result<[Option<u32>; 3], String> {
        let vocab = Vocab {
            tokens: ["<a>", "b", "<c>"].map(str::to_owned).to_vec(),
            kinds: Vec::new(),
            merges: Vec::new(),
            bos: None,
            eos: None,
            unk: Some(1),
            pre: String::new(),
            extras: TokenizerExtras::default(),
            huggingface_json: None,
        };
        let mut tokenizer = TokenizerFile { vocab, left_out: vec![(3, "<pad>".to_owned())], is_built: false };
        let path = Path::new("m/tokenizer_config.json");
        let named = Named::parse(path, special).map_err(|e| e.to_string())?;
        tokenizer.name_special(path, named, &ForModel { n_vocab: 3, bos, eos }).map_err(|e| e.to_string())?;
        Ok([tokenizer.vocab.bos, tokenizer.vocab.eos, tokenizer.vocab.unk])
    }

    #[test]
    fn the_tokenizers_word_comes_first() {
        assert_eq!(named("{}", None, None), Ok([None, None, Some(1)]));
        assert_eq!(named("{}", Some(2), Some(0)), Ok([Some(2), Some(0), Some(1)]));
        let special = r#"{"bos_token": "<a>", "eos_token": {"content": "<c>", "lstrip": false}, "unk_token": "<a>"}"#;
        assert_eq!(named(special, Some(2), Some(1)), Ok([Some(0), Some(2), Some(0)]));
        // A token without a row in the embedding cannot end a text.
        assert_eq!(named(r#"{"eos_token": "<pad>"}"#, None, Some(1)), Ok([None, Some(1), Some(1)]));
        assert_eq!(named(r#"{"eos_token": "<pad>"}"#, None, Some(3)), Ok([None, None, Some(1)]));
    }

    #[test]
    fn tokens_that_are_not_there_are_refused() {
        for (special, eos, wanted) in [
            (
                r#"{"eos_token": "</s>"}"#,
                None,
                r#"m/tokenizer_config.json: eos_token: "</s>" is not in tokenizer.json"#,
            ),
            ("{}", Some(4), "m/config.json: eos_token_id: 4, but vocab_size is 3"),
            (r#"{"bos_token": 1}"#, None, "m/tokenizer_config.json: not the JSON expected"),
            ("[]", None, "m/tokenizer_config.json: "),
        ] {
            let message = named(special, None, eos).unwrap_err();
            assert!(message.starts_with(wanted), "{message}");
        }
    }
}
