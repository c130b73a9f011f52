//! Requests about a repository: the commit of a revision, and the list of its files.

use crate::Error;
use crate::blob::BlobId;
use crate::client::{Answer, Client};
use crate::error::excerpt;
use crate::id::{Repo, is_commit, is_revision};
use crate::list::{AtMost, Elements};
use crate::secret;
use crate::url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// Maximum number of pages of a list. A page of the Hub has 1000 files.
const MAX_PAGES: usize = 20;
/// Maximum number of entries of a list, over all pages: 20 pages of the Hub. Less than a kilobyte is kept of each.
const MAX_ENTRIES: usize = MAX_PAGES * 1000;
/// Branches that a message names.
const LISTED_BRANCHES: usize = 6;

/// A file of a repository at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// A plain name; in a dataset's repository, with the plain names of its folders.
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
    pub(crate) blob: BlobId,
}

/// The files of a repository at one commit, by name. `None` if the server's answer about a file is invalid.
pub(crate) type Tree = BTreeMap<String, Option<RemoteFile>>;

/// The present commit of the revision of `id`. With `patience`, a server that does not answer is asked again.
pub(crate) fn commit(client: &Client, id: &Repo, patience: bool) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Info {
        sha: String,
    }
    let path = format!("{}/revision/{}", id.api(), url::segment(id.revision()));
    let (answer, bytes) = client.json(&id.to_string(), &path, patience)?;
    check(client, id, None, &answer)?;
    let Info { sha } = parse(id, &bytes)?;
    if !is_commit(&sha) {
        return Err(Error::data(id.to_string(), format!("the server names the commit {}", excerpt(&sha))));
    }
    Ok(sha)
}

/// A branch or tag in the server's list.
#[derive(Deserialize)]
struct Ref {
    name: String,
    #[serde(default, rename = "targetCommit")]
    commit: String,
}

/// The server's list of branches and tags.
#[derive(Deserialize)]
struct Refs {
    branches: AtMost<Ref, MAX_ENTRIES>,
    #[serde(default)]
    tags: AtMost<Ref, MAX_ENTRIES>,
}

/// The branches and tags of a repository.
#[derive(Debug)]
pub(crate) struct Heads {
    /// Commits of the branches, by name.
    pub(crate) branches: BTreeMap<String, String>,
    /// Commits of the tags, by name.
    pub(crate) tags: BTreeMap<String, String>,
}

/// The branches and tags of the repository, without those whose names no user could ask for.
pub(crate) fn heads(client: &Client, id: &Repo) -> Result<Heads, Error> {
    let (answer, bytes) = client.json(&id.path(), &format!("{}/refs", id.api()), true)?;
    check(client, id, None, &answer)?;
    let Refs { branches, tags } = parse(id, &bytes)?;
    let by_name = |refs: AtMost<Ref, MAX_ENTRIES>| {
        let mut commits = BTreeMap::new();
        for Ref { name, commit } in refs.0.into_iter().filter(|entry| is_revision(&entry.name)) {
            let wrong = |reason| Error::data(id.to_string(), format!("the server's list of branches {reason}"));
            if !is_commit(&commit) {
                return Err(wrong(format!("gives {name} the commit {}", excerpt(&commit))));
            }
            if commits.insert(name.clone(), commit.clone()).is_some_and(|before| before != commit) {
                return Err(wrong(format!("gives {name} two commits")));
            }
        }
        Ok(commits)
    };
    Ok(Heads { branches: by_name(branches)?, tags: by_name(tags)? })
}

/// The files in the root of the repository at `commit`; of a dataset's repository, all files.
pub(crate) fn tree(client: &Client, id: &Repo, commit: &str) -> Result<Tree, Error> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(rename = "type")]
        kind: String,
        path: String,
        #[serde(default)]
        size: u64,
        #[serde(default)]
        oid: String,
        lfs: Option<Lfs>,
    }
    #[derive(Deserialize)]
    struct Lfs {
        oid: String,
        size: u64,
    }
    let mut tree = Tree::new();
    // A checkpoint lies in the root. The files of a dataset lie in folders, too.
    let deep = if id.has_folders() { "?recursive=true" } else { "" };
    let mut path = format!("{}/tree/{commit}{deep}", id.api());
    let mut n_entries = 0;
    for _ in 0..MAX_PAGES {
        let (answer, bytes) = client.json(&id.to_string(), &path, true)?;
        check(client, id, None, &answer)?;
        let take = |entry: Entry| {
            n_entries += 1;
            if n_entries > MAX_ENTRIES {
                return Err(format!("it has more than {MAX_ENTRIES} entries"));
            }
            let is_wanted = if id.has_folders() { is_plain_path(&entry.path) } else { is_plain_name(&entry.path) };
            if entry.kind != "file" || !is_wanted {
                return Ok(());
            }
            let (size_bytes, blob) = match &entry.lfs {
                Some(lfs) => (lfs.size, BlobId::sha256(&lfs.oid)),
                None => (entry.size, BlobId::git_sha1(&entry.oid)),
            };
            let file = blob.map(|blob| RemoteFile { name: entry.path.clone(), size_bytes, blob });
            tree.insert(entry.path, file);
            Ok(())
        };
        Elements::read(&bytes, take).map_err(|e| not_expected(id, &e))?;
        match next_page(&answer) {
            Some(next) => path = next,
            None => return Ok(tree),
        }
    }
    Err(Error::data(id.to_string(), format!("the list of files has more than {MAX_PAGES} pages")))
}

