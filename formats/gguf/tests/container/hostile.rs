//! Files that break the format: each must be refused by an error that says what is wrong, and none may panic.

use crate::raw::{Raw, array, pair, string, tensor};
use pythia_gguf::Gguf;

/// Name of the case, the file, and what the message must contain.
type Case = (&'static str, fn() -> Vec<u8>, &'static str);

const HEADERS: &[Case] = &[
    ("empty file", Vec::new, "header at byte 0: found an empty file, wanted the magic 'GGUF'"),
    ("three bytes", || b"GGU".to_vec(), "found bytes 'GGU'"),
    ("only the magic", || b"GGUF".to_vec(), "header at byte 4: found 0 bytes up to the end of the file, wanted 4"),
    ("other magic", || b"\x7fELF".to_vec(), "found bytes '\\\\x7fELF'"),
    ("GGJT", || b"tjgg0000".to_vec(), "a GGJT file"),
    ("GGLA", || b"algg0000".to_vec(), "a GGLA adapter"),
    ("GGML", || b"lmgg0000".to_vec(), "a GGML file"),
    ("LFS pointer", || b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "a Git LFS pointer"),
    ("error page", || b"<!DOCTYPE html><html>".to_vec(), "an HTML page"),
    ("version 0", || Raw { version: 0, ..Raw::valid() }.build(), "found version 0, wanted little-endian version 2"),
    ("version 1", || Raw { version: 1, ..Raw::valid() }.build(), "at byte 4: found version 1"),
    ("version 4", || Raw { version: 4, ..Raw::valid() }.build(), "found version 4"),
    ("big-endian", || Raw { version: 0x0300_0000, ..Raw::valid() }.build(), "version 3 in big-endian byte order"),
    ("2^63 tensors", || Raw { n_tensors: Some(1 << 63), ..Raw::valid() }.build(), "found 9223372036854775808 tensors"),
    ("2^32 tensors", || Raw { n_tensors: Some(1 << 32), ..Raw::empty() }.build(), "found 4294967296 tensors"),
    (
        "2^63 pairs",
        || Raw { n_pairs: Some(1 << 63), ..Raw::valid() }.build(),
        "found 9223372036854775808 metadata pairs",
    ),
    ("2^32 pairs", || Raw { n_pairs: Some(1 << 32), ..Raw::empty() }.build(), "found 4294967296 metadata pairs"),
];

fn with_pair(pair: Vec<u8>) -> Vec<u8> {
    Raw::empty().with_pair(pair).with_tensors(&[], 64).build()
}

fn with_alignment(id: u32, value: &[u8]) -> Vec<u8> {
    with_pair(pair("general.alignment", id, value))
}

/// Array of array of array ..., so many deep.
fn nested(depth: usize) -> Vec<u8> {
    let level = array(9, 1, &[]);
    pair("deep", 9, &level.repeat(depth))
}

