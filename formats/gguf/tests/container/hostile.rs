//! Files that break the format: each must be refused by an error that says what is wrong, and none may panic.

use crate::cases::{HEADERS, PAIRS, TENSORS};
use crate::raw::{Raw, array, pair, string, tensor};
use pythia_gguf::Gguf;

#[test]
fn broken_files_are_refused_by_name() {
    for (_, name, build, wanted) in [HEADERS, PAIRS, TENSORS].concat() {
        let line = match Gguf::parse(&build()) {
            Ok(_) => panic!("{name}: accepted"),
            Err(e) => e.to_string(),
        };
        assert!(line.contains(wanted), "{name}: {line}");
        assert!(!line.contains('\n') && line.len() < 400, "{name}: {line}");
    }
}

#[test]
fn files_at_the_edge_are_accepted() {
    let trailing = [Raw::valid().build(), vec![0xff; 100]].concat();
    let no_tensors_no_padding = {
        let mut file = Raw::empty().with_pair(pair("k", 0, &[1])).build();
        file.truncate(38);
        file
    };
    let longest_name = Raw::empty().with_tensors(&[tensor("n".repeat(63), &[32], 0, 0)], 128).build();
    let aligned_8 = {
        let mut raw = Raw::empty().with_pair(pair("general.alignment", 4, &8u32.to_le_bytes()));
        raw.alignment = 8;
        raw.with_tensors(&[tensor("a", &[3], 0, 0), tensor("b", &[1], 0, 16)], 20).build()
    };
    let version_2 = Raw { version: 2, ..Raw::valid() }.build();
    let all = [("trailing", trailing), ("bare", no_tensors_no_padding), ("name", longest_name), ("8", aligned_8)];
    for (name, file) in all.into_iter().chain([("version 2", version_2), ("empty", Raw::empty().build())]) {
        let gguf = Gguf::parse(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        for t in gguf.tensors() {
            assert_eq!(gguf.data(&file, t).len() as u64, t.n_bytes, "{name}");
        }
    }
}

#[test]
fn every_prefix_is_refused() {
    let file = Raw::valid().build();
    assert!(Gguf::parse(&file).is_ok());
    for n in 0..file.len() {
        assert!(Gguf::parse(&file[..n]).is_err(), "the first {n} of {} bytes", file.len());
    }
}

#[test]
fn no_changed_byte_panics() {
    let valid = Raw::valid().build();
    let header_bytes = Gguf::parse(&valid).unwrap().data_offset as usize;
    for at in 0..header_bytes {
        for bits in 1..=u8::MAX {
            let mut file = valid.clone();
            file[at] ^= bits;
            // Many changes are harmless; those accepted must still keep every tensor inside the file.
            if let Ok(gguf) = Gguf::parse(&file) {
                assert!(gguf.tensors().iter().all(|t| gguf.data(&file, t).len() as u64 == t.n_bytes), "byte {at}");
            }
        }
    }
}

#[test]
fn as_many_pairs_and_texts_as_there_may_be_take_no_time() {
    let mut raw = Raw::empty();
    for i in 0..4_095 {
        raw.pairs.push(pair(format!("key.{i}"), 0, &[0]));
    }
    let texts: Vec<u8> = (0..300_000).flat_map(|i| string(format!("token {i}"))).collect();
    raw.pairs.push(pair("texts", 9, &array(8, 300_000, &texts)));
    let file = raw.build();
    // A quadratic check for duplicates needs minutes here.
    let start = std::time::Instant::now();
    assert_eq!(Gguf::parse(&file).unwrap().metadata.len(), 4_096);
    assert!(start.elapsed().as_secs() < 20);
}
