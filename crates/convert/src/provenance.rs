//! The origin of a file, in terms that mean the same on every machine: names and digests, no paths, no dates.

use crate::Error;
use pythia_checkpoint::Checkpoint;
use pythia_task::Cancel;
use pythia_text::hex;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Facts about a checkpoint in addition to its contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The base name of its folder, `pythia-70m`; the repository's name in the Hub's cache.
    pub name: String,
    /// Owner of the repository, if the folder is in the Hub's cache. Files do not record it.
    pub owner: Option<String>,
    /// The commit, if the folder is a snapshot in the Hub's cache.
    pub revision: Option<String>,
    /// The license its model card states.
    pub license: Option<String>,
    /// SHA-256 of `config.json`, hexadecimal.
    pub config_sha256: Option<String>,
    /// The base names of the weight files.
    pub weight_files: Vec<String>,
    /// Their SHA-256, hexadecimal; empty if they were not computed.
    pub weights_sha256: Vec<String>,
}

impl Provenance {
    /// Reads it from the checkpoint's folder. With `hash_weights` every weight file is read once more, because the pass
    /// that converts it reads tensors in another order than a digest needs.
    ///
    /// # Errors
    /// If a file cannot be read, or `cancel` is raised.
    pub fn gather(checkpoint: &Checkpoint, hash_weights: bool, cancel: &Cancel) -> Result<Self, Error> {
        let folder = folder_of(checkpoint);
        let Named { name, owner, revision } = Named::of(&folder);
        let mut weights_sha256 = Vec::new();
        if hash_weights {
            for path in checkpoint.files() {
                weights_sha256.push(sha256_file(path, cancel)?);
            }
        }
        Ok(Self {
            name,
            owner,
            revision,
            license: read_head(&folder.join("README.md")).and_then(|card| card_license(&card)),
            config_sha256: Some(sha256_file(&folder.join("config.json"), cancel)?),
            weight_files: checkpoint.files().iter().map(|path| base_name(path)).collect(),
            weights_sha256,
        })
    }
}

/// The files a conversion reads, for the check that none of them is overwritten.
pub(crate) fn inputs(checkpoint: &Checkpoint) -> Vec<PathBuf> {
    let folder = folder_of(checkpoint);
    let indices = ["model.safetensors.index.json", "pytorch_model.bin.index.json"];
    let texts = ["config.json", "tokenizer.json", "tokenizer_config.json", "README.md"];
    let older = ["vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"];
    let companions = texts.into_iter().chain(older).chain(indices).map(|name| folder.join(name));
    let index = checkpoint.index().map(Path::to_owned);
    checkpoint.files().iter().cloned().chain(companions).chain(index).collect()
}

/// SHA-256 of a file, hexadecimal.
///
/// # Errors
/// If it cannot be read, or `cancel` is raised.
pub fn sha256_file(path: &Path, cancel: &Cancel) -> Result<String, Error> {
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        if cancel.is_raised() {
            return Err(Error::Cancelled);
        }
        match file.read(&mut buffer).map_err(Error::io(path, "read"))? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// The folder that holds the checkpoint's files.
pub(crate) fn folder_of(checkpoint: &Checkpoint) -> PathBuf {
    let path = checkpoint.path();
    if path.is_dir() {
        return path.to_owned();
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

pub(crate) fn base_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The name of a folder: its own, or that of the repository it is a snapshot of.
pub(crate) fn name_of(folder: &Path) -> String {
    Named::of(folder).name
}

/// Facts from the path of a checkpoint's folder.
struct Named {
    name: String,
    owner: Option<String>,
    revision: Option<String>,
}

impl Named {
    fn of(folder: &Path) -> Self {
        // `.` and `..` have no names. A link keeps the name that the user gave it.
        let resolved = match folder.file_name() {
            Some(_) => folder.to_owned(),
            None => folder.canonicalize().unwrap_or_else(|_| folder.to_owned()),
        };
        // The Hub's cache: models--OWNER--NAME/snapshots/COMMIT
        let above = |path: &Path| path.parent().map(base_name).unwrap_or_default();
        if let Some(snapshots) = resolved.parent().filter(|_| above(&resolved) == "snapshots")
            && let Some((owner, name)) =
                above(snapshots).strip_prefix("models--").and_then(|repo| repo.rsplit_once("--"))
        {
            let (owner, revision) = (Some(owner.to_owned()), Some(base_name(&resolved)));
            return Self { name: name.to_owned(), owner, revision };
        }
        let name = base_name(&resolved);
        Self { name: if name.is_empty() { "model".to_owned() } else { name }, owner: None, revision: None }
    }
}

/// The first part of a text file, if it can be read. Errors are ignored, because a model card is optional.
fn read_head(path: &Path) -> Option<String> {
    const HEAD_BYTES: u64 = 1 << 16;
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(HEAD_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// `license:` of a model card's YAML front matter.
fn card_license(card: &str) -> Option<String> {
    let mut lines = card.lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let value = lines.take_while(|line| line.trim_end() != "---").find_map(|line| line.strip_prefix("license:"))?;
    let value = value.trim().trim_matches(['"', '\'']);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._+".contains(c);
    (!value.is_empty() && value.chars().all(plain)).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_folder_or_from_the_hub_cache() {
        let name = |path: &str| {
            let Named { name, owner, revision } = Named::of(Path::new(path));
            (name, owner.unwrap_or_default(), revision.unwrap_or_default())
        };
        let wanted = |name: &str, owner: &str, revision: &str| (name.to_owned(), owner.to_owned(), revision.to_owned());
        assert_eq!(name("/data/pythia-70m"), wanted("pythia-70m", "", ""));
        assert_eq!(name("pythia-70m/"), wanted("pythia-70m", "", ""));
        assert_eq!(
            name("hub/models--EleutherAI--pythia-70m/snapshots/a39f36b"),
            wanted("pythia-70m", "EleutherAI", "a39f36b")
        );
        assert_eq!(name("x/snapshots/step3000"), wanted("step3000", "", ""));
        assert!(!name(".").0.is_empty());
    }

    #[test]
    fn licenses_are_taken_from_front_matter_only() {
        assert_eq!(card_license("---\nlanguage: en\nlicense: apache-2.0\n---\ntext"), Some("apache-2.0".into()));
        assert_eq!(card_license("---\nlicense: \"mit\"\r\n---\n"), Some("mit".into()));
        for card in
            ["", "license: mit", "---\nlang: en\n---\nlicense: mit", "---\nlicense:\n---", "---\nlicense: {a: b}\n---"]
        {
            assert_eq!(card_license(card), None, "{card:?}");
        }
    }
}
