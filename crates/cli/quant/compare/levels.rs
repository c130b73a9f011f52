//! The levels that are made for a comparison, and kept from one run to the next.
//!
//! A cache folder belongs to one checkpoint or GGUF file: its name ends in a digest of where the weights are, how large,
//! and when they were written. A file in it is used again if it begins with exactly the header that a conversion would
//! write now, so a change of the configuration, of the tokenizer, of a recipe or of the format makes a new one.

use super::super::cache::DIGEST_CHARS;
use super::super::cache::folder::{self, Folder};
use super::facts::Variant;
use super::{Args, Contestant};
use crate::exit::{self, Failure};
use crate::progress::{Bar, Log, Unit};
use pythia_convert::output::{check_target, remove_leftovers};
use pythia_convert::plan::Shard;
use pythia_convert::{FilePlan, ImatrixFile, Level, Plan, Provenance, Request, RunOptions, Source};
use pythia_gguf::Metadata;
use pythia_show::number;
use pythia_task::Progress;
use pythia_text::path;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

/// Digits of an importance matrix's digest in the names of files.
const IMATRIX_CHARS: usize = 8;

/// The files to make, those that are there and those that are not.
pub(super) struct Levels {
    /// All files.
    plan: Plan,
    request: Request,
}

impl Levels {
    /// Plans a file per level in `folder`, of the model called `name`. Nothing is written.
    pub(super) fn plan(
        source: &dyn Source,
        provenance: Provenance,
        name: &str,
        folder: &Path,
        levels: &[Level],
        args: &Args,
    ) -> Result<Self, Failure> {
        let imatrix = args.imatrix.as_deref().map(|path| {
            crate::input::check_file(path)?;
            ImatrixFile::open(path).map_err(Failure::from)
        });
        let imatrix = imatrix.transpose()?;
        let files = levels.iter().map(|&level| (level, folder.join(format!("{name}-{level}.gguf")))).collect();
        let allow_requantize = args.allow_requantize;
        let mut request = Request { files, provenance, imatrix, allow_requantize, ..Request::default() };
        let plan = pythia_convert::plan(source, &request)?;
        let Some(imatrix) = &request.imatrix else { return Ok(Self { plan, request }) };
        // Files of several importance matrices lie side by side; those that make no use of any are the same for all.
        let digest = imatrix.sha256().get(..IMATRIX_CHARS).unwrap_or_default();
        for ((level, path), file) in request.files.iter_mut().zip(&plan.files) {
            if Variant::of(&file.metadata).imatrix.is_some() {
                *path = folder.join(format!("{name}-{level}-imatrix-{digest}.gguf"));
            }
        }
        Ok(Self { plan: pythia_convert::plan(source, &request)?, request })
    }

    /// A file per level, in the order asked for.
    pub(super) fn contestants(&self) -> Vec<Contestant> {
        let contestant = |file: &FilePlan| Contestant {
            name: file.level.name().to_owned() + &Variant::of(&file.metadata).suffix(),
            path: file.path().to_owned(),
        };
        self.plan.files.iter().map(contestant).collect()
    }

    /// What the first file says about the model.
    pub(super) fn first_metadata(&self) -> Result<&Metadata, Failure> {
        let first = self.plan.files.first().ok_or_else(|| Failure::usage("nothing to compare"))?;
        Ok(&first.metadata)
    }

    /// Converts what is missing, in one pass over the source. `others` are further files of the comparison, which may
    /// lie in the cache too.
    pub(super) fn fill(
        &self,
        source: &dyn Source,
        folder: &Folder,
        others: &[PathBuf],
        args: &Args,
        log: &Log,
    ) -> Result<(), Failure> {
        self.plan.warnings.iter().for_each(|warning| super::super::warn(warning));
        // Also of the files that are there: another run may have made them since.
        let leftovers = self.plan.files.iter().flat_map(|file| remove_leftovers(file.path()));
        leftovers.for_each(|leftover| args.note(leftover));
        let planned = self.plan.files.iter().zip(&self.request.files);
        let missing: Vec<_> = planned.filter(|(file, _)| !is_current(file)).map(|(_, asked)| asked.clone()).collect();
        let (n, kept) = (self.plan.files.len(), self.plan.files.len() - missing.len());
        args.note(format_args!("cache: {}: {kept} of {n} files are there", path(folder.path())));
        if !missing.is_empty() {
            self.make(source, missing, others, args, log)?;
        }
        let (n, bytes) = folder.size();
        args.note(format_args!("cache: {}: {n} files, {}", path(folder.path()), number::bytes(bytes)));
        Ok(())
    }