const PAIRS: &[Case] = &[
    ("key of 2^64 bytes", || with_pair(u64::MAX.to_le_bytes().to_vec()), "wanted 18446744073709551615 bytes of a key"),
    ("key past the end", || with_pair(1000u64.to_le_bytes().to_vec()), "wanted 1000 bytes of a key"),
    ("key too long", || with_pair(pair("k".repeat(65536), 0, &[0])), "at byte 24: found a name of 65536 bytes"),
    ("empty key", || with_pair(pair("", 0, &[0])), "key '' at byte 24: found a name of 0 bytes"),
    ("key not UTF-8", || with_pair(pair(b"k\xff", 0, &[0])), "header at byte 33: found a key that is not UTF-8"),
    ("key not ASCII", || with_pair(pair("ké", 0, &[0])), "found character '\\u{e9}' in the name"),
    ("key with NUL", || with_pair(pair("k\0", 0, &[0])), "found character '\\u{0}' in the name"),
    ("same key twice", || Raw::valid().with_pair(pair("bool", 7, &[1])).build(), "key 'bool' at byte"),
    ("value type 13", || with_pair(pair("k", 13, &[0; 8])), "key 'k' at byte 33: found value type 13, wanted"),
    ("value type -1", || with_pair(pair("k", u32::MAX, &[0; 8])), "found value type 4294967295"),
    ("text of 2^63 bytes", || with_pair(pair("k", 8, &(1u64 << 63).to_le_bytes())), "key 'k' at byte 45: found"),
    (
        "text one byte too long",
        || {
            let mut file = Raw::empty().with_pair(pair("k", 8, &string("ab"))).build();
            file.truncate(46);
            file
        },
        "found 1 bytes up to the end of the file, wanted 2 bytes of a string",
    ),
    ("text not UTF-8", || with_pair(pair("k", 8, &string(b"ok\xc3\x28"))), "key 'k' at byte 47: found a string that"),
    (
        "element type 13",
        || with_pair(pair("k", 9, &array(13, 1, &[0; 8]))),
        "key 'k' at byte 37: found element type 13",
    ),
    ("2^63 elements", || with_pair(pair("k", 9, &array(0, 1 << 63, &[]))), "wanted 9223372036854775808 bytes"),
    ("2^63 texts", || with_pair(pair("k", 9, &array(8, 1 << 63, &[]))), "found 9223372036854775808 strings"),
    ("n x size wraps", || with_pair(pair("k", 9, &array(10, (1 << 61) + 1, &[0; 8]))), "bytes of values of type u64"),
    ("array of arrays", || with_pair(nested(2)), "key 'deep' at byte 40: found an array of arrays"),
    ("20000 deep", || with_pair(nested(20_000)), "key 'deep' at byte 40: found an array of arrays"),
    ("bool 2", || with_pair(pair("k", 7, &[2])), "key 'k' at byte 37: found bool 2, wanted 0 or 1"),
    ("bool 255 in an array", || with_pair(pair("k", 9, &array(7, 2, &[1, 255]))), "at byte 50: found bool 255"),
    ("alignment 0", || with_alignment(4, &0u32.to_le_bytes()), "key 'general.alignment': found u32 0"),
    ("alignment 13", || with_alignment(4, &13u32.to_le_bytes()), "found u32 13, wanted a u32 power of two"),
    ("alignment 2^31", || with_alignment(4, &(1u32 << 31).to_le_bytes()), "found u32 2147483648"),
    ("alignment i32", || with_alignment(5, &32i32.to_le_bytes()), "found i32 32"),
    ("alignment u64", || with_alignment(10, &32u64.to_le_bytes()), "found u64 32"),
    ("alignment text", || with_alignment(8, &string("32")), "found string '32'"),
];

/// A file of tensor `t`, of these dimensions and type, with data for 32 F32.
fn with_shape(dims: &[u64], id: u32) -> Vec<u8> {
    Raw::empty().with_tensors(&[tensor("t", dims, id, 0)], 128).build()
}

fn with_name(name: impl AsRef<[u8]>) -> Vec<u8> {
    Raw::empty().with_tensors(&[tensor(name, &[32], 0, 0)], 128).build()
}

/// Two tensors of 8 F32, 32 bytes each, at these offsets.
fn at_offsets(first: u64, second: u64) -> Vec<u8> {
    Raw::empty().with_tensors(&[tensor("a", &[8], 0, first), tensor("b", &[8], 0, second)], 64).build()
}

fn cut(mut file: Vec<u8>, bytes: usize) -> Vec<u8> {
    file.truncate(file.len() - bytes);
    file
}

