//! Which files of a repository are a checkpoint.

use crate::Error;
use crate::api::{RemoteFile, Tree, is_plain_name};
use crate::cache::{Known, Lookup};
use crate::error::excerpt;
use crate::id::ModelId;
use crate::list::ValuesOf;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Without it nothing else means anything.
const CONFIG: &str = "config.json";

/// What belongs to a checkpoint besides weights, where the repository has it.
const COMPANIONS: [&str; 4] = [CONFIG, "tokenizer.json", "tokenizer_config.json", "README.md"];

/// Weights in the order in which they are looked for: the reader's.
const WEIGHTS: [Weights; 4] = [
    Weights { name: "model.safetensors", shards: None },
    Weights { name: "model.safetensors.index.json", shards: Some(".safetensors") },
    Weights { name: "pytorch_model.bin", shards: None },
    Weights { name: "pytorch_model.bin.index.json", shards: Some(".bin") },
];

/// An index of 12b has 50 KB. The reader's limit.
const INDEX_LIMIT_BYTES: u64 = 16 << 20;
const MAX_SHARDS: usize = 1000;

/// One way to store weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights {
    /// The file that tells that they are stored this way.
    pub(crate) name: &'static str,
    /// If that is an index of other files, how their names end.
    pub(crate) shards: Option<&'static str>,
}

impl Weights {
    /// The files that the index at `path` names; `what` is how messages call it.
    pub(crate) fn shards(self, what: &str, path: &Path) -> Result<BTreeSet<String>, Error> {
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
            // The text is not shown: the reason is told without the parser's words around it.
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

/// What of a checkpoint the cache lacks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cached {
    /// Nothing.
    Complete,
    /// A file that the server may have, of this name; none without which the checkpoint would be useless.
    Usable(String),
    /// At least this file, without which there is no checkpoint.
    Lacks(String),
}

/// Looks for a checkpoint among cached files.
pub(crate) fn cached(lookup: &Lookup) -> Cached {
    let unknown = |name: &&str| lookup.known(name) == Known::Nothing;
    if lookup.known(CONFIG) != Known::Present {
        return Cached::Lacks(CONFIG.to_owned());
    }
    let mut missing = COMPANIONS.iter().copied().find(unknown).map(str::to_owned);
    for weights in WEIGHTS {
        match lookup.known(weights.name) {
            Known::Absent => continue,
            Known::Nothing => {
                missing.get_or_insert(weights.name.to_owned());
                continue;
            }
            Known::Present => {}
        }
        // An index that cannot be read lacks what it should say.
        let Ok(shards) = weights.shards(weights.name, &lookup.path(weights.name)) else {
            return Cached::Lacks(weights.name.to_owned());
        };
        if let Some(shard) = shards.into_iter().find(|shard| lookup.known(shard) != Known::Present) {
            return Cached::Lacks(shard);
        }
        return missing.map_or(Cached::Complete, Cached::Usable);
    }
    Cached::Lacks("the weights".to_owned())
}

/// The companions that the repository has, those that it has not, and its weights.
pub(crate) struct Selection<'t> {
    pub(crate) companions: Vec<&'t RemoteFile>,
    pub(crate) absent: Vec<&'static str>,
    pub(crate) weights: Weights,
    /// The file of `weights`' name.
    pub(crate) first: &'t RemoteFile,
}

/// Picks a checkpoint from the files of a repository.
pub(crate) fn select<'t>(id: &ModelId, tree: &'t Tree) -> Result<Selection<'t>, Error> {
    if !tree.contains_key(CONFIG) {
        return Err(Error::refused(id.to_string(), format!("has no {CONFIG}, so it is no checkpoint of a model")));
    }
    let mut companions = Vec::new();
    let mut absent = Vec::new();
    for name in COMPANIONS {
        match find(id, tree, name)? {
            Some(file) => companions.push(file),
            None => absent.push(name),
        }
    }
    for weights in WEIGHTS {
        match find(id, tree, weights.name)? {
            Some(first) => return Ok(Selection { companions, absent, weights, first }),
            None => absent.push(weights.name),
        }
    }
    let names: Vec<&str> = WEIGHTS.iter().map(|weights| weights.name).collect();
    Err(Error::refused(id.to_string(), format!("has no weights at this revision, wanted one of {}", names.join(", "))))
}

/// The file of this name, if the repository has it.
pub(crate) fn find<'t>(id: &ModelId, tree: &'t Tree, name: &str) -> Result<Option<&'t RemoteFile>, Error> {
    match tree.get(name) {
        Some(Some(file)) => Ok(Some(file)),
        Some(None) => Err(Error::data(format!("{id}: {name}"), "the server's list gives no digest of the right form")),
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
            WEIGHTS[1].shards("index.json", &path).map_err(|e| e.to_string())
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
}
