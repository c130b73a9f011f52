//! Selects the files of a repository that make up a checkpoint.

use crate::Error;
use crate::api::{RemoteFile, Tree, is_plain_name};
use crate::cache::{Known, Lookup};
use crate::error::excerpt;
use crate::id::Repo;
use crate::list::ValuesOf;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// The config, which every checkpoint has.
const CONFIG: &str = "config.json";

/// Files of a checkpoint other than weights, if the repository has them.
const COMPANIONS: [&str; 4] = [CONFIG, TOKENIZER, "tokenizer_config.json", "README.md"];
const TOKENIZER: &str = "tokenizer.json";
/// Files of a tokenizer that is not a single file.
const OLDER_TOKENIZER: [&str; 4] = ["vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"];

/// Files of weights, in the order of the reader: the name, and the extension of shards.
const WEIGHTS: [(&str, Option<&str>); 4] = [
    ("model.safetensors", None),
    ("model.safetensors.index.json", Some(".safetensors")),
    ("pytorch_model.bin", None),
    ("pytorch_model.bin.index.json", Some(".bin")),
];

/// Names of the weights, with the variant if there is one: `model.fp16.safetensors`,
/// `model.safetensors.index.fp16.json`.
fn weights_of(variant: Option<&str>) -> impl Iterator<Item = Weights> {
    WEIGHTS.into_iter().map(move |(name, shards)| {
        let name = match (variant, name.rsplit_once('.')) {
            (Some(variant), Some((stem, extension))) => format!("{stem}.{variant}.{extension}"),
            _ => name.to_owned(),
        };
        Weights { name, shards, variant: variant.map(str::to_owned) }
    })
}

/// Whether `variant` is allowed in the name of a file.
fn is_variant(variant: &str) -> bool {
    (1..=100).contains(&variant.len()) && variant.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

/// Refuses a variant that cannot be in the name of a file.
pub(crate) fn check_variant(variant: Option<&str>) -> Result<(), Error> {
    match variant.filter(|variant| !is_variant(variant)) {
        Some(variant) => {
            let variant = excerpt(variant);
            Err(Error::Request(format!("no variant is called {variant}, wanted letters, digits, - and _")))
        }
        None => Ok(()),
    }
}

/// The variants of weights in `names`.
fn variants<'n>(names: impl Iterator<Item = &'n String>) -> BTreeSet<&'n str> {
    let variant = |found: &'n String| {
        WEIGHTS.iter().find_map(|(name, _)| {
            let (stem, extension) = name.rsplit_once('.')?;
            let variant = found.strip_prefix(stem)?.strip_prefix('.')?.strip_suffix(extension)?.strip_suffix('.')?;
            // `model.fp16-00001-of-00002.safetensors` is a part of the variant fp16.
            let end = variant.len().saturating_sub("00001-of-00002".len());
            (is_variant(variant) && shard_numbers(&variant[end..]).is_none()).then_some(variant)
        })
    };
    names.filter_map(variant).collect()
}

/// The reader's limit. The index of 12b has 50 KB.
const INDEX_LIMIT_BYTES: u64 = 8 << 20;
const MAX_SHARDS: usize = 1000;
/// Digits of the numbers in the names of shards.
const SHARD_DIGITS: usize = 5;

/// Number and count of `00001-of-00003`.
fn shard_numbers(text: &str) -> Option<(usize, usize)> {
    let parse = |digits: &str| {
        let is_number = digits.len() == SHARD_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten()
    };
    let (number, count) = text.split_once("-of-")?;
    let (number, count) = (parse(number)?, parse(count)?);
    ((1..=count).contains(&number) && count <= MAX_SHARDS).then_some((number, count))
}

/// One way to store weights.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    /// The file of weights or the index.
    pub(crate) name: String,
    /// If it is an index, the extension of its files.
    pub(crate) shards: Option<&'static str>,
    variant: Option<String>,
}

impl Weights {
    /// Number and count of the shard that is called `name`, if this is an index and its shards are called as the Python
    /// library Transformers calls them: `model-00001-of-00003.safetensors`, `model.fp16-00001-of-00003.safetensors`.
    fn shard(&self, name: &str) -> Option<(usize, usize)> {
        let (stem, _) = self.name.split_once('.')?;
        let mut numbers = name.strip_prefix(stem)?.strip_suffix(self.shards?)?;
        if let Some(variant) = &self.variant {
            numbers = numbers.strip_prefix('.')?.strip_prefix(&**variant)?;
        }
        shard_numbers(numbers.strip_prefix('-')?)
    }

