//! Where the files of a checkpoint are.

use crate::error::{Error, excerpt};
use crate::files::read_text;
use crate::json::{self, UniqueMap};
use crate::weights::LIMIT_TENSORS;
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// A way to store weights, in the names that Transformers gives files.
struct Format {
    /// A model in one file.
    single: &'static str,
    /// What says which file holds a tensor, where there are several.
    index: &'static str,
    /// What files end in.
    extension: &'static str,
}

/// In the order in which they are looked for: a folder with both holds the same weights twice.
const FORMATS: [Format; 2] = [
    Format { single: "model.safetensors", index: "model.safetensors.index.json", extension: "safetensors" },
    Format { single: "pytorch_model.bin", index: "pytorch_model.bin.index.json", extension: "bin" },
];

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// An index of 12b has 50 KB.
const INDEX_LIMIT_BYTES: u64 = pythia_json::LIMIT_BYTES as u64;

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

/// A checked index of shards.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    /// Tensor name to file name.
    pub(crate) weight_map: HashMap<String, String>,
}

impl Folder {
    /// Finds the files of the checkpoint at `path`: a folder, or one weight file among its companions.
    pub(crate) fn find(path: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if !metadata.is_dir() {
            let known = |extension: &OsStr| FORMATS.iter().any(|format| extension == format.extension);
            if !path.extension().is_some_and(known) {
                return Err(Error::layout(path, "wanted a checkpoint folder or a .safetensors or .bin file"));
            }
            // `parent` of a bare file name is the empty path, which joins to the right thing.
            let folder = path.parent().unwrap_or(Path::new(""));
            if is_shard(path) {
                return Err(Error::layout(path, "one of several files of a checkpoint: wanted the folder they are in"));
            }
            return Ok(Self::with_weights(folder, vec![path.to_owned()], None));
        }
        for format in &FORMATS {
            if path.join(format.single).exists() {
                return Ok(Self::with_weights(path, vec![path.join(format.single)], None));
            }
            if path.join(format.index).exists() {
                let index = Index::open(&path.join(format.index), format)?;
                let names: BTreeSet<&String> = index.weight_map.values().collect();
                let weights = names.into_iter().map(|name| path.join(name)).collect();
                return Ok(Self::with_weights(path, weights, Some(index)));
            }
        }
        let names: Vec<_> = FORMATS.iter().flat_map(|format| [format.single, format.index]).collect();
        Err(Error::layout(path, format!("no weights here, wanted {}", names.join(" or "))))
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
    fn open(path: &Path, format: &Format) -> Result<Self, Error> {
        Self::parse(path, format, &read_text(path, INDEX_LIMIT_BYTES)?)
    }

    fn parse(path: &Path, format: &Format, text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Document {
            weight_map: UniqueMap<String>,
        }
        let Document { weight_map: UniqueMap(weight_map) } = json::parse_of(path, text, LIMIT_TENSORS)?;
        if weight_map.is_empty() {
            return Err(Error::json(path, "weight_map", "no entries"));
        }
        if let Some((tensor, file)) = weight_map.iter().find(|(_, file)| !is_plain_name(file, format.extension)) {
            let reason =
                format!("{}: {} is not the name of a .{} file", excerpt(tensor), excerpt(file), format.extension);
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

/// Whether the file is called as one of several: `model-00001-of-00003.safetensors`.
fn is_shard(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    stem.rsplit_once("-of-").is_some_and(|(start, count)| {
        number(count) && count != "00001" && start.rsplit_once('-').is_some_and(|(_, no)| number(no))
    })
}

/// Whether a shard's name stays in its folder on every system and is a weight file's.
fn is_plain_name(name: &str, extension: &str) -> bool {
    let mut components = Path::new(name).components();
    let plain = matches!(components.next(), Some(Component::Normal(_))) && components.next().is_none();
    plain
        && Path::new(name).extension().is_some_and(|found| found == extension)
        // The name ends up in messages.
        && !name.contains(|c: char| matches!(c, '/' | '\\' | ':') || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_cannot_leave_its_folder() {
        for name in ["model-00001-of-00002.safetensors", "a.safetensors", "..safetensors"] {
            assert!(is_plain_name(name, "safetensors"), "{name}");
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
            "a\u{1b}[31m.safetensors",
        ] {
            assert!(!is_plain_name(name, "safetensors"), "{name:?}");
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
            let message = Index::parse(Path::new("i.json"), &FORMATS[0], text).unwrap_err().to_string();
            assert!(message.starts_with("i.json: ") && message.contains(wanted), "{text}: {message}");
        }
    }

    #[test]
    fn safetensors_come_before_pickles_and_single_files_before_shards() {
        let dir = tempfile::tempdir().unwrap();
        let message = Folder::find(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains("no weights here, wanted model.safetensors or model.safetensors.index.json or"),
            "{message}"
        );
        let index = |name: &str| format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#);
        for (name, text, weights) in [
            ("pytorch_model.bin.index.json", index("s.bin"), "s.bin"),
            ("pytorch_model.bin", String::new(), "pytorch_model.bin"),
            ("model.safetensors.index.json", index("s.safetensors"), "s.safetensors"),
            ("model.safetensors", String::new(), "model.safetensors"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
            let found = Folder::find(dir.path()).unwrap();
            assert_eq!(
                (found.weights, found.index.is_some()),
                (vec![dir.path().join(weights)], name.ends_with("json"))
            );
        }
        let message = Folder::find(&dir.path().join("pytorch_model.bin.index.json")).unwrap_err().to_string();
        assert!(message.ends_with("wanted a checkpoint folder or a .safetensors or .bin file"), "{message}");
        let shard = dir.path().join("model-00002-of-00003.safetensors");
        fs::write(&shard, b"").unwrap();
        let message = Folder::find(&shard).unwrap_err().to_string();
        assert!(message.ends_with("one of several files of a checkpoint: wanted the folder they are in"), "{message}");
        assert!(Folder::find(&dir.path().join("absent")).unwrap_err().is_io());
    }
}
