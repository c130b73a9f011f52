//! GGUF models split over several files, of which some are missing, numbered wrongly or of another model.

use super::Case;
use crate::common::file::{self, Entry};
use crate::common::tiny;
use pythia_gguf::{Metadata, Value, keys};
use pythia_schema::Hparams;
use pythia_tensor::TensorType;
use std::fs;
use std::path::Path;

/// The model of all cases: 28 tensors, no tokenizer.
const WIDTH: usize = 64;

fn hparams(n_embd: usize) -> Hparams {
    Hparams { n_embd, ..tiny::hparams() }
}

/// One file about to be written, whole and right until it is changed.
struct Part {
    metadata: Metadata,
    tensors: Vec<Entry>,
}

impl Part {
    fn insert(&mut self, key: &str, value: impl Into<Value>) {
        self.metadata.insert(key, value);
    }

    fn write(&self, folder: &Path, name: &str) {
        fs::write(folder.join(name), file::zeros(&self.metadata, self.tensors.clone())).expect("a file");
    }
}

/// The model over two files, as `gguf-split` does it: all metadata in the first.
fn parts(n_embd: usize) -> [Part; 2] {
    let hparams = hparams(n_embd);
    let mut metadata = Metadata::new();
    hparams.to_metadata(&mut metadata);
    let tensors = pythia_schema::tensors(&hparams);
    let tensors: Vec<_> = tensors.iter().map(|spec| (spec.gguf.clone(), TensorType::F32, spec.dims())).collect();
    let (first, second) = tensors.split_at(11);
    let mut parts = [(metadata, first), (Metadata::new(), second)]
        .map(|(metadata, tensors)| Part { metadata, tensors: tensors.to_vec() });
    for (no, part) in (0u16..).zip(&mut parts) {
        part.insert(keys::SPLIT_NO, no);
        part.insert(keys::SPLIT_COUNT, 2u16);
        part.insert(keys::SPLIT_TENSORS_COUNT, tensors.len() as i32);
    }
    parts
}

const FIRST: &str = "m-00001-of-00002.gguf";
const SECOND: &str = "m-00002-of-00002.gguf";

/// Writes both files after `change`.
fn write(folder: &Path, change: impl FnOnce(&mut Part, &mut Part)) {
    let [mut first, mut second] = parts(WIDTH);
    change(&mut first, &mut second);
    first.write(folder, FIRST);
    second.write(folder, SECOND);
}

/// Writes the first file alone, after `change`, under its own name.
fn write_first(folder: &Path, name: &str, change: impl FnOnce(&mut Part)) {
    let [mut first, _] = parts(WIDTH);
    change(&mut first);
    first.write(folder, name);
}

