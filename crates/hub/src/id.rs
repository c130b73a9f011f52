//! Ids of repositories on the Hub, as users type them.

use crate::Error;
use crate::error::excerpt;
use crate::suite;
use std::fmt;

/// The default branch.
const DEFAULT_REVISION: &str = "main";

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Model,
    Dataset,
}

/// A repository and one of its revisions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Repo {
    kind: Kind,
    owner: String,
    name: String,
    revision: Option<String>,
}

/// `OWNER/NAME` and what follows an `@`.
fn split_revision(id: &str) -> (&str, Option<&str>) {
    id.split_once('@').map_or((id, None), |(repo, revision)| (repo, Some(revision)))
}

/// Owner and name, if the Hub allows both.
fn split_name(repo: &str) -> Option<(&str, &str)> {
    repo.split_once('/').filter(|(owner, name)| is_name(owner) && is_name(name))
}

fn malformed(text: &str, what: &str) -> Error {
    let shown = excerpt(text);
    Error::Request(format!("{shown}: {what}; wanted OWNER/NAME or OWNER/NAME@REVISION"))
}

impl Repo {
    /// Reads `OWNER/NAME[@REVISION]`, which the user wrote as `text`.
    fn parse(kind: Kind, id: &str, text: &str) -> Result<Self, Error> {
        let (repo, revision) = split_revision(id);
        let (owner, name) = split_name(repo).ok_or_else(|| malformed(text, "not the name of a repository"))?;
        if revision.is_some_and(|revision| !is_revision(revision)) {
            return Err(malformed(text, "not the name of a revision"));
        }
        let (owner, name, revision) = (owner.to_owned(), name.to_owned(), revision.map(str::to_owned));
        Ok(Self { kind, owner, name, revision })
    }

    /// The revision asked for: a branch, a tag or a commit.
    pub(crate) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(DEFAULT_REVISION)
    }

    /// The same repository at another revision, which must be a valid one.
    pub(crate) fn at(&self, revision: &str) -> Self {
        Self { revision: Some(revision.to_owned()), ..self.clone() }
    }

    /// Its path below the server, which is that of its page.
    pub(crate) fn path(&self) -> String {
        let kind = if self.kind == Kind::Dataset { "datasets/" } else { "" };
        format!("{kind}{}/{}", self.owner, self.name)
    }

    /// Its path below the server for questions about it.
    pub(crate) fn api(&self) -> String {
        let kind = if self.kind == Kind::Dataset { "datasets" } else { "models" };
        format!("/api/{kind}/{}/{}", self.owner, self.name)
    }

    /// Its folder in the cache: `models--OWNER--NAME`.
    pub(crate) fn folder(&self) -> String {
        let kind = if self.kind == Kind::Dataset { "datasets" } else { "models" };
        format!("{kind}--{}--{}", self.owner, self.name)
    }

    /// Whether its files are in folders, too.
    pub(crate) fn has_folders(&self) -> bool {
        self.kind == Kind::Dataset
    }

    /// `OWNER/NAME` without its revision.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

/// Only datasets are called what they are: this program is about models.
impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())?;
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

/// A dataset's repository and one of its revisions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DatasetId {
    repo: Repo,
}

impl DatasetId {
    /// Reads `OWNER/NAME[@REVISION]`. A revision is a branch, a tag or a commit.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Repo::parse(Kind::Dataset, text, text).map(|repo| Self { repo })
    }

    /// The same repository at another revision.
    pub(crate) fn at(&self, revision: &str) -> Self {
        Self { repo: self.repo.at(revision) }
    }

    /// Whether a revision was asked for.
    pub(crate) fn has_revision(&self) -> bool {
        self.repo.revision.is_some()
    }

    pub(crate) fn as_repo(&self) -> &Repo {
        &self.repo
    }
}

/// `datasets/OWNER/NAME[@REVISION]`
impl fmt::Display for DatasetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repo.fmt(f)
    }
}

/// A model repository and one of its revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelId {
    repo: Repo,
}

