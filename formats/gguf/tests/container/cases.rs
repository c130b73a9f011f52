//! GGUF files that break the format, one rule each: what the list of hostile inputs calls it, how it is made, and what
//! the error must say. The tests of the whole programs use this table too.

use super::raw::{Raw, array, pair, string, tensor};

/// Number on the list of hostile inputs, name of the case, the file, and what the message must contain.
pub(crate) type Case = (&'static str, &'static str, fn() -> Vec<u8>, &'static str);

pub(crate) const HEADERS: &[Case] = &[
    ("G1", "empty file", Vec::new, "header at byte 0: found an empty file, wanted the magic 'GGUF'"),
    ("G2", "three bytes", || b"GGU".to_vec(), "found bytes 'GGU'"),
    (
        "G3",
        "only the magic",
        || b"GGUF".to_vec(),
        "header at byte 4: found 0 bytes up to the end of the file, wanted 4",
    ),
    ("G5", "other magic", || b"\x7fELF".to_vec(), "found bytes '\\\\x7fELF'"),
    ("G6", "GGJT", || b"tjgg0000".to_vec(), "a GGJT file"),
    ("G6", "GGLA", || b"algg0000".to_vec(), "a GGLA adapter"),
    ("G6", "GGML", || b"lmgg0000".to_vec(), "a GGML file"),
    ("F3", "LFS pointer", || b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "a Git LFS pointer"),
    ("F4", "error page", || b"<!DOCTYPE html><html>".to_vec(), "an HTML page"),
    (
        "G7",
        "version 0",
        || Raw { version: 0, ..Raw::valid() }.build(),
        "found version 0, wanted little-endian version 2",
    ),
    ("G8", "version 1", || Raw { version: 1, ..Raw::valid() }.build(), "at byte 4: found version 1"),
    ("G9", "version 4", || Raw { version: 4, ..Raw::valid() }.build(), "found version 4"),
    (
        "G10",
        "big-endian",
        || Raw { version: 0x0300_0000, ..Raw::valid() }.build(),
        "version 3 in big-endian byte order",
    ),
    (
        "G11",
        "2^63 tensors",
        || Raw { n_tensors: Some(1 << 63), ..Raw::valid() }.build(),
        "found 9223372036854775808 tensors",
    ),
    ("G12", "2^32 tensors", || Raw { n_tensors: Some(1 << 32), ..Raw::empty() }.build(), "found 4294967296 tensors"),
    (
        "G13",
        "2^63 pairs",
        || Raw { n_pairs: Some(1 << 63), ..Raw::valid() }.build(),
        "found 9223372036854775808 metadata pairs",
    ),
    ("G14", "2^32 pairs", || Raw { n_pairs: Some(1 << 32), ..Raw::empty() }.build(), "found 4294967296 metadata pairs"),
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

pub(crate) const PAIRS: &[Case] = &[
    (
        "G15",
        "key of 2^64 bytes",
        || with_pair(u64::MAX.to_le_bytes().to_vec()),
        "wanted 18446744073709551615 bytes of a key",
    ),
    ("G16", "key past the end", || with_pair(1000u64.to_le_bytes().to_vec()), "wanted 1000 bytes of a key"),
    ("G17", "key too long", || with_pair(pair("k".repeat(65536), 0, &[0])), "at byte 24: found a name of 65536 bytes"),
    ("G18", "empty key", || with_pair(pair("", 0, &[0])), "key '' at byte 24: found a name of 0 bytes"),
    ("G19", "key not UTF-8", || with_pair(pair(b"k\xff", 0, &[0])), "header at byte 33: found a key that is not UTF-8"),
    ("G19", "key not ASCII", || with_pair(pair("ké", 0, &[0])), "found character '\\u{e9}' in the name"),
    ("G19", "key with NUL", || with_pair(pair("k\0", 0, &[0])), "found character '\\u{0}' in the name"),
    ("G20", "same key twice", || Raw::valid().with_pair(pair("bool", 7, &[1])).build(), "key 'bool' at byte"),
    ("G21", "value type 13", || with_pair(pair("k", 13, &[0; 8])), "key 'k' at byte 33: found value type 13, wanted"),
    ("G21", "value type -1", || with_pair(pair("k", u32::MAX, &[0; 8])), "found value type 4294967295"),
    ("G22", "text of 2^63 bytes", || with_pair(pair("k", 8, &(1u64 << 63).to_le_bytes())), "key 'k' at byte 45: found"),
    (
        "G23",
        "text one byte too long",
        || {
            let mut file = Raw::empty().with_pair(pair("k", 8, &string("ab"))).build();
            file.truncate(46);
            file
        },
        "found 1 bytes up to the end of the file, wanted 2 bytes of a string",
    ),
    (
        "G24",
        "text not UTF-8",
        || with_pair(pair("k", 8, &string(b"ok\xc3\x28"))),
        "key 'k' at byte 47: found a string that",
    ),
    (
        "G25",
        "element type 13",
        || with_pair(pair("k", 9, &array(13, 1, &[0; 8]))),
        "key 'k' at byte 37: found element type 13",
    ),
    ("G26", "2^63 elements", || with_pair(pair("k", 9, &array(0, 1 << 63, &[]))), "wanted 9223372036854775808 bytes"),
    ("G26", "2^63 texts", || with_pair(pair("k", 9, &array(8, 1 << 63, &[]))), "found 9223372036854775808 strings"),
    (
        "G27",
        "n x size wraps",
        || with_pair(pair("k", 9, &array(10, (1 << 61) + 1, &[0; 8]))),
        "bytes of values of type u64",
    ),
    ("G28", "array of arrays", || with_pair(nested(2)), "key 'deep' at byte 40: found an array of arrays"),
    ("G28", "20000 deep", || with_pair(nested(20_000)), "key 'deep' at byte 40: found an array of arrays"),
    ("G29", "bool 2", || with_pair(pair("k", 7, &[2])), "key 'k' at byte 37: found bool 2, wanted 0 or 1"),
    ("G29", "bool 255 in an array", || with_pair(pair("k", 9, &array(7, 2, &[1, 255]))), "at byte 50: found bool 255"),
    ("G30", "alignment 0", || with_alignment(4, &0u32.to_le_bytes()), "key 'general.alignment': found u32 0"),
    ("G31", "alignment 13", || with_alignment(4, &13u32.to_le_bytes()), "found u32 13, wanted a u32 power of two"),
    ("G32", "alignment 2^31", || with_alignment(4, &(1u32 << 31).to_le_bytes()), "found u32 2147483648"),
    ("G33", "alignment i32", || with_alignment(5, &32i32.to_le_bytes()), "found i32 32"),
    ("G33", "alignment u64", || with_alignment(10, &32u64.to_le_bytes()), "found u64 32"),
    ("G33", "alignment text", || with_alignment(8, &string("32")), "found string '32'"),
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

pub(crate) const TENSORS: &[Case] = &[
    ("G34", "empty name", || with_name(""), "tensor '' at byte 24: found a name of 0 bytes, wanted 1 to 63"),
    ("G34", "name of 64 bytes", || with_name("n".repeat(64)), "found a name of 64 bytes"),
    (
        "G34",
        "name of 2^63 bytes",
        || Raw::empty().with_tensors(&[[&(1u64 << 63).to_le_bytes()[..], &[0; 40]].concat()], 0).build(),
        "wanted 9223372036854775808 bytes of a tensor name",
    ),
    ("G34", "name with NUL", || with_name("a\0b"), "tensor 'a\\0b' at byte 24: found a NUL"),
    ("G34", "name not UTF-8", || with_name(b"\xff"), "found a tensor name that is not UTF-8"),
    (
        "G35",
        "same name twice",
        || Raw::empty().with_tensors(&[tensor("a", &[8], 0, 0), tensor("a", &[8], 0, 32)], 64).build(),
        "tensor 'a': found two tensors of this name",
    ),
    ("G36", "no dimensions", || with_shape(&[], 0), "tensor 't' at byte 24: found 0 dimensions, wanted 1 to 4"),
    ("G36", "5 dimensions", || with_shape(&[1; 5], 0), "tensor 't' at byte 33: found 5 dimensions"),
    (
        "G36",
        "2^32 - 1 dimensions",
        || {
            let entry = [string("t"), u32::MAX.to_le_bytes().to_vec(), vec![0; 32]].concat();
            Raw::empty().with_tensors(&[entry], 0).build()
        },
        "found 4294967295 dimensions",
    ),
    ("G37", "dimension 0", || with_shape(&[32, 0], 0), "found shape [32, 0], wanted no empty dimension"),
    ("G38", "dimension 2^63", || with_shape(&[1 << 63], 0), "of F32, wanted a size that fits in 63 bits"),
    ("G39", "elements wrap", || with_shape(&[1 << 32, 1 << 32], 0), "found shape [4294967296, 4294967296] of F32"),
    ("G39", "elements wrap to 0", || with_shape(&[1 << 32, 1 << 32, 4], 24), "a size that fits in 63 bits"),
    (
        "G40",
        "bytes wrap when padded",
        || with_shape(&[4, (1 << 30) - 1, (1 << 30) + 1], 0),
        "a size that fits in 63 bits",
    ),
    ("G41", "removed type 4", || with_shape(&[32], 4), "tensor 't' at byte 45: found tensor type 4"),
    ("G41", "removed type 31", || with_shape(&[32], 31), "found tensor type 31"),
    ("G41", "removed type 36", || with_shape(&[32], 36), "found tensor type 36"),
    ("G41", "unknown type", || with_shape(&[32], 1000), "found tensor type 1000"),
    ("G41", "type -1", || with_shape(&[32], u32::MAX), "found tensor type 4294967295"),
    (
        "G42",
        "part of a block",
        || with_shape(&[33], 8),
        "found rows of 33 elements, wanted a multiple of 32, the block of Q8_0",
    ),
    ("G42", "part of a foreign block", || with_shape(&[32], 12), "wanted a multiple of 256, the block of Q4_K"),
    (
        "G43",
        "misaligned",
        || at_offsets(0, 40),
        "tensor 'b': found data offset 40, wanted a multiple of the alignment 32",
    ),
    ("G43", "descending", || at_offsets(32, 0), "tensor 'a': found data offset 32, leaving a hole, wanted 0"),
    (
        "G43",
        "overlapping",
        || at_offsets(0, 0),
        "tensor 'b': found data offset 0, overlapping the tensor before, wanted 32",
    ),
    ("G43", "hole", || at_offsets(0, 64), "tensor 'b': found data offset 64, leaving a hole, wanted 32"),
    ("G43", "offset past the end", || at_offsets(0, 1 << 40), "tensor 'b': found data offset 1099511627776"),
    ("G43", "offset 2^64 - 1", || at_offsets(0, u64::MAX), "tensor 'b': found data offset 18446744073709551615"),
    ("G43", "offset 2^64 - 32", || at_offsets(0, u64::MAX - 31), "leaving a hole, wanted 32"),
    ("G44", "data short by a byte", || cut(at_offsets(0, 32), 1), "tensor 'b': found 32 bytes of data from byte 128"),
    ("G44", "data short by a tensor", || cut(at_offsets(0, 32), 32), "wanted no more than the file has, 128 bytes"),
    ("G44", "no data", || cut(at_offsets(0, 32), 64), "tensor 'a': found 32 bytes of data from byte 96"),
    (
        "G44",
        "sum of sizes wraps",
        || {
            let half = tensor("a", &[1 << 62], 24, 0);
            Raw::empty().with_tensors(&[half, tensor("b", &[1 << 62], 24, 1 << 62)], 64).build()
        },
        "tensor 'a': found 4611686018427387904 bytes of data",
    ),
];
