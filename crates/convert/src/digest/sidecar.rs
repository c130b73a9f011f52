//! Reading `FILE.sha256`, as this project writes it or `sha256sum` does.

use crate::Error;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Larger than the list of any model's tensors.
const LIMIT_BYTES: u64 = 16 << 20;

/// What a sidecar says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sidecar {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The digest of the whole file, hexadecimal, if one is there.
    pub(crate) whole: Option<String>,
    /// Digests of tensors: `(name, digest)`.
    pub(crate) tensors: Vec<(String, String)>,
}

impl Sidecar {
    /// Reads the sidecar of `file`; `None` if there is none.
    pub(crate) fn read(file: &Path) -> Result<Option<Self>, Error> {
        let path = super::sidecar(file);
        if !path.exists() {
            return Ok(None);
        }
        // Asked before opening: opening a FIFO waits for a writer.
        if !path.is_file() {
            return Err(Error::Request(format!("{}: not a regular file", path.display())));
        }
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(LIMIT_BYTES).read_to_end(&mut bytes));
        read.map_err(Error::io(&path, "read"))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        Ok(Some(Self::parse(path, &String::from_utf8_lossy(&bytes), &name)))
    }

    /// The digests in `text`: of the file called `name`, or of the only one that is listed, which may have been renamed.
    fn parse(path: PathBuf, text: &str, name: &str) -> Self {
        let mut tensors = Vec::new();
        let mut files = Vec::new();
        for line in text.lines() {
            match (line.strip_prefix("# "), line.strip_prefix('\\')) {
                (Some(comment), _) => tensors.extend(entry(comment).map(|(digest, name)| (name.to_owned(), digest))),
                (_, Some(escaped)) => files.extend(entry(escaped).map(|(digest, name)| (digest, unescaped(name)))),
                _ => files.extend(entry(line).map(|(digest, name)| (digest, name.to_owned()))),
            }
        }
        let named = files.iter().find(|(_, listed)| *listed == name);
        let only = files.first().filter(|_| files.len() == 1);
        let whole = named.or(only).map(|(digest, _)| digest.clone());
        Self { path, whole, tensors }
    }
}

/// A name that `sha256sum` has escaped.
fn unescaped(name: &str) -> String {
    let mut chars = name.chars();
    let mut out = String::new();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            other => out.extend(other),
        }
    }
    out
}

/// Digest and name of a line, if it is one of either: the second space is a `*` for files read as binary.
fn entry(line: &str) -> Option<(String, &str)> {
    let (digest, name) = line.split_once(' ')?;
    let is_sha256 = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
    let name = name.strip_prefix([' ', '*'])?;
    is_sha256.then(|| (digest.to_ascii_lowercase(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Option<String>, usize) {
        let sidecar = Sidecar::parse(PathBuf::new(), text, "x.gguf");
        (sidecar.whole, sidecar.tensors.len())
    }

    #[test]
    fn digests_are_found_by_name_or_by_being_the_only_one() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        assert_eq!(parse(&format!("{a}  x.gguf\n# {b}  w\n# note\n")), (Some(a.clone()), 1));
        assert_eq!(parse(&format!("{b}  y.gguf\n{a} *x.gguf\n")), (Some(a.clone()), 0));
        assert_eq!(parse(&format!("{}  renamed.gguf\r\n", a.to_uppercase())), (Some(a.clone()), 0));
        assert_eq!(parse(&format!("{a}  y.gguf\n{b}  z.gguf\n")), (None, 0));
        // As `sha256sum` has it for a name with a line break.
        let (path, escaped) = (PathBuf::new(), format!("{b}  z.gguf\n\\{a}  x\\n\\\\y\\r.gguf\n"));
        assert_eq!(Sidecar::parse(path, &escaped, "x\n\\y\r.gguf").whole, Some(a.clone()));
        assert_eq!(escaped.split_once('\n').unwrap().1, super::super::line(&a, "x\n\\y\r.gguf"));
        for text in ["", "no digest", &a, &format!("{}  x.gguf", &a[1..]), &format!("{a} x.gguf")] {
            assert_eq!(parse(text), (None, 0), "{text}");
        }
    }
}
