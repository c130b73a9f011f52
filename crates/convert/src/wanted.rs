//! Checks before a model is opened. Who needs a GGUF file and gets a checkpoint, or the other way round, gets an error
//! that names the right command.

use crate::Error;
use pythia_task::ErrorKind;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Maximum number of names in a folder that are checked.
const LIMIT_NAMES: usize = 10_000;

/// Bytes at the start of a file that are checked.
const START_BYTES: u64 = 1024;

/// End of the name of the first entry in an archive written by PyTorch.
const PICKLE: &[u8] = b"data.pkl";

/// Checks that `path` is a regular file before it is opened, because opening a pipe can block for ever.
///
/// # Errors
/// If there is no such file, or it is a folder, a pipe or a device.
pub fn check_file(path: &Path) -> Result<(), Error> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(Error::unusable(path, ErrorKind::Io, "not a regular file")),
        Err(error) => Err(refused(path, error)),
    }
}

/// Whether `path` is a GGUF file, by its first bytes and not by its name. False for a folder.
///
/// # Errors
/// If it cannot be read.
pub fn is_gguf(path: &Path) -> Result<bool, Error> {
    if path.is_dir() {
        return Ok(false);
    }
    check_file(path)?;
    let mut magic = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4).read_to_end(&mut magic));
    read.map_err(|error| refused(path, error))?;
    Ok(magic == b"GGUF")
}

fn refused(path: &Path, error: io::Error) -> Error {
    Error::Unusable { path: path.to_owned(), kind: ErrorKind::Io, problem: error.to_string(), source: Some(error) }
}

