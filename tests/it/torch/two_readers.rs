//! One file, two readers: where PyTorch finds other weights than we would, we read none.
//!
//! What PyTorch does stands in the table. It was found out with 2.15, and is asked again where Python has
//! PyTorch.

use super::folder;
use crate::common;
use crate::common::torch::{self, Container, Member, Pickle, Tensor};
use pythia_checkpoint::Checkpoint;
use std::fs;

/// What a reader makes of the embedding, which is all ones unless another storage is taken for its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Ones,
    /// The storage of twos.
    Twos,
    /// Whichever of two members a binary search happens upon.
    Either,
    /// Ones in the wrong byte order.
    Swapped,
    /// No file that it reads.
    Nothing,
}
use Found::{Either, Nothing, Ones, Swapped, Twos};

/// A file, what PyTorch finds in it, and the error that it is here; no error where ones are found.
type Case = (&'static str, fn() -> Vec<u8>, Found, &'static str);

const TWICE: &str = "comes twice, if the case of letters is ignored";
const OTHER: &str = "could be another";

#[rustfmt::skip] // a table
const CASES: &[Case] = &[
    ("as written", || zip(|_| ()), Ones, ""),
    ("folders have records", || zip(|m| m.splice(..0, [empty("m/"), empty("m/data/")]).for_each(drop)), Ones, ""),
    ("a folder is called like a storage", || zip(|m| m.insert(1, empty("m/data/0/"))), Ones, ""),
    ("the same name, after", || zip(|m| m.push(twos("m/data/0"))), Either, TWICE),
    ("the same name, before", || zip(|m| m.insert(1, twos("m/data/0"))), Either, TWICE),
    ("the same letters, after", || zip(|m| m.push(twos("m/DATA/0"))), Either, TWICE),
    ("the same letters, before", || zip(|m| m.insert(1, twos("m/DATA/0"))), Either, TWICE),
    ("the same pickle", || zip(|m| m.push(empty("m/Data.pkl"))), Either, TWICE),
    ("the storage in other letters", || zip(|m| renamed(&mut m[2], "m/DATA/0")), Ones, "its own header calls it"),
    ("the pickle in other letters", || zip(|m| renamed(&mut m[0], "m/DATA.PKL")), Ones, "its own header calls it"),
    ("the byte order in other letters", || zip(|m| m[1] = Member::new("m/BYTEORDER", b"big".to_vec())), Swapped, "its own header calls it"),
    ("big-endian", || zip(|m| m[1] = Member::new("m/byteorder", b"big".to_vec())), Swapped, "wanted \"little\""),
    ("a folder in other letters", || zip(|m| renamed(&mut m[2], "M/data/0")), Nothing, "in the folders"),
    ("two folders", || zip(|m| m.push(twos("n/data/0"))), Nothing, "in the folders"),
    ("a program", || zip(|m| m.push(empty("m/constants.pkl"))), Nothing, "a TorchScript program"),
    ("a slash at the end", || zip(|m| m.insert(1, twos("m/data/0/"))), Ones, "a folder with content"),
    ("a detour", || zip(|m| m.insert(1, twos("m/./data/0"))), Ones, OTHER),
    ("a detour only", || zip(|m| renamed(&mut m[2], "m/./data/0")), Nothing, OTHER),
    ("two slashes", || zip(|m| renamed(&mut m[2], "m//data/0")), Nothing, OTHER),
    ("backslashes", || zip(|m| m.insert(1, twos("m/data\\0"))), Ones, OTHER),
    ("backslashes only", || zip(|m| renamed(&mut m[2], "m\\data\\0")), Nothing, OTHER),
    ("a NUL", || zip(|m| renamed(&mut m[2], "m/data/0\0x")), Nothing, OTHER),
    ("no name", || zip(|m| m.push(empty(""))), Nothing, "without NAME/data.pkl"),
    ("another name before the data", || zip(|m| m[2].local_name = "m/data/7".into()), Ones, "its own header calls it"),
    ("another name in the directory", || zip(|m| m[2].name = "m/data/7".into()), Nothing, "no member"),
    ("a composed and a decomposed name", || dict(&["caf\u{e9}", "cafe\u{301}"]), Ones, "its name is not plain ASCII"),
    ("a part, legacy", || parts(["a", "b"]), Ones, ""),
    ("two parts under one key", || parts(["b", "b"]), Twos, "stands for something else too"),
    ("a part under the key of a storage", || parts(["a", "0"]), Twos, "stands for something else too"),
];

const EMBEDDING: &str = "gpt_neox.embed_in.weight";

