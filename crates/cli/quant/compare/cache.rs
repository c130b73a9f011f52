//! Converted files, kept from one run to the next.
//!
//! A folder belongs to one checkpoint: its name ends in a digest of where the weights are, how large, and when they
//! were written. A file in it is used again if it begins with exactly the header that a conversion would write now, so
//! a change of the configuration, of the tokenizer, of a recipe or of the format makes a new one.

use super::{Args, Contestant};
use crate::exit::{self, Failure};
use crate::progress::{Bar, Unit};
use pythia_checkpoint::Checkpoint;
use pythia_convert::output::{MadeFolders, check_target, remove_leftovers};
use pythia_convert::plan::Shard;
use pythia_convert::{FilePlan, Level, Plan, Provenance, Request, RunOptions};
use pythia_gguf::Metadata;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The files of a checkpoint, those that are there and those that are not.
pub(super) struct Cache {
    folder: PathBuf,
    /// All files.
    plan: Plan,
    request: Request,
}

impl Cache {
    /// Plans a file per level. Nothing is written.
    pub(super) fn plan(checkpoint: &Checkpoint, levels: &[Level], args: &Args) -> Result<Self, Failure> {
        let provenance = Provenance::gather(checkpoint, false, exit::catch_interrupts())?;
        let name = &provenance.name;
        let folder = args.cache.join(format!("{name}-{}", digest(checkpoint.files()).map_err(Failure::io)?));
        let files = levels.iter().map(|&level| (level, folder.join(format!("{name}-{level}.gguf")))).collect();
        let request = Request { files, provenance, ..Request::default() };
        let plan = pythia_convert::plan(checkpoint, &request)?;
        Ok(Self { folder, plan, request })
    }

    /// Name of the model.
    pub(super) fn name(&self) -> &str {
        &self.request.provenance.name
    }

    /// Owner of the model's repository, if it comes from the Hub's cache.
    pub(super) fn owner(&self) -> Option<&str> {
        self.request.provenance.owner.as_deref()
    }

    /// A file per level, in the order asked for.
    pub(super) fn contestants(&self) -> Vec<Contestant> {
        let files = self.plan.files.iter();
        files.map(|file| Contestant { name: file.level.name().to_owned(), path: file.path().to_owned() }).collect()
    }

    /// What the file of the base, the first, says about the model.
    pub(super) fn base_metadata(&self) -> Result<&Metadata, Failure> {
        let base = self.plan.files.first().ok_or_else(|| Failure::usage("nothing to compare"))?;
        Ok(&base.metadata)
    }

    /// Converts what is missing, in one pass over the checkpoint. `others` are further files of the comparison, which
    /// may lie in the cache too.
    pub(super) fn fill(&self, checkpoint: &Checkpoint, others: &[PathBuf], threads: usize) -> Result<(), Failure> {
        self.plan.warnings.iter().for_each(|warning| super::super::warn(warning));
        // Also of the files that are there: another run may have made them since.
        let leftovers = self.plan.files.iter().flat_map(|file| remove_leftovers(file.path()));
        leftovers.for_each(exit::note);
        let planned = self.plan.files.iter().zip(&self.request.files);
        let missing: Vec<_> = planned.filter(|(file, _)| !is_current(file)).map(|(_, asked)| asked.clone()).collect();
        let (n, kept) = (self.plan.files.len(), self.plan.files.len() - missing.len());
        exit::note(format_args!("cache: {}: {kept} of {n} files are there", self.folder.display()));
        if missing.is_empty() {
            return Ok(());
        }
        missing.iter().try_for_each(|(_, path)| check_target(path, others, true))?;
        let made = MadeFolders::create(&self.folder)?;
        let request = Request { files: missing, ..self.request.clone() };
        convert(checkpoint, &pythia_convert::plan(checkpoint, &request)?, threads)?;
        Ok(made.keep()?)
    }
}

fn convert(checkpoint: &Checkpoint, plan: &Plan, threads: usize) -> Result<(), Failure> {
    let bar = Bar::new(plan.source_bytes(), Unit::Bytes, false);
    let options = RunOptions {
        threads,
        // What is there is out of date.
        force: true,
        allow_nonfinite: false,
        sha256: false,
        cancel: exit::catch_interrupts(),
        progress: &bar,
    };
    pythia_convert::run(checkpoint, plan, &options)?;
    Ok(())
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
    Ok(hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
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
