//! `manifest.json`: what an export holds, and how far it is.

use super::dtype::Tally;
use crate::Error;
use pythia_convert::output::AtomicFile;
use pythia_convert::provenance::sha256_file;
use pythia_runtime::Arithmetic;
use pythia_task::Cancel;
use pythia_text::cut_middle;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Its name.
pub(super) const MANIFEST: &str = "manifest.json";

/// Its format. A change of the meaning of a field changes the number.
pub(super) const FORMAT: &str = "pythia-activations/1";

/// What two runs must have in common so that one can go on where the other was.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Identity {
    pub(super) format: &'static str,
    /// The program and its version.
    pub(super) program: String,
    pub(super) model: ModelFacts,
    /// What its passes are changed by.
    pub(super) changes: Vec<String>,
    /// Digest of these, with all numbers.
    pub(super) changes_sha256: Option<String>,
    pub(super) arithmetic: Arithmetic,
    pub(super) source: SourceFacts,
    pub(super) options: OptionFacts,
    pub(super) hooks: Vec<HookFacts>,
}

/// A file of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Its name, without the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ModelFacts {
    pub(super) files: Vec<ModelFile>,
    /// `Q4_K_M` and the like, if the file says so.
    pub(super) level: Option<String>,
    pub(super) n_layer: usize,
    pub(super) n_embd: usize,
    pub(super) n_head: usize,
    pub(super) n_ff: usize,
    pub(super) n_vocab: usize,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct SourceFacts {
    /// `text`, `jsonl` or `ids`.
    pub(super) kind: &'static str,
    /// Name of the file.
    pub(super) name: String,
    /// Of a JSON object.
    pub(super) field: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct OptionFacts {
    pub(super) positions: String,
    pub(super) dtype: super::Dtype,
    pub(super) format: super::Format,
    pub(super) window: usize,
    pub(super) bos: Option<u32>,
    pub(super) shard_bytes: u64,
    pub(super) max_sequences: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct HookFacts {
    /// The name: that of its array, or what precedes `/SEQUENCE` in the names of its arrays.
    pub(super) name: String,
    /// Dimensions of the array. Strings stand for what differs: `rows`, `positions`, `tokens`.
    pub(super) shape: Vec<Value>,
}

/// A whole shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Name of its file.
    pub file: String,
    /// Size of its file.
    pub bytes: u64,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
    /// Rows: exported positions.
    pub rows: u64,
    /// The number of its first sequence, counted from 0 over all shards.
    pub first_sequence: u64,
    /// Sequences: texts, and windows of those that are longer than one.
    pub sequences: u64,
    /// Tokens that the model read for it.
    pub tokens: u64,
    /// SHA-256 of its sequences, which tells whether the text is the same.
    pub tokens_sha256: String,
    /// Values that a reader should know about.
    #[serde(flatten)]
    pub tally: Tally,
}

/// What is read of a manifest.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// All that is not listed here.
    identity: Value,
    pub(super) complete: bool,
    pub(super) shards: Vec<Shard>,
}

/// Keys of a manifest that change as the export goes on.
const STATE: [&str; 4] = ["complete", "rows", "sequences", "shards"];

impl Found {
    /// The manifest in a folder; `None` if there is none.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(MANIFEST);
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let wrong = |problem: String| Error::file(&path, problem);
        let text = pythia_text::read_text(&path, 1 << 28).map_err(|error| wrong(error.to_string()))?;
        let value: Value = serde_json::from_str(&text).map_err(|error| wrong(format!("not JSON: {error}")))?;
        let Value::Object(mut object) = value else { return Err(wrong("not a JSON object".to_owned())) };
        if object.get("format").and_then(Value::as_str) != Some(FORMAT) {
            return Err(wrong(format!("not a manifest of {FORMAT}")));
        }
        let complete = object.get("complete") == Some(&Value::Bool(true));
        let shards = object.remove("shards").unwrap_or_default();
        let shards = serde_json::from_value(shards).map_err(|error| wrong(format!("shards: {error}")))?;
        STATE.iter().for_each(|key| drop(object.remove(*key)));
        Ok(Some(Self { identity: Value::Object(object), complete, shards }))
    }

    /// Says what differs if a run of this identity cannot go on with it.
    pub(super) fn difference(&self, identity: &Identity) -> Option<String> {
        let wanted = serde_json::to_value(identity).unwrap_or_default();
        difference("", &self.identity, &wanted)
    }

    /// Checks that the shards are there, as they were written.
    pub(super) fn check_files(&self, folder: &Path, cancel: &Cancel) -> Result<(), Error> {
        for shard in &self.shards {
            let path = folder.join(&shard.file);
            let found = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len());
            if found != Some(shard.bytes) {
                let found = found.map_or("no such file".to_owned(), |bytes| format!("found {bytes} bytes"));
                let wanted = shard.bytes;
                let problem = format!("{found}, wanted the {wanted} bytes of the manifest (--force starts again)");
                return Err(Error::file(&path, problem));
            }
            let sha256 = sha256_file(&path, cancel)?;
            if sha256 != shard.sha256 {
                let wanted = cut_middle(&shard.sha256, 64, 0);
                let problem = format!(
                    "found SHA-256 {sha256}, wanted {wanted} of the manifest: it is damaged (--force starts again)"
                );
                return Err(Error::file(&path, problem));
            }
        }
        Ok(())
    }
}

/// The first difference of two values, with its path.
fn difference(path: &str, found: &Value, wanted: &Value) -> Option<String> {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            let keys = wanted.keys().chain(found.keys().filter(|key| !wanted.contains_key(*key)));
            keys.into_iter().find_map(|key| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let of = |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                difference(&path, &of(found), &of(wanted))
            })
        }
        (Value::Array(found), Value::Array(wanted)) if found.len() == wanted.len() => {
            found.iter().zip(wanted).find_map(|(found, wanted)| difference(path, found, wanted))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            Some(format!("{path}: {} there, {} here", found.len(), wanted.len()))
        }
        (found, wanted) if found == wanted => None,
        (found, wanted) => {
            let shown = |value: &Value| cut_middle(&value.to_string(), 30, 10);
            Some(format!("{path} is {} there, {} here", shown(found), shown(wanted)))
        }
    }
}

/// Writes the manifest over the one that is there.
pub(super) fn write(folder: &Path, identity: &Identity, shards: &[Shard], complete: bool) -> Result<(), Error> {
    #[derive(Serialize)]
    struct Manifest<'a> {
        #[serde(flatten)]
        identity: &'a Identity,
        complete: bool,
        rows: u64,
        sequences: u64,
        shards: &'a [Shard],
    }
    let (rows, sequences) =
        (shards.iter().map(|shard| shard.rows).sum(), shards.iter().map(|shard| shard.sequences).sum());
    let manifest = Manifest { identity, complete, rows, sequences, shards };
    let json = serde_json::to_string_pretty(&manifest).unwrap_or_default() + "\n";
    Ok(AtomicFile::write(&folder.join(MANIFEST), json.as_bytes(), true, &())?)
}
