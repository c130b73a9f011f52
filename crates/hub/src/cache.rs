//! The cache, in the layout of `huggingface_hub` (huggingface.co/docs/huggingface_hub/guides/manage-cache, and version
//! 2 for `trees`):
//!
//! ```text
//! models--OWNER--NAME/           datasets--OWNER--NAME for a dataset
//!   refs/REVISION                the commit of a branch or tag: 40 hexadecimal digits
//!   blobs/ETAG                   content, named by its digest
//!   snapshots/COMMIT/FILE        link to ../../blobs/ETAG
//!   .no_exist/COMMIT/FILE        empty: the commit has no such file
//!   trees/COMMIT.json            read only: every file of the commit
//! .locks/models--OWNER--NAME/ETAG.lock
//! ```
//!
//! While a blob is downloaded it is `blobs/ETAG.SIZE.ORIGIN.incomplete`; that name is all that resuming needs. Other
//! unfinished files are `.pythia-*` in the repository's folder. Every file and link gets its final name in one
//! operation when it is complete, so a killed program leaves nothing wrong.

use crate::Error;
use crate::api::{RemoteFile, Tree, is_plain_name};
use crate::blob::BlobId;
use crate::id::{Repo, is_commit};
use crate::lock::Lock;
use crate::own;
use pythia_text::hex;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Maximum size of a list of files written by another program.
const TREE_LIMIT_BYTES: u64 = 8 << 20;

const INCOMPLETE: &str = ".incomplete";

/// Prefix of unfinished files and folders.
const BESIDE: &str = ".pythia-";

/// As in huggingface_hub, except for the name of the program (bford.info/cachedir).
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This file is a cache directory tag: what is in this folder can be downloaded again.\n\
    # See https://bford.info/cachedir/\n";

/// The part of the cache that belongs to one repository.
#[derive(Clone, Debug)]
pub(crate) struct RepoCache {
    root: PathBuf,
    folder: PathBuf,
    /// `models--OWNER--NAME`
    name: String,
}

/// What the cache knows about a file of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is there.
    Present,
    /// The commit has no such file.
    Absent,
    /// It may be on the server.
    Nothing,
}

impl RepoCache {
    pub(crate) fn new(root: &Path, id: &Repo) -> Self {
        let name = id.folder();
        Self { root: root.to_owned(), folder: root.join(&name), name }
    }

