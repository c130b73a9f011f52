//! Tokens as strings of JSON.

use pythia_runtime::Tokenizer;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

/// Gives every token of a vocabulary a string of its own. Clients use these as keys of objects, and some find out by
/// comparing them whether a token is the likeliest.
///
/// A token is named by its text. One that is not whole characters is named by its bytes, `bytes:\xc3`, as in OpenAI's
/// replies. One without text, or with the same text as a token of a lower id, is named `id:50280`.
#[derive(Debug)]
pub(crate) struct Names {
    tokenizer: Arc<Tokenizer>,
    /// Of those that have the same text as another.
    by_id: HashMap<u32, String>,
}

impl Names {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>) -> Self {
        let mut seen = std::collections::HashSet::new();
        let ids = 0..tokenizer.n_tokens() as u32;
        let again = ids.filter(|&id| !seen.insert(tokenizer.token_bytes(id)));
        let by_id = again.map(|id| (id, of_id(id))).collect();
        Self { tokenizer, by_id }
    }

    /// The name of a token; also of rows of the model's vocabulary that are padding.
    pub(crate) fn name(&self, id: u32) -> String {
        if let Some(name) = self.by_id.get(&id) {
            return name.clone();
        }
        match (self.bytes(id), std::str::from_utf8(self.bytes(id))) {
            ([], _) => of_id(id),
            (_, Ok(text)) => text.to_owned(),
            (bytes, Err(_)) => {
                let mut name = "bytes:".to_owned();
                for byte in bytes {
                    // Writing to a String cannot fail.
                    let _ = write!(name, "\\x{byte:02x}");
                }
                name
            }
        }
    }

    /// Its bytes; none for padding.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        self.tokenizer.token_bytes(id)
    }
}

fn of_id(id: u32) -> String {
    format!("id:{id}")
}
