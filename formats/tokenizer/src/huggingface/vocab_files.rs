//! Builds a tokenizer from `vocab.json` and `merges.txt`, if there is no `tokenizer.json`.
//!
//! The result is the `tokenizer.json` that `AutoTokenizer` of Transformers 5 builds from these files and
//! `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`.

use super::special::{Named, TokenText};
use super::{ForModel, TokenizerFile, parse, read};
use crate::added::AddedToken;
use crate::error::{Error, excerpt};
use crate::merges;
use pythia_json::{UniqueMap, UniqueValue};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Maximum number of added tokens.
const LIMIT_ADDED: usize = 1 << 16;
/// Of special tokens with names of their own.
const LIMIT_SPECIFIC: usize = 64;

/// The special tokens that every tokenizer may have, in the order in which new ones get their ids.
const SPECIAL: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A class of tokenizers made from these files: its name, its normalizer, and the special tokens it has where nothing
/// else is said.
struct Class {
    name: &'static str,
    normalizer: Option<&'static str>,
    special: &'static [(&'static str, &'static str)],
}

const END: &str = "<|endoftext|>";

/// The first is that of the architecture.
const CLASSES: [Class; 2] = [
    Class {
        name: "GPTNeoXTokenizer",
        normalizer: Some("NFC"),
        special: &[("bos_token", END), ("eos_token", END), ("unk_token", END), ("pad_token", "<|padding|>")],
    },
    Class {
        name: "GPT2Tokenizer",
        normalizer: None,
        special: &[("bos_token", END), ("eos_token", END), ("unk_token", END)],
    },
];

impl TokenizerFile {
    /// Builds the tokenizer of `folder`; `None` if it does not have both of the files.
    pub(crate) fn from_vocab_files(folder: &Path, model: &ForModel) -> Result<Option<Self>, Error> {
        let [vocab, merges] = ["vocab.json", "merges.txt"].map(|name| folder.join(name));
        if !(vocab.exists() && merges.exists()) {
            return Ok(None);
        }
        let settings = Settings::read(folder)?;
        let UniqueMap(pieces) = parse(&vocab, &read(&vocab)?)?;
        let added = settings.added(&pieces)?;
        let document = Document {
            version: "1.0",
            truncation: (),
            padding: (),
            added_tokens: &added,
            normalizer: settings.class.normalizer.map(|kind| json!({ "type": kind })),
            pre_tokenizer: byte_level(settings.add_prefix_space),
            post_processor: no_template(),
            decoder: byte_level(true),
            model: Model {
                kind: "BPE",
                dropout: (),
                unk_token: (),
                continuing_subword_prefix: "",
                end_of_word_suffix: "",
                fuse_unk: false,
                byte_fallback: false,
                ignore_merges: false,
                vocab: ById::new(&pieces),
                merges: &read_merges(&merges)?,
            },
        };
        let text = serde_json::to_string(&document).map_err(|e| Error::file(&vocab, "", e.to_string()))?;
        let mut tokenizer = Self { is_built: true, ..Self::parse(&vocab, text, model.n_vocab)? };
        let text_of = |key: &str| settings.special.get(key).map(|token| TokenText::Plain(token.content.clone()));
        let named =
            Named { bos_token: text_of("bos_token"), eos_token: text_of("eos_token"), unk_token: text_of("unk_token") };
        tokenizer.name_special(&settings.path, named, model)?;
        Ok(Some(tokenizer))
    }
}

/// The merges, one pair per line. A line that starts with `#version` is a header.
fn read_merges(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let text = read(path)?;
    let mut pairs = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with("#version")) {
        match merges::halves(line) {
            Some((left, right)) => pairs.push((left.to_owned(), right.to_owned())),
            None => {
                let reason = format!("line {}: {} is not two pieces", number + 1, excerpt(line));
                return Err(Error::file(path, "", reason));
            }
        }
    }
    Ok(pairs)
}

/// An added token before it has an id.
#[derive(Clone, Debug)]
struct Token {
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    /// `None` where the file does not say; then a token is normalized unless it is special.
    normalized: Option<bool>,
    special: bool,
}

impl Token {
    fn plain(content: &str, special: bool) -> Self {
        let content = content.to_owned();
        Self { content, single_word: false, lstrip: false, rstrip: false, normalized: None, special }
    }

    /// A string, or an object with flags. `special` is what it is where the object does not say.
    fn parse(value: &Value, special: bool) -> Option<Self> {
        if let Value::String(content) = value {
            return Some(Self::plain(content, true));
        }
        let flag = |key: &str| match &value[key] {
            Value::Null => Some(None),
            Value::Bool(flag) => Some(Some(*flag)),
            _ => None,
        };
        Some(Self {
            content: value["content"].as_str()?.to_owned(),
            single_word: flag("single_word")?.unwrap_or(false),
            lstrip: flag("lstrip")?.unwrap_or(false),
            rstrip: flag("rstrip")?.unwrap_or(false),
            normalized: flag("normalized")?,
            special: flag("special")?.unwrap_or(special),
        })
    }
}