impl ModelId {
    /// Reads `OWNER/NAME[@REVISION]`, also behind `hf://`, or the address of its page,
    /// `https://huggingface.co/OWNER/NAME[/tree/REVISION]`. A revision is a branch, a tag or a commit.
    ///
    /// `None` if `text` can only be a path. The caller checks first that it does not exist as a path.
    ///
    /// # Errors
    /// If it is clearly meant as an id, but is malformed.
    pub fn parse(text: &str) -> Result<Option<Self>, Error> {
        let page = ["https://huggingface.co/", "https://hf.co/"].into_iter().find_map(|host| text.strip_prefix(host));
        let (id, is_explicit) = match (text.strip_prefix("hf://"), page) {
            (Some(id), _) => (id.to_owned(), true),
            (_, Some(page)) => (page.trim_end_matches('/').replacen("/tree/", "@", 1), true),
            _ if text.contains("://") => return Err(malformed(text, "not an address of the Hub")),
            _ => (text.to_owned(), false),
        };
        let (repo, _) = split_revision(&id);
        if !is_explicit && (is_file_name(repo) || split_name(repo).is_none()) {
            return Ok(None);
        }
        Repo::parse(Kind::Model, &id, text).map(|repo| Some(Self { repo }))
    }

    /// A suggestion for a model of the Pythia suite without its owner: `pythia-70m@step3000`.
    ///
    /// It is only suggested, because `text` may also be a mistyped folder.
    pub fn suggestion(text: &str) -> Option<String> {
        let id = Self::parse(&format!("{}/{text}", suite::OWNER)).ok().flatten()?;
        id.name().starts_with("pythia").then(|| id.to_string())
    }

    /// The model of the suite that is called `name`.
    pub(crate) fn of_suite(name: String) -> Self {
        Self { repo: Repo { kind: Kind::Model, owner: suite::OWNER.to_owned(), name, revision: None } }
    }

    /// The same repository at another revision.
    ///
    /// # Errors
    /// If no branch, tag or commit can be called `revision`.
    pub fn at(&self, revision: &str) -> Result<Self, Error> {
        if is_revision(revision) {
            Ok(Self { repo: self.repo.at(revision) })
        } else {
            Err(Error::Request(format!("{}: not the name of a revision: {}", self.repo(), excerpt(revision))))
        }
    }

    /// The owner of the repository.
    pub fn owner(&self) -> &str {
        &self.repo.owner
    }

    /// The repository's name without its owner.
    pub fn name(&self) -> &str {
        &self.repo.name
    }

    /// The revision asked for: a branch, a tag or a commit.
    pub fn revision(&self) -> &str {
        self.repo.revision()
    }

    pub(crate) fn as_repo(&self) -> &Repo {
        &self.repo
    }

    /// `OWNER/NAME`.
    pub fn repo(&self) -> String {
        self.repo.full_name()
    }

    /// Stem for names of files made from it, with the revision: `pythia-70m-step3000`, or `pythia-70m` for the default
    /// branch.
    pub fn file_stem(&self) -> String {
        match self.revision() {
            DEFAULT_REVISION => self.name().to_owned(),
            commit if is_commit(commit) => format!("{}-{}", self.name(), &commit[..8]),
            revision => format!("{}-{}", self.name(), revision.replace('/', "-")),
        }
    }

    /// Replaces the old name of a renamed model of the suite, and returns a note about it.
    pub(crate) fn rename(&mut self) -> Option<String> {
        let new = (self.owner() == suite::OWNER).then(|| suite::renamed(self.name())).flatten()?;
        let note = format!(
            "{}: renamed to {new} in January 2023, when the sizes in the names became those of all parameters; going \
             on with {new}",
            self.repo()
        );
        self.repo.name = new;
        Some(note)
    }

    /// The known fault of the weights of this revision, if there is one.
    pub(crate) fn known_fault(&self) -> Option<&'static str> {
        (self.owner() == suite::OWNER).then(|| suite::known_fault(self.name(), self.revision())).flatten()
    }

    /// An explanation, if this is a step of the suite that was never saved.
    pub(crate) fn missing_step(&self) -> Option<String> {
        (self.owner() == suite::OWNER).then(|| suite::missing_step(self.name(), self.revision())).flatten()
    }

    /// Refuses a step of the suite that does not exist.
    pub(crate) fn check_step(&self) -> Result<(), Error> {
        match self.missing_step() {
            Some(reason) => Err(Error::Request(format!("{self}: {reason}"))),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repo.fmt(f)
    }
}

/// Whether this is a full commit hash.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether the Hub allows this as the name of an owner or a repository. `--` is not allowed, because it separates the
/// two in names of cache folders.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=96).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
        && !text.contains("--")
        && !text.contains("..")
        && !text.ends_with(".git")
}

