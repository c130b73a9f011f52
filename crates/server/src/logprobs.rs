//! Log-likelihoods of tokens in both shapes that clients read, in one object: the lists of OpenAI's completions, and
//! `content` as in OpenAI's chats and llama.cpp's completions.

use crate::names::Names;
use pythia_runtime::TextStream;
use pythia_runtime::engine::TokenScore;
use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

/// A token of a text and what the model predicted there.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    id: u32,
    /// `None` for the first token of a text.
    log_likelihood: Option<f64>,
    /// Likeliest first; of a completion also the token itself, wherever it comes.
    top: Vec<(u32, f64)>,
    /// Code points before it.
    offset: usize,
}

/// Counts the code points of a text token by token.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    stream: TextStream,
    characters: usize,
}

impl Offsets {
    /// Whole code points before this token. It may begin in the middle of one.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> usize {
        let offset = self.characters;
        self.characters += self.stream.push(bytes).chars().count();
        offset
    }
}

impl Entry {
    /// The first token of a text, of which nothing is predicted.
    pub(crate) fn first(id: u32, names: &Names, offsets: &mut Offsets) -> Self {
        Self { id, log_likelihood: None, top: Vec::new(), offset: offsets.next(names.bytes(id)) }
    }

    /// A token with its score. As in OpenAI's replies, the token is in the list if that is not empty, so that there can
    /// be one more than was asked for.
    pub(crate) fn scored(score: TokenScore, names: &Names, offsets: &mut Offsets) -> Self {
        let TokenScore { token, log_likelihood, mut top } = score;
        if !top.is_empty() && top.iter().all(|(id, _)| *id != token) {
            top.push((token, log_likelihood));
        }
        let offset = offsets.next(names.bytes(token));
        Self { id: token, log_likelihood: Some(log_likelihood), top, offset }
    }
}

/// The field `logprobs` of a choice. Numbers are the shortest that read back as the same f64, so that equal values are
/// equal texts; what is not finite is `null`.
#[derive(Debug)]
pub(crate) struct Logprobs<'e> {
    pub(crate) entries: &'e [Entry],
    pub(crate) names: &'e Names,
}

impl Serialize for Logprobs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { entries, names } = *self;
        let mut object = serializer.serialize_struct("logprobs", 5)?;
        object.serialize_field("tokens", &list(entries, |e| names.name(e.id)))?;
        object.serialize_field("token_logprobs", &list(entries, |e| e.log_likelihood))?;
        object.serialize_field(
            "top_logprobs",
            &list(entries, |e| e.log_likelihood.map(move |_| ByName(&e.top, names))),
        )?;
        object.serialize_field("text_offset", &list(entries, |e| e.offset))?;
        object.serialize_field("content", &list(entries, |e| Content { entry: e, names }))?;
        object.end()
    }
}

fn list<'e, T: Serialize, F: Fn(&'e Entry) -> T>(entries: &'e [Entry], f: F) -> List<'e, F> {
    List(entries, f)
}

/// What a function makes of every entry.
struct List<'e, F>(&'e [Entry], F);

impl<'e, T: Serialize, F: Fn(&'e Entry) -> T> Serialize for List<'e, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        self.0.iter().try_for_each(|entry| list.serialize_element(&(self.1)(entry)))?;
        list.end()
    }
}

/// `{"name": log-likelihood}`.
struct ByName<'e>(&'e [(u32, f64)], &'e Names);

impl Serialize for ByName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(id, value)| object.serialize_entry(&self.1.name(*id), value))?;
        object.end()
    }
}

struct Content<'e> {
    entry: &'e Entry,
    names: &'e Names,
}

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { entry, names } = self;
        let one = |&(id, logprob): &(u32, f64)| One { id, token: names.name(id), bytes: names.bytes(id), logprob };
        let mut object = serializer.serialize_struct("content", 5)?;
        object.serialize_field("id", &entry.id)?;
        object.serialize_field("token", &names.name(entry.id))?;
        object.serialize_field("bytes", names.bytes(entry.id))?;
        object.serialize_field("logprob", &entry.log_likelihood)?;
        object.serialize_field("top_logprobs", &entry.top.iter().map(one).collect::<Vec<_>>())?;
        object.end()
    }
}

#[derive(Serialize)]
struct One<'n> {
    id: u32,
    token: String,
    bytes: &'n [u8],
    logprob: f64,
}