/// The contents of the other files.
struct Settings {
    /// `tokenizer_config.json`, for messages.
    path: PathBuf,
    class: &'static Class,
    add_prefix_space: bool,
    /// Added tokens by the ids they are said to have.
    declared: BTreeMap<u32, Token>,
    /// The file that says so.
    declared_in: PathBuf,
    /// The standard special tokens.
    special: HashMap<String, Token>,
    /// Special tokens with names that only this model has, in no order.
    specific: Vec<Token>,
    /// Special tokens without names, in order.
    extra: Vec<Token>,
}

impl Settings {
    fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("tokenizer_config.json");
        let mut values = read_object(&path)?;
        let (class, add_prefix_space) =
            (class(&path, &values)?, values.get("add_prefix_space") == Some(&Value::Bool(true)));
        let mut declared_in = path.clone();
        let mut declared = BTreeMap::new();
        if let Some(decoder) = values.get("added_tokens_decoder") {
            let wrong = || Error::file(&path, "added_tokens_decoder", "wanted an object of ids with the tokens' flags");
            for (id, token) in decoder.as_object().ok_or_else(wrong)? {
                if !token.is_object() {
                    return Err(wrong());
                }
                declared.insert(id.parse().map_err(|_| wrong())?, Token::parse(token, false).ok_or_else(wrong)?);
            }
        } else {
            // The files of older versions are read only where the config does not have all of it.
            for (key, value) in read_object(&folder.join("special_tokens_map.json"))? {
                values.insert(key, value);
            }
            declared_in = folder.join("added_tokens.json");
        }
        let (mut special, specific, extra) = special_tokens(&path, &values, class)?;
        if declared_in != path && declared_in.exists() {
            let named = special.iter().filter(|(key, _)| values.contains_key(*key)).map(|(_, token)| token);
            let special: HashSet<&str> = named.chain(&extra).map(|token| token.content.as_str()).collect();
            let UniqueMap(ids) = parse::<UniqueMap<u32>>(&declared_in, &read(&declared_in)?)?;
            for (text, id) in ids {
                let special = special.contains(text.as_str());
                let token = Token { normalized: Some(!special), ..Token::plain(&text, special) };
                if let Some(other) = declared.insert(id, token) {
                    let reason = format!("{} and {} both have id {id}", excerpt(&text), excerpt(&other.content));
                    return Err(Error::file(&declared_in, "", reason));
                }
            }
        }
        // A special token that is given by its name only takes its flags from its declaration.
        for token in special.values_mut() {
            if let Some(flagged) = declared.values().find(|declared| declared.content == token.content) {
                *token = flagged.clone();
            }
        }
        Ok(Self { path, class, add_prefix_space, declared, declared_in, special, specific, extra })
    }

    /// All added tokens with their ids, by id.
    fn added(&self, pieces: &HashMap<String, u32>) -> Result<Vec<AddedToken>, Error> {
        let named = SPECIAL.iter().filter_map(|key| self.special.get(*key));
        let declared = self.declared.iter().map(|(id, token)| (Some(*id), token));
        let undeclared = named.clone().chain(&self.specific).chain(&self.extra).map(|token| (None, token));
        let mut added: Vec<AddedToken> = Vec::new();
        let mut known = HashSet::new();
        // The id of the next token that is no piece: such tokens follow all pieces.
        let mut next = pieces.len() as u32;
        for (wanted, token) in declared.chain(undeclared) {
            let content = token.content.as_str();
            if content.is_empty() || !known.insert(content) {
                continue;
            }
            if added.len() == LIMIT_ADDED {
                return Err(Error::file(&self.declared_in, "", format!("more than {LIMIT_ADDED} added tokens")));
            }
            let id = pieces.get(content).copied().unwrap_or(next);
            if let Some(wanted) = wanted.filter(|wanted| *wanted != id) {
                let reason = format!("{} has id {wanted} here, but is token {id} of Transformers 5", excerpt(content));
                return Err(Error::file(&self.declared_in, "", reason));
            }
            next = next.max(id.saturating_add(1));
            let special = token.special || named.clone().chain(&self.specific).any(|named| named.content == content);
            added.push(AddedToken {
                id,
                content: content.to_owned(),
                single_word: token.single_word,
                lstrip: token.lstrip,
                rstrip: token.rstrip,
                normalized: token.normalized.unwrap_or(!special),
                special,
            });
        }
        let is_new = |token: &&Token| {
            !pieces.contains_key(&token.content) && !self.declared.values().any(|t| t.content == token.content)
        };
        if self.specific.iter().filter(is_new).count() > 1 {
            let reason =
                "names several tokens that no file of the vocabulary has: which id is whose depends on their order";
            return Err(Error::file(&self.path, "", reason));
        }
        added.sort_by_key(|token| token.id);
        Ok(added)
    }
}