/// Whether this can be a branch, a tag or a commit, and is a path below `refs/` on every system.
pub(crate) fn is_revision(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    let component = |part: &str| {
        !part.is_empty() && part.bytes().all(plain) && !part.starts_with(['-', '.']) && !part.ends_with('.')
    };
    text.len() <= 200 && text.split('/').all(component) && !text.contains("..") && !text.ends_with(".lock")
}

/// Whether this is clearly the name of a missing file and not a repository.
fn is_file_name(text: &str) -> bool {
    [".gguf", ".safetensors", ".bin", ".json", ".txt"].iter().any(|end| text.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(String, String)> {
        ModelId::parse(text).unwrap().map(|id| (id.repo(), id.revision().to_owned()))
    }

    #[test]
    fn ids_have_an_owner_a_name_and_maybe_a_revision() {
        let repo = "EleutherAI/pythia-70m";
        for (text, revision) in [
            ("EleutherAI/pythia-70m", "main"),
            ("EleutherAI/pythia-70m@step3000", "step3000"),
            ("hf://EleutherAI/pythia-70m@refs/pr/1", "refs/pr/1"),
            ("https://huggingface.co/EleutherAI/pythia-70m", "main"),
            ("https://huggingface.co/EleutherAI/pythia-70m/", "main"),
            ("https://huggingface.co/EleutherAI/pythia-70m/tree/step3000", "step3000"),
        ] {
            assert_eq!(parsed(text), Some((repo.to_owned(), revision.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_can_only_be_a_path_is_none() {
        for text in [
            "pythia-70m",
            "pythia-70m@step3000",
            "/models/pythia-70m",
            "./pythia-70m",
            "../pythia-70m",
            "~/pythia-70m",
            "a/b/c",
            "models/",
            "/pythia-70m",
            "a/m.gguf",
            "a/model.safetensors",
            "a\\b",
            "a/b c",
            "a/..",
            "a--b/c",
            "",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_meant_as_an_id_and_is_none_is_refused() {
        for text in [
            "a/b@",
            "a/b@../x",
            "a/b@/etc",
            "a/b@x//y",
            "a/b@x y",
            "a/b@-x",
            "a/b@x.lock",
            "hf://a",
            "hf://a/b/c",
            "hf://../b",
            "https://huggingface.co/a",
            "https://huggingface.co/a/b/blob/main/config.json",
            "https://example.org/a/b",
        ] {
            let error = ModelId::parse(text).unwrap_err();
            assert!(error.to_string().starts_with(&format!("{text:?}: ")), "{error}");
            assert_eq!(error.kind(), pythia_task::ErrorKind::Usage);
        }
    }

    #[test]
    fn a_model_without_its_owner_is_recognised() {
        let suggestion = ModelId::suggestion("pythia-70m@step3000");
        assert_eq!(suggestion.as_deref(), Some("EleutherAI/pythia-70m@step3000"));
        assert_eq!(ModelId::suggestion("my-model"), None);
        assert_eq!(ModelId::suggestion("models/pythia-70m"), None);
    }

    #[test]
    fn revisions_make_different_file_names() {
        let stem = |text: &str| ModelId::parse(text).unwrap().unwrap().file_stem();
        assert_eq!(stem("a/b"), "b");
        assert_eq!(stem("a/b@main"), "b");
        assert_eq!(stem("a/b@refs/pr/1"), "b-refs-pr-1");
        assert_eq!(stem("a/b@0123456789abcdef0123456789abcdef01234567"), "b-01234567");
    }

    #[test]
    fn old_names_and_missing_steps_belong_to_the_suite() {
        let id = |text: &str| ModelId::parse(text).unwrap().unwrap();
        let mut old = id("EleutherAI/pythia-125m@step1000");
        let note = old.rename().unwrap();
        assert!(note.contains("renamed to pythia-160m in January 2023"), "{note}");
        assert_eq!(old.to_string(), "EleutherAI/pythia-160m@step1000");
        assert_eq!(id("someone/pythia-125m").rename(), None);
        let error = id("EleutherAI/pythia-70m@step3001").check_step().unwrap_err().to_string();
        assert!(error.contains("step3000 and step4000"), "{error}");
        id("someone/pythia-70m@step3001").check_step().unwrap();
    }
}
