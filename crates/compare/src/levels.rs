//! The levels that are converted for a comparison and kept in the cache.
//!
//! A cache folder belongs to one checkpoint or GGUF file: its name ends in a digest of the paths, sizes and times of
//! the weight files. A cached file is used if it begins with exactly the header that a conversion would write now. So a
//! change of the configuration, the tokenizer, a recipe or the format leads to a new file.

use crate::cache::DIGEST_CHARS;
use crate::cache::folder::{self, Folder};
use crate::facts::Variant;
use crate::rounding::{digest as digest_of, short};
use crate::{Candidate, Error, Observer, Request, Rounding, Stage};
use pythia_convert::output::{check_target, remove_leftovers};
use pythia_convert::plan::Shard;
use pythia_convert::{FilePlan, ImatrixFile, Level, Plan, Provenance, RunOptions, Source};
use pythia_gguf::Metadata;
use pythia_show::number;
use pythia_text::path;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The files of the levels, existing and missing ones.
pub(crate) struct Levels {
    source: Box<dyn Source>,
    /// One per series, the base's first.
    batches: Vec<Batch>,
}

/// The files of a series.
struct Batch {
    rounding: Rounding,
    plan: Plan,
    request: pythia_convert::Request,
}

impl Levels {
    /// Plans a file per level and series in `folder`, of the model called `name`. Nothing is written. Files of several
    /// series that would have the same bytes are one file of the first. The base is the first of `levels`.
    pub(crate) fn plan(
        source: Box<dyn Source>,
        provenance: &Provenance,
        name: &str,
        folder: &Path,
        levels: &[Level],
        request: &Request,
    ) -> Result<Self, Error> {
        let roundings = Rounding::of(request)?;
        let imatrix = request.imatrix.as_deref().map(ImatrixFile::open).transpose()?;
        let only = roundings.len() == 1;
        let mut batches: Vec<Batch> = Vec::new();
        for rounding in roundings {
            // What a series cannot make, another one does.
            let makes = |level: &Level| only || rounding.has_importances() || !level.needs_importance();
            let levels: Vec<Level> = levels.iter().filter(|level| makes(level)).copied().collect();
            let request = pythia_convert::Request {
                files: levels.iter().map(|&level| (level, folder.join(format!("{name}-{level}.gguf")))).collect(),
                provenance: provenance.clone(),
                imatrix: imatrix.clone().filter(|_| matches!(rounding, Rounding::Imatrix)),
                quantizer: match &rounding {
                    Rounding::By(quantizer) => Some(quantizer.clone()),
                    Rounding::Plain | Rounding::Imatrix => None,
                },
                allow_requantize: request.allow_requantize,
                ..Default::default()
            };
            let taken = |path: &Path| batches.iter().any(|batch| batch.plan.files.iter().any(|f| f.path() == path));
            if let Some(batch) = Batch::plan(&*source, rounding, request, folder, name, taken)? {
                batches.push(batch);
            }
        }
        Ok(Self { source, batches })
    }

    /// A file per level and series: the levels in the requested order, those of the first series first.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let candidate = |batch: &Batch, file: &FilePlan| Candidate {
            name: file.level.name().to_owned() + &Variant::of(&file.metadata).suffix(),
            level: file.level.name().to_owned(),
            series: batch.rounding.name().to_owned(),
            path: file.path().to_owned(),
        };
        self.batches.iter().flat_map(|batch| batch.plan.files.iter().map(|file| candidate(batch, file))).collect()
    }

    /// The metadata of the first file.
    pub(crate) fn first_metadata(&self) -> Result<&Metadata, Error> {
        let first = self.batches.iter().flat_map(|batch| &batch.plan.files).next();
        Ok(&first.ok_or_else(|| Error::Request("nothing to compare".to_owned()))?.metadata)
    }

    /// Converts the missing levels, in one pass over the source for each series. `request` names further files of the
    /// comparison, which may be in the cache too.
    pub(crate) fn fill(&self, folder: &Folder, request: &Request, observer: &dyn Observer) -> Result<(), Error> {
        let mut warnings: Vec<&String> = self.batches.iter().flat_map(|batch| &batch.plan.warnings).collect();
        // Most are about the source, the same for every series.
        let mut seen = HashSet::new();
        warnings.retain(|warning| seen.insert(*warning));
        warnings.into_iter().for_each(|warning| observer.warn(warning));
        // Checks existing files again, because another run may have written them since.
        let files = || self.batches.iter().flat_map(|batch| &batch.plan.files);
        let leftovers = files().flat_map(|file| remove_leftovers(file.path()));
        leftovers.for_each(|leftover| observer.note(&leftover.to_string()));
        let (n, kept) = (files().count(), files().filter(|file| is_current(file)).count());
        observer.cache(&format!("cache: {}: {kept} of {n} files are there", path(folder.path())));
        self.batches.iter().try_for_each(|batch| batch.fill(&*self.source, request, observer))?;
        let (n, bytes) = folder.size();
        observer.cache(&format!("cache: {}: {n} files, {}", path(folder.path()), number::bytes(bytes)));
        Ok(())
    }
}