/// Checks a path that should be a GGUF file. For a checkpoint, the error points to `convert`. Other files that are not
/// GGUF are left for the reader to refuse.
///
/// # Errors
/// If there is no such file, or it is a folder, a pipe, a device, or a checkpoint.
pub fn check_gguf(path: &Path) -> Result<(), Error> {
    let wrong = |problem: std::fmt::Arguments<'_>| Error::unusable(path, ErrorKind::Data, problem);
    let advice = |source: &Path| {
        let source = source.display();
        format!("wanted a GGUF file; pythia-quant convert {source} -t Q8_0 makes one")
    };
    if path.is_dir() {
        let names = names(path);
        if names.iter().any(|name| is_checkpoint_file(name)) {
            return Err(wrong(format_args!("a folder with a checkpoint, {}", advice(path))));
        }
        if let Some(name) = names.iter().find(|name| name.ends_with(".gguf")) {
            let file = path.join(name);
            let file = file.display();
            return Err(wrong(format_args!("a folder, wanted a GGUF file, such as {file}")));
        }
    } else if fs::symlink_metadata(path).is_err() && is_hub_name(path) {
        let problem = format_args!(
            "no such file; if it is a model of the Hub, pythia-quant convert {} -t Q8_0 makes a GGUF file from it",
            path.display()
        );
        return Err(Error::Unusable {
            path: path.to_owned(),
            kind: ErrorKind::Io,
            problem: problem.to_string(),
            source: Some(io::ErrorKind::NotFound.into()),
        });
    }
    check_file(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if is_gguf(path)? || !(is_checkpoint_file(&name) || holds_weights(path)) {
        return Ok(());
    }
    // A file of weights can be converted by itself. For a JSON file, the folder is the checkpoint.
    let folder = path.parent().filter(|_| name.ends_with(".json"));
    let source = folder.map_or(path, |folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    Err(wrong(format_args!("a file of a checkpoint, {}", advice(source))))
}

/// Checks a path that should be a checkpoint: a file or a folder. For a GGUF file, the error points to `quantize`.
///
/// # Errors
/// If it is neither a file nor a folder, or is a GGUF file.
pub fn check_checkpoint(path: &Path) -> Result<(), Error> {
    if !is_gguf(path)? {
        return Ok(());
    }
    let shown = path.display();
    let problem =
        format_args!("a GGUF file, wanted a checkpoint; pythia-quant quantize {shown} OUT.gguf TYPE changes its type");
    Err(Error::unusable(path, ErrorKind::Data, problem))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(LIMIT_NAMES);
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// Whether only checkpoints have files of this name.
fn is_checkpoint_file(name: &str) -> bool {
    let names = ["config.json", "adapter_config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json"];
    names.contains(&name)
        || name.ends_with(".safetensors")
        || (name.starts_with("pytorch_model") && name.ends_with(".bin"))
}

/// Whether a regular file starts like safetensors, or like a zip file written by PyTorch.
fn holds_weights(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(START_BYTES).read_to_end(&mut start));
    let is_header = |start: &[u8; 9]| start[3..8] == [0; 5] && start[8] == b'{';
    let has_pickle = || start.windows(PICKLE.len()).any(|name| name == PICKLE);
    read.is_ok() && (start.starts_with(b"PK\x03\x04") && has_pickle() || start.first_chunk().is_some_and(is_header))
}

/// Whether a path that does not exist could be a model of the Hub.
fn is_hub_name(path: &Path) -> bool {
    let Some(text) = path.to_str() else { return false };
    if text.contains("://") {
        return true;
    }
    let plain = |part: &str| {
        let first = part.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        first && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c))
    };
    let Some((owner, name)) = text.split_once('/') else { return false };
    plain(owner) && plain(name) && !name.ends_with(".gguf") && !Path::new(owner).is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_sent_to_its_command() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["checkpoint", "models", "empty"] {
            fs::create_dir(at(folder)).unwrap();
        }
        let safetensors = [&2u64.to_le_bytes()[..], b"{}"].concat();
        for (name, bytes) in [
            ("checkpoint/config.json", &b"{}"[..]),
            ("models/a.gguf", b"GGUF"),
            ("model.safetensors", b""),
            ("weights", &safetensors),
            ("archive", b"PK\x03\x04 some header archive/data.pkl"),
            ("a.docx", b"PK\x03\x04 some header [Content_Types].xml"),
            ("text", b"some text"),
            ("m.gguf", b"GGUF\x03\0\0\0"),
        ] {
            fs::write(at(name), bytes).unwrap();
        }
        for (name, kind, wanted) in [
            ("checkpoint", ErrorKind::Data, "a folder with a checkpoint, wanted a GGUF file; pythia-quant convert"),
            ("models", ErrorKind::Data, "a.gguf"),
            ("empty", ErrorKind::Io, "not a regular file"),
            ("model.safetensors", ErrorKind::Data, "a file of a checkpoint, wanted a GGUF file"),
            ("weights", ErrorKind::Data, "a file of a checkpoint"),
            ("archive", ErrorKind::Data, "a file of a checkpoint"),
            ("checkpoint/config.json", ErrorKind::Data, "checkpoint -t Q8_0 makes"),
            ("none", ErrorKind::Io, "No such file"),
        ] {
            let failure = check_gguf(&at(name)).unwrap_err();
            assert!(failure.kind() == kind && failure.to_string().contains(wanted), "{name}: {failure}");
        }
        for name in ["text", "a.docx", "m.gguf"] {
            check_gguf(&at(name)).unwrap();
        }
        let failure = check_gguf(Path::new("EleutherAI/pythia-70m")).unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Io);
        assert!(failure.to_string().contains("if it is a model of the Hub, pythia-quant convert"), "{failure}");
        for name in ["checkpoint", "weights", "text"] {
            check_checkpoint(&at(name)).unwrap();
        }
        assert_eq!(check_checkpoint(&at("none")).unwrap_err().kind(), ErrorKind::Io);
        let failure = check_checkpoint(&at("m.gguf")).unwrap_err();
        assert!(
            failure.kind() == ErrorKind::Data && failure.to_string().contains("pythia-quant quantize"),
            "{failure}"
        );
    }

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let folder = check_file(dir.path()).unwrap_err();
        assert_eq!(folder.kind(), ErrorKind::Io);
        assert!(folder.to_string().ends_with("not a regular file"), "{folder}");
    }

    #[test]
    fn names_of_the_hub_are_told_from_paths() {
        for name in ["EleutherAI/pythia-70m", "a/b@step3000", "hf://a/b", "https://huggingface.co/a/b"] {
            assert!(is_hub_name(Path::new(name)), "{name}");
        }
        for name in ["m.gguf", "a/b.gguf", "./a/b", "/a/b", "~/b", "a/b/c", "a", "a/"] {
            assert!(!is_hub_name(Path::new(name)), "{name}");
        }
    }
}
