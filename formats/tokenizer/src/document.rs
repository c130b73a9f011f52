//! The schema of `tokenizer.json`, and the settings that are supported.
//!
//! Supported are the settings of Pythia's tokenizer that ids depend on: byte-level BPE after NFC or no normalization.
//! `truncation` and `padding` are not read, because leftovers of a training script would silently shorten or lengthen
//! every text. No id depends on `trim_offsets` and the decoder's settings.
//!
//! The vocabulary and the merges are read directly into the form that the `tokenizers` crate needs. Its own reader
//! builds two trees of JSON values, which takes most of the time to the first token.

use crate::added::AddedToken;
use crate::error::excerpt;
use crate::{alphabet, merges};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::collections::hash_map::Entry;
use std::fmt;
use tokenizers::models::bpe::{Merges, Vocab as Pieces};

/// The relevant content of a `tokenizer.json`.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) added_tokens: Vec<AddedToken>,
    /// Whether text is normalized to NFC first.
    pub(crate) normalizes: bool,
    /// Pieces of the vocabulary and their ids.
    pub(crate) pieces: Pieces,
    /// Not checked yet: [`pairs`](Self::pairs).
    merges: Vec<Merge>,
    pub(crate) unk_token: Option<String>,
    pub(crate) fuse_unk: bool,
}

/// Why a `tokenizer.json` is refused.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The format has another version.
    Version(String),
    /// A step is of another kind: `None` if there is no step, empty if it has no kind.
    Step { key: &'static str, found: Option<String>, wanted: &'static str },
    /// A setting of the split before BPE has another value.
    Split { key: &'static str, found: Value, wanted: bool },
    /// The post-processor adds tokens to every text.
    AddsTokens,
    /// An option of the BPE model is set.
    Option { key: &'static str, found: String, wanted: &'static str },
    /// Anything else: the key (empty for the whole document) and the problem.
    Other { key: String, reason: String },
}

impl Document {
    /// Reads a text that [is not too large](pythia_json::check).
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let raw = match serde_json::from_str::<Raw>(text) {
            // A derived reader would accept an array of the fields.
            Ok(raw) if text.trim_ascii_start().starts_with('{') => raw,
            Ok(_) => return Err(Fault::whole("not the JSON expected: wanted an object")),
            // A model of another kind has another shape. The error names its kind.
            Err(e) => match serde_json::from_str::<Probe>(text) {
                Ok(Probe { model: ProbedModel { kind } }) if kind.as_deref() != Some(BPE) => {
                    return Err(other_model(kind));
                }
                _ => return Err(Fault::whole(format!("not the JSON expected: {e}"))),
            },
        };
        if raw.model.kind.as_deref() != Some(BPE) {
            return Err(other_model(raw.model.kind));
        }
        raw.check_steps()?;
        raw.model.check_options()?;
        Ok(Self {
            added_tokens: raw.added_tokens,
            normalizes: raw.normalizer.is_some(),
            pieces: raw.model.vocab.0,
            merges: raw.model.merges,
            unk_token: raw.model.unk_token,
            fuse_unk: raw.model.fuse_unk.unwrap_or_default(),
        })
    }

    /// Number of merges.
    pub(crate) fn n_merges(&self) -> usize {
        self.merges.len()
    }

    /// Takes the merges as pairs. Each must join two pieces to a third one.
    pub(crate) fn pairs(&mut self) -> Result<Merges, Fault> {
        let found = std::mem::take(&mut self.merges);
        let n_pairs = found.iter().filter(|merge| merge.is_pair).count();
        if n_pairs != 0 && n_pairs != found.len() {
            let reason = format!("{n_pairs} of {} are pairs and the others strings, wanted one form", found.len());
            return Err(Fault::other("model.merges", reason));
        }
        let (mut pairs, mut whole) = (Vec::with_capacity(found.len()), String::new());
        for (rank, merge) in found.into_iter().enumerate() {
            let refuse =
                |text: &str, what| Fault::other(format!("model.merges[{rank}]"), format!("{} {what}", excerpt(text)));
            let (left, right) = merge.halves.map_err(|text| refuse(&text, "is not two pieces"))?;
            if merges::no_token(&left, &right, &mut whole, |piece| self.pieces.contains_key(piece)).is_some() {
                return Err(refuse(&format!("{left} {right}"), "joins or makes a piece that is not in model.vocab"));
            }
            pairs.push((left, right));
        }
        Ok(pairs)
    }

    /// Refuses a vocabulary without a piece for each byte that UTF-8 uses.
    pub(crate) fn check_letters(&self) -> Result<(), Fault> {
        match alphabet::missing_letter(|letter| self.pieces.contains_key(letter)) {
            None => Ok(()),
            Some((byte, c)) => {
                Err(Fault::other("model.vocab", format!("no token {c:?} for byte {byte:#04x}: not byte-level")))
            }
        }
    }
}

