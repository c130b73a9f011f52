//! Whether a text was read to the end that it had at first.

use crate::Error;
use pythia_runtime::{Text, TokenStream, Tokenizer};
use pythia_task::Cancel;

/// The length of a text's file when its reading began; `None` of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole(Option<u64>);

impl Whole {
    /// Of a reader that has read nothing yet.
    pub(crate) fn new(n_bytes: Option<u64>) -> Self {
        Self(n_bytes)
    }

    /// The tokens of a text. What goes wrong with it says its name.
    pub(crate) fn tokens<'t>(
        text: &'t Text,
        tokenizer: &'t Tokenizer,
        cancel: &Cancel,
    ) -> Result<(Self, TokenStream<'t>), Error> {
        let reader = text.reader()?;
        let whole = Self(reader.n_bytes());
        Ok((whole, TokenStream::new(tokenizer, reader).cancelled_by(cancel.clone())))
    }

    /// Called at the end of a text, of which so many bytes were read: what was cut meanwhile is not the text that was named.
    pub(crate) fn check_read(self, read: u64, place: &str) -> Result<(), Error> {
        let Some(wanted) = self.0.filter(|wanted| read < *wanted) else { return Ok(()) };
        let problem = format!("ended after {read} of its {wanted} bytes: it was cut while it was read");
        Err(Error::Input { place: place.to_owned(), problem })
    }

    /// The same where nobody knows how many were read: by the length that the file has now.
    pub(crate) fn check(self, text: &Text) -> Result<(), Error> {
        let Some(before) = self.0 else { return Ok(()) };
        self.check_read(text.reader()?.n_bytes().unwrap_or(before), &text.to_string())
    }
}