    /// The shards of this index among the files of `tree`, told by their names, for those who do not have the index. If
    /// there are several complete sets, all of them, because only the index knows which one it means.
    fn listed_shards<'t>(&self, id: &Repo, tree: &'t Tree) -> Result<Vec<&'t RemoteFile>, Error> {
        let mut sets: BTreeMap<usize, Vec<&RemoteFile>> = BTreeMap::new();
        for name in tree.keys() {
            if let (Some((_, count)), Some(file)) = (self.shard(name), find(id, tree, name)?) {
                sets.entry(count).or_default().push(file);
            }
        }
        let refused = |reason: String| Error::refused(id.to_string(), reason);
        // No two names have the same number and count.
        let missing = |(count, set): &(&usize, &Vec<_>)| *count - set.len();
        let Some((count, set)) = sets.iter().min_by_key(missing) else {
            return Err(refused(format!("has no shard of {} that can be told by its name", self.name)));
        };
        if set.len() < *count {
            return Err(refused(format!("has {} of {count} shards of {}", set.len(), self.name)));
        }
        Ok(sets.into_iter().filter(|(count, set)| set.len() == *count).flat_map(|(_, set)| set).collect())
    }

    /// The files that the index at `path` names. Messages call it `what`.
    pub(crate) fn shards(&self, what: &str, path: &Path) -> Result<BTreeSet<String>, Error> {
        let wrong = |reason: String| Error::data(what, reason);
        let Some(end) = self.shards else { return Ok(BTreeSet::new()) };
        if fs::metadata(path).map_err(Error::io(path))?.len() > INDEX_LIMIT_BYTES {
            return Err(wrong(format!("an index of more than {INDEX_LIMIT_BYTES} bytes")));
        }
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(INDEX_LIMIT_BYTES).read_to_end(&mut bytes));
        read.map_err(Error::io(path))?;
        let mut names = BTreeSet::new();
        let mut refused = None;
        let take = |name: String| {
            if !is_plain_name(&name) || !name.ends_with(end) {
                refused = Some(format!("{} is not the name of a {end} file", excerpt(&name)));
            } else if names.len() < MAX_SHARDS || names.contains(&name) {
                names.insert(name);
            } else {
                refused = Some(format!("names more than {MAX_SHARDS} files"));
            }
            // The parser's own message is not shown, only this reason.
            refused.clone().map_or(Ok(()), Err)
        };
        let read = ValuesOf::read(&bytes, "weight_map", take);
        if let Some(reason) = refused {
            return Err(wrong(reason));
        }
        read.map_err(|e| wrong(format!("not an index of weights: {e}")))?;
        if names.is_empty() { Err(wrong(format!("names 0 files, wanted 1 to {MAX_SHARDS}"))) } else { Ok(names) }
    }
}

/// What the cache lacks of a checkpoint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cached {
    /// Nothing.
    Complete,
    /// A file that the server may have, of this name; none without which the checkpoint would be useless.
    Usable(String),
    /// At least this file, without which there is no checkpoint.
    Lacks(String),
}

/// Looks for a checkpoint with the weights of `variant` among cached files.
pub(crate) fn cached(lookup: &Lookup, variant: Option<&str>) -> Cached {
    let unknown = |name: &&str| lookup.known(name) == Known::Nothing;
    if lookup.known(CONFIG) != Known::Present {
        return Cached::Lacks(CONFIG.to_owned());
    }
    let older = OLDER_TOKENIZER.into_iter().filter(|_| lookup.known(TOKENIZER) == Known::Absent);
    let mut missing = COMPANIONS.into_iter().chain(older).find(unknown).map(str::to_owned);
    for weights in weights_of(variant) {
        match lookup.known(&weights.name) {
            Known::Absent => continue,
            Known::Nothing => {
                missing.get_or_insert(weights.name);
                continue;
            }
            Known::Present => {}
        }
        // If the index cannot be read, it is missing.
        let Ok(shards) = weights.shards(&weights.name, &lookup.path(&weights.name)) else {
            return Cached::Lacks(weights.name);
        };
        if let Some(shard) = shards.into_iter().find(|shard| lookup.known(shard) != Known::Present) {
            return Cached::Lacks(shard);
        }
        return missing.map_or(Cached::Complete, Cached::Usable);
    }
    Cached::Lacks("the weights".to_owned())
}