impl Batch {
    /// Plans the files of `request`, without those whose paths are `taken`; `None` if none is left. Its paths are those
    /// of plain files; a file that is not plain gets another name.
    fn plan(
        source: &dyn Source,
        rounding: Rounding,
        mut request: pythia_convert::Request,
        folder: &Path,
        name: &str,
        taken: impl Fn(&Path) -> bool,
    ) -> Result<Option<Self>, Error> {
        if request.files.is_empty() {
            return Ok(None);
        }
        let plan = pythia_convert::plan(source, &request)?;
        for ((level, path), file) in request.files.iter_mut().zip(&plan.files) {
            let mut name = format!("{name}-{level}");
            if let Some(imatrix) = request.imatrix.as_ref().filter(|_| Variant::of(&file.metadata).imatrix.is_some()) {
                name += &format!("-imatrix-{}", short(imatrix.sha256()));
            }
            if let Some(quantizer) = request.quantizer.as_deref().filter(|_| file.by_quantizer) {
                name += &format!("-{}-{}", quantizer.name(), short(&digest_of(quantizer)));
            }
            *path = folder.join(name + ".gguf");
        }
        request.files.retain(|(_, path)| !taken(path));
        if request.files.is_empty() {
            return Ok(None);
        }
        let plan = pythia_convert::plan(source, &request)?;
        Ok(Some(Self { rounding, plan, request }))
    }

    /// Converts the missing files.
    fn fill(&self, source: &dyn Source, request: &Request, observer: &dyn Observer) -> Result<(), Error> {
        let planned = self.plan.files.iter().zip(&self.request.files);
        let missing: Vec<_> = planned.filter(|(file, _)| !is_current(file)).map(|(_, asked)| asked.clone()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        missing.iter().try_for_each(|(_, path)| check_target(path, &request.files, true))?;
        let names: Vec<&str> = missing.iter().map(|(level, _)| level.name()).collect();
        let how = match &self.rounding {
            Rounding::By(quantizer) => format!(" by {}", quantizer.name()),
            Rounding::Plain | Rounding::Imatrix => String::new(),
        };
        observer.step(&format!("making {} levels{how}: {}", names.len(), names.join(", ")));
        let asked = pythia_convert::Request { files: missing, ..self.request.clone() };
        let plan = pythia_convert::plan(source, &asked)?;
        let progress = observer.begin(Stage::Convert);
        progress.expect(Some(plan.source_bytes()));
        let options = RunOptions {
            threads: request.options.threads,
            // An existing file is out of date.
            force: true,
            allow_nonfinite: false,
            sha256: false,
            cancel: &request.cancel,
            progress: &*progress,
        };
        pythia_convert::run(source, &plan, &options)?;
        Ok(())
    }
}

/// The cache folder of a model called `name` with these weight files. `None` if there is no place for a cache.
pub(crate) fn cache_folder(request: &Request, name: &str, weights: &[PathBuf]) -> Result<Option<PathBuf>, Error> {
    let Some(root) = folder::root(request.cache.as_deref()) else { return Ok(None) };
    Ok(Some(root.join(format!("{name}-{}", digest(weights)?))))
}

/// Whether the planned file exists. Files are renamed when they are complete, so the size only detects later damage.
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
    // A file that cannot be read is converted again.
    plan.shards.iter().all(|shard| begins_with_header(shard).unwrap_or(false))
}

/// Sixteen hexadecimal digits that change with the weights, from file facts. Reading the weights would cost as much as
/// converting them.
fn digest(weights: &[PathBuf]) -> Result<String, Error> {
    let mut hasher = Sha256::new();
    // Another version may round differently.
    hasher.update(env!("CARGO_PKG_VERSION"));
    for path in weights {
        let (path, len, nanos) = identity(path).map_err(|source| Error::Io { path: path.clone(), source })?;
        // The fields are unambiguous: they have fixed lengths, or are paths that end with a NUL.
        hasher.update(path.as_os_str().as_encoded_bytes());
        hasher.update([0]);
        hasher.update(len.to_le_bytes());
        hasher.update(nanos.to_le_bytes());
    }
    Ok(pythia_text::hex(&hasher.finalize()[..DIGEST_CHARS / 2]))
}

fn identity(path: &Path) -> io::Result<(PathBuf, u64, u128)> {
    let metadata = fs::metadata(path)?;
    // For times before 1970, at least the file size still counts.
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