const INSPECT: &str = "pythia-quant inspect m-00001-of-00002.gguf";

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "M24",
        name: "a shard is missing",
        build: |folder| write_first(folder, FIRST, |_| {}),
        command: INSPECT,
        wanted: "m-00001-of-00002.gguf: key 'split.count': found 2 parts without 'm-00002-of-00002.gguf'",
    },
    Case {
        id: "M24",
        name: "a shard is missing, asked to run",
        build: |folder| write_first(folder, FIRST, |_| {}),
        command: "pythia-run info m-00001-of-00002.gguf",
        wanted: "found 2 parts without 'm-00002-of-00002.gguf'",
    },
    Case {
        id: "M24",
        name: "opened from shard 2",
        build: |folder| write(folder, |_, _| {}),
        command: "pythia-quant verify m-00002-of-00002.gguf",
        wanted: "key 'split.no': found part 2 of 2, wanted the first part, 'm-00001-of-00002.gguf'",
    },
    Case {
        id: "M24",
        name: "shards swapped",
        build: |folder| write(folder, std::mem::swap),
        command: INSPECT,
        wanted: "'split.no': found part 2 of 2 in a file called 'm-00001-of-00002.gguf', wanted a name that ends in",
    },
    Case {
        id: "M24",
        name: "shard 1 twice",
        build: |folder| {
            write(folder, |first, second| {
                (second.metadata, second.tensors) = (first.metadata.clone(), first.tensors.clone())
            })
        },
        command: INSPECT,
        wanted: "m-00002-of-00002.gguf: key 'split.no': found 0, wanted 1",
    },
    Case {
        id: "M24",
        name: "split.no beyond split.count",
        build: |folder| write(folder, |_, second| second.insert(keys::SPLIT_NO, 2u16)),
        command: INSPECT,
        wanted: "m-00002-of-00002.gguf: key 'split.no': found 2, wanted 0 to 1",
    },
    Case {
        id: "M24",
        name: "no split.no",
        build: |folder| write(folder, |_, second| drop(second.metadata.remove(keys::SPLIT_NO))),
        command: INSPECT,
        wanted: "key 'split.no': found no such key, wanted 0 to 1",
    },
    Case {
        id: "M24",
        name: "split.no is text",
        build: |folder| write(folder, |first, _| first.insert(keys::SPLIT_NO, "0")),
        command: INSPECT,
        wanted: "key 'split.no': found string '0', wanted an integer",
    },
    Case {
        id: "M24",
        name: "split.count 0",
        build: |folder| write_first(folder, "m.gguf", |first| first.insert(keys::SPLIT_COUNT, 0u16)),
        command: "pythia-quant inspect m.gguf",
        wanted: "key 'split.count': found 0 parts, wanted 1 to 65535",
    },
    Case {
        id: "M24",
        name: "split.count 65535",
        build: |folder| write_first(folder, "m-00001-of-65535.gguf", |first| first.insert(keys::SPLIT_COUNT, u16::MAX)),
        command: "pythia-quant inspect m-00001-of-65535.gguf",
        wanted: "found 65535 parts without 'm-00002-of-65535.gguf'",
    },
    Case {
        id: "M24",
        name: "split.count beyond its type",
        build: |folder| write_first(folder, FIRST, |first| first.insert(keys::SPLIT_COUNT, u64::MAX)),
        command: INSPECT,
        wanted: "key 'split.count': found u64 18446744073709551615, wanted an integer",
    },
    Case {
        id: "M24",
        name: "another split.count in shard 2",
        build: |folder| write(folder, |_, second| second.insert(keys::SPLIT_COUNT, 3u16)),
        command: INSPECT,
        wanted: "m-00002-of-00002.gguf: key 'split.count': found 3, wanted 2, as in the first part",
    },
    Case {
        id: "M24",
        name: "renamed, so that the others cannot be found",
        build: |folder| write_first(folder, "m.gguf", |_| {}),
        command: "pythia-quant inspect m.gguf",
        wanted: "found part 1 of 2 in a file called 'm.gguf', wanted a name that ends in '-00001-of-00002.gguf'",
    },
    Case {
        id: "M24",
        name: "shard 2 is no GGUF file",
        build: |folder| {
            write_first(folder, FIRST, |_| {});
            fs::write(folder.join(SECOND), "version https://git-lfs.github.com/spec/v1\n").expect("a file");
        },
        command: INSPECT,
        wanted: "m-00002-of-00002.gguf: header at byte 0: found a Git LFS pointer",
    },
    Case {
        id: "M24",
        name: "shard 2 is cut off",
        build: |folder| {
            write(folder, |_, _| {});
            let file = fs::File::options().write(true).open(folder.join(SECOND)).expect("a file");
            file.set_len(file.metadata().expect("its size").len() - 64).expect("a shorter file");
        },
        command: INSPECT,
        wanted: "m-00002-of-00002.gguf: tensor 'output.weight'",
    },
    Case {
        id: "M25",
        name: "total other than split.tensors.count",
        build: |folder| write(folder, |_, second| drop(second.tensors.pop())),
        command: INSPECT,
        wanted: "m-00001-of-00002.gguf: key 'split.tensors.count': found 28, wanted 27, the tensors of 2 files",
    },
    Case {
        id: "M25",
        name: "split.tensors.count differs",
        build: |folder| write(folder, |_, second| second.insert(keys::SPLIT_TENSORS_COUNT, 27i32)),
        command: INSPECT,
        wanted: "m-00002-of-00002.gguf: key 'split.tensors.count': found 27, wanted 28, as in the first part",
    },
    Case {
        id: "M25",
        name: "negative split.tensors.count",
        build: |folder| write(folder, |first, _| first.insert(keys::SPLIT_TENSORS_COUNT, -1i32)),
        command: INSPECT,
        wanted: "key 'split.tensors.count': found i32 -1, wanted a non-negative integer",
    },
    Case {
        id: "M25",
        name: "no split.tensors.count",
        build: |folder| write(folder, |first, _| drop(first.metadata.remove(keys::SPLIT_TENSORS_COUNT))),
        command: INSPECT,
        wanted: "key 'split.tensors.count': found no such key",
    },
    Case {
        id: "M25",
        name: "a tensor in two shards",
        build: |folder| write(folder, |first, second| second.tensors[3] = first.tensors[3].clone()),
        command: INSPECT,
        wanted: "m-00002-of-00002.gguf: tensor 'blk.0.attn_qkv.weight': found a tensor that an earlier part has too",
    },
    Case {
        id: "M26",
        name: "shard 2 of another architecture",
        build: |folder| write(folder, |_, second| second.insert(keys::ARCHITECTURE, "llama")),
        command: INSPECT,
        wanted: "m-00002-of-00002.gguf: key 'general.architecture': found 'llama', wanted 'gptneox', as in the first part",
    },
    Case {
        id: "M26",
        name: "shard 2 of a wider model",
        build: |folder| write(folder, |_, second| second.tensors = parts(2 * WIDTH)[1].tensors.clone()),
        command: "pythia-quant quantize m-00001-of-00002.gguf out.gguf F16",
        wanted: "tensor 'blk.0.ffn_down.weight': found shape [128, 96], wanted [64, 96] by the metadata",
    },
    Case {
        id: "M26",
        name: "shard 2 of a wider model, asked to run",
        build: |folder| write(folder, |_, second| second.tensors = parts(2 * WIDTH)[1].tensors.clone()),
        command: "pythia-run info m-00001-of-00002.gguf",
        wanted: "tensor 'blk.0.ffn_down.weight': found shape [128, 96], wanted [64, 96] by the metadata",
    },
    Case {
        id: "M26",
        name: "shard 2 is a whole model",
        build: |folder| {
            write(folder, |_, second| {
                for key in [keys::SPLIT_NO, keys::SPLIT_COUNT, keys::SPLIT_TENSORS_COUNT] {
                    second.metadata.remove(key);
                }
            });
        },
        command: INSPECT,
        wanted: "m-00002-of-00002.gguf: key 'split.count': found no such key, wanted 2, as in the first part",
    },
];

pub(crate) const VALID: &[Case] = &[
    Case { id: "M24", name: "both shards", build: |folder| write(folder, |_, _| {}), command: INSPECT, wanted: "" },
    Case {
        id: "M24",
        name: "both shards, quantized",
        build: |folder| write(folder, |_, _| {}),
        command: "pythia-quant quantize m-00001-of-00002.gguf out.gguf F16",
        wanted: "",
    },
    Case {
        id: "M24",
        name: "one of one",
        build: |folder| {
            write_first(folder, "m.gguf", |first| {
                first.insert(keys::SPLIT_COUNT, 1u8);
                first.insert(keys::SPLIT_TENSORS_COUNT, first.tensors.len() as u64);
            });
        },
        command: "pythia-quant inspect m.gguf",
        wanted: "",
    },
    Case {
        id: "M25",
        name: "integers of other widths",
        build: |folder| {
            write(folder, |first, second| {
                first.insert(keys::SPLIT_COUNT, 2i64);
                second.insert(keys::SPLIT_NO, 1u8);
                second.insert(keys::SPLIT_TENSORS_COUNT, 28u32);
            });
        },
        command: INSPECT,
        wanted: "",
    },
];
