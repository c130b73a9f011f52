//! SHA-256 of a file and of each tensor in it, and the sidecar file with these digests.

mod sidecar;

pub(crate) use sidecar::Sidecar;

use crate::output::AtomicFile;
use crate::{Error, PassOptions};
use pythia_gguf::{Layout, TensorInfo};
use pythia_task::{Cancel, Progress};
use pythia_text::hex;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Digests of one GGUF file, hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    /// Of the whole file.
    pub whole: String,
    /// Of each tensor's bytes, without padding: `(name, digest)`.
    pub tensors: Vec<(String, String)>,
}

/// Computes the digests of the file at `path`, with the layout `layout`. Reads it once.
pub(crate) fn of_file(path: &Path, layout: &Layout, cancel: &Cancel) -> Result<Digests, Error> {
    let options = PassOptions { threads: 1, cancel, progress: &() };
    of_tensors(path, layout.tensors().iter(), layout.total_bytes(), &options)
}

/// Reads the `n_bytes` of the file at `path` once, in order and on this thread, because one digest covers all of them.
/// `tensors` are in the order of the file.
pub(crate) fn of_tensors<'a>(
    path: &Path,
    tensors: impl Iterator<Item = &'a TensorInfo>,
    n_bytes: u64,
    options: &PassOptions<'_>,
) -> Result<Digests, Error> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let PassOptions { cancel, progress, .. } = *options;
    let mut reader = Hashing { path, file, cancel, progress, whole: Sha256::new(), offset: 0 };
    let mut digests = Vec::new();
    for tensor in tensors {
        let mut hasher = Sha256::new();
        reader.read_to(tensor.offset, None)?;
        reader.read_to(tensor.offset + tensor.n_bytes, Some(&mut hasher))?;
        digests.push((tensor.name.clone(), hex(&hasher.finalize())));
    }
    reader.read_to(n_bytes, None)?;
    Ok(Digests { whole: hex(&reader.whole.finalize()), tensors: digests })
}

/// A file that is read in order, with a digest of everything read.
struct Hashing<'a> {
    path: &'a Path,
    file: File,
    cancel: &'a Cancel,
    progress: &'a dyn Progress,
    whole: Sha256,
    offset: u64,
}

impl Hashing<'_> {
    /// Reads up to `end`, and updates `part` too if there is one.
    fn read_to(&mut self, end: u64, mut part: Option<&mut Sha256>) -> Result<(), Error> {
        let mut buffer = [0; 1 << 15];
        while self.offset < end {
            if self.cancel.is_raised() {
                return Err(Error::Cancelled);
            }
            let wanted = (end - self.offset).min(buffer.len() as u64) as usize;
            let bytes = &mut buffer[..wanted];
            self.file.read_exact(bytes).map_err(Error::io(self.path, "read back"))?;
            self.whole.update(&*bytes);
            if let Some(part) = &mut part {
                part.update(&*bytes);
            }
            self.offset += wanted as u64;
            self.progress.advance("SHA-256", wanted as i64);
        }
        Ok(())
    }
}

/// `FILE.sha256`.
pub(crate) fn sidecar(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

/// A line of a sidecar in the form of `sha256sum`. A name with line breaks is escaped, with a backslash before the
/// line.
fn line(digest: &str, name: &str) -> String {
    if !name.contains(['\\', '\n', '\r']) {
        return format!("{digest}  {name}\n");
    }
    let name = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    format!("\\{digest}  {name}\n")
}

/// Removes the sidecar of a file that is about to be replaced, because its digests are those of the old file. A file
/// with the name of a sidecar but without digests stays.
pub(crate) fn remove_sidecar(path: &Path) -> Result<(), Error> {
    match Sidecar::read(path) {
        Ok(Some(Sidecar { path, whole: Some(_), .. })) => {
            std::fs::remove_file(&path).map_err(Error::io(&path, "replace"))
        }
        _ => Ok(()),
    }
}

impl Digests {
    /// Writes the sidecar of `path`, not yet renamed. `sha256sum -c` reads it; digests of tensors are comments.
    pub(crate) fn sidecar_of(&self, path: &Path, progress: &dyn Progress) -> Result<AtomicFile, Error> {
        let target = sidecar(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut text = line(&self.whole, &name);
        for (tensor, digest) in &self.tensors {
            text.push_str(&format!("# {digest}  {tensor}\n"));
        }
        let sink = AtomicFile::create(&target, text.len() as u64, progress)?;
        sink.write_at(text.as_bytes(), 0)?;
        Ok(sink)
    }
}
