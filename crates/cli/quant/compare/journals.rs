//! What earlier runs have scored, and a place for the scores of this one.
//!
//! A journal holds what one file predicted, beside the base, of a text. Its key is a digest of all that the scores depend
//! on; the number of chunks asked for and the number of threads are not among that.

use super::super::cache::folder::{Folder, program_id};
use super::super::cache::rows::{EXTENSION, Rows};
use crate::exit;
use pythia_runtime::eval::{Store, TokenScore};
use sha2::{Digest, Sha256};

/// Digits of a key in the name of its file.
const NAME_CHARS: usize = 24;

/// The journals of all files of a comparison, the base first; `None` where there is none.
pub(super) struct Journals(Vec<Option<Rows>>);

impl Journals {
    /// Opens them in `folder`. `setting` is what the scores of all depend on, `ids` say what each file is. What is there
    /// is forgotten if `afresh`.
    pub(super) fn open(folder: Option<&Folder>, setting: &str, ids: &[String], afresh: bool) -> Self {
        let base = ids.first().map_or("", String::as_str);
        let open = |(id, folder): (&String, &Folder)| {
            let key = key(&[&program_id(), setting, base, id]);
            let name = format!("{}.{EXTENSION}", key.get(..NAME_CHARS).unwrap_or(&key));
            Rows::open(&folder.path().join(name), &key, afresh).ok()
        };
        Self(ids.iter().map(|id| open((id, folder?))).collect())
    }

    /// Chunks, from the first on, that need not be run.
    pub(super) fn known(&self) -> usize {
        self.0.iter().map(|rows| rows.as_ref().map_or(0, Rows::len)).min().unwrap_or(0)
    }

    /// Those of the base and of `n` levels, of which the first is number `first`.
    pub(super) fn group(&mut self, first: usize) -> Group<'_> {
        Group { journals: self, first }
    }
}

/// Journals of some of the levels, with the base's.
pub(super) struct Group<'j> {
    journals: &'j mut Journals,
    first: usize,
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
            exit::note(format_args!("the cache cannot be written: {error}; if this run is stopped, it begins again"));
        }
    }
}

/// A digest of several texts, hexadecimal.
fn key(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        // Their lengths tell where one ends.
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
        let folder = Folder::open(dir.path().join("m-1"), dir.path()).unwrap();
        let ids = ["base", "a", "b"].map(String::from);
        let open = |setting: &str, afresh| Journals::open(Some(&folder), setting, &ids, afresh);
        let mut journals = open("x", false);
        let mut second = journals.group(2);
        second.write(0, 0, &[score(1.0)]);
        second.write(1, 0, &[score(2.0)]);
        assert_eq!(journals.known(), 0, "the first level is missing");
        journals.group(1).write(1, 0, &[score(3.0)]);
        assert_eq!(journals.known(), 1);
        drop(journals);
        let mut journals = open("x", false);
        assert_eq!(journals.group(2).read(1, 0), Some(vec![score(2.0)]));
        assert_eq!(journals.group(1).read(1, 0), Some(vec![score(3.0)]));
        assert_eq!(journals.group(1).read(1, 1), None);
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
