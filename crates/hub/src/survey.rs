//! What the Hub has at many revisions of a model. Only lists are requested: of the branches, and of the files of each
//! commit. The digests in them tell which revisions have the same weights.

use crate::api::{self, Heads, RemoteFile, Tree};
use crate::cache::RepoCache;
use crate::client::Client;
use crate::fetch::{WithoutToken, connected, without_network};
use crate::id::{ModelId, is_commit};
use crate::{Error, Settings, select, suite, workers};
use pythia_task::{Cancel, Progress};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Lists of files that are requested at the same time.
pub(crate) const MAX_CONNECTIONS: usize = 8;
/// Revisions that the user names by this prefix are in no list of branches: `refs/pr/1`.
const UNLISTED: &str = "refs/";

/// What the Hub has at one revision of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The branch, tag or commit: `step3000`, `main`.
    pub revision: String,
    /// The commit, 40 hexadecimal digits. Empty if there is no such revision.
    pub commit: String,
    /// The files that [`fetch`](crate::fetch()) would take: config, tokenizer, model card, and one set of weights with its
    /// index, sorted by name. Empty if there is a [`problem`](Self::problem).
    ///
    /// Shards are told by their names, because their index is not read. If the repository has several complete sets of
    /// them, all are here.
    pub files: Vec<ListedFile>,
    /// Why there is no checkpoint at this revision. One line, without the names of repository and revision.
    pub problem: Option<String>,
    /// The reported fault of the weights of this revision, if there is one. One line.
    pub warning: Option<String>,
}

/// A file in a list of the Hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// Its name in the root of the repository.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// `sha256:` and 64 hexadecimal digits for a file in large file storage, as weights are; `git-sha1:` and 40 digits,
    /// Git's object id, for any other. Equal digests mean equal contents.
    pub digest: String,
    /// Whether it holds weights. False for the index of shards.
    pub is_weights: bool,
}

/// Which revisions of a model to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revisions {
    /// Every branch that is called `stepN`, in the order of the numbers. Offline, those of which the cache has a
    /// checkpoint.
    AllSteps,
    /// These branches, tags and commits, in this order.
    Named(Vec<String>),
}

/// Lists `revisions` of `id`, whose own revision is ignored. No file is downloaded.
///
/// One request is sent for the branches and tags, and one for each commit (more where a list has several pages). A revision
/// that does not exist, or is no checkpoint, is listed with its problem. `progress` counts revisions, not bytes.
///
/// Offline, the answer is that of the cache.
///
/// # Errors
/// See [`Error`]: the repository does not exist or is not available to this user, the server does not answer, a name
/// cannot be one of a revision; offline, a revision of which the cache has no checkpoint.
pub fn survey(
    settings: &Settings,
    id: &ModelId,
    revisions: &Revisions,
    cancel: &Cancel,
    progress: Arc<dyn Progress>,
) -> Result<Vec<Listed>, Error> {
    select::check_variant(settings.variant.as_deref())?;
    let progress: Arc<dyn Progress> = Arc::new(WithoutToken(progress));
    let mut id = id.clone();
    if let Some(note) = id.rename() {
        progress.note(&note);
    }
    let named = match revisions {
        Revisions::AllSteps => None,
        Revisions::Named(names) => Some(names.iter().map(|name| id.at(name)).collect::<Result<Vec<_>, _>>()?),
    };
    if settings.offline {
        return cached(settings, &id, named, &*progress);
    }
    let variant = settings.variant.clone();
    connected(settings, cancel, progress, move |client, progress| Survey { client, id, variant, progress }.list(named))
}

/// The steps that a model has branches for: N of those that are called `stepN`. One request is sent; offline, the answer is
/// that of the cache.
///
/// # Errors
/// As [`survey`].
pub fn branched_steps(
    settings: &Settings,
    id: &ModelId,
    cancel: &Cancel,
    progress: Arc<dyn Progress>,
) -> Result<BTreeSet<u64>, Error> {
    let numbers = |names: &mut dyn Iterator<Item = &String>| -> BTreeSet<u64> {
        names.filter_map(|name| suite::step(name)).map(u64::from).collect()
    };
    if settings.offline {
        let listed = survey(settings, id, &Revisions::AllSteps, cancel, progress)?;
        return Ok(numbers(&mut listed.iter().map(|listed| &listed.revision)));
    }
    let mut id = id.clone();
    // Its note comes with the survey.
    let _ = id.rename();
    connected(settings, cancel, Arc::new(WithoutToken(progress)), move |client, _| {
        let heads = api::heads(&client, id.as_repo())?;
        Ok(numbers(&mut heads.branches.keys()))
    })
}

/// A survey that asks the server.
struct Survey {
    client: Client,
    id: ModelId,
    variant: Option<String>,
    progress: Arc<dyn Progress>,
}