/// The companion files that the repository has, those that it lacks, and its weights.
pub(crate) struct Selection<'t> {
    pub(crate) companions: Vec<&'t RemoteFile>,
    pub(crate) absent: Vec<String>,
    pub(crate) weights: Weights,
    /// The file of `weights`' name.
    pub(crate) first: &'t RemoteFile,
}

impl<'t> Selection<'t> {
    /// The index of the weights, if they have one.
    pub(crate) fn index(&self) -> Option<&'t RemoteFile> {
        self.weights.shards.map(|_| self.first)
    }

    /// The files of weights without their index, as far as the list of files tells.
    ///
    /// # Errors
    /// If an index has no complete set of shards whose names tell what they are.
    pub(crate) fn listed_weights(&self, id: &Repo, tree: &'t Tree) -> Result<Vec<&'t RemoteFile>, Error> {
        if self.index().is_some() { self.weights.listed_shards(id, tree) } else { Ok(vec![self.first]) }
    }
}

/// The names of the files of weights that [`fetch`](crate::fetch()) has put among cached files, without their index.
/// Only the kind that it would take, even if that one is gone and another is there.
pub(crate) fn fetched_weights(lookup: &Lookup, variant: Option<&str>) -> BTreeSet<String> {
    // A fetch records that the weights that it prefers are absent.
    let Some(weights) = weights_of(variant).find(|weights| lookup.known(&weights.name) != Known::Absent) else {
        return BTreeSet::new();
    };
    match weights.shards {
        Some(_) => weights.shards(&weights.name, &lookup.path(&weights.name)).unwrap_or_default(),
        None => BTreeSet::from([weights.name]),
    }
}

/// Picks a checkpoint with the weights of `variant` from the files of a repository.
pub(crate) fn select<'t>(id: &Repo, tree: &'t Tree, variant: Option<&str>) -> Result<Selection<'t>, Error> {
    if !tree.contains_key(CONFIG) {
        return Err(Error::refused(id.to_string(), format!("has no {CONFIG}, so it is not a checkpoint")));
    }
    let mut companions = Vec::new();
    let mut absent = Vec::new();
    let older = OLDER_TOKENIZER.into_iter().filter(|_| !tree.contains_key(TOKENIZER));
    for name in COMPANIONS.into_iter().chain(older) {
        match find(id, tree, name)? {
            Some(file) => companions.push(file),
            None => absent.push(name.to_owned()),
        }
    }
    for weights in weights_of(variant) {
        match find(id, tree, &weights.name)? {
            Some(first) => return Ok(Selection { companions, absent, weights, first }),
            None => absent.push(weights.name),
        }
    }
    let variants: Vec<&str> = variants(tree.keys()).into_iter().collect();
    if let ([first, ..], None) = (variants.as_slice(), variant) {
        let reason = format!("has only variants of weights ({}); use --variant {first}", variants.join(", "));
        return Err(Error::refused(id.to_string(), reason));
    }
    let names: Vec<String> = weights_of(variant).map(|weights| weights.name).collect();
    Err(Error::refused(id.to_string(), format!("has no weights at this revision, wanted one of {}", names.join(", "))))
}