    /// The folder of all repositories.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a commit's files.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    pub(crate) fn blob(&self, blob: &BlobId) -> PathBuf {
        self.folder.join("blobs").join(blob.as_str())
    }

    pub(crate) fn lock(&self, blob: &BlobId) -> PathBuf {
        self.root.join(".locks").join(&self.name).join(format!("{}.lock", blob.as_str()))
    }

    /// The commit of `revision` when the server was last asked. A commit is returned as it is.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let mut text = String::new();
        File::open(self.reference(revision)).ok()?.take(64).read_to_string(&mut text).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Records the commit of `revision`. Nothing to do if `revision` is a commit.
    pub(crate) fn set_commit(&self, revision: &str, commit: &str) -> Result<(), Error> {
        if self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.reference(revision);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let _lock = self.lock_beside()?;
        let write = || {
            let mut file = beside().tempfile_in(&self.folder)?;
            file.write_all(commit.as_bytes())?;
            file.persist(&path).map_err(io::Error::from).map(drop)
        };
        write().map_err(Error::io(&path))
    }

    /// Locks the creation of `.pythia-*` files to one program at a time, and removes those of killed programs.
    ///
    /// They are beside `refs` and `snapshots`, not inside: there `huggingface_hub` would call the repository corrupted.
    fn lock_beside(&self) -> Result<Lock, Error> {
        let path = self.root.join(".locks").join(&self.name).join("beside.lock");
        let lock = Lock::acquire(&path, || Ok(()))?;
        if !lock.is_held() {
            // The files may belong to another running program.
            return Ok(lock);
        }
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(BESIDE.as_bytes()) {
                remove_leftover(&entry.path());
            }
        }
        Ok(lock)
    }

    fn reference(&self, revision: &str) -> PathBuf {
        // The revision was checked when it was parsed, so the path stays below `refs`.
        self.folder.join("refs").join(revision)
    }

    /// The branches and tags whose commits are recorded, without those with a slash in their names.
    pub(crate) fn revisions(&self) -> Vec<String> {
        names(&self.folder.join("refs"))
    }

    /// The files in the root of the snapshot of `commit`, as the server would list them. `None` for one that is no link to
    /// a blob, so that nothing tells its digest.
    pub(crate) fn tree(&self, commit: &str) -> Tree {
        let folder = self.snapshot(commit);
        let file = |name: &String| {
            let path = folder.join(name);
            let blob = BlobId::from_etag(fs::read_link(&path).ok()?.file_name()?.to_str()?)?;
            Some(RemoteFile { name: name.clone(), size_bytes: fs::metadata(&path).ok()?.len(), blob })
        };
        let plain = names(&folder).into_iter().filter(|name| is_plain_name(name) && folder.join(name).is_file());
        plain.map(|name| (name.clone(), file(&name))).collect()
    }

    /// What the cache knows about the files of `commit`.
    pub(crate) fn lookup(&self, commit: &str) -> Lookup {
        let listed = self.listed(commit).unwrap_or_default();
        Lookup { snapshot: self.snapshot(commit), no_exist: self.folder.join(".no_exist").join(commit), listed }
    }

    /// The names in `trees/COMMIT.json`, if another program left it.
    fn listed(&self, commit: &str) -> Option<HashMap<String, IgnoredAny>> {
        #[derive(Deserialize)]
        struct Listing {
            format_version: u32,
            files: HashMap<String, IgnoredAny>,
        }
        let mut bytes = Vec::new();
        let path = self.folder.join("trees").join(format!("{commit}.json"));
        File::open(path).ok()?.take(TREE_LIMIT_BYTES).read_to_end(&mut bytes).ok()?;
        let listing: Listing = serde_json::from_slice(&bytes).ok()?;
        (listing.format_version == 1).then_some(listing.files)
    }

    /// Records that `commit` has no file `name`.
    pub(crate) fn set_absent(&self, commit: &str, name: &str) -> Result<(), Error> {
        let path = self.folder.join(".no_exist").join(commit).join(name);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        own::options().open(&path).map(drop).map_err(Error::io(&path))
    }

    /// Creates the folder for downloads, and marks the cache as a cache for backup programs.
    pub(crate) fn prepare(&self) -> Result<(), Error> {
        let folder = self.folder.join("blobs");
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        // Optional, so errors are ignored.
        if let Ok(mut tag) = File::create_new(self.root.join("CACHEDIR.TAG")) {
            let _ = tag.write_all(CACHEDIR_TAG.as_bytes());
        }
        Ok(())
    }

    /// Whether the content is there, by its size. Only checked content gets such a name.
    pub(crate) fn has_blob(&self, file: &RemoteFile) -> bool {
        fs::metadata(self.blob(&file.blob)).is_ok_and(|found| found.is_file() && found.len() == file.size_bytes)
    }

    /// What a file in the root of a snapshot links to.
    pub(crate) fn target(blob: &BlobId) -> PathBuf {
        Path::new("../../blobs").join(blob.as_str())
    }

    /// The folders in which the files of `commit` are, from the repository's folder on.
    pub(crate) fn folders(&self, commit: &str) -> [PathBuf; 4] {
        [self.folder.clone(), self.folder.join("blobs"), self.folder.join("snapshots"), self.snapshot(commit)]
    }

    /// The blobs that are there, or linked to a store beside the repositories.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = BlobId> {
        self.blob_names().into_iter().filter_map(|name| BlobId::from_etag(&name))
    }

    /// The links of all snapshots to `blob`. Whatever is called like it counts, so that none is missed.
    pub(crate) fn users(&self, blob: &BlobId) -> Result<Vec<PathBuf>, Error> {
        let mut users = Vec::new();
        let mut folders = vec![self.folder.join("snapshots")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(Error::io(&folder))? {
                let entry = entry.map_err(Error::io(&folder))?;
                let (path, kind) = (entry.path(), entry.file_type().map_err(Error::io(&folder))?);
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_symlink() && fs::read_link(&path).map_err(Error::io(&path))?.ends_with(blob.as_str())
                {
                    users.push(path);
                }
            }
        }
        Ok(users)
    }

    /// Links `name` of `commit` to the content of `blob`, which must be there.
    pub(crate) fn link(&self, commit: &str, name: &str, blob: &BlobId) -> Result<(), Error> {
        let path = self.snapshot(commit).join(name);
        // One step up more for each folder that the file is in.
        let depth = name.matches('/').count();
        let target = Path::new(&"../".repeat(depth)).join(Self::target(blob));
        if fs::read_link(&path).is_ok_and(|found| found == target) {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        if symlink(&target, &path).is_ok() {
            return Ok(());
        }
        let _lock = self.lock_beside()?;
        let link = || {
            // Created elsewhere and renamed, which replaces an older link in one step.
            let beside = tempfile::Builder::new().prefix(BESIDE).tempdir_in(&self.folder)?;
            let made = beside.path().join("link");
            if symlink(&target, &made).is_err() {
                fs::copy(self.blob(blob), &made)?;
            }
            fs::rename(&made, &path)
        };
        link().map_err(Error::io(&path))
    }

    /// Path to download `file` to: the file that an earlier run left, or a new one.
    ///
    /// `revision` is the one that the user asked for. Its digest with the file's name is part of the path.
    pub(crate) fn incomplete(&self, file: &RemoteFile, revision: &str) -> PathBuf {
        let begin = format!("{}.{}.", file.blob.as_str(), file.size_bytes);
        let left = self.blob_names().into_iter().find(|name| name.starts_with(&begin) && name.ends_with(INCOMPLETE));
        let name = left.unwrap_or_else(|| format!("{begin}{}{INCOMPLETE}", origin(revision, &file.name)));
        self.folder.join("blobs").join(name)
    }

    /// A new file to download to, and its path, for file systems without locks. No other program looks for it.
    pub(crate) fn unshared(&self) -> Result<(File, PathBuf), Error> {
        let make = || {
            let (file, path) = beside().tempfile_in(&self.folder)?.keep()?;
            Ok::<_, io::Error>((file, path))
        };
        make().map_err(Error::io(&self.folder))
    }

    /// Bytes of `file` that an earlier run downloaded.
    pub(crate) fn incomplete_bytes(&self, file: &RemoteFile, revision: &str) -> u64 {
        let found = fs::metadata(self.incomplete(file, revision)).map_or(0, |found| found.len());
        if found <= file.size_bytes { found } else { 0 }
    }

    /// Removes unfinished downloads of older contents of this file in this revision. No run would resume them.
    pub(crate) fn remove_outdated(&self, file: &RemoteFile, revision: &str) {
        let end = format!(".{}{INCOMPLETE}", origin(revision, &file.name));
        for name in self.blob_names() {
            let Some(blob) = name.split('.').next().and_then(BlobId::from_etag) else { continue };
            if !name.ends_with(&end) || blob == file.blob {
                continue;
            }
            // Another program may be downloading it.
            if let Ok(Some(lock)) = Lock::try_acquire(&self.lock(&blob))
                && lock.is_held()
            {
                let _ = fs::remove_file(self.folder.join("blobs").join(name));
            }
        }
    }

    fn blob_names(&self) -> Vec<String> {
        names(&self.folder.join("blobs"))
    }
}

