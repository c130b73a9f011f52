//! `.bin` files: containers that lie about what they hold, pickles that would do something, tensors out of bounds.
//!
//! Each is a good file with one thing wrong.

#![allow(clippy::ptr_arg, reason = "what edits a file is given the whole of it")]

use super::Case;
use crate::common::data;
use crate::common::torch::{self, Container, Member, Pickle, Tensor};
use std::fs;
use std::path::Path;

const CONVERT: &str = "pythia-quant convert . -t Q8_0 -o out.gguf -q";

const fn case(id: &'static str, name: &'static str, build: fn(&Path), wanted: &'static str) -> Case {
    Case { id, name, build, command: CONVERT, wanted }
}

#[rustfmt::skip] // a table
pub(crate) const CASES: &[Case] = &[
    case("P1", "neither zip nor pickle", |at| raw(at, b"GGUF, or anything".to_vec()), "neither a zip archive nor a pickle"),
    case("P1", "nothing at all", |at| raw(at, vec![]), "neither a zip archive nor a pickle"),
    case("P1", "safetensors by another name", |at| raw(at, read("torch/half.safetensors")), "neither a zip archive nor"),
    case("P1", "a Git LFS pointer", |at| raw(at, b"version https://git-lfs.github.com/spec/v1\n".to_vec()), "a Git LFS pointer"),
    case("P2", "a tar archive", |at| raw(at, tar()), "a tar archive"),
    case("P3", "zip, first header only", |at| raw(at, b"PK\x03\x04".to_vec()), "truncated?"),
    case("P3", "zip without its last byte", |at| zip_bytes(at, |zip| zip.truncate(zip.len() - 1)), "does not end in an end record"),
    case("P3", "zip without its end record", |at| zip_bytes(at, |zip| zip.truncate(zip.len() - 22)), "does not end in an end record"),
    case("P3", "zip with bytes after the end", |at| zip_bytes(at, |zip| zip.extend(b"PK\x05\x06")), "does not end in an end record"),
    case("P4", "zip64 record: directory elsewhere", |at| zip_bytes(at, |zip| patch(zip, 98 - 48, &[1; 8])), "contradicts the end record"),
    case("P4", "zip64 record: 2^63 members", |at| zip_bytes(at, |zip| end64(zip, 24, 1 << 63, true)), "contradicts the end record"),
    case("P4", "zip64 record: directory of 2^64 - 1 bytes", |at| zip_bytes(at, |zip| end64(zip, 40, u64::MAX, true)), "does not end at byte"),
    case("P4", "zip64 locator into nowhere", |at| zip_bytes(at, |zip| patch(zip, 42 - 8, &[0xff; 8])), "not where its locator says"),
    case("P4", "zip64 field too short", |at| wide(at, |zip| flip(zip, &[1, 0, 24, 0], &[1, 0, 16, 0])), "zip64 field"),
    case("P4", "zip64 field: header beyond the file", |at| wide(at, |zip| replace_last(zip, 0x10)), "is not in the file"),
    case("P4", "a member longer than the file", |at| zip(at, |members| members[2].more_bytes = 1 << 30), "but the directory is at byte"),
    case("P4", "fewer members than the end says", |at| zip_bytes(at, |zip| both_counts(zip, 99)), "members in the directory, its end says 99"),
    case("P4", "an archive in two parts", |at| zip_bytes(at, |zip| patch(zip, 22 - 4, &[1])), "an archive in several parts"),
    case("P5", "a storage twice", |at| zip(at, |members| members.push(members[2].clone())), "\"m/data/0\" comes twice"),
    case("P5", "a storage twice, in other letters", |at| zip(at, |members| members.push(Member { name: "m/DATA/0".into(), local_name: "m/DATA/0".into(), ..members[2].clone() })), "\"m/DATA/0\" comes twice, if the case of letters is ignored"),
    case("P5", "a storage in other letters only", |at| zip(at, |members| rename(&mut members[2], "m/Data/0")), "its own header calls it \"m/Data/0\""),
    case("P5", "a byte order in other letters, and big-endian", |at| zip(at, |members| members[1] = Member::new("m/BYTEORDER", b"big".to_vec())), "its own header calls it \"m/BYTEORDER\""),
    case("P5", "a program beside the state dict", |at| zip(at, |members| members.push(Member::new("m/constants.pkl", b"\x80\x02).".to_vec()))), "a TorchScript program"),
    case("P5", "the pickle twice", |at| zip(at, |members| members.push(members[0].clone())), "\"m/data.pkl\" comes twice"),
    case("P5", "a folder with content", |at| zip(at, |members| members.push(Member::new("m/data/0/", vec![1]))), "\"m/data/0/\": a folder with content"),
    case("P6", "no pickle", |at| zip(at, |members| drop(members.remove(0))), "without \"m/data.pkl\""),
    case("P6", "two roots", |at| zip(at, |members| members.push(Member::new("n/data.pkl", vec![]))), "in the folders \"m/\" and \"n/\""),
    case("P6", "no root", |at| raw(at, torch::archive(&[Member::new("data.pkl", vec![])])), "without NAME/data.pkl"),
    case("P6", "an empty archive", |at| raw(at, [b"PK\x03\x04".to_vec(), torch::archive(&[])].concat()), "not where its locator says"),
    case("P7", "a deflated storage", |at| zip(at, |members| members[2].method = 8), "compressed (method 8)"),
    case("P7", "a deflated pickle that would unpack to 1 GiB", |at| zip(at, bomb), "compressed (method 8)"),
    case("P7", "an encrypted storage", |at| zip(at, |members| members[2].flags |= 1), "encrypted"),
    case("P7", "strong encryption", |at| zip(at, |members| members[2].flags |= 1 << 6), "encrypted"),
    case("P8", "CRC of the pickle", |at| zip(at, |members| members[0].crc ^= 1), "damaged: data.pkl has CRC-32"),
    case("P8", "CRC of a storage", |at| model(at, |members| members[2].crc ^= 1), "damaged: bytes"),
    case("P8", "CRC of the last storage", |at| model(at, last_crc), "damaged: bytes"),
    case("P8", "one CRC set to 0", |at| model(at, |members| members[5].crc = 0), "wanted 00000000"),
    case("P9", "two names for a storage", |at| zip(at, |members| members[2].local_name = "m/data/7".into()), "its own header calls it \"m/data/7\""),
    case("P9", "two names for the pickle", |at| zip(at, |members| members[0].local_name = "m/date.pkl".into()), "its own header calls it"),
    case("P9", "a longer name of its own", |at| zip(at, |members| members[2].local_name = "m/data/00".into()), "its own header calls it"),
    case("P9", "no header where the directory says", |at| zip_bytes(at, moved_header), "no header here, where the directory says"),
    case("P10", "out of the folder", |at| zip(at, |members| members.push(Member::new("m/../../etc/x", vec![]))), "leaves its folder"),
    case("P10", "an absolute name", |at| zip(at, |members| members.push(Member::new("/etc/x", vec![]))), "leaves its folder"),
    case("P10", "backslashes", |at| zip(at, |members| members.push(Member::new("m\\..\\x", vec![]))), "leaves its folder"),
    case("P10", "a detour", |at| zip(at, |members| members.push(Member::new("m/./data/0", vec![]))), "could be another"),
    case("P10", "two slashes", |at| zip(at, |members| members.push(Member::new("m//data/0", vec![]))), "could be another"),
    case("P10", "no name", |at| zip(at, |members| members.push(Member::new("", vec![]))), "without NAME/data.pkl"),
    case("P10", "a name with a newline and an escape", |at| zip(at, |members| members.push(Member::new("n\n\x1b[2J/x", vec![]))), r#""n\n\u{1b}[2J/""#),
    case("P11", "no such storage", |at| zip(at, |members| drop(members.remove(2))), "no member \"data/0\""),
    case("P12", "a storage shorter than its numbers", |at| zip(at, |members| shorten(members, 2)), "has 1022 bytes, wanted 512 x 2"),
    case("P12", "a storage longer than its numbers", |at| zip(at, |members| lengthen(members, 2)), "has 1026 bytes, wanted 512 x 2"),
    case("P12", "a legacy storage with another count", |at| legacy_bytes(at, legacy_count), "7 elements, the state dict says 512"),
    case("P12", "a legacy storage that is not all there", |at| legacy_bytes(at, |file| file.truncate(file.len() - 1)), "truncated?"),
    case("P12", "bytes after the last legacy storage", |at| legacy_bytes(at, |file| file.push(0)), "1 bytes follow the last storage"),
    case("P12", "a number of elements of 2^63 - 1", |at| dict(at, |p| tensor(p, |p| storage_of(p, b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"), 0, &[2], &[1])), "has 1024 bytes, wanted 9223372036854775807 x 2"),
    case("P13", "big-endian", |at| zip(at, |members| members[1] = Member::new("m/byteorder", b"big".to_vec())), "byteorder is \"big\", wanted \"little\""),
    case("P13", "big-endian, legacy", |at| legacy_bytes(at, |file| flip(file, b"\x88u.", b"\x89u.")), "big-endian machine"),
    case("P14", "protocol 6", |at| pickle(at, b"\x80\x06}."), "protocol 6, at most 5"),
    case("P14", "an opcode that is none", |at| pickle(at, b"\x80\x02\xff."), "opcode 0xff"),
    case("P14", "a set", |at| pickle(at, b"\x80\x04\x8f."), "opcode EMPTY_SET"),
    case("P14", "an opcode of buffers outside the pickle", |at| pickle(at, b"\x80\x05\x97."), "opcode NEXT_BUFFER"),
    case("P15", "a global that runs commands", |at| pickle(at, b"\x80\x02cos\nsystem\n(X\x0c\x00\x00\x00touch PWNEDtR."), "\"os.system\" is refused"),
    case("P15", "the same in a legacy file", |at| legacy(at, b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR."), "\"os.system\" is refused"),
    case("P15", "before the magic number", |at| raw(at, b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR.".to_vec()), "\"os.system\" is refused"),
    case("P15", "named, never called", |at| pickle(at, b"\x80\x02cos\nsystem\n0}."), "\"os.system\" is refused"),
    case("P15", "eval", |at| pickle(at, b"\x80\x02cbuiltins\neval\n."), "\"builtins.eval\" is refused"),
    case("P15", "Python 2's eval", |at| pickle(at, b"\x80\x02c__builtin__\neval\n."), "\"__builtin__.eval\" is refused"),
    case("P15", "getattr of an allowed module", |at| pickle(at, b"\x80\x02ctorch._utils\n__builtins__\n."), "\"torch._utils.__builtins__\" is refused"),
    case("P15", "a submodule that looks alike", |at| pickle(at, b"\x80\x02ctorch._utils.x\n_rebuild_tensor_v2\n."), "is refused"),
    case("P15", "a dotted name", |at| pickle(at, b"\x80\x04\x8c\x05torch\x8c\x11_utils._rebuild_t\x93."), "is refused"),
    case("P15", "other letters, alike", |at| pickle(at, "\u{80}\u{2}".chars().map(|c| c as u8).chain("ctоrch\nHalfStorage\n.".bytes()).collect::<Vec<_>>().as_slice()), "is refused"),
    case("P15", "a name with a newline to the terminal", |at| pickle(at, b"\x80\x04\x8c\x02os\x8c\x09sys\n\x1b[2Jx\x93."), r#""os.sys\n\u{1b}[2Jx" is refused"#),
    case("P15", "numpy", |at| pickle(at, b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n."), "_reconstruct\" is refused"),
    case("P15", "a pickle inside the pickle", |at| pickle(at, b"\x80\x02ctorch.storage\n_load_from_bytes\n."), "storages inside the pickle"),
    case("P16", "by STACK_GLOBAL", |at| pickle(at, b"\x80\x04\x8c\x02os\x8c\x06system\x93."), "\"os.system\" is refused"),
    case("P16", "by STACK_GLOBAL of the memo", |at| pickle(at, b"\x80\x04\x8c\x02os\x940\x8c\x06system\x940h\x00h\x01\x93."), "\"os.system\" is refused"),
    case("P16", "STACK_GLOBAL of numbers", |at| pickle(at, b"\x80\x04K\x01K\x02\x93."), "a global is named by an int"),
    case("P16", "by INST", |at| pickle(at, b"\x80\x02(X\x02\x00\x00\x00lsios\nsystem\n."), "\"os.system\" is refused"),
    case("P16", "by OBJ", |at| pickle(at, b"\x80\x02(cos\nsystem\no."), "\"os.system\" is refused"),
    case("P16", "EXT1", |at| pickle(at, b"\x80\x02\x82\x01."), "opcode EXT1"),
    case("P16", "EXT4", |at| pickle(at, b"\x80\x02\x84\x01\x00\x00\x00."), "opcode EXT4"),
    case("P17", "a tensor from one argument", |at| pickle(at, b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nK\x01\x85R."), "called with 1 arguments (an int)"),
    case("P17", "a tensor from nothing", |at| pickle(at, b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R."), "called with 0 arguments"),
    case("P17", "arguments that are no tuple", |at| pickle(at, b"\x80\x02ccollections\nOrderedDict\n]R."), "arguments are a list"),
    case("P17", "a call of what is no function", |at| pickle(at, b"\x80\x02K\x01)R."), "an int is called"),
    case("P17", "a call of a storage's class", |at| pickle(at, b"\x80\x02ctorch\nHalfStorage\n)R."), "no call of a storage's class"),
    case("P17", "a tensor that is to be negated", |at| dict(at, negated), "and no metadata"),
    case("P17", "a persistent id of one part", |at| pickle(at, b"\x80\x02X\x07\x00\x00\x00storage\x85Q."), "a persistent id of 1 parts"),
    case("P17", "a persistent id that is no tuple", |at| pickle(at, b"\x80\x02K\x01Q."), "a persistent id is an int"),
    case("P17", "a persistent id as text", |at| pickle(at, b"\x80\x02Pstorage\n."), "a persistent id as text"),
    case("P17", "a persistent id of something else", |at| pickle(at, b"\x80\x02(X\x06\x00\x00\x00modulectorch\nHalfStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ."), "\"module\", wanted 'storage'"),
    case("P18", "BUILD of a dict", |at| pickle(at, b"\x80\x02}}b."), "a dict is built from a dict"),
    case("P18", "BUILD of a global", |at| pickle(at, b"\x80\x02ccollections\nOrderedDict\n}b."), "a global is built from a dict"),
    case("P18", "BUILD from slots", |at| pickle(at, b"\x80\x02ccollections\nOrderedDict\n)RN}\x86b."), "an OrderedDict from a dict"),
    case("P18", "NEWOBJ of a tensor", |at| pickle(at, b"\x80\x02ctorch._utils\n_rebuild_tensor\n)\x81."), "wanted OrderedDict"),
    case("P18", "NEWOBJ with arguments", |at| pickle(at, b"\x80\x02ccollections\nOrderedDict\nK\x01\x85\x81."), "1 arguments, wanted OrderedDict"),
    case("P18", "NEWOBJ_EX", |at| pickle(at, b"\x80\x04ccollections\nOrderedDict\n)}\x92."), "opcode NEWOBJ_EX"),
    case("P18", "OBJ without a class", |at| pickle(at, b"\x80\x02(o."), "without a class"),
    case("P18", "OBJ of a number", |at| pickle(at, b"\x80\x02(K\x01o."), "made from an int"),
    case("P19", "SETITEM on a list", |at| pickle(at, b"\x80\x02]K\x01K\x02s."), "set in a list, wanted a dict"),
    case("P19", "SETITEMS on a tensor", |at| dict(at, set_in), "set in a tensor, wanted a dict"),
    case("P19", "SETITEMS on a storage", |at| pickle(at, &storage(Pickle::new()).op(b"(K\x01K\x02u.").0), "set in a storage"),
    case("P19", "SETITEMS of three", |at| pickle(at, b"\x80\x02}(K\x01K\x02K\x03u."), "a key without a value"),
    case("P19", "APPEND to a dict", |at| pickle(at, b"\x80\x02}K\x01a."), "appended to a dict, wanted a list"),
    case("P19", "APPENDS to a tuple", |at| pickle(at, b"\x80\x02)(K\x01e."), "appended to a tuple, wanted a list"),
    case("P20", "STOP on the empty stack", |at| pickle(at, b"\x80\x02."), "from the empty stack"),
    case("P20", "TUPLE3 of two", |at| pickle(at, b"\x80\x02K\x01K\x02\x87."), "from the empty stack"),
    case("P20", "POP of nothing", |at| pickle(at, b"\x80\x020."), "from the empty stack"),
    case("P20", "a value below a mark", |at| pickle(at, b"\x80\x02K\x01(\x85."), "from the empty stack"),
    case("P20", "no MARK", |at| pickle(at, b"\x80\x02K\x01t."), "no MARK"),
    case("P20", "STOP above other values", |at| pickle(at, b"\x80\x02}}."), "STOP leaves 1 values"),
    case("P20", "STOP above a mark", |at| pickle(at, b"\x80\x02(}."), "STOP leaves"),
    case("P21", "a slot that was never set", |at| pickle(at, b"\x80\x02h\x07."), "slot 7 of the memo was never set"),
    case("P21", "a slot far out, never set", |at| pickle(at, b"\x80\x02j\xff\xff\xff\xff."), "slot 4294967295 of the memo was never set"),
    case("P21", "slot 2^31, set", |at| pickle(at, b"\x80\x02}r\x00\x00\x00\x80j\x01\x00\x00\x80."), "slot 2147483649 of the memo was never set"),
    case("P21", "a slot as text that is none", |at| pickle(at, b"\x80\x02g-1\n."), "a slot of the memo"),
    case("P22", "a string of 2^63 bytes", |at| pickle(at, b"\x80\x04\x8d\x00\x00\x00\x00\x00\x00\x00\x80."), "wanted 9223372036854775808 more bytes"),
    case("P22", "bytes of 2^64 - 1", |at| pickle(at, b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff."), "wanted 18446744073709551615 more bytes"),
    case("P22", "an integer of 2^31 bytes", |at| pickle(at, b"\x80\x02\x8b\xff\xff\xff\xff."), "wanted 4294967295 more bytes"),
    case("P22", "a string of 4 GiB", |at| pickle(at, b"\x80\x02X\xff\xff\xff\xff."), "wanted 4294967295 more bytes"),
    case("P22", "a decimal integer that is none", |at| pickle(at, b"\x80\x02L9x9L\n."), "wanted an integer"),
    case("P23", "a frame past the end", |at| pickle(at, b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}."), "a frame of 16 bytes, but only 2 follow"),
    case("P23", "a frame of 2^64 - 1 bytes", |at| pickle(at, b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff}."), "a frame of 18446744073709551615"),
    case("P24", "no STOP", |at| pickle(at, b"\x80\x02}"), "ends without STOP"),
    case("P24", "nothing", |at| pickle(at, b""), "ends without STOP"),
    case("P24", "bytes after STOP", |at| pickle(at, b"\x80\x02}.cos\nsystem\n."), "bytes follow the pickle"),
    case("P25", "a dict in itself", |at| pickle(at, b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."), "\"a\" is a dict, wanted a tensor"),
    case("P25", "a state dict in itself", |at| pickle(at, b"\x80\x02}q\x00X\x0a\x00\x00\x00state_dicth\x00s."), "\"state_dict\" is a dict, wanted a tensor"),
    case("P25", "a tuple 400000 deep", |at| pickle(at, &[b"\x80\x02)", [0x85; 400_000].as_slice(), b"."].concat()), "holds a tuple, wanted a state dict"),
    case("P25", "a tuple 10^6 deep", |at| pickle(at, &[b"\x80\x02)", [0x85; 1_000_000].as_slice(), b"."].concat()), "more than 524288 instructions"),
    case("P25", "10^6 marks", |at| pickle(at, &[b"\x80\x02".as_slice(), &[b'('; 1_000_000], b"."].concat()), "more than 524288 instructions"),
    case("P25", "half a million dicts", |at| pickle(at, &[b"\x80\x02".as_slice(), &[b'}'; 500_000], b"."].concat()), "STOP leaves 499999 values"),
    case("P25", "as many slots of the memo", |at| pickle(at, &[b"\x80\x02".as_slice(), &b"]\x94".repeat(250_000), b"."].concat()), "STOP leaves 249999 values"),
    case("P25", "as many tensors of one storage", |at| pickle(at, &many_tensors()), "STOP leaves 29999 values"),
    case("P25", "a dict that doubles", |at| pickle(at, &billion_laughs()), "a tuple, wanted a state dict"),
    case("P25", "a pickle of 20 MB", |at| pickle(at, &[b"\x80\x02B\xf0\xff\x3f\x01".as_slice(), &vec![0; 20_971_504], b"."].concat()), "at most 16777216 are read"),
    case("P26", "one row too many", |at| dict(at, |p| view(p, 0, &[33, 16], &[16, 1])), "in a storage of 512 elements"),
    case("P26", "one element too far", |at| dict(at, |p| view(p, 1, &[32, 16], &[16, 1])), "from element 1 on, in a storage of 512"),
    case("P26", "a negative offset", |at| dict(at, |p| view(p, -1, &[2], &[1])), "found -1, wanted no negative number"),
    case("P26", "a negative size", |at| dict(at, |p| view(p, 0, &[-2, -2], &[1, 1])), "found -2, wanted a size"),
    case("P26", "a negative stride", |at| dict(at, |p| view(p, 511, &[32], &[-1])), "found -1, wanted a size"),
    case("P26", "strides that wrap", |at| dict(at, |p| tensor(p, storage, 0, &[3, 1], &[i64::MAX, 1])), "in a storage of 512 elements"),
    case("P26", "a huge stride of a single row", |at| dict(at, |p| tensor(p, storage, 0, &[1, 2], &[i64::MAX, 2])), "has shape [1, 2]"),
    case("P26", "sizes that wrap", |at| dict(at, |p| tensor(p, storage, 0, &[1 << 32, 1 << 32], &[0, 0])), "too large to be real"),
    case("P26", "one element, repeated 2^40 times", |at| dict(at, |p| tensor(p, storage, 0, &[1 << 40, 1], &[0, 0])), "times its size is believed"),
    case("P26", "an embedding of one repeated row", |at| dict(at, |p| tensor(p, storage, 0, &[2_000_000_000, 16], &[0, 1])), "times its size is believed"),
    case("P26", "elements far apart in both directions", |at| raw(at, far_apart()), "so far apart that 216000000 bytes are read"),
    case("P26", "more strides than sizes", |at| dict(at, |p| view(p, 0, &[2], &[1, 1])), "1 dimensions with 2 strides"),
    case("P26", "a tensor of 9 dimensions", |at| dict(at, |p| view(p, 0, &[1; 9], &[1; 9])), "at most 8 are read"),
    case("P26", "a part of a storage in an archive", |at| pickle(at, &legacy_part(0, 512)), "which only the older container has"),
    case("P26", "two parts under one key", |at| legacy(at, &two_parts(["1", "1"])), "the key \"1\" of a part of a storage stands for something else too"),
    case("P26", "a part under the key of a storage", |at| legacy(at, &two_parts(["1", "0"])), "the key \"0\" of a part of a storage stands for something else too"),
    case("P26", "a part of a storage beyond it", |at| legacy(at, &legacy_part(500, 13)), "elements 500 + 13 of a storage of 512"),
    case("P26", "a tensor beyond its part", |at| legacy(at, &legacy_part(0, 511)), "in a storage of 511 elements"),
    case("P27", "quantized", |at| pickle(at, b"\x80\x02ctorch._utils\n_rebuild_qtensor\n."), "quantized tensors are not read"),
    case("P27", "a quantized storage", |at| pickle(at, b"\x80\x02ctorch\nQInt8Storage\n."), "quantized tensors are not read"),
    case("P27", "sparse", |at| pickle(at, b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n."), "sparse tensors are not read"),
    case("P27", "meta", |at| pickle(at, b"\x80\x02ctorch._utils\n_rebuild_meta_tensor_no_storage\n."), "meta tensors"),
    case("P27", "complex", |at| pickle(at, b"\x80\x02ctorch\nComplexFloatStorage\n."), "complex numbers are not read"),
    case("P27", "a subclass of tensors", |at| pickle(at, b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n."), "subclasses of tensors"),
    case("P15", "a whole model", |at| pickle(at, b"\x80\x02ctransformers.models.gpt_neox.modeling_gpt_neox\nGPTNeoXForCausalLM\n."), "save torch.save(model.state_dict(), FILE)"),
    case("P15", "a module of PyTorch", |at| pickle(at, b"\x80\x02ctorch.nn.modules.linear\nLinear\n."), "a whole model, as torch.save(model) writes it"),
    case("P15", "settings of a training run", |at| pickle(at, b"\x80\x02ctransformers.training_args\nTrainingArguments\n."), "the settings of a training run"),
    case("P18", "the state of an optimizer", |at| dict(at, |p| p.op(b"}s").text("param_groups").op(b"]")), "the state of an optimizer, no weights"),
    case("P27", "weights of integers", |at| model_with(at, |tensors| tensors[0].class = "Short"), "type Short, wanted Float, Half, BFloat16 or Double"),
    case("P25", "a key of 15 MB, 261,000 dicts under it", |at| pickle(at, &long_key(b"}q\x01", b"h\x00h\x01", 261_000)), "more than 65536 tensors"),
    case("P25", "a storage of a key of 15 MB, 50,000 times", |at| pickle(at, &long_storage_key(50_000)), "no member \"data/kkk"),
    case("P25", "a legacy system of 261,000 keys of 15 MB", |at| raw(at, long_system(261_000)), "a frame of 1 bytes"),
    case("P28", "a tensor with an accent", |at| named(at, "caf\u{e9}"), "its name is not plain ASCII"),
    case("P28", "a tensor with a space", |at| named(at, "a b"), "its name is not plain ASCII"),
    case("P28", "a tensor without a name", |at| named(at, ""), "its name is not plain ASCII"),
    case("P28", "70,000 tensors", |at| pickle(at, &many_names(70_000)), "more than 65536 tensors"),
    case("P28", "a tensor twice", dict_twice, "\"w\" comes twice"),
    case("P28", "a tensor beside the state dict", |at| dict(at, |p| view(p, 0, &[2], &[1]).op(b"s").text("model").op(b"}")), "\"model\" is a dict, wanted a tensor"),
    case("P28", "a key that is a number", |at| pickle(at, b"\x80\x02}K\x01K\x02s."), "a key of the state dict is an int"),
    case("P28", "a state dict that is a list", |at| pickle(at, b"\x80\x02]."), "holds a list, wanted a state dict"),
    case("P28", "an empty state dict", |at| pickle(at, b"\x80\x02}."), "the state dict is empty"),
    case("P28", "one storage of two types", |at| raw(at, two_types()), "is 512 x Float here, 512 x Half before"),
    case("P28", "a legacy key twice", |at| legacy_keys(at, b"](X\x01\x00\x00\x000X\x01\x00\x00\x000e."), "storage \"0\": comes twice"),
    case("P28", "a legacy key without a tensor", |at| legacy_keys(at, b"](X\x01\x00\x00\x007e."), "\"7\": no tensor refers to it"),
    case("P28", "a tensor without a legacy key", |at| legacy_keys(at, b"]."), "bytes follow the last storage"),
    case("P28", "legacy keys that are no list", |at| legacy_keys(at, b"}."), "keys are a dict, wanted a list"),
    case("P29", "a magic number that is wrong", |at| legacy_bytes(at, |file| file[5] ^= 1), "not with PyTorch's magic number"),
    case("P29", "a plain pickle", |at| raw(at, b"\x80\x02}.".to_vec()), "not with PyTorch's magic number"),
    case("P28", "two dicts that could be the state dict", |at| pickle(at, b"\x80\x02}(X\x05\0\0\0model}X\x0a\0\0\0state_dict}u."), "are both dicts"),
    case("P29", "protocol 1002", |at| legacy_bytes(at, |file| flip(file, b"J\xe9\x03\0\0.", b"J\xea\x03\0\0.")), "protocol 1002, wanted 1001"),
    case("P29", "a protocol that is a string", |at| legacy_bytes(at, |file| flip(file, b"J\xe9\x03\0\0.", b"X\x01\0\0\0a.")), "protocol is"),
    case("P29", "a legacy file cut in its pickle", |at| legacy_bytes(at, |file| file.truncate(200)), "truncated?"),
    case("P30", "a tensor in another shard", |at| shards(at, |at, index| write_index(at, &index.replace("00002-of", "00001-of"))), "the index"),
    case("P30", "a tensor that is in no shard", |at| shards(at, |at, index| write_index(at, &extra_tensor(index))), "where the index says it is"),
    case("P30", "a tensor that the index does not have", |at| shards(at, |at, index| write_index(at, &index.replace("embed_out", "embed_off"))), "not in the index"),
    case("P30", "a tensor in both shards", |at| shards(at, both_shards), "also in"),
    case("P30", "a shard outside the folder", |at| shards(at, |at, index| write_index(at, &index.replace("pytorch_model-0", "../pytorch_model-0"))), "is not the name of a .bin file"),
    case("P30", "a shard in another format", |at| shards(at, |at, index| write_index(at, &index.replace("00002.bin", "00002.safetensors"))), "is not the name of a .bin file"),
    case("P30", "an index with a tensor twice", |at| shards(at, |at, index| write_index(at, &index.replace("layers.1", "layers.0"))), "comes twice"),
    case("P30", "a shard with a global", |at| shards(at, |at, _| fs::write(at.join(SHARD), archive(b"\x80\x02cos\nsystem\n.")).expect("written")), "\"os.system\" is refused"),
];

const SHARD: &str = "pytorch_model-00002-of-00002.bin";
const INDEX: &str = "pytorch_model.bin.index.json";

fn read(name: &str) -> Vec<u8> {
    fs::read(data(name)).expect("a file")
}

/// The config and a `.bin` file of these bytes.
fn raw(at: &Path, bytes: Vec<u8>) {
    fs::write(at.join("config.json"), read("torch/config.json")).expect("a config");
    fs::write(at.join("pytorch_model.bin"), bytes).expect("weights");
}

/// The tensors of a whole model.
fn tensors() -> Vec<Tensor> {
    torch::tensors(&data("torch/half.safetensors"))
}

/// The embedding alone, under the name `w`: 32 rows of 16.
fn single() -> Vec<Tensor> {
    let mut tensors = tensors();
    tensors.retain(|tensor| tensor.name.ends_with("embed_in.weight"));
    tensors[0].name = "w".into();
    tensors
}

/// An archive of one tensor: the pickle, the byte order, the storage, the version.
fn zip(at: &Path, edit: impl FnOnce(&mut Vec<Member>)) {
    let tensors = single();
    let mut members = torch::members(torch::state_dict(Container::Zip, &tensors), &tensors);
    edit(&mut members);
    raw(at, torch::archive(&members));
}

/// An archive of a whole model.
fn model(at: &Path, edit: impl FnOnce(&mut Vec<Member>)) {
    let tensors = tensors();
    let mut members = torch::members(torch::state_dict(Container::Zip, &tensors), &tensors);
    edit(&mut members);
    raw(at, torch::archive(&members));
}

fn model_with(at: &Path, edit: impl FnOnce(&mut Vec<Tensor>)) {
    let mut tensors = tensors();
    edit(&mut tensors);
    raw(at, torch::file(Container::Zip, &tensors));
}

fn zip_bytes(at: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = torch::file(Container::Zip, &single());
    edit(&mut bytes);
    raw(at, bytes);
}

fn wide(at: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = torch::file(Container::Zip64, &single());
    edit(&mut bytes);
    raw(at, bytes);
}

fn legacy_bytes(at: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = torch::file(Container::Legacy, &single());
    edit(&mut bytes);
    raw(at, bytes);
}

/// An archive of this pickle and a storage of 512 halves, `0`.
fn archive(pickle: &[u8]) -> Vec<u8> {
    torch::archive(&torch::members(pickle.to_vec(), &single()))
}

fn pickle(at: &Path, pickle: &[u8]) {
    raw(at, archive(pickle));
}

/// A legacy file of this state dict and that storage.
fn legacy(at: &Path, pickle: &[u8]) {
    raw(at, torch::legacy(pickle, &single()));
}

/// A state dict whose tensor `gpt_neox.embed_in.weight` is made by `value`.
fn dict(at: &Path, value: impl FnOnce(Pickle) -> Pickle) {
    pickle(at, &value(Pickle::new().op(b"}").text("gpt_neox.embed_in.weight")).op(b"s.").0);
}

fn storage(pickle: Pickle) -> Pickle {
    pickle.storage(Container::Zip, "0", "Half", 512)
}

/// The storage with another number of elements, an instruction.
fn storage_of(pickle: Pickle, n_elems: &[u8]) -> Pickle {
    let id = pickle.op(b"(").text("storage").global("torch", "HalfStorage").text("0").text("cpu");
    id.op(n_elems).op(b"tQ")
}

fn view(pickle: Pickle, offset: i32, shape: &[i32], strides: &[i32]) -> Pickle {
    let args = storage(pickle.global("torch._utils", "_rebuild_tensor_v2").op(b"("));
    args.view(offset, shape, strides).op(b"tR")
}

/// As [`view`], with sizes of 64 bits.
fn tensor(
    pickle: Pickle,
    storage: impl FnOnce(Pickle) -> Pickle,
    offset: i32,
    shape: &[i64],
    strides: &[i64],
) -> Pickle {
    let mut args = storage(pickle.global("torch._utils", "_rebuild_tensor").op(b"(")).int(offset);
    for dims in [shape, strides] {
        args = args.op(b"(");
        for dim in dims {
            args = args.op(b"\x8a\x08").op(&dim.to_le_bytes());
        }
        args = args.op(b"t");
    }
    args.op(b"tR")
}

fn negated(pickle: Pickle) -> Pickle {
    let args = storage(pickle.global("torch._utils", "_rebuild_tensor_v2").op(b"(")).view(0, &[2], &[1]);
    args.op(b"}").text("neg").op(b"\x88stR")
}

fn set_in(pickle: Pickle) -> Pickle {
    view(pickle, 0, &[2], &[1]).op(b"(K\x01K\x02u")
}

fn dict_twice(at: &Path) {
    let once = |p: Pickle| view(p.text("w"), 0, &[2], &[1]);
    pickle(at, &once(once(Pickle::new().op(b"}("))).op(b"u.").0);
}

fn two_types() -> Vec<u8> {
    let float = |p: Pickle| p.storage(Container::Zip, "0", "Float", 512).op(b"0");
    archive(&float(storage(Pickle::new()).op(b"0")).op(b"}.").0)
}

/// A state dict over the part of the storage from `first` on, of `len` elements; the tensor has 512.
fn legacy_part(first: i32, len: i32) -> Vec<u8> {
    let args = Pickle::new().op(b"}").text("w").global("torch._utils", "_rebuild_tensor_v2").op(b"((");
    let id = args.text("storage").global("torch", "HalfStorage").text("0").text("cpu").int(512);
    let part = id.op(b"(").text("1").int(first).int(len).op(b"ttQ");
    part.view(0, &[512], &[1]).op(b"tRs.").0
}

/// A state dict over the two halves of the storage, kept under these keys.
fn two_parts(keys: [&str; 2]) -> Vec<u8> {
    let tensor = |p: Pickle, (half, key): (usize, &str)| {
        let args = p.text(["v", "w"][half]).global("torch._utils", "_rebuild_tensor_v2").op(b"((");
        let id = args.text("storage").global("torch", "HalfStorage").text("0").text("cpu").int(512);
        let part = id.op(b"(").text(key).int(256 * half as i32).int(256);
        part.op(b"ttQ").view(0, &[256], &[1]).op(b"tR")
    };
    keys.into_iter().enumerate().fold(Pickle::new().op(b"}("), tensor).op(b"u.").0
}

/// Slot 0 is a string of 15 MB, `value` fills slot 1; then a dict in which `pair` is set `n` times.
fn long_key(value: &[u8], pair: &[u8], n: usize) -> Vec<u8> {
    let start = Pickle::new().text(&long_text()).op(b"q\x000").op(value).op(b"0}(");
    [start.0, pair.repeat(n), b"u.".to_vec()].concat()
}

fn long_text() -> String {
    "k".repeat(15_000_000)
}

/// A dict of one key, under which stands the last of `n` storages of one long key.
fn long_storage_key(n: usize) -> Vec<u8> {
    let start = Pickle::new().text(&long_text()).op(b"q\x000").text("storage").op(b"q\x010");
    let start = start.global("torch", "HalfStorage").op(b"q\x020");
    let reference = b"(h\x01h\x02h\x00NK\x01tQ";
    [start.0, b"}".to_vec(), [reference.as_slice(), b"0"].concat().repeat(n), b".".to_vec()].concat()
}

/// A legacy file whose system is such a dict, and whose state dict is wrong.
fn long_system(n: usize) -> Vec<u8> {
    let head = torch::legacy_head();
    let system = head.windows(2).rposition(|two| two == b"\x80\x02").expect("a third pickle");
    let wrong = b"\x80\x02\x95\x01\0\0\0\0\0\0\0";
    [&head[..system], &long_key(b"K\x01q\x01", b"h\x00h\x01", n), wrong].concat()
}

/// A matrix of 60 by 60 in a storage of 7 MB.
fn far_apart() -> Vec<u8> {
    let n_elems = 59 * 60_000 + 1;
    let storage = |p: Pickle| p.storage(Container::Zip, "0", "Half", n_elems);
    let pickle = tensor(Pickle::new().op(b"}").text("w"), storage, 0, &[60, 60], &[30_000, 30_000]).op(b"s.").0;
    let data = Tensor { name: "w".into(), class: "Half", shape: vec![n_elems], bytes: vec![0; 2 * n_elems] };
    torch::archive(&torch::members(pickle, &[data]))
}

/// One tensor under this name.
fn named(at: &Path, name: &str) {
    pickle(at, &view(Pickle::new().op(b"}").text(name), 0, &[2], &[1]).op(b"s.").0);
}

/// As many names of one tensor.
fn many_names(n: usize) -> Vec<u8> {
    let start = view(Pickle::new(), 0, &[2], &[1]).op(b"q\x000}(");
    (0..n).fold(start, |pickle, i| pickle.text(&i.to_string()).op(b"h\x00")).op(b"u.").0
}

fn rename(member: &mut Member, name: &str) {
    (member.name, member.local_name) = (name.to_owned(), name.to_owned());
}

fn legacy_keys(at: &Path, keys: &[u8]) {
    let tensors = single();
    let pickle = torch::state_dict(Container::Legacy, &tensors);
    let storage = [&512u64.to_le_bytes()[..], &tensors[0].bytes].concat();
    raw(at, [torch::legacy_head(), pickle, [b"\x80\x02", keys].concat(), storage.clone(), storage].concat());
}

fn legacy_count(file: &mut Vec<u8>) {
    let at = file.len() - 1024 - 8;
    file[at..at + 8].copy_from_slice(&7u64.to_le_bytes());
}

fn tar() -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[..8].copy_from_slice(b"sys_info");
    bytes[257..263].copy_from_slice(b"ustar ");
    bytes
}

/// A deflated pickle: what it is packed to does not matter, it is never unpacked.
fn bomb(members: &mut Vec<Member>) {
    members[0] = Member { method: 8, ..Member::new("m/data.pkl", vec![0; 1 << 20]) };
}

fn last_crc(members: &mut Vec<Member>) {
    let last = members.len() - 2;
    members[last].crc ^= 1;
}

fn shorten(members: &mut [Member], index: usize) {
    let name = members[index].name.clone();
    members[index] = Member::new(&name, members[index].data[2..].to_vec());
}

fn lengthen(members: &mut [Member], index: usize) {
    let name = members[index].name.clone();
    members[index] = Member::new(&name, [members[index].data.as_slice(), &[0; 2]].concat());
}

/// Tuples of two of the tuple before: 2^100000 values, were they written out.
fn billion_laughs() -> Vec<u8> {
    [b"\x80\x02)", b"2\x86".repeat(100_000).as_slice(), b"."].concat()
}

/// Lets the directory's first entry point into the middle of a header.
fn moved_header(zip: &mut Vec<u8>) {
    let entry = zip.windows(4).position(|window| window == b"PK\x01\x02").expect("a directory");
    zip[entry + 42] = 4;
}

/// Tensors of eight dimensions, whose parts come from the memo.
fn many_tensors() -> Vec<u8> {
    let parts = storage(Pickle::new()).op(b"q\x000ctorch._utils\n_rebuild_tensor\nq\x010(");
    let shape = (0..8).fold(parts, |pickle, _| pickle.int(1)).op(b"tq\x020(h\x00K\x00h\x02h\x02tq\x030");
    [shape.0.as_slice(), b"h\x01h\x03R".repeat(30_000).as_slice(), b"."].concat()
}

/// Overwrites bytes `from_end` bytes before the end.
fn patch(bytes: &mut [u8], from_end: usize, new: &[u8]) {
    let at = bytes.len() - from_end;
    bytes[at..at + new.len()].copy_from_slice(new);
}

/// Sets a number of the zip64 end record, twice for counts, and the same of the end record to "elsewhere" if `alone`.
fn end64(bytes: &mut [u8], field: usize, value: u64, alone: bool) {
    patch(bytes, 98 - field, &value.to_le_bytes());
    match field {
        24 => patch(bytes, 98 - 32, &value.to_le_bytes()),
        40 if alone => patch(bytes, 22 - 12, &[0xff; 4]),
        _ => {}
    }
}

fn both_counts(bytes: &mut [u8], n: u64) {
    end64(bytes, 24, n, false);
    patch(bytes, 22 - 8, &[n as u8, 0, n as u8, 0]);
}

/// Replaces the one place where `old` is.
fn flip(bytes: &mut Vec<u8>, old: &[u8], new: &[u8]) {
    let at = bytes.windows(old.len()).position(|window| window == old).expect("there");
    bytes.splice(at..at + old.len(), new.iter().copied());
}

/// Sets the highest byte of the place of the first member's header, the last number of its zip64 field.
fn replace_last(bytes: &mut [u8], value: u8) {
    let at = bytes.windows(4).position(|window| window == [1, 0, 24, 0]).expect("there");
    bytes[at + 4 + 23] = value;
}

/// Shards of the model with `edit` made to the folder; it is given the text of the index.
fn shards(at: &Path, edit: impl FnOnce(&Path, &str)) {
    fs::write(at.join("config.json"), read("torch/config.json")).expect("a config");
    for name in ["pytorch_model-00001-of-00002.bin", SHARD, INDEX] {
        fs::write(at.join(name), read(&format!("torch/1.13.1-shards/{name}"))).expect("a file");
    }
    let index = fs::read_to_string(at.join(INDEX)).expect("an index");
    edit(at, &index);
}

fn write_index(at: &Path, text: &str) {
    fs::write(at.join(INDEX), text).expect("an index");
}

fn extra_tensor(index: &str) -> String {
    index.replacen("\"embed_out.weight\"", &format!("\"extra.weight\": \"{SHARD}\", \"embed_out.weight\""), 1)
}

fn both_shards(at: &Path, _index: &str) {
    fs::write(at.join(SHARD), torch::file(Container::Zip, &tensors())).expect("a shard");
}