const TENSORS: &[Case] = &[
    ("empty name", || with_name(""), "tensor '' at byte 24: found a name of 0 bytes, wanted 1 to 63"),
    ("name of 64 bytes", || with_name("n".repeat(64)), "found a name of 64 bytes"),
    (
        "name of 2^63 bytes",
        || Raw::empty().with_tensors(&[[&(1u64 << 63).to_le_bytes()[..], &[0; 40]].concat()], 0).build(),
        "wanted 9223372036854775808 bytes of a tensor name",
    ),
    ("name with NUL", || with_name("a\0b"), "tensor 'a\\0b' at byte 24: found a NUL"),
    ("name not UTF-8", || with_name(b"\xff"), "found a tensor name that is not UTF-8"),
    (
        "same name twice",
        || Raw::empty().with_tensors(&[tensor("a", &[8], 0, 0), tensor("a", &[8], 0, 32)], 64).build(),
        "tensor 'a': found two tensors of this name",
    ),
    ("no dimensions", || with_shape(&[], 0), "tensor 't' at byte 24: found 0 dimensions, wanted 1 to 4"),
    ("5 dimensions", || with_shape(&[1; 5], 0), "tensor 't' at byte 33: found 5 dimensions"),
    (
        "2^32 - 1 dimensions",
        || {
            let entry = [string("t"), u32::MAX.to_le_bytes().to_vec(), vec![0; 32]].concat();
            Raw::empty().with_tensors(&[entry], 0).build()
        },
        "found 4294967295 dimensions",
    ),
    ("dimension 0", || with_shape(&[32, 0], 0), "found shape [32, 0], wanted no empty dimension"),
    ("dimension 2^63", || with_shape(&[1 << 63], 0), "of F32, wanted a size that fits in 63 bits"),
    ("elements wrap", || with_shape(&[1 << 32, 1 << 32], 0), "found shape [4294967296, 4294967296] of F32"),
    ("elements wrap to 0", || with_shape(&[1 << 32, 1 << 32, 4], 24), "a size that fits in 63 bits"),
    ("bytes wrap when padded", || with_shape(&[4, (1 << 30) - 1, (1 << 30) + 1], 0), "a size that fits in 63 bits"),
    ("removed type 4", || with_shape(&[32], 4), "tensor 't' at byte 45: found tensor type 4"),
    ("removed type 31", || with_shape(&[32], 31), "found tensor type 31"),
    ("removed type 36", || with_shape(&[32], 36), "found tensor type 36"),
    ("unknown type", || with_shape(&[32], 1000), "found tensor type 1000"),
    ("type -1", || with_shape(&[32], u32::MAX), "found tensor type 4294967295"),
    (
        "part of a block",
        || with_shape(&[33], 8),
        "found rows of 33 elements, wanted a multiple of 32, the block of Q8_0",
    ),
    ("part of a foreign block", || with_shape(&[32], 12), "wanted a multiple of 256, the block of Q4_K"),
    ("misaligned", || at_offsets(0, 40), "tensor 'b': found data offset 40, wanted a multiple of the alignment 32"),
    ("descending", || at_offsets(32, 0), "tensor 'a': found data offset 32, leaving a hole, wanted 0"),
    ("overlapping", || at_offsets(0, 0), "tensor 'b': found data offset 0, overlapping the tensor before, wanted 32"),
    ("hole", || at_offsets(0, 64), "tensor 'b': found data offset 64, leaving a hole, wanted 32"),
    ("offset past the end", || at_offsets(0, 1 << 40), "tensor 'b': found data offset 1099511627776"),
    ("offset 2^64 - 1", || at_offsets(0, u64::MAX), "tensor 'b': found data offset 18446744073709551615"),
    ("offset 2^64 - 32", || at_offsets(0, u64::MAX - 31), "leaving a hole, wanted 32"),
    ("data short by a byte", || cut(at_offsets(0, 32), 1), "tensor 'b': found 32 bytes of data from byte 128"),
    ("data short by a tensor", || cut(at_offsets(0, 32), 32), "wanted no more than the file has, 128 bytes"),
    ("no data", || cut(at_offsets(0, 32), 64), "tensor 'a': found 32 bytes of data from byte 96"),
    (
        "sum of sizes wraps",
        || {
            let half = tensor("a", &[1 << 62], 24, 0);
            Raw::empty().with_tensors(&[half, tensor("b", &[1 << 62], 24, 1 << 62)], 64).build()
        },
        "tensor 'a': found 4611686018427387904 bytes of data",
    ),
];

#[test]
fn broken_files_are_refused_by_name() {
    for (name, build, wanted) in [HEADERS, PAIRS, TENSORS].concat() {
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
    let longest_name = with_name("n".repeat(63));
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
fn half_a_million_pairs_and_texts_take_no_time() {
    let mut raw = Raw::empty();
    for i in 0..200_000 {
        raw.pairs.push(pair(format!("key.{i}"), 0, &[0]));
    }
    let texts: Vec<u8> = (0..300_000).flat_map(|i| string(format!("token {i}"))).collect();
    raw.pairs.push(pair("texts", 9, &array(8, 300_000, &texts)));
    let file = raw.build();
    // A quadratic check for duplicates needs minutes here.
    let start = std::time::Instant::now();
    assert_eq!(Gguf::parse(&file).unwrap().metadata.len(), 200_001);
    assert!(start.elapsed().as_secs() < 20);
}