impl Fault {
    fn other(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Other { key: key.into(), reason: reason.into() }
    }

    fn whole(reason: impl Into<String>) -> Self {
        Self::other("", reason)
    }

    /// The key and the problem, for a separate file.
    pub(crate) fn in_file(self) -> (String, String) {
        match self {
            Self::Version(found) => {
                ("version".to_owned(), format!("{} is not supported, wanted \"1.0\"", excerpt(&found)))
            }
            Self::Step { key, found, wanted } => {
                let found = found.map_or("none".to_owned(), |kind| excerpt(&kind));
                (key.to_owned(), format!("{found} is not supported, wanted {wanted}"))
            }
            Self::Split { key, found, wanted } => {
                (format!("pre_tokenizer.{key}"), format!("{found} is not supported, wanted {wanted}"))
            }
            Self::AddsTokens => {
                let reason =
                    "adds tokens to every text, which is not supported; without it the ids are the same but for these";
                ("post_processor".to_owned(), reason.to_owned())
            }
            Self::Option { key, .. } => (format!("model.{key}"), "is set, which is not supported".to_owned()),
            Self::Other { key, reason } => (key, reason),
        }
    }
}

/// The supported kind of model.
const BPE: &str = "BPE";

fn other_model(kind: Option<String>) -> Fault {
    let found = kind.map_or("missing".to_owned(), |kind| excerpt(&kind));
    Fault::other("model.type", format!("{found}, wanted {BPE:?}"))
}

/// Only the kind of model.
#[derive(Deserialize)]
struct Probe {
    model: ProbedModel,
}

#[derive(Deserialize)]
struct ProbedModel {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    version: Option<Value>,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: UniquePieces,
    merges: Vec<Merge>,
    unk_token: Option<String>,
    fuse_unk: Option<bool>,
    dropout: Option<f64>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
}

impl Raw {
    /// Whether the steps around the BPE model are those of GPT-2 and Pythia: NFC or nothing, then byte-level.
    fn check_steps(&self) -> Result<(), Fault> {
        let kind =
            |step: &Option<Value>| step.as_ref().map(|step| step["type"].as_str().unwrap_or_default().to_owned());
        let step = |key, found: Option<String>, wanted| Err(Fault::Step { key, found, wanted });
        if let Some(version) = self.version.as_ref().filter(|version| **version != "1.0") {
            return Err(Fault::Version(version.as_str().map_or(version.to_string(), str::to_owned)));
        }
        match kind(&self.normalizer) {
            None => {}
            Some(kind) if kind == "NFC" => {}
            other => return step("normalizer", other, "\"NFC\" or none"),
        }
        for (key, found) in [("pre_tokenizer", &self.pre_tokenizer), ("decoder", &self.decoder)] {
            match kind(found) {
                Some(kind) if kind == "ByteLevel" => {}
                other => return step(key, other, "\"ByteLevel\""),
            }
        }
        // The defaults of the format. The second option was added later.
        for (key, wanted, default) in [("add_prefix_space", false, true), ("use_regex", true, true)] {
            let found = self.pre_tokenizer.as_ref().map_or(&Value::Null, |split| &split[key]);
            if *found != wanted && !(found.is_null() && default == wanted) {
                return Err(Fault::Split { key, found: found.clone(), wanted });
            }
        }
        match self.post_processor.as_ref().is_some_and(adds_tokens) {
            true => Err(Fault::AddsTokens),
            false => Ok(()),
        }
    }
}

