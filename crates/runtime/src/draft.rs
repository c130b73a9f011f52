//! Drafts: cheap guesses at the next tokens of a text, which the model checks together in one pass.
//!
//! No bit of a text depends on them. After a pass over drafted tokens, a [`Generator`](crate::Generator) draws its own
//! token at each position, from the logits and with the random number that it would have without a draft. While its
//! token is the drafted one, the model has seen it already and the logits of the next position are there too. The first
//! token that differs takes the place of the drafted one, and the rest of the draft is forgotten.
//!
//! This is the speculative decoding of Leviathan et al. (<https://arxiv.org/abs/2211.17192>) with equality in the place
//! of their rule of acceptance, which keeps the distribution of a text, but not the text. Drafts of a model are drawn
//! with the random numbers of the text (Daliri et al., <https://arxiv.org/abs/2408.07978>), so they often agree in
//! samples too.
//!
//! - [`Draft`]: what can guess. [`LookupDraft`] finds the last tokens earlier in the text, [`ModelDraft`] runs a smaller
//!   model.
//! - [`DraftLength`]: how many tokens are drafted. The number follows the time of passes and what was accepted lately. Texts
//!   that share passes share what they learn about it.

mod budget;
mod experience;
mod load;
mod lookup;
mod model;
mod pace;
mod speculation;
mod times;

pub(crate) use experience::Experience;
pub(crate) use load::Load;
pub use lookup::LookupDraft;
pub use model::ModelDraft;
pub(crate) use pace::Place;
pub(crate) use speculation::{Round, Speculation};

use crate::device::CPU;
use crate::{Error, Sampler, Tokenizer};
use pythia_model::{Context, Model};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::fmt;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

/// Guesses the next tokens of one text.
pub trait Draft: fmt::Debug + Send + Sync {
    /// Prepares for a proposal after `tokens`, the text so far. What takes long and must be done once, such as reading a
    /// prompt, belongs here: its time does not count for the length of later drafts, but for whether other texts get some.
    ///
    /// # Errors
    /// If a device failed, or the draft was cancelled.
    fn follow(&mut self, tokens: &[u32]) -> Result<(), Error> {
        let _ = tokens;
        Ok(())
    }

    /// At most `n` tokens that may come after `tokens`. `sampler` is the one that chooses the text's next token, in its
    /// present state.
    ///
    /// # Errors
    /// If a device failed, or the draft was cancelled.
    fn propose(&mut self, tokens: &[u32], sampler: &Sampler, n: usize) -> Result<Vec<u32>, Error>;
}

/// How many tokens are drafted for a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DraftLength {
    least: usize,
    most: usize,
}

impl DraftLength {
    /// At least `least` tokens, also where that costs time, and at most `most`. 0 for `least` lets drafting stop while it
    /// does not pay.
    ///
    /// # Errors
    /// If `least` is above `most`.
    pub fn new(least: usize, most: usize) -> Result<Self, Error> {
        if least > most {
            let problem = format!("found at least {least} tokens and at most {most}");
            return Err(Error::Setting { name: "draft length", problem });
        }
        Ok(Self { least, most })
    }

    /// Tokens at least.
    pub fn least(self) -> usize {
        self.least
    }

    /// Tokens at most.
    pub fn most(self) -> usize {
        self.most
    }
}

impl Default for DraftLength {
    fn default() -> Self {
        Self { least: 0, most: 16 }
    }
}

/// Where the drafts of a text come from, and how long they are.
#[derive(Clone, Debug)]
pub struct Drafting {
    /// Where they come from.
    pub source: DraftSource,
    /// How long they are.
    pub length: DraftLength,
}

/// Where drafts come from.
#[derive(Clone, Debug)]
pub enum DraftSource {
    /// The text itself: see [`LookupDraft`].
    Lookup,
    /// A smaller model: see [`ModelDraft`]. Made by [`DraftSource::model`].
    Model(CheckedModel),
}

/// A model with the vocabulary of the one that it drafts for.
#[derive(Clone, Debug)]
pub struct CheckedModel(Arc<Model>);