/// The names in `folder`; none if it cannot be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// What the cache knows about the files of one commit.
#[derive(Debug)]
pub(crate) struct Lookup {
    snapshot: PathBuf,
    no_exist: PathBuf,
    /// Every file of the commit; empty if unknown.
    listed: HashMap<String, IgnoredAny>,
}

impl Lookup {
    pub(crate) fn known(&self, name: &str) -> Known {
        // False for a link to a removed blob.
        if self.snapshot.join(name).is_file() {
            Known::Present
        } else if self.no_exist.join(name).is_file() || (!self.listed.is_empty() && !self.listed.contains_key(name)) {
            Known::Absent
        } else {
            Known::Nothing
        }
    }

    /// Where the file would be.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.snapshot.join(name)
    }
}

/// Eight hexadecimal digits for a file of a revision.
fn origin(revision: &str, name: &str) -> String {
    let digest = Sha256::digest(format!("{revision}\0{name}"));
    hex(&digest[..4])
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

/// Builds temporary files with ordinary permissions (minus the umask), because a cache may be shared.
fn beside() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(BESIDE);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
}

/// Removes a leftover of [`beside`] from a killed run, if its content shows that it is one: a commit or the start of
/// one, or a folder with only links to blobs. Anything else with such a name is not ours.
fn remove_leftover(path: &Path) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    if metadata.is_file() {
        let is_commit_begun = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_hexdigit);
        if metadata.len() <= 40 && fs::read(path).is_ok_and(|bytes| is_commit_begun(&bytes)) {
            let _ = fs::remove_file(path);
        }
    } else if metadata.is_dir() {
        let Ok(entries) = fs::read_dir(path) else { return };
        let links: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        let leads_to_blob = |link: &PathBuf| {
            fs::read_link(link)
                .is_ok_and(|to| to.starts_with("../") && to.parent().is_some_and(|to| to.ends_with("blobs")))
        };
        if links.iter().all(leads_to_blob) {
            links.iter().for_each(|link| drop(fs::remove_file(link)));
            // Fails if something appeared meanwhile.
            let _ = fs::remove_dir(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ModelId;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn cache(root: &Path) -> RepoCache {
        RepoCache::new(root, ModelId::parse("a/b").unwrap().unwrap().as_repo())
    }

    fn file(digit: &str, size_bytes: u64) -> RemoteFile {
        RemoteFile { name: "f".into(), size_bytes, blob: BlobId::git_sha1(&digit.repeat(40)).unwrap() }
    }

    #[test]
    fn references_are_commits() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        assert_eq!(cache.commit(COMMIT).as_deref(), Some(COMMIT));
        assert_eq!(cache.commit("main"), None);
        cache.set_commit("refs/pr/1", COMMIT).unwrap();
        let path = dir.path().join("models--a--b/refs/refs/pr/1");
        assert_eq!(fs::read_to_string(&path).unwrap(), COMMIT);
        assert_eq!(cache.commit("refs/pr/1").as_deref(), Some(COMMIT));
        // What a killed run left is removed, and nothing stays beside the reference.
        let folder = dir.path().join("models--a--b");
        fs::write(folder.join(".pythia-file"), &COMMIT[..9]).unwrap();
        fs::create_dir_all(folder.join(".pythia-folder")).unwrap();
        symlink(Path::new("../../blobs/x"), &folder.join(".pythia-folder/within")).unwrap();
        cache.set_commit("refs/pr/1", &COMMIT.replace('0', "f")).unwrap();
        let names = |path: &Path| fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
        assert_eq!((names(&folder), names(path.parent().unwrap())), (vec!["refs".into()], vec!["1".into()]));
        // What only has such a name stays.
        fs::write(folder.join(".pythia-notes"), "not to be lost").unwrap();
        fs::create_dir_all(folder.join(".pythia-thesis/figures")).unwrap();
        cache.set_commit("refs/pr/1", COMMIT).unwrap();
        assert!(folder.join(".pythia-notes").is_file() && folder.join(".pythia-thesis/figures").is_dir());
        fs::write(&path, "../../../etc").unwrap();
        assert_eq!(cache.commit("refs/pr/1"), None);
    }

    #[test]
    fn files_are_present_absent_or_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        cache.prepare().unwrap();
        let blob = file("a", 2).blob;
        fs::write(cache.blob(&blob), "ab").unwrap();
        cache.link(COMMIT, "here", &blob).unwrap();
        cache.link(COMMIT, "here", &blob).unwrap();
        let gone = file("b", 2).blob;
        cache.link(COMMIT, "dangling", &gone).unwrap();
        cache.set_absent(COMMIT, "not").unwrap();
        let known = |name| cache.lookup(COMMIT).known(name);
        assert_eq!(known("here"), Known::Present);
        assert_eq!(known("dangling"), Known::Nothing);
        assert_eq!(known("not"), Known::Absent);
        assert_eq!(known("other"), Known::Nothing);
        let link = fs::read_link(cache.snapshot(COMMIT).join("here")).unwrap();
        assert_eq!(link, Path::new("../../blobs").join(blob.as_str()));
        assert_eq!(fs::read_dir(cache.snapshot(COMMIT)).unwrap().count(), 2, "nothing else is left");

        let trees = dir.path().join("models--a--b/trees");
        fs::create_dir(&trees).unwrap();
        fs::write(trees.join(format!("{COMMIT}.json")), r#"{"format_version": 1, "files": {"listed": {}}}"#).unwrap();
        assert_eq!((known("listed"), known("other")), (Known::Nothing, Known::Absent));
    }

    #[test]
    fn unfinished_files_are_found_by_content_and_outdated_ones_removed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        cache.prepare().unwrap();
        let (old, new) = (file("a", 9), file("b", 9));
        let path = cache.incomplete(&old, "main");
        fs::write(&path, "abc").unwrap();
        assert_eq!(cache.incomplete(&old, "step1"), path, "whatever it is asked for as");
        assert_eq!(cache.incomplete_bytes(&old, "main"), 3);
        assert_ne!(cache.incomplete(&file("a", 10), "main"), path, "another size");
        fs::create_dir_all(cache.lock(&old.blob).parent().unwrap()).unwrap();
        cache.remove_outdated(&new, "step1");
        cache.remove_outdated(&old, "main");
        assert!(path.exists(), "another revision's, and its own");
        let held = Lock::try_acquire(&cache.lock(&old.blob)).unwrap();
        cache.remove_outdated(&new, "main");
        assert!(path.exists(), "another program is at it");
        drop(held);
        cache.remove_outdated(&new, "main");
        assert!(!path.exists());
    }
}
