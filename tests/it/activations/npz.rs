//! The same arrays for NumPy.

use super::{Case, some_ids};
use crate::common::{printed, python};
use pythia_inside::export::{Dtype, Format, Kind};
use pythia_runtime::Text;
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

/// Arrays of an `.npz` file, read without NumPy: the values of every `.npy` by name.
fn unzip(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let number =
        |at: usize, n: usize| bytes[at..at + n].iter().rev().fold(0usize, |x, &byte| x << 8 | usize::from(byte));
    let locator = bytes.len() - 22 - 20;
    assert_eq!((number(bytes.len() - 22, 4), number(locator, 4)), (0x0605_4b50, 0x0706_4b50));
    let end64 = number(locator + 8, 8);
    assert_eq!(number(end64, 4), 0x0606_4b50);
    let (n, mut at) = (number(end64 + 32, 8), number(end64 + 48, 8));
    assert_eq!(at + number(end64 + 40, 8), end64, "the directory ends where its end begins");
    let mut members = BTreeMap::new();
    for _ in 0..n {
        assert_eq!((number(at, 4), number(at + 10, 2)), (0x0201_4b50, 0), "stored");
        let (crc, name, extra) = (number(at + 16, 4), number(at + 28, 2), number(at + 30, 2));
        let name = String::from_utf8(bytes[at + 46..][..name].to_vec()).unwrap();
        let zip64 = at + 46 + name.len();
        assert_eq!((number(zip64, 2), number(zip64 + 4, 8)), (1, number(zip64 + 12, 8)));
        let (size, local) = (number(zip64 + 4, 8), number(zip64 + 20, 8));
        assert_eq!((number(local, 4), number(local + 14, 4)), (0x0403_4b50, crc), "{name}");
        let data = local + 30 + number(local + 26, 2) + number(local + 28, 2);
        let contents = &bytes[data..data + size];
        assert_eq!(crc32fast::hash(contents) as usize, crc, "{name}");
        members.insert(name, contents.to_vec());
        at = zip64 + extra;
    }
    members
}

#[test]
fn npz_holds_what_safetensors_holds() {
    let mut case = Case::q8(&["blocks.2.*", "logits"]);
    let texts = [some_ids(12, 1), some_ids(1, 2), vec![], some_ids(70, 3)];
    let dir = tempfile::tempdir().unwrap();
    case.options.positions = "0,5,-1".parse().unwrap();
    for dtype in [Dtype::F32, Dtype::F16] {
        case.options.dtype = dtype;
        let [plain, zipped] = [Format::Safetensors, Format::Npz].map(|format| {
            case.options.format = format;
            let folder = dir.path().join(format!("{dtype:?}.{}", format.extension()));
            // A line with brackets is a text without tokens.
            let line = |ids: &Vec<u32>| format!("[{}]\n", ids.iter().map(|id| format!("{id} ")).collect::<String>());
            let text: String = texts.iter().map(line).collect();
            let summary = case.run(&Text::literal(&text, "ids"), Kind::Ids, &folder).unwrap();
            assert_eq!(summary.empty, 1);
            (fs::read(folder.join(&summary.shards[0].file)).unwrap(), folder)
        });
        let tensors = SafeTensors::deserialize(&plain.0).unwrap();
        let members = unzip(&zipped.0);
        assert_eq!(members.len(), tensors.len() + 1);
        for (name, view) in tensors.tensors() {
            let npy = &members[&format!("{name}.npy")];
            assert!(npy.starts_with(b"\x93NUMPY\x01\x00") && npy.ends_with(view.data()), "{name}");
            let head = npy.len() - view.data().len();
            assert!(head.is_multiple_of(64) && npy[head - 1] == b'\n', "{name}");
        }
        let facts: Value = serde_json::from_slice(&members["metadata.json"]).unwrap();
        assert_eq!(facts["positions"], "0,5,-1");

        let Some(mut python) = python(&["numpy"]) else { continue };
        let script = "
import sys, numpy, hashlib
z = numpy.load(sys.argv[1])
for name in sorted(z.files):
    if name != 'metadata.json':
        a = z[name]
        print(name, a.dtype, 'x'.join(map(str, a.shape)), hashlib.sha256(a.tobytes()).hexdigest())
";
        let path = zipped.1.join("activations-00000.npz");
        let said = printed(python.args(["-c", script]).arg(path));
        let mut wanted: Vec<String> = tensors
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                let dtype = match view.dtype() {
                    safetensors::Dtype::I64 => "int64",
                    safetensors::Dtype::I32 => "int32",
                    safetensors::Dtype::F16 => "float16",
                    _ => "float32",
                };
                let shape: Vec<String> = view.shape().iter().map(usize::to_string).collect();
                let digest = pythia_text::hex(&<sha2::Sha256 as sha2::Digest>::digest(view.data()));
                format!("{name} {dtype} {} {digest}", shape.join("x"))
            })
            .collect();
        wanted.sort();
        assert!(said.lines().eq(wanted.iter().map(String::as_str)), "{said}");
    }
}