/// The object in a JSON file, empty if there is none.
fn read_object(path: &Path) -> Result<BTreeMap<String, Value>, Error> {
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let UniqueMap(values) = parse::<UniqueMap<UniqueValue>>(path, &read(path)?)?;
    Ok(values.into_iter().map(|(key, UniqueValue(value))| (key, value)).collect())
}

fn class(path: &Path, values: &BTreeMap<String, Value>) -> Result<&'static Class, Error> {
    let name = match values.get("tokenizer_class") {
        None | Some(Value::Null) => return Ok(&CLASSES[0]),
        Some(name) => name.as_str().unwrap_or_default(),
    };
    let known = CLASSES.iter().find(|class| name.strip_suffix("Fast").unwrap_or(name) == class.name);
    known.ok_or_else(|| {
        let reason = format!(
            "{} is not made from vocab.json and merges.txt, wanted {}, or a tokenizer.json",
            excerpt(name),
            CLASSES.map(|class| class.name).join(" or ")
        );
        Error::file(path, "tokenizer_class", reason)
    })
}

/// The standard special tokens, those whose names only this model has, and those without names.
type Special = (HashMap<String, Token>, Vec<Token>, Vec<Token>);

/// The special tokens that `values` name, and the class where they name none.
fn special_tokens(path: &Path, values: &BTreeMap<String, Value>, class: &Class) -> Result<Special, Error> {
    let wrong = |key: &str| Error::file(path, key, "wanted the text of a token, or an object with it");
    let mut special: HashMap<String, Token> =
        class.special.iter().map(|(key, text)| ((*key).to_owned(), Token::plain(text, true))).collect();
    let (mut specific, mut extra) = (Vec::new(), Vec::new());
    for (key, value) in values {
        if SPECIAL.contains(&key.as_str()) {
            // None is said by null.
            special.remove(key);
            if !value.is_null() {
                special.insert(key.clone(), Token::parse(value, true).ok_or_else(|| wrong(key))?);
            }
        } else if key.ends_with("_token") && value.is_string() {
            specific.extend(Token::parse(value, true));
        }
    }
    let list = ["extra_special_tokens", "additional_special_tokens"].into_iter().find(|key| {
        values
            .get(*key)
            .is_some_and(|value| !matches!(value, Value::Null) && *value != json!([]) && *value != json!({}))
    });
    if let Some(key) = list {
        let parse = |token, special| Token::parse(token, special).ok_or_else(|| wrong(key));
        match &values[key] {
            Value::Array(list) => extra = list.iter().map(|token| parse(token, false)).collect::<Result<_, _>>()?,
            Value::Object(named) => {
                // By name: the same file whatever the order in which its source lists them.
                for token in named.iter().collect::<BTreeMap<_, _>>().into_values() {
                    specific.push(parse(token, true)?);
                }
            }
            _ => return Err(wrong(key)),
        }
    }
    if specific.len() > LIMIT_SPECIFIC {
        return Err(Error::file(
            path,
            "",
            format!("names {} special tokens, at most {LIMIT_SPECIFIC} are read", specific.len()),
        ));
    }
    Ok((special, specific, extra))
}

/// A `tokenizer.json`, its keys in the order of the `tokenizers` library.
#[derive(Serialize)]
struct Document<'a> {
    version: &'static str,
    truncation: (),
    padding: (),
    added_tokens: &'a [AddedToken],
    normalizer: Option<Value>,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Model<'a>,
}

#[derive(Serialize)]
struct Model<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    dropout: (),
    unk_token: (),
    continuing_subword_prefix: &'static str,
    end_of_word_suffix: &'static str,
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: ById<'a>,
    merges: &'a [(String, String)],
}

/// Pieces in the order of their ids, so that the same files always give the same text.
struct ById<'a>(Vec<(u32, &'a str)>);

impl<'a> ById<'a> {
    fn new(pieces: &'a HashMap<String, u32>) -> Self {
        let mut by_id: Vec<(u32, &str)> = pieces.iter().map(|(piece, id)| (*id, piece.as_str())).collect();
        by_id.sort_unstable();
        Self(by_id)
    }
}

impl Serialize for ById<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(id, piece)| (piece, id)))
    }
}

fn byte_level(add_prefix_space: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": true})
}

/// A template that adds nothing.
fn no_template() -> Value {
    let sequence = |id: &str, type_id: u8| json!({"Sequence": {"id": id, "type_id": type_id}});
    json!({
        "type": "TemplateProcessing", "single": [sequence("A", 0)], "pair": [sequence("A", 0), sequence("B", 1)],
        "special_tokens": {},
    })
}

#[cfg(test)]
mod tests;