impl Drafting {
    /// Checks that the drafts of `texts` texts, of at most `n_ctx` tokens each, have memory: the contexts of a model beside
    /// those that exist, within its [`Options::memory`](pythia_model::Options::memory). They are made when they are needed,
    /// and a text that cannot have one is written without drafts; so this is for a program that refuses to begin then.
    ///
    /// # Errors
    /// If there is too little.
    pub fn check_memory(&self, texts: usize, n_ctx: usize) -> Result<(), Error> {
        let DraftSource::Model(CheckedModel(model)) = &self.source else { return Ok(()) };
        let refused = |error: pythia_model::Error| Error::Setting { name: "draft", problem: error.to_string() };
        model.check_memory(ModelDraft::shape(model, n_ctx), texts).map_err(refused)
    }

    /// Bytes of the processor's memory that drafts for a text of at most `n_ctx` tokens take.
    pub(crate) fn bytes(&self, n_ctx: usize) -> u64 {
        match &self.source {
            DraftSource::Model(CheckedModel(model)) if model.device() == CPU => {
                model.context_bytes(ModelDraft::shape(model, n_ctx)).map_or(u64::MAX, |bytes| bytes as u64)
            }
            _ => 0,
        }
    }

    /// What guesses for one text of `context`.
    pub(crate) fn start(&self, context: &Context) -> Box<dyn Draft> {
        match &self.source {
            DraftSource::Lookup => Box::new(LookupDraft),
            DraftSource::Model(CheckedModel(model)) => {
                Box::new(ModelDraft::new(model, context.n_ctx(), context.cancel()))
            }
        }
    }
}

impl DraftSource {
    /// Drafts of `model`, whose vocabulary is `draft`, for texts of `tokenizer`.
    ///
    /// # Errors
    /// If the two vocabularies differ.
    pub fn model(model: Arc<Model>, draft: &Tokenizer, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let (found, wanted) = (draft.n_tokens(), tokenizer.n_tokens());
        let differs = |problem| Err(Error::Setting { name: "draft", problem });
        if found != wanted {
            return differs(format!("found a vocabulary of {found} tokens, wanted the model's {wanted}"));
        }
        if let Some(token) = (0..wanted as u32).find(|&id| draft.token_bytes(id) != tokenizer.token_bytes(id)) {
            return differs(format!("found another text for token {token}, wanted the model's vocabulary"));
        }
        let rows = model.hparams().n_vocab;
        if rows < wanted {
            return differs(format!("found {rows} rows of the vocabulary, wanted {wanted}"));
        }
        Ok(Self::Model(CheckedModel(model)))
    }
}

/// What came of the drafts of a text, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DraftStats {
    /// Passes that checked a draft.
    pub passes: usize,
    /// Tokens that were drafted and checked.
    pub drafted: usize,
    /// Those that the text has.
    pub accepted: usize,
    /// Time that the drafts took, without the passes that checked them.
    pub time: Duration,
}

impl AddAssign for DraftStats {
    fn add_assign(&mut self, other: Self) {
        let Self { passes, drafted, accepted, time } = other;
        self.passes += passes;
        self.drafted += drafted;
        self.accepted += accepted;
        self.time += time;
    }
}

/// The object that commands print, and Python's dict.
impl Serialize for DraftStats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("DraftStats", 6)?;
        object.serialize_field("drafts", &self.passes)?;
        object.serialize_field("drafted_tokens", &self.drafted)?;
        object.serialize_field("accepted_tokens", &self.accepted)?;
        object.serialize_field("acceptance", &self.acceptance())?;
        object.serialize_field("mean_accepted", &self.mean_accepted())?;
        object.serialize_field("seconds", &self.time.as_secs_f64())?;
        object.end()
    }
}

impl DraftStats {
    /// The share of drafted tokens that were accepted; 0 without any.
    pub fn acceptance(&self) -> f64 {
        ratio(self.accepted, self.drafted)
    }

    /// Accepted tokens per checked draft; 0 without any. The pass gives one more token than that.
    pub fn mean_accepted(&self) -> f64 {
        ratio(self.accepted, self.passes)
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests;