/// The address behind `Link: <...>; rel="next"`.
fn next_page(answer: &Answer) -> Option<String> {
    let link = answer.headers.get("link")?.to_str().ok()?;
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    let (_, rest) = next.split_once('<')?;
    Some(rest.split_once('>')?.0.to_owned())
}

fn parse<T: DeserializeOwned>(id: &Repo, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|e| not_expected(id, &e))
}

fn not_expected(id: &Repo, error: &serde_json::Error) -> Error {
    Error::data(id.to_string(), format!("the server's answer is not the JSON expected: {error}"))
}

/// Whether a file of this name stays in its folder on every system, and is not the user's token.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !"/\\:*?\"<>|".contains(c);
    (1..=200).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with('.')
        && !name.ends_with('.')
        && secret::redact(name) == name
}

/// Maximum number of folders that a file may be in.
const MAX_FOLDERS: usize = 8;

/// Whether this is a plain name with the plain names of its folders.
pub(crate) fn is_plain_path(path: &str) -> bool {
    path.split('/').count() <= MAX_FOLDERS + 1 && path.split('/').all(is_plain_name)
}

/// Explains a status other than success. `file` is the requested file; `None` for a request about the repository.
pub(crate) fn check(client: &Client, id: &Repo, file: Option<&str>, answer: &Answer) -> Result<(), Error> {
    if matches!(answer.status, 200 | 206) {
        return Ok(());
    }
    let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (code, server_says) = (header("x-error-code"), header("x-error-message"));
    let page = format!("{}/{}", client.endpoint(), id.path());
    let sign_in = if client.has_token() { "and the token in use has no access" } else { "then set HF_TOKEN" };
    let what = match file {
        Some(file) => format!("{id}: {file}"),
        None => id.to_string(),
    };
    let reason = match (answer.status, code) {
        (_, "GatedRepo") => format!("gated: accept its conditions at {page}, {sign_in}"),
        (_, "RevisionNotFound") => return Err(Error::refused(id.path(), unknown_revision(client, id))),
        (_, "EntryNotFound") => "the server has no such file at this revision".to_owned(),
        (401, _) if client.has_token() && code.is_empty() && server_says.starts_with("Invalid") => {
            "the server does not accept the token (HF_TOKEN, or the file that `hf auth login` wrote)".to_owned()
        }
        (401 | 404, _) if client.has_token() => {
            format!("no such repository at {}, or a private one that the token in use cannot read", client.endpoint())
        }
        (401 | 404, _) => {
            format!("no such repository at {}, or a private one: that needs HF_TOKEN", client.endpoint())
        }
        (403, _) => format!("the server forbids it: {}", excerpt(server_says)),
        (status, _) if server_says.is_empty() => format!("the server answered {status}"),
        (status, _) => format!("the server answered {status}: {}", excerpt(server_says)),
    };
    Err(Error::refused(what, reason))
}

/// A message that there is no such revision, with some that exist.
fn unknown_revision(client: &Client, id: &Repo) -> String {
    let missing = format!("no revision {}", excerpt(id.revision()));
    // Optional: without the list the message is still right.
    let refs = client.json(&id.path(), &format!("{}/refs", id.api()), false).ok();
    let refs = refs.filter(|(answer, _)| answer.status == 200).and_then(|(_, bytes)| parse::<Refs>(id, &bytes).ok());
    let branches = refs.map(|refs| refs.branches.0).filter(|branches| !branches.is_empty());
    let Some(branches) = branches else { return missing };
    let mut names: Vec<&str> = branches.iter().map(|branch| branch.name.as_str()).collect();
    // Most similar first.
    let likeness = |name: &str| name.bytes().zip(id.revision().bytes()).take_while(|(a, b)| a == b).count();
    names.sort_by_key(|name| std::cmp::Reverse(likeness(name)));
    let shown: Vec<String> = names.iter().take(LISTED_BRANCHES).map(|name| excerpt(name).replace('"', "")).collect();
    let more = names.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{missing}; there are {}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_folder_are_no_names() {
        for name in ["config.json", "model-00001-of-00002.safetensors", "a b.json".trim_start_matches("a ")] {
            assert!(is_plain_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "../x",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "c:x",
            ".hidden",
            "x.",
            "a\nb",
            "a\0",
            "a b",
            "\u{202e}x",
        ] {
            assert!(!is_plain_name(name), "{name:?}");
        }
        for path in ["README.md", "data/test-00000-of-00001.parquet", "a/b/c.jsonl"] {
            assert!(is_plain_path(path), "{path}");
        }
        for path in ["", "/", "a/", "/a", "a//b", "a/../b", "../a", "a/.git/b", "a/./b", &"a/".repeat(20)] {
            assert!(!is_plain_path(path), "{path:?}");
        }
    }
}