/// 32 rows of 16 halves of these bits.
fn storage(bits: u16) -> Vec<u8> {
    bits.to_le_bytes().repeat(512)
}

const ONE: u16 = 0x3c00;
const TWO: u16 = 0x4000;

fn ones(name: &str) -> Tensor {
    Tensor { name: name.into(), class: "Half", shape: vec![32, 16], bytes: storage(ONE) }
}

/// An archive of the embedding: the pickle, the byte order, the storage, the version.
fn zip(edit: impl FnOnce(&mut Vec<Member>)) -> Vec<u8> {
    let tensors = [ones(EMBEDDING)];
    let mut members = torch::members(torch::state_dict(Container::Zip, &tensors), &tensors);
    edit(&mut members);
    torch::archive(&members)
}

fn empty(name: &str) -> Member {
    Member::new(name, Vec::new())
}

fn twos(name: &str) -> Member {
    Member::new(name, storage(TWO))
}

fn renamed(member: &mut Member, name: &str) {
    (member.name, member.local_name) = (name.into(), name.into());
}

/// The embedding and tensors of these names.
fn dict(names: &[&str]) -> Vec<u8> {
    let names = [EMBEDDING].into_iter().chain(names.iter().copied());
    torch::file(Container::Zip, &names.map(ones).collect::<Vec<_>>())
}

/// A legacy file of one storage, twos and then ones: the parts are kept under these keys, the embedding is the second.
fn parts(keys: [&str; 2]) -> Vec<u8> {
    let tensor = |p: Pickle, (half, key): (usize, &str)| {
        let args = p.text(["other", EMBEDDING][half]).global("torch._utils", "_rebuild_tensor_v2").op(b"((");
        let id = args.text("storage").global("torch", "HalfStorage").text("0").text("cpu").int(1024);
        let part = id.op(b"(").text(key).int(512 * half as i32).int(512);
        part.op(b"ttQ").view(0, &[32, 16], &[16, 1]).op(b"tR")
    };
    let pickle = keys.into_iter().enumerate().fold(Pickle::new().op(b"}("), tensor).op(b"u.").0;
    let bytes = [storage(TWO), storage(ONE)].concat();
    torch::legacy(&pickle, &[Tensor { name: String::new(), class: "Half", shape: vec![1024], bytes }])
}

#[test]
fn what_pytorch_reads_otherwise_is_refused() {
    for &(name, build, pytorch, error) in CASES {
        let folder = folder(&[]);
        fs::write(folder.path().join("pytorch_model.bin"), build()).expect("a file");
        let read = || {
            let opened = Checkpoint::open(folder.path())?;
            let mut bytes = Vec::new();
            opened.read_rows(opened.tensor(EMBEDDING).expect("there"), 0, 32, &mut bytes)?;
            Ok(bytes)
        };
        match read().map_err(|e: pythia_checkpoint::Error| e.to_string()) {
            Ok(bytes) => {
                assert_eq!((pytorch, error), (Ones, ""), "{name}: was read");
                assert!(bytes == storage(ONE), "{name}");
            }
            Err(line) => assert!(!error.is_empty() && line.contains(error), "{name}: {line}\nwanted: {error}"),
        }
    }
}

#[test]
fn the_table_says_what_pytorch_does() {
    const PROGRAM: &str = "import sys, warnings, torch
warnings.simplefilter('ignore')
for path in sys.argv[1:]:
    try:
        print(torch.load(path, weights_only=True)['gpt_neox.embed_in.weight'].flatten()[0].item())
    except Exception:
        print('nothing')";
    let Some(mut program) = common::python(&["torch"]) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    program.args(["-c", PROGRAM]);
    for (number, (_, build, ..)) in CASES.iter().enumerate() {
        let path = folder.path().join(format!("{number}.bin"));
        fs::write(&path, build()).expect("a file");
        program.arg(path);
    }
    let stdout = common::printed(&mut program);
    assert_eq!(stdout.lines().count(), CASES.len(), "{stdout}");
    let others = CASES.iter().zip(stdout.lines()).filter_map(|(&(name, _, wanted, _), line)| {
        let found = match line {
            "nothing" => Nothing,
            "1.0" | "2.0" if wanted == Either => Either,
            "1.0" => Ones,
            "2.0" => Twos,
            _ => Swapped,
        };
        (found != wanted).then(|| format!("{name}: {line}, wanted {wanted:?}"))
    });
    let others: Vec<String> = others.collect();
    assert!(others.is_empty(), "{}", others.join("\n"));
}
