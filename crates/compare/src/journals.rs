//! Journals with the scores of earlier runs and of this one.
//!
//! A journal holds the scores of one file, compared with the base, on a text. Its key is a digest of everything that
//! the scores depend on. They do not depend on the requested number of chunks or the number of threads.

use crate::Observer;
use crate::cache::folder::{Folder, program_id};
use crate::cache::rows::{ROWS, Rows};
use pythia_runtime::eval::{Store, TokenScore};
use sha2::{Digest, Sha256};

/// The journals of all files of a comparison, the base first. `None` for a file without one.
pub(crate) struct Journals(Vec<Option<Rows>>);

impl Journals {
    /// Opens them in `folder`. All scores depend on `setting`, and `ids` identify the files. Existing scores are
    /// discarded if `afresh`.
    pub(crate) fn open(folder: Option<&Folder>, setting: &str, ids: &[String], afresh: bool) -> Self {
        let base = ids.first().map_or("", String::as_str);
        let open = |(id, folder): (&String, &Folder)| {
            let key = key(&[&program_id(), setting, base, id]);
            Rows::open(&ROWS.path(folder.path(), &key), &key, afresh).ok()
        };
        Self(ids.iter().map(|id| open((id, folder?))).collect())
    }

    /// Number of first chunks that need not be run.
    pub(crate) fn known(&self) -> usize {
        self.0.iter().map(|rows| rows.as_ref().map_or(0, Rows::len)).min().unwrap_or(0)
    }

    /// Whether another process writes one of them: scores of this one are not kept there.
    pub(crate) fn are_shared(&self) -> bool {
        self.0.iter().flatten().any(|rows| !rows.is_writer())
    }

    /// The journals of the base and of the files from number `first` on.
    pub(crate) fn group<'j>(&'j mut self, first: usize, observer: &'j dyn Observer) -> Group<'j> {
        Group { journals: self, first, observer }
    }
}

/// Journals of some of the levels, with the base's.
pub(crate) struct Group<'j> {
    journals: &'j mut Journals,
    first: usize,
    observer: &'j dyn Observer,
}

impl Group<'_> {
    fn rows(&mut self, model: usize) -> &mut Option<Rows> {
        let index = if model == 0 { 0 } else { self.first + model - 1 };
        &mut self.journals.0[index]
    }
}

impl Store for Group<'_> {
    fn read(&mut self, model: usize, window: usize) -> Option<Vec<TokenScore>> {
        let rows = self.rows(model).as_mut().filter(|rows| window < rows.len())?;
        rows.read(window).ok()
    }

    fn write(&mut self, model: usize, window: usize, scores: &[TokenScore]) {
        let rows = self.rows(model);
        if let Some(error) = rows.as_mut().and_then(|rows| rows.append(window, scores).err()) {
            *rows = None;
            self.observer
                .note(&format!("the cache cannot be written: {error}; if this run is stopped, it cannot be resumed"));
        }
    }
}

/// A digest of several texts, hexadecimal.
fn key(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        // Lengths are included, so that the boundaries are unambiguous.
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    pythia_text::hex(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(nll: f64) -> TokenScore {
        TokenScore { nll, kld: 0.5, same_top: false }
    }

    #[test]
    fn a_group_sees_the_base_and_its_own_levels() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path().join("m-1"), dir.path(), &()).unwrap();
        let ids = ["base", "a", "b"].map(String::from);
        let open = |setting: &str, afresh| Journals::open(Some(&folder), setting, &ids, afresh);
        let mut journals = open("x", false);
        let mut second = journals.group(2, &());
        second.write(0, 0, &[score(1.0)]);
        second.write(1, 0, &[score(2.0)]);
        assert_eq!(journals.known(), 0, "the first level is missing");
        journals.group(1, &()).write(1, 0, &[score(3.0)]);
        assert_eq!(journals.known(), 1);
        assert!(!journals.are_shared());
        #[cfg(unix)]
        assert!(open("x", false).are_shared(), "while the first is open");
        drop(journals);
        let mut journals = open("x", false);
        assert_eq!(journals.group(2, &()).read(1, 0), Some(vec![score(2.0)]));
        assert_eq!(journals.group(1, &()).read(1, 0), Some(vec![score(3.0)]));
        assert_eq!(journals.group(1, &()).read(1, 1), None);
        drop(journals);
        assert_eq!(open("y", false).known(), 0, "another setting");
        assert_eq!(open("x", true).known(), 0);
        assert_eq!(Journals::open(None, "x", &ids, false).known(), 0);
    }

    #[test]
    fn parts_of_a_key_do_not_run_into_each_other() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
    }
}
