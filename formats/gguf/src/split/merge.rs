//! From the headers of a model's files to one header.

use super::{Split, remove_keys, shard_name};
use crate::error::{Error, quoted};
use crate::keys;
use crate::read::Gguf;
use crate::rules::MAX_TENSORS;
use crate::tensor::TensorInfo;
use std::collections::HashSet;

/// Reads the header of a model, file by file. It does no I/O: the caller asks for the name of the next file.
///
/// The result has the metadata of the first file without the keys of the split, and the tensors of all files, each with
/// the number of the file it is in. A file that is no part of a split model is a model by itself.
#[derive(Debug)]
pub struct Merge {
    first: Gguf,
    /// `None` of a file that does not speak of it.
    split: Option<Split>,
    /// What the names of all files begin with.
    prefix: String,
    /// Number of files so far.
    n_files: u32,
    tensors: Vec<TensorInfo>,
    names: HashSet<String>,
}

impl Merge {
    /// Starts with the file called `name`, without its folder.
    ///
    /// # Errors
    /// If it is another part of a split model than the first, or is called otherwise than the other parts are found by.
    pub fn new(mut first: Gguf, name: &str) -> Result<Self, Error> {
        let split = Split::of(&first.metadata)?;
        let prefix = match split {
            Some(split) if split.count > 1 => prefix_of_first(split, name)?,
            _ => String::new(),
        };
        let mut merge = Self { split, prefix, n_files: 1, tensors: first.take_tensors(), names: HashSet::new(), first };
        if merge.next_name().is_some() {
            merge.names.extend(merge.tensors.iter().map(|tensor| tensor.name.clone()));
        }
        Ok(merge)
    }

    /// Files of the whole model.
    pub fn n_files(&self) -> u32 {
        self.split.map_or(1, |split| split.count)
    }

    /// Name of the file to [`add`](Self::add) next; `None` when all are there.
    pub fn next_name(&self) -> Option<String> {
        let n_files = self.n_files();
        (self.n_files < n_files).then(|| shard_name(&self.prefix, self.n_files, n_files))
    }

    /// Adds the next file.
    ///
    /// # Errors
    /// If it is another part, or does not fit the others: numbers and counts, the architecture where it is stated, or a
    /// tensor that an earlier file has too.
    pub fn add(&mut self, mut part: Gguf) -> Result<(), Error> {
        let Some(first) = self.split else { return Err(Error::header("a second file", "a model in one file")) };
        let as_in_first = |wanted: String| format!("{wanted}, as in the first part");
        let split = Split::of(&part.metadata)?;
        let split = split.ok_or_else(|| Error::missing_key(keys::SPLIT_COUNT, as_in_first(first.count.to_string())))?;
        if split.count != first.count {
            let wanted = as_in_first(first.count.to_string());
            return Err(Error::key(keys::SPLIT_COUNT, split.count.to_string(), wanted));
        }
        if split.no != self.n_files {
            let wanted = format!("{}, by the name of the file", self.n_files);
            return Err(Error::key(keys::SPLIT_NO, split.no.to_string(), wanted));
        }
        if let (Some(found), Some(wanted)) = (split.n_tensors, first.n_tensors)
            && found != wanted
        {
            let wanted = as_in_first(wanted.to_string());
            return Err(Error::key(keys::SPLIT_TENSORS_COUNT, found.to_string(), wanted));
        }
        let wanted = self.first.metadata.str(keys::ARCHITECTURE)?;
        if let Some(found) = part.metadata.str(keys::ARCHITECTURE)?
            && wanted != Some(found)
        {
            let wanted = wanted.map_or("none".to_owned(), quoted);
            return Err(Error::key(keys::ARCHITECTURE, quoted(found), as_in_first(wanted)));
        }
        let tensors = part.take_tensors();
        let n_tensors = (self.tensors.len() + tensors.len()) as u64;
        if n_tensors > MAX_TENSORS {
            let found = format!("{n_tensors} tensors in {} parts", self.n_files + 1);
            return Err(Error::header(found, format!("at most {MAX_TENSORS}")));
        }
        for mut tensor in tensors {
            if !self.names.insert(tensor.name.clone()) {
                return Err(Error::tensor(&tensor.name, "a tensor that an earlier part has too", "one of this name"));
            }
            tensor.file = self.n_files as usize;
            self.tensors.push(tensor);
        }
        self.n_files += 1;
        Ok(())
    }