impl Survey {
    fn list(&self, named: Option<Vec<ModelId>>) -> Result<Vec<Listed>, Error> {
        let heads = api::heads(&self.client, self.id.as_repo())?;
        let ids = match named {
            Some(ids) => ids,
            None => steps(&self.id, heads.branches.keys())?,
        };
        self.progress.expect(Some(ids.len() as u64));
        let mut listed = Vec::new();
        // Two branches may have the same commit, which is then asked for once.
        let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, id) in ids.iter().enumerate() {
            let (commit, problem) = match self.commit(&heads, id)? {
                Ok(commit) => (commit, None),
                Err(problem) => (String::new(), Some(problem)),
            };
            if problem.is_none() {
                places.entry(commit.clone()).or_default().push(place);
            } else {
                self.progress.advance(id.revision(), 1);
            }
            listed.push(unlisted(id, commit, problem));
        }
        let listed = Mutex::new(listed);
        // In the order of the revisions, not of the hashes.
        let mut places: Vec<_> = places.into_iter().collect();
        places.sort_by_key(|(_, places)| places[0]);
        workers::for_each(&self.client, MAX_CONNECTIONS, places, |(commit, places)| {
            let found = self.files(&ids[places[0]], &commit)?;
            let mut listed = listed.lock().unwrap_or_else(PoisonError::into_inner);
            for place in places {
                listed[place].set(found.clone());
                self.progress.advance(ids[place].revision(), 1);
            }
            Ok(())
        })?;
        Ok(listed.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The commit of a revision, or why it has none.
    fn commit(&self, heads: &Heads, id: &ModelId) -> Result<Result<String, String>, Error> {
        let revision = id.revision();
        if let Some(commit) = heads.branches.get(revision).or_else(|| heads.tags.get(revision)) {
            return Ok(Ok(commit.clone()));
        }
        if is_commit(revision) {
            return Ok(Ok(revision.to_owned()));
        }
        if revision.starts_with(UNLISTED) {
            return match api::commit(&self.client, id.as_repo(), true) {
                Err(error @ Error::Refused { .. }) => Ok(Err(error.reason())),
                result => result.map(Ok),
            };
        }
        Ok(Err(id.missing_step().unwrap_or_else(|| "no such branch, tag or commit".to_owned())))
    }

    /// The files of a checkpoint, or why there is none.
    fn files(&self, id: &ModelId, commit: &str) -> Result<Result<Vec<ListedFile>, String>, Error> {
        match api::tree(&self.client, id.as_repo(), commit) {
            Ok(tree) => Ok(checkpoint(id, &tree, self.variant.as_deref())),
            // The user's own commit, which may not exist. One that the server named is there.
            Err(error @ Error::Refused { .. }) if is_commit(id.revision()) => Ok(Err(error.reason())),
            Err(error) => Err(error),
        }
    }
}

impl Listed {
    fn set(&mut self, found: Result<Vec<ListedFile>, String>) {
        match found {
            Ok(files) => self.files = files,
            Err(problem) => self.problem = Some(problem),
        }
    }
}

fn unlisted(id: &ModelId, commit: String, problem: Option<String>) -> Listed {
    let warning = id.known_fault().map(str::to_owned);
    Listed { revision: id.revision().to_owned(), commit, files: Vec::new(), problem, warning }
}

/// `id` at each of `names` that is a step, in the order of the steps.
fn steps<'n>(id: &ModelId, names: impl Iterator<Item = &'n String>) -> Result<Vec<ModelId>, Error> {
    let mut steps: Vec<_> = names.filter_map(|name| Some((suite::step(name)?, name))).collect();
    steps.sort_unstable();
    steps.into_iter().map(|(_, name)| id.at(name)).collect()
}

/// The files of `tree` that make up a checkpoint, or why they do not.
fn checkpoint(id: &ModelId, tree: &Tree, variant: Option<&str>) -> Result<Vec<ListedFile>, String> {
    let find = || {
        let selection = select::select(id.as_repo(), tree, variant)?;
        let weights = selection.listed_weights(id.as_repo(), tree)?;
        Ok((selection, weights))
    };
    let (selection, weights) = find().map_err(|error: Error| error.reason())?;
    let file = |file: &RemoteFile, is_weights| ListedFile {
        name: file.name.clone(),
        bytes: file.size_bytes,
        digest: file.blob.label(),
        is_weights,
    };
    let index = selection.index();
    let others = selection.companions.iter().copied().chain(index).map(|found| file(found, false));
    let mut files: Vec<_> = others.chain(weights.into_iter().map(|found| file(found, true))).collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Lists what the cache has.
fn cached(
    settings: &Settings,
    id: &ModelId,
    named: Option<Vec<ModelId>>,
    progress: &dyn Progress,
) -> Result<Vec<Listed>, Error> {
    let cache = RepoCache::new(&settings.cache, id.as_repo());
    let is_named = named.is_some();
    let ids = match named {
        Some(ids) => ids,
        None => steps(id, cache.revisions().iter())?,
    };
    progress.expect(Some(ids.len() as u64));
    let mut all = Vec::new();
    let mut lacking = None;
    for id in &ids {
        progress.advance(id.revision(), 1);
        let commit = match without_network(settings, &cache, id) {
            Ok(snapshot) => snapshot.map(|snapshot| snapshot.commit),
            Err(error) if is_named => return Err(error),
            Err(error) => {
                lacking = Some(error);
                None
            }
        };
        let Some(commit) = commit else { continue };
        let mut listed = unlisted(id, commit, None);
        listed.set(checkpoint(id, &cache.tree(&listed.commit), settings.variant.as_deref()));
        all.push(listed);
    }
    if all.is_empty() && !is_named {
        let none = || {
            Error::offline(
                id.to_string(),
                format!("offline, and the cache {} has no step of it", cache.root().display()),
            )
        };
        return Err(lacking.unwrap_or_else(none));
    }
    if all.len() < ids.len() {
        progress.note(&format!(
            "{}: offline, {} of {} steps in the cache are checkpoints",
            id.repo(),
            all.len(),
            ids.len()
        ));
    }
    Ok(all)
}
