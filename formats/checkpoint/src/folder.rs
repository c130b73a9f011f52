//! Finds the files of a checkpoint.

use crate::error::{Error, excerpt};
use crate::other;
use crate::weights::LIMIT_TENSORS;
use pythia_json::UniqueMap;
use pythia_text::read_text;
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// A format of weights, with the file names of Transformers.
struct Format {
    /// A model in one file.
    single: &'static str,
    /// The index, which lists the file of each tensor if there are several files.
    index: &'static str,
    /// Extension of the files.
    extension: &'static str,
}

/// In search order. A folder with both formats has the same weights twice.
const FORMATS: [Format; 2] = [
    Format { single: "model.safetensors", index: "model.safetensors.index.json", extension: "safetensors" },
    Format { single: "pytorch_model.bin", index: "pytorch_model.bin.index.json", extension: "bin" },
];

/// The name that Transformers gives the `variant` of a file: `model.fp16.safetensors`.
fn varied(name: &str, variant: Option<&str>) -> String {
    match (variant, name.rsplit_once('.')) {
        (Some(variant), Some((stem, extension))) => format!("{stem}.{variant}.{extension}"),
        _ => name.to_owned(),
    }
}

/// The variant in `found`, if it is a variant of `name`.
fn variant_of<'n>(found: &'n str, name: &str) -> Option<&'n str> {
    let (stem, extension) = name.rsplit_once('.')?;
    let variant = found.strip_prefix(stem)?.strip_prefix('.')?.strip_suffix(extension)?.strip_suffix('.')?;
    is_variant(variant).then_some(variant)
}

/// Whether `variant` is allowed in a file name.
fn is_variant(variant: &str) -> bool {
    !variant.is_empty() && variant.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

const CONFIG: &str = "config.json";

/// Maximum size of an index. That of 12b has 50 KB.
const INDEX_LIMIT_BYTES: u64 = pythia_json::LIMIT_BYTES as u64;

/// The files of one checkpoint. Only `weights` are known to exist.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    /// Weight files, sorted by name.
    pub(crate) weights: Vec<PathBuf>,
    /// The file of each tensor according to the index, if there is an index.
    pub(crate) index: Option<Index>,
    pub(crate) config: PathBuf,
    /// Whether a LoRA adapter lies beside the weights.
    pub(crate) has_adapter: bool,
}

/// A checked index of shards.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) path: PathBuf,
    /// Tensor name to file name.
    pub(crate) weight_map: HashMap<String, String>,
}

impl Folder {
    /// Finds the files of the checkpoint at `path`: a folder, or one weight file among its companions. Of a folder, the
    /// weights of `variant`.
    pub(crate) fn find(path: &Path, variant: Option<&str>) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if !metadata.is_dir() {
            return Self::of_file(path, variant);
        }
        if let Some(variant) = variant.filter(|variant| !is_variant(variant)) {
            let reason = format!("no variant is called {}, wanted letters, digits, - and _", excerpt(variant));
            return Err(Error::layout(path, reason));
        }
        for format in &FORMATS {
            let [single, index] = [format.single, format.index].map(|name| path.join(varied(name, variant)));
            if single.exists() {
                return Ok(Self::with_weights(path, vec![single], None));
            }
            if index.exists() {
                let index = Index::open(&index, format)?;
                let names: BTreeSet<&String> = index.weight_map.values().collect();
                names.iter().try_for_each(|name| index.check_folders(name))?;
                let weights = names.into_iter().map(|name| path.join(name)).collect();
                return Ok(Self::with_weights(path, weights, Some(index)));
            }
        }
        Err(Error::layout(path, without_weights(path, variant)))
    }

    /// The checkpoint whose weights are the file at `path`.
    fn of_file(path: &Path, variant: Option<&str>) -> Result<Self, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let known = |extension: &OsStr| FORMATS.iter().any(|format| extension == format.extension);
        // `parent` of a bare file name is the empty path, which joins to the right thing.
        let folder = path.parent().unwrap_or(Path::new(""));
        let reason = if is_shard(path) {
            Some("one of several files of a checkpoint: wanted the folder they are in".to_owned())
        } else if let Some(sentence) = other::by_name(std::slice::from_ref(&name)) {
            Some(sentence)
        } else if !path.extension().is_some_and(known) {
            Some("wanted a checkpoint folder or a .safetensors or .bin file".to_owned())
        } else {
            variant.map(|_| "a file, where a variant is one of the files of a folder".to_owned())
        };
        match reason {
            Some(reason) => Err(Error::layout(path, reason)),
            None => Ok(Self::with_weights(folder, vec![path.to_owned()], None)),
        }
    }

    fn with_weights(folder: &Path, weights: Vec<PathBuf>, index: Option<Index>) -> Self {
        Self {
            path: folder.to_owned(),
            weights,
            index,
            config: folder.join(CONFIG),
            has_adapter: folder.join(other::ADAPTER_CONFIG).exists(),
        }
    }
}