/// The file of this name, if the repository has it.
pub(crate) fn find<'t>(id: &Repo, tree: &'t Tree, name: &str) -> Result<Option<&'t RemoteFile>, Error> {
    match tree.get(name) {
        Some(Some(file)) => Ok(Some(file)),
        Some(None) => Err(Error::data(format!("{id}: {name}"), "the list of files gives no digest of the right form")),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_plain_files_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.json");
        let shards = |text: &str| {
            fs::write(&path, text).unwrap();
            let index = weights_of(None).nth(1).unwrap();
            index.shards("index.json", &path).map_err(|e| e.to_string())
        };
        let good = shards(r#"{"weight_map": {"a": "x.safetensors", "b": "x.safetensors", "c": "y.safetensors"}}"#);
        assert_eq!(Vec::from_iter(good.unwrap()), ["x.safetensors", "y.safetensors"]);
        for (text, part) in [
            (r#"{"weight_map": {"a": "../x.safetensors"}}"#, r#""../x.safetensors" is not the name"#),
            (r#"{"weight_map": {"a": "/x.safetensors"}}"#, "is not the name"),
            (r#"{"weight_map": {"a": "x.bin"}}"#, "is not the name of a .safetensors file"),
            (r#"{"weight_map": {}}"#, "names 0 files"),
            ("{}", "missing field"),
            ("[", "not an index"),
        ] {
            let message = shards(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn variants_are_told_from_plain_weights() {
        let names: Vec<String> = weights_of(Some("fp16")).map(|weights| weights.name).collect();
        let wanted = ["model.fp16.safetensors", "model.safetensors.index.fp16.json", "pytorch_model.fp16.bin"];
        assert_eq!(names[..3], wanted);
        let plain = weights_of(None).map(|weights| weights.name);
        let others = [
            "model.fp32-00001-of-00002.safetensors",
            "model.a/b.safetensors",
            "model.a.b.safetensors",
            "xmodel.fp8.safetensors",
            "config.json",
        ];
        let all: Vec<String> = plain.chain(others.map(str::to_owned)).chain(names).collect();
        assert_eq!(Vec::from_iter(variants(all.iter())), ["fp16"]);
    }

    #[test]
    fn shards_are_told_by_their_names() {
        let index = |variant, n| weights_of(variant).nth(n).unwrap();
        assert_eq!(index(None, 1).shard("model-00002-of-00003.safetensors"), Some((2, 3)));
        assert_eq!(index(None, 3).shard("pytorch_model-00003-of-00003.bin"), Some((3, 3)));
        assert_eq!(index(Some("fp16"), 1).shard("model.fp16-00001-of-00002.safetensors"), Some((1, 2)));
        for (variant, n, name) in [
            (None, 0, "model-00001-of-00002.safetensors"),
            (None, 1, "model-00001-of-00002.bin"),
            (None, 1, "xmodel-00001-of-00002.safetensors"),
            (None, 1, "model-00000-of-00002.safetensors"),
            (None, 1, "model-00003-of-00002.safetensors"),
            (None, 1, "model-1-of-2.safetensors"),
            (None, 1, "model-+0001-of-00002.safetensors"),
            (None, 1, "model-00001-of-99999.safetensors"),
            (None, 1, "model.fp16-00001-of-00002.safetensors"),
            (Some("fp16"), 1, "model-00001-of-00002.safetensors"),
            (Some("fp16"), 1, "model.fp16x-00001-of-00002.safetensors"),
        ] {
            assert_eq!(index(variant, n).shard(name), None, "{name}");
        }
    }

    #[test]
    fn a_set_of_shards_is_complete() {
        let id = crate::ModelId::parse("a/b").unwrap().unwrap();
        let listed = |names: &[&str]| {
            let file = |name: &str| {
                let blob = crate::blob::BlobId::sha256(&"a".repeat(64)).unwrap();
                Some(RemoteFile { name: name.to_owned(), size_bytes: 1, blob })
            };
            let tree: Tree = names.iter().map(|name| ((*name).to_owned(), file(name))).collect();
            let shards = weights_of(None).nth(3).unwrap().listed_shards(id.as_repo(), &tree).map_err(|e| e.to_string());
            shards.map(|files| files.into_iter().map(|file| file.name.clone()).collect::<Vec<_>>())
        };
        let [one, two, whole] =
            ["1-of-00002", "2-of-00002", "1-of-00001"].map(|end| format!("pytorch_model-0000{end}.bin"));
        assert_eq!(listed(&[&one, &two, "config.json"]).unwrap(), [&*one, &two]);
        assert_eq!(listed(&[&one, &whole]).unwrap(), [&*whole], "the rest of an older set");
        assert_eq!(listed(&[&one, &two, &whole]).unwrap(), [&*whole, &one, &two]);
        assert!(listed(&[&two]).unwrap_err().ends_with("has 1 of 2 shards of pytorch_model.bin.index.json"));
        assert!(
            listed(&["w-1.bin"]).unwrap_err().contains("no shard of pytorch_model.bin.index.json that can be told")
        );
    }
}