    /// The header of the model.
    ///
    /// # Errors
    /// If the files together have another number of tensors than the first one says, or one of them was not added.
    pub fn finish(self) -> Result<Gguf, Error> {
        if let Some(name) = self.next_name() {
            return Err(missing(self.n_files(), &name));
        }
        if let Some(n) = self.split.and_then(|split| split.n_tensors)
            && n != self.tensors.len() as u64
        {
            let wanted = format!("{}, the tensors of {} files", self.tensors.len(), self.n_files());
            return Err(Error::key(keys::SPLIT_TENSORS_COUNT, n.to_string(), wanted));
        }
        let mut merged = self.first.with_tensors(self.tensors)?;
        remove_keys(&mut merged.metadata);
        Ok(merged)
    }
}

/// One of the `count` files is not there, the one called `name`.
pub(crate) fn missing(count: u32, name: &str) -> Error {
    Error::key(keys::SPLIT_COUNT, format!("{count} parts without {}", quoted(name)), "all of them in one folder")
}

/// What comes before the numbers in `name`, which must be the name of the first part.
fn prefix_of_first(split: Split, name: &str) -> Result<String, Error> {
    let Split { no, count, .. } = split;
    let ending = shard_name("", no, count);
    let part = format!("part {} of {count}", no + 1);
    match name.strip_suffix(&ending) {
        None => {
            let found = format!("{part} in a file called {}", quoted(name));
            Err(Error::key(keys::SPLIT_NO, found, format!("a name that ends in {}", quoted(&ending))))
        }
        Some(prefix) if no > 0 => {
            let first = quoted(&shard_name(prefix, 0, count));
            Err(Error::key(keys::SPLIT_NO, part, format!("the first part, {first}, which opens all")))
        }
        Some(prefix) => Ok(prefix.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Metadata;
    use crate::write::Layout;
    use pythia_tensor::TensorType;

    /// Header of part `no` of `count`, with one-element tensors.
    fn part(no: u16, count: u16, total: i32, names: &[&str]) -> Gguf {
        let mut metadata = Metadata::new();
        if no == 0 {
            metadata.insert(keys::ARCHITECTURE, "gptneox");
        }
        metadata.insert(keys::SPLIT_NO, no);
        metadata.insert(keys::SPLIT_COUNT, count);
        metadata.insert(keys::SPLIT_TENSORS_COUNT, total);
        header(&metadata, names)
    }

    fn header(metadata: &Metadata, names: &[&str]) -> Gguf {
        let tensors = names.iter().map(|name| ((*name).to_owned(), TensorType::F32, vec![1])).collect();
        let layout = Layout::new(metadata, tensors).unwrap();
        let mut file = layout.header().to_vec();
        file.resize(layout.total_bytes() as usize, 0);
        Gguf::parse(&file).unwrap()
    }

    fn merged(parts: Vec<Gguf>) -> Result<Gguf, String> {
        let mut parts = parts.into_iter();
        let merge = || -> Result<Gguf, Error> {
            let mut merge = Merge::new(parts.next().unwrap(), "m-00001-of-00003.gguf")?;
            for part in parts {
                merge.add(part)?;
            }
            merge.finish()
        };
        merge().map_err(|e| e.to_string())
    }

    #[test]
    fn tensors_say_which_file_they_are_in() {
        let parts = vec![part(0, 3, 3, &["b"]), part(1, 3, 3, &[]), part(2, 3, 3, &["c", "a"])];
        let offset = parts[2].tensor("a").unwrap().offset;
        let gguf = merged(parts).unwrap();
        let places: Vec<_> = gguf.tensors().iter().map(|t| (t.name.as_str(), t.file)).collect();
        assert_eq!(places, [("b", 0), ("c", 2), ("a", 2)]);
        assert_eq!(gguf.tensor("a").unwrap().offset, offset);
        let keys: Vec<_> = gguf.metadata.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [keys::ARCHITECTURE], "nothing is left of the split");
    }

    #[test]
    fn names_of_the_others_follow_from_the_first() {
        let mut merge = Merge::new(part(0, 3, 0, &[]), "m-00001-of-00003.gguf").unwrap();
        assert_eq!(merge.next_name().as_deref(), Some("m-00002-of-00003.gguf"));
        merge.add(part(1, 3, 0, &[])).unwrap();
        assert_eq!(merge.next_name().as_deref(), Some("m-00003-of-00003.gguf"));
        merge.add(part(2, 3, 0, &[])).unwrap();
        assert_eq!(merge.next_name(), None);
        let line = |gguf, name| Merge::new(gguf, name).unwrap_err().to_string();
        assert_eq!(
            line(part(1, 3, 0, &[]), "m-00002-of-00003.gguf"),
            "key 'split.no': found part 2 of 3, wanted the first part, 'm-00001-of-00003.gguf', which opens all"
        );
        assert_eq!(
            line(part(0, 3, 0, &[]), "m.gguf"),
            "key 'split.no': found part 1 of 3 in a file called 'm.gguf', wanted a name that ends in \
             '-00001-of-00003.gguf'"
        );
    }

    #[test]
    fn one_file_is_a_model_whatever_it_is_called() {
        let mut plain = Metadata::new();
        plain.insert(keys::ARCHITECTURE, "gptneox");
        let gguf = header(&plain, &["a"]);
        assert_eq!(Merge::new(gguf.clone(), "m.gguf").unwrap().finish(), Ok(gguf));
        let only = Merge::new(part(0, 1, 1, &["a"]), "m.gguf").unwrap();
        assert_eq!(only.next_name(), None);
        assert_eq!(only.finish().unwrap().metadata, plain);
    }

    #[test]
    fn files_of_different_models_are_not_merged() {
        let other_architecture = || {
            let mut metadata = part(1, 3, 3, &[]).metadata;
            metadata.insert(keys::ARCHITECTURE, "llama");
            header(&metadata, &["b"])
        };
        let cases = [
            ("count", vec![part(0, 3, 3, &["a"]), part(1, 4, 3, &["b"])], "'split.count': found 4, wanted 3, as in"),
            (
                "number",
                vec![part(0, 3, 3, &["a"]), part(2, 3, 3, &["b"])],
                "'split.no': found 2, wanted 1, by the name",
            ),
            ("first again", vec![part(0, 3, 3, &["a"]), part(0, 3, 3, &["a"])], "'split.no': found 0, wanted 1"),
            ("tensors", vec![part(0, 3, 3, &["a"]), part(1, 3, 4, &["b"])], "'split.tensors.count': found 4, wanted 3"),
            ("twice", vec![part(0, 3, 3, &["a"]), part(1, 3, 3, &["a"])], "tensor 'a': found a tensor that an earlier"),
            ("not split", vec![part(0, 3, 3, &["a"]), header(&Metadata::new(), &["b"])], "found no such key, wanted 3"),
            (
                "architecture",
                vec![part(0, 3, 3, &["a"]), other_architecture()],
                "'general.architecture': found 'llama', wanted 'gptneox', as in the first part",
            ),
            (
                "missing",
                vec![part(0, 3, 3, &["a"]), part(1, 3, 3, &["b"])],
                "'split.count': found 3 parts without 'm-00003-of-00003.gguf'",
            ),
            (
                "total",
                vec![part(0, 3, 3, &["a"]), part(1, 3, 3, &["b"]), part(2, 3, 3, &[])],
                "'split.tensors.count': found 3, wanted 2, the tensors of 3 files",
            ),
            ("total of one", vec![part(0, 1, 2, &["a"])], "'split.tensors.count': found 2, wanted 1"),
        ];
        for (name, parts, wanted) in cases {
            let line = merged(parts).unwrap_err();
            assert!(line.contains(wanted), "{name}: {line}");
        }
    }
}