/// Whether a post-processor adds tokens to a text. An unknown kind counts as adding.
fn adds_tokens(post_processor: &Value) -> bool {
    match post_processor["type"].as_str() {
        None => !post_processor.is_null(),
        Some("ByteLevel") => false,
        Some("Sequence") => post_processor["processors"].as_array().is_none_or(|all| all.iter().any(adds_tokens)),
        Some("TemplateProcessing") => {
            let is_text = |piece: &Value| piece.get("Sequence").is_some();
            post_processor["single"].as_array().is_none_or(|pieces| !pieces.iter().all(is_text))
        }
        Some(_) => true,
    }
}

impl Model {
    /// Whether the BPE model is plain. Dropout would make ids random, `byte_fallback` and `ignore_merges` are other
    /// ways to encode, and the others are part of no byte-level vocabulary.
    fn check_options(&self) -> Result<(), Fault> {
        let text = |option: &Option<String>| option.as_ref().filter(|text| !text.is_empty()).map(|text| excerpt(text));
        let flag = |option: Option<bool>| option.filter(|flag| *flag).map(|flag| flag.to_string());
        let dropout = self.dropout.filter(|p| *p != 0.0).map(|p| p.to_string());
        for (key, found, wanted) in [
            ("dropout", dropout, "none"),
            ("continuing_subword_prefix", text(&self.continuing_subword_prefix), "none"),
            ("end_of_word_suffix", text(&self.end_of_word_suffix), "none"),
            ("byte_fallback", flag(self.byte_fallback), "false"),
            ("ignore_merges", flag(self.ignore_merges), "false"),
        ] {
            if let Some(found) = found {
                return Err(Fault::Option { key, found, wanted });
            }
        }
        Ok(())
    }
}

/// Pieces by text. `serde` would silently keep the last of two equal texts.
struct UniquePieces(Pieces);

impl<'de> Deserialize<'de> for UniquePieces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = UniquePieces;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of pieces and their ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<UniquePieces, A::Error> {
                let mut pieces = Pieces::new();
                while let Some((piece, id)) = access.next_entry::<String, u32>()? {
                    match pieces.entry(piece) {
                        Entry::Vacant(free) => drop(free.insert(id)),
                        Entry::Occupied(taken) => {
                            return Err(de::Error::custom(format_args!("{} comes twice", excerpt(taken.key()))));
                        }
                    }
                }
                Ok(UniquePieces(pieces))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// `tokenizers` wrote merges as strings, `"left right"`, up to 0.19 and as pairs since.
#[derive(Debug)]
struct Merge {
    /// The text, if it is not two pieces.
    halves: Result<(String, String), String>,
    is_pair: bool,
}

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;

        impl<'de> Visitor<'de> for Form {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the two halves of a merge")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Merge, E> {
                let halves = merges::halves(text).map(|(left, right)| (left.to_owned(), right.to_owned()));
                Ok(Merge { halves: halves.ok_or_else(|| text.to_owned()), is_pair: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Merge, A::Error> {
                let (left, right) = (access.next_element::<String>()?, access.next_element::<String>()?);
                let mut halves = match (left, right) {
                    (Some(left), Some(right)) if merges::is_piece(&left) && merges::is_piece(&right) => {
                        Ok((left, right))
                    }
                    (left, right) => Err([left, right].map(Option::unwrap_or_default).join(" ")),
                };
                while let Some(more) = access.next_element::<String>()? {
                    halves =
                        Err(halves.map_or_else(|text| text, |(left, right)| format!("{left} {right}")) + " " + &more);
                }
                Ok(Merge { halves, is_pair: true })
            }
        }

        deserializer.deserialize_any(Form)
    }
}
