//! `.bin` files of real versions of PyTorch, cut and changed in every place.

use pythia_checkpoint::{Checkpoint, Error, WeightFile};
use std::fs;
use std::path::{Path, PathBuf};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/torch").join(name)
}

/// A checkpoint that consists of one `.bin` file, which is written anew for each try.
struct Folder {
    folder: tempfile::TempDir,
    weights: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(data("config.json"), folder.path().join("config.json")).unwrap();
        let weights = folder.path().join("pytorch_model.bin");
        Self { folder, weights }
    }

    /// Every tensor with all its bytes.
    fn read(&self, bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Error> {
        fs::write(&self.weights, bytes).unwrap();
        let checkpoint = Checkpoint::open(self.folder.path())?;
        let read = |tensor: &pythia_checkpoint::SourceTensor| {
            let mut rows = Vec::new();
            checkpoint.read_rows(tensor, 0, tensor.n_rows(), &mut rows)?;
            Ok((tensor.name.clone(), rows))
        };
        let mut tensors = checkpoint.tensors().map(read).collect::<Result<Vec<_>, Error>>()?;
        tensors.sort();
        Ok(tensors)
    }
}

/// Without a config beside it, and under the names that it has.
#[test]
fn a_file_is_read_by_itself() {
    let folder = Folder::new();
    for name in ["2.15.0-half.bin", "1.13.1-legacy.bin"] {
        let wanted = folder.read(&fs::read(data(name)).unwrap()).unwrap();
        let file = WeightFile::open(&data(name)).unwrap();
        let mut tensors: Vec<(String, Vec<u8>)> = Vec::new();
        // The causal mask is of no type that is read.
        for tensor in file.tensors().filter_map(Result::ok) {
            let mut rows = Vec::new();
            file.read_rows(&tensor, 0, tensor.n_rows(), &mut rows).unwrap();
            assert!(file.read_rows(&tensor, tensor.n_rows(), 1, &mut Vec::new()).is_err());
            tensors.push((tensor.name, rows));
        }
        // A checkpoint leaves out all buffers.
        tensors.retain(|(name, _)| wanted.iter().any(|(other, _)| other == name));
        tensors.sort();
        assert_eq!(tensors, wanted, "{name}");
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let folder = Folder::new();
    for name in ["2.15.0-half.bin", "1.13.1-legacy.bin"] {
        let bytes = fs::read(data(name)).unwrap();
        assert_eq!(folder.read(&bytes).unwrap().len(), 28, "{name}");
        for len in 0..bytes.len() {
            let error = folder.read(&bytes[..len]).expect_err(name);
            assert!(
                error.kind() == pythia_task::ErrorKind::Data && !error.to_string().contains('\n'),
                "{name} cut to {len}: {error}"
            );
        }
    }
}

/// With checksums a file whose bytes are not those that were written is refused, or is read as what was written.
#[test]
fn a_zip_file_is_read_right_or_refused_wherever_it_is_changed() {
    let folder = Folder::new();
    let good = fs::read(data("1.13.1-views.bin")).unwrap();
    let wanted = folder.read(&good).unwrap();
    let mut bytes = good.clone();
    let mut refused = 0;
    for at in 0..good.len() {
        bytes[at] = good[at] ^ 1 << (at % 8);
        match folder.read(&bytes) {
            Ok(tensors) => assert!(tensors == wanted, "byte {at}: other weights"),
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().contains('\n'), "byte {at}: {error}");
            }
        }
        bytes[at] = good[at];
    }
    // What remains are padding, dates and members that are not read.
    assert!(refused > good.len() / 2, "{refused} of {}", good.len());
}

/// Without checksums it may be read as something else, but not as more than there is.
#[test]
fn a_legacy_file_never_panics_wherever_it_is_changed() {
    let folder = Folder::new();
    let good = fs::read(data("1.13.1-views-legacy.bin")).unwrap();
    let mut bytes = good.clone();
    let mut refused = 0;
    // The pickles; the first storage follows.
    for at in 0..6000 {
        for flip in [1 << (at % 8), 0xff] {
            bytes[at] = good[at] ^ flip;
            match folder.read(&bytes) {
                Ok(tensors) => assert!(tensors.iter().map(|(_, rows)| rows.len()).sum::<usize>() <= 2 * good.len()),
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().contains('\n'), "byte {at}: {error}");
                }
            }
        }
        bytes[at] = good[at];
    }
    assert!(refused > 3000, "{refused}");
}