    fn make(
        &self,
        source: &dyn Source,
        missing: Vec<(Level, PathBuf)>,
        others: &[PathBuf],
        args: &Args,
        log: &Log,
    ) -> Result<(), Failure> {
        missing.iter().try_for_each(|(_, path)| check_target(path, others, true))?;
        let names: Vec<String> = missing.iter().map(|(level, _)| level.to_string()).collect();
        log.line(format_args!("making {} levels: {}", names.len(), names.join(", ")));
        let request = Request { files: missing, ..self.request.clone() };
        convert(source, &pythia_convert::plan(source, &request)?, args, log)
    }
}

fn convert(source: &dyn Source, plan: &Plan, args: &Args, log: &Log) -> Result<(), Failure> {
    let bar = Bar::new(plan.source_bytes(), Unit::Bytes, args.quiet);
    let watch = Watch { bar, log, done: AtomicU64::new(0), total: plan.source_bytes() };
    let options = RunOptions {
        threads: args.threads,
        // What is there is out of date.
        force: true,
        allow_nonfinite: false,
        sha256: false,
        cancel: exit::catch_interrupts(),
        progress: &watch,
    };
    pythia_convert::run(source, plan, &options)?;
    Ok(())
}

/// A bar at a terminal, lines elsewhere.
struct Watch<'a> {
    bar: Bar,
    log: &'a Log,
    done: AtomicU64,
    total: u64,
}

impl Progress for Watch<'_> {
    fn advance(&self, tensor: &str, source_bytes: i64) {
        Progress::advance(&self.bar, tensor, source_bytes);
        // It only grows: nothing is converted twice.
        let source_bytes = source_bytes.unsigned_abs();
        let done = self.done.fetch_add(source_bytes, Ordering::Relaxed) + source_bytes;
        self.log.tick(|| format!("made from {} of {}", number::bytes(done), number::bytes(self.total)));
    }

    fn note(&self, line: &str) {
        Progress::note(&self.bar, line);
    }
}

/// The cache folder of a model called `name`, whose weights are in these files. `None` if there is nowhere to keep one.
pub(super) fn place(args: &Args, name: &str, weights: &[PathBuf]) -> Result<Option<PathBuf>, Failure> {
    let Some(root) = folder::root(args.cache.as_deref()) else { return Ok(None) };
    Ok(Some(root.join(format!("{name}-{}", digest(weights).map_err(Failure::io)?))))
}

/// Whether the planned file is there already. Files get their names when they are complete, so the size is a check
/// against later damage only.
fn is_current(plan: &FilePlan) -> bool {
    let begins_with_header = |shard: &Shard| -> io::Result<bool> {
        let header = shard.layout.header();
        let found = fs::metadata(&shard.path)?;
        if !found.is_file() || found.len() != shard.layout.total_bytes() {
            return Ok(false);
        }
        let mut found = Vec::with_capacity(header.len());
        File::open(&shard.path)?.take(header.len() as u64).read_to_end(&mut found)?;
        Ok(found == header)
    };
    // A file that cannot be read is made anew.
    plan.shards.iter().all(|shard| begins_with_header(shard).unwrap_or(false))
}

/// Sixteen hexadecimal digits that change with the weights. Reading them all would cost as much as converting.
fn digest(weights: &[PathBuf]) -> io::Result<String> {
    let mut hasher = Sha256::new();
    // Another version may round differently.
    hasher.update(env!("CARGO_PKG_VERSION"));
    for path in weights {
        let (path, len, nanos) =
            identity(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        // Each field ends unmistakably: lengths are fixed, and no path holds a NUL.
        hasher.update(path.as_os_str().as_encoded_bytes());
        hasher.update([0]);
        hasher.update(len.to_le_bytes());
        hasher.update(nanos.to_le_bytes());
    }
    Ok(pythia_text::hex(&hasher.finalize()[..DIGEST_CHARS / 2]))
}

fn identity(path: &Path) -> io::Result<(PathBuf, u64, u128)> {
    let metadata = fs::metadata(path)?;
    // A clock before 1970 still differs from other times by the length of the file at least.
    let nanos = metadata.modified()?.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    Ok((path.canonicalize()?, metadata.len(), nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_follows_the_weights() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "1234").unwrap();
        fs::copy(&a, &b).unwrap();
        let first = digest(std::slice::from_ref(&a)).unwrap();
        assert_eq!(digest(std::slice::from_ref(&a)).unwrap(), first);
        assert_ne!(digest(std::slice::from_ref(&b)).unwrap(), first, "another place");
        assert_ne!(digest(&[a.clone(), b.clone()]).unwrap(), first, "another shard");
        let later = fs::metadata(&a).unwrap().modified().unwrap() + std::time::Duration::from_nanos(1000);
        File::options().write(true).open(&a).unwrap().set_modified(later).unwrap();
        assert_ne!(digest(std::slice::from_ref(&a)).unwrap(), first, "another time");
        let missing = digest(&[dir.path().join("none")]).unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
    }
}