/// The error for a folder without weights (of this variant), with what it has instead.
fn without_weights(folder: &Path, variant: Option<&str>) -> String {
    let names = other::names(folder);
    let all = || FORMATS.iter().flat_map(|format| [format.single, format.index]);
    let mut variants: Vec<&str> =
        names.iter().filter_map(|found| all().find_map(|name| variant_of(found, name))).collect();
    variants.sort_unstable();
    variants.dedup();
    let wanted = all().map(|name| varied(name, variant)).collect::<Vec<_>>().join(" or ");
    match (variant, variants.as_slice()) {
        (None, []) => other::by_folder(folder, &names).unwrap_or(format!("no weights here, wanted {wanted}")),
        (None, [first, ..]) => {
            format!("only variants of weights here, {}: --variant {first} takes one", variants.join(", "))
        }
        (Some(_), []) => format!("no variants of weights here, wanted {wanted}"),
        (Some(_), others) => format!("no such weights here but those of {}, wanted {wanted}", others.join(", ")),
    }
}

impl Index {
    fn open(path: &Path, format: &Format) -> Result<Self, Error> {
        Self::parse(path, format, &read_text(path, INDEX_LIMIT_BYTES).map_err(Error::read(path))?)
    }

    fn parse(path: &Path, format: &Format, text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Document {
            weight_map: UniqueMap<String>,
        }
        let parsed = pythia_json::parse_of(text, LIMIT_TENSORS).map_err(|reason| Error::json(path, "", reason))?;
        let Document { weight_map: UniqueMap(weight_map) } = parsed;
        if weight_map.is_empty() {
            return Err(Error::json(path, "weight_map", "no entries"));
        }
        if let Some((tensor, file)) = weight_map.iter().find(|(_, file)| !is_inside(file, format.extension)) {
            let reason = format!(
                "{}: {} is not the name of a .{} file in this folder",
                excerpt(tensor),
                excerpt(file),
                format.extension
            );
            return Err(Error::json(path, "weight_map", reason));
        }
        Ok(Self { path: path.to_owned(), weight_map })
    }

    /// The path of a file that the index names.
    pub(crate) fn place(&self, file: &str) -> PathBuf {
        self.path.with_file_name(file)
    }

    /// Refuses a link among the folders of `file`, because it could lead out of the checkpoint.
    fn check_folders(&self, file: &str) -> Result<(), Error> {
        let place = self.place(file);
        for folder in place.ancestors().skip(1).take(file.matches('/').count()) {
            let metadata = fs::symlink_metadata(folder).map_err(|e| Error::io(folder, e))?;
            if !metadata.is_dir() {
                return Err(Error::layout(
                    folder,
                    "not a folder itself, as one must be that an index of weights names",
                ));
            }
        }
        Ok(())
    }

    /// Whether the index puts `tensor` into the file at `path`.
    pub(crate) fn check_place(&self, tensor: &str, path: &Path) -> Result<(), Error> {
        match self.weight_map.get(tensor) {
            Some(file) if self.place(file) == path => Ok(()),
            Some(file) => {
                Err(Error::tensor(path, tensor, format!("the index {} puts it into {file}", self.path.display())))
            }
            None => Err(Error::tensor(path, tensor, format!("not in the index {}", self.path.display()))),
        }
    }
}

/// Whether the file has the name of a shard: `model-00001-of-00003.safetensors`.
pub(crate) fn is_shard(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    stem.rsplit_once("-of-").is_some_and(|(start, count)| {
        number(count) && count != "00001" && start.rsplit_once('-').is_some_and(|(_, no)| number(no))
    })
}

/// Whether a shard's name stays in the index's folder on every system, and is that of a weight file.
fn is_inside(name: &str, extension: &str) -> bool {
    let plain = |part: &str| {
        let mut components = Path::new(part).components();
        matches!(components.next(), Some(Component::Normal(_))) && components.next().is_none()
    };
    name.split('/').all(plain)
        && Path::new(name).extension().is_some_and(|found| found == extension)
        // The name appears in messages.
        && !name.contains(|c: char| matches!(c, '\\' | ':') || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_cannot_leave_its_folder() {
        for name in [
            "model-00001-of-00002.safetensors",
            "a.safetensors",
            "..safetensors",
            "a/b.safetensors",
            "a/b/c.safetensors",
        ] {
            assert!(is_inside(name, "safetensors"), "{name}");
        }
        for name in [
            "../a.safetensors",
            "/etc/a.safetensors",
            "a/../b.safetensors",
            "a/../../b.safetensors",
            "a//b.safetensors",
            "a/./b.safetensors",
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
            assert!(!is_inside(name, "safetensors"), "{name:?}");
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
        let message = Folder::find(dir.path(), None).unwrap_err().to_string();
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
            let found = Folder::find(dir.path(), None).unwrap();
            assert_eq!(
                (found.weights, found.index.is_some()),
                (vec![dir.path().join(weights)], name.ends_with("json"))
            );
        }
        let message = Folder::find(&dir.path().join("pytorch_model.bin.index.json"), None).unwrap_err().to_string();
        assert!(message.ends_with("wanted a checkpoint folder or a .safetensors or .bin file"), "{message}");
        let shard = dir.path().join("model-00002-of-00003.safetensors");
        fs::write(&shard, b"").unwrap();
        let message = Folder::find(&shard, None).unwrap_err().to_string();
        assert!(message.ends_with("one of several files of a checkpoint: wanted the folder they are in"), "{message}");
        assert_eq!(Folder::find(&dir.path().join("absent"), None).unwrap_err().kind(), pythia_task::ErrorKind::Io);
    }
}
