//! Where the files of a checkpoint are.

use crate::error::{Error, excerpt};
use crate::files::read_text;
use crate::json::{self, UniqueMap};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Names as Transformers writes them.
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLES: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// An index of 12b has 50 KB.
const INDEX_LIMIT_BYTES: u64 = 64 << 20;

/// The files of one checkpoint. Only `weights` are known to have been looked for.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Weight files, sorted by name.
    pub(crate) weights: Vec<PathBuf>,
    /// Which file the index says holds a tensor, if there is an index.
    pub(crate) index: Option<Index>,
    pub(crate) config: PathBuf,
    pub(crate) tokenizer: PathBuf,
    pub(crate) tokenizer_config: PathBuf,
}

/// A checked `model.safetensors.index.json`.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    /// Tensor name to file name.
    pub(crate) weight_map: HashMap<String, String>,
}

impl Folder {
    /// Finds the files of the checkpoint at `path`: a folder, or one safetensors file among its companions.
    pub(crate) fn find(path: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if !metadata.is_dir() {
            if path.extension().is_none_or(|extension| extension != "safetensors") {
                return Err(Error::layout(path, "wanted a checkpoint folder or a .safetensors file"));
            }
            // `parent` of a bare file name is the empty path, which joins to the right thing.
            let folder = path.parent().unwrap_or(Path::new(""));
            return Ok(Self::with_weights(folder, vec![path.to_owned()], None));
        }
        if path.join(SINGLE).exists() {
            return Ok(Self::with_weights(path, vec![path.join(SINGLE)], None));
        }
        if path.join(INDEX).exists() {
            let index = Index::open(&path.join(INDEX))?;
            let names: BTreeSet<&String> = index.weight_map.values().collect();
            let weights = names.into_iter().map(|name| path.join(name)).collect();
            return Ok(Self::with_weights(path, weights, Some(index)));
        }
        if let Some(pickle) = PICKLES.iter().find(|name| path.join(name).exists()) {
            let reason = format!("{pickle} is not yet supported: convert the weights to safetensors");
            return Err(Error::layout(path, reason));
        }
        Err(Error::layout(path, format!("no weights here, wanted {SINGLE} or {INDEX}")))
    }

    fn with_weights(folder: &Path, weights: Vec<PathBuf>, index: Option<Index>) -> Self {
        Self {
            weights,
            index,
            config: folder.join(CONFIG),
            tokenizer: folder.join(TOKENIZER),
            tokenizer_config: folder.join(TOKENIZER_CONFIG),
        }
    }
}

impl Index {
    fn open(path: &Path) -> Result<Self, Error> {
        Self::parse(path, &read_text(path, INDEX_LIMIT_BYTES)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Document {
            weight_map: UniqueMap<String>,
        }
        let Document { weight_map: UniqueMap(weight_map) } = json::parse(path, text)?;
        if weight_map.is_empty() {
            return Err(Error::json(path, "weight_map", "no entries"));
        }
        if let Some((tensor, file)) = weight_map.iter().find(|(_, file)| !is_plain_name(file)) {
            let reason = format!("{}: {} is not the name of a .safetensors file", excerpt(tensor), excerpt(file));
            return Err(Error::json(path, "weight_map", reason));
        }
        Ok(Self { path: path.to_owned(), weight_map })
    }

    /// Whether the index puts `tensor` into the file at `path`.
    pub(crate) fn check_place(&self, tensor: &str, path: &Path) -> Result<(), Error> {
        match self.weight_map.get(tensor) {
            Some(file) if path.file_name().is_some_and(|name| name == file.as_str()) => Ok(()),
            Some(file) => {
                Err(Error::tensor(path, tensor, format!("the index {} puts it into {file}", self.path.display())))
            }
            None => Err(Error::tensor(path, tensor, format!("not in the index {}", self.path.display()))),
        }
    }
}

/// Whether a shard's name stays in its folder on every system and is a weight file's.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let plain = matches!(components.next(), Some(Component::Normal(_))) && components.next().is_none();
    plain && name.ends_with(".safetensors") && !name.contains(['/', '\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_cannot_leave_its_folder() {
        for name in ["model-00001-of-00002.safetensors", "a.safetensors", "..safetensors"] {
            assert!(is_plain_name(name), "{name}");
        }
        for name in [
            "../a.safetensors",
            "/etc/a.safetensors",
            "a/b.safetensors",
            "a\\b.safetensors",
            "c:a.safetensors",
            "..",
            "",
            "./a.safetensors",
            "a.safetensors/",
            "model.bin",
            "a\0.safetensors",
        ] {
            assert!(!is_plain_name(name), "{name:?}");
        }
    }

    #[test]
    fn a_damaged_index_is_named() {
        let cases = [
            ("{}", "missing field `weight_map`"),
            (r#"{"weight_map": []}"#, "expected an object"),
            (r#"{"weight_map": {}}"#, "weight_map: no entries"),
            (r#"{"weight_map": {"a": 1}}"#, "invalid type: integer"),
            (r#"{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}"#, r#""a" comes twice"#),
            (r#"{"weight_map": {"a": "../x.safetensors"}}"#, r#""a": "../x.safetensors" is not the name"#),
        ];
        for (text, wanted) in cases {
            let message = Index::parse(Path::new("i.json"), text).unwrap_err().to_string();
            assert!(message.starts_with("i.json: ") && message.contains(wanted), "{text}: {message}");
        }
    }

    #[test]
    fn folders_without_safetensors_say_what_they_have() {
        let dir = tempfile::tempdir().unwrap();
        let message = |path: &Path| Folder::find(path).unwrap_err().to_string();
        assert!(
            message(dir.path()).contains("no weights here, wanted model.safetensors or model.safetensors.index.json")
        );
        fs::write(dir.path().join("pytorch_model.bin"), b"PK").unwrap();
        assert!(
            message(dir.path()).contains("pytorch_model.bin is not yet supported: convert the weights to safetensors")
        );
        assert!(
            message(&dir.path().join("pytorch_model.bin"))
                .contains("wanted a checkpoint folder or a .safetensors file")
        );
        assert!(Folder::find(&dir.path().join("absent")).unwrap_err().is_io());
    }
}
