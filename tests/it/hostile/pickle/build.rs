//! The parts that the cases of `.bin` files are put together from.

#![allow(clippy::ptr_arg, reason = "what edits a file is given the whole of it")]

use crate::common::data;
use crate::common::torch::{self, Container, Member, Pickle, Tensor};
use std::fs;
use std::path::Path;

pub(super) const SHARD: &str = "pytorch_model-00002-of-00002.bin";
pub(super) const INDEX: &str = "pytorch_model.bin.index.json";

pub(super) fn read(name: &str) -> Vec<u8> {
    fs::read(data(name)).expect("a file")
}

/// The config and a `.bin` file of these bytes.
pub(super) fn raw(at: &Path, bytes: Vec<u8>) {
    fs::write(at.join("config.json"), read("torch/config.json")).expect("a config");
    fs::write(at.join("pytorch_model.bin"), bytes).expect("weights");
}

/// The tensors of a whole model.
pub(super) fn tensors() -> Vec<Tensor> {
    torch::tensors(&data("torch/half.safetensors"))
}

/// The embedding alone, under the name `w`: 32 rows of 16.
pub(super) fn single() -> Vec<Tensor> {
    let mut tensors = tensors();
    tensors.retain(|tensor| tensor.name.ends_with("embed_in.weight"));
    tensors[0].name = "w".into();
    tensors
}

/// An archive of one tensor: the pickle, the byte order, the storage, the version.
pub(super) fn zip(at: &Path, edit: impl FnOnce(&mut Vec<Member>)) {
    let tensors = single();
    let mut members = torch::members(torch::state_dict(Container::Zip, &tensors), &tensors);
    edit(&mut members);
    raw(at, torch::archive(&members));
}

/// An archive of a whole model.
pub(super) fn model(at: &Path, edit: impl FnOnce(&mut Vec<Member>)) {
    let tensors = tensors();
    let mut members = torch::members(torch::state_dict(Container::Zip, &tensors), &tensors);
    edit(&mut members);
    raw(at, torch::archive(&members));
}

pub(super) fn model_with(at: &Path, edit: impl FnOnce(&mut Vec<Tensor>)) {
    let mut tensors = tensors();
    edit(&mut tensors);
    raw(at, torch::file(Container::Zip, &tensors));
}

pub(super) fn zip_bytes(at: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = torch::file(Container::Zip, &single());
    edit(&mut bytes);
    raw(at, bytes);
}

pub(super) fn wide(at: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = torch::file(Container::Zip64, &single());
    edit(&mut bytes);
    raw(at, bytes);
}

pub(super) fn legacy_bytes(at: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = torch::file(Container::Legacy, &single());
    edit(&mut bytes);
    raw(at, bytes);
}

/// An archive of this pickle and a storage of 512 halves, `0`.
pub(super) fn archive(pickle: &[u8]) -> Vec<u8> {
    torch::archive(&torch::members(pickle.to_vec(), &single()))
}

pub(super) fn pickle(at: &Path, pickle: &[u8]) {
    raw(at, archive(pickle));
}

/// A legacy file of this state dict and that storage.
pub(super) fn legacy(at: &Path, pickle: &[u8]) {
    raw(at, torch::legacy(pickle, &single()));
}

/// A state dict whose tensor `gpt_neox.embed_in.weight` is made by `value`.
pub(super) fn dict(at: &Path, value: impl FnOnce(Pickle) -> Pickle) {
    pickle(at, &value(Pickle::new().op(b"}").text("gpt_neox.embed_in.weight")).op(b"s.").0);
}

pub(super) fn storage(pickle: Pickle) -> Pickle {
    pickle.storage(Container::Zip, "0", "Half", 512)
}

/// The storage with another number of elements, an instruction.
pub(super) fn storage_of(pickle: Pickle, n_elems: &[u8]) -> Pickle {
    let id = pickle.op(b"(").text("storage").global("torch", "HalfStorage").text("0").text("cpu");
    id.op(n_elems).op(b"tQ")
}

pub(super) fn view(pickle: Pickle, offset: i32, shape: &[i32], strides: &[i32]) -> Pickle {
    let args = storage(pickle.global("torch._utils", "_rebuild_tensor_v2").op(b"("));
    args.view(offset, shape, strides).op(b"tR")
}

/// As [`view`], with sizes of 64 bits.
pub(super) fn tensor(
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

pub(super) fn negated(pickle: Pickle) -> Pickle {
    let args = storage(pickle.global("torch._utils", "_rebuild_tensor_v2").op(b"(")).view(0, &[2], &[1]);
    args.op(b"}").text("neg").op(b"\x88stR")
}

pub(super) fn set_in(pickle: Pickle) -> Pickle {
    view(pickle, 0, &[2], &[1]).op(b"(K\x01K\x02u")
}

pub(super) fn dict_twice(at: &Path) {
    let once = |p: Pickle| view(p.text("w"), 0, &[2], &[1]);
    pickle(at, &once(once(Pickle::new().op(b"}("))).op(b"u.").0);
}

pub(super) fn two_types() -> Vec<u8> {
    let float = |p: Pickle| p.storage(Container::Zip, "0", "Float", 512).op(b"0");
    archive(&float(storage(Pickle::new()).op(b"0")).op(b"}.").0)
}

/// A state dict over the part of the storage from `first` on, of `len` elements; the tensor has 512.
pub(super) fn legacy_part(first: i32, len: i32) -> Vec<u8> {
    let args = Pickle::new().op(b"}").text("w").global("torch._utils", "_rebuild_tensor_v2").op(b"((");
    let id = args.text("storage").global("torch", "HalfStorage").text("0").text("cpu").int(512);
    let part = id.op(b"(").text("1").int(first).int(len).op(b"ttQ");
    part.view(0, &[512], &[1]).op(b"tRs.").0
}

/// A state dict over the two halves of the storage, kept under these keys.
pub(super) fn two_parts(keys: [&str; 2]) -> Vec<u8> {
    let tensor = |p: Pickle, (half, key): (usize, &str)| {
        let args = p.text(["v", "w"][half]).global("torch._utils", "_rebuild_tensor_v2").op(b"((");
        let id = args.text("storage").global("torch", "HalfStorage").text("0").text("cpu").int(512);
        let part = id.op(b"(").text(key).int(256 * half as i32).int(256);
        part.op(b"ttQ").view(0, &[256], &[1]).op(b"tR")
    };
    keys.into_iter().enumerate().fold(Pickle::new().op(b"}("), tensor).op(b"u.").0
}

/// Slot 0 is a string of 15 MB, `value` fills slot 1; then a dict in which `pair` is set `n` times.
pub(super) fn long_key(value: &[u8], pair: &[u8], n: usize) -> Vec<u8> {
    let start = Pickle::new().text(&long_text()).op(b"q\x000").op(value).op(b"0}(");
    [start.0, pair.repeat(n), b"u.".to_vec()].concat()
}

pub(super) fn long_text() -> String {
    "k".repeat(15_000_000)
}

/// A dict of one key, under which stands the last of `n` storages of one long key.
pub(super) fn long_storage_key(n: usize) -> Vec<u8> {
    let start = Pickle::new().text(&long_text()).op(b"q\x000").text("storage").op(b"q\x010");
    let start = start.global("torch", "HalfStorage").op(b"q\x020");
    let reference = b"(h\x01h\x02h\x00NK\x01tQ";
    [start.0, b"}".to_vec(), [reference.as_slice(), b"0"].concat().repeat(n), b".".to_vec()].concat()
}

/// A legacy file whose system is such a dict, and whose state dict is wrong.
pub(super) fn long_system(n: usize) -> Vec<u8> {
    let head = torch::legacy_head();
    let system = head.windows(2).rposition(|two| two == b"\x80\x02").expect("a third pickle");
    let wrong = b"\x80\x02\x95\x01\0\0\0\0\0\0\0";
    [&head[..system], &long_key(b"K\x01q\x01", b"h\x00h\x01", n), wrong].concat()
}

/// A matrix of 60 by 60 in a storage of 7 MB.
pub(super) fn far_apart() -> Vec<u8> {
    let n_elems = 59 * 60_000 + 1;
    let storage = |p: Pickle| p.storage(Container::Zip, "0", "Half", n_elems);
    let pickle = tensor(Pickle::new().op(b"}").text("w"), storage, 0, &[60, 60], &[30_000, 30_000]).op(b"s.").0;
    let data = Tensor { name: "w".into(), class: "Half", shape: vec![n_elems], bytes: vec![0; 2 * n_elems] };
    torch::archive(&torch::members(pickle, &[data]))
}

/// One tensor under this name.
pub(super) fn named(at: &Path, name: &str) {
    pickle(at, &view(Pickle::new().op(b"}").text(name), 0, &[2], &[1]).op(b"s.").0);
}

/// As many names of one tensor.
pub(super) fn many_names(n: usize) -> Vec<u8> {
    let start = view(Pickle::new(), 0, &[2], &[1]).op(b"q\x000}(");
    (0..n).fold(start, |pickle, i| pickle.text(&i.to_string()).op(b"h\x00")).op(b"u.").0
}

pub(super) fn rename(member: &mut Member, name: &str) {
    (member.name, member.local_name) = (name.to_owned(), name.to_owned());
}

pub(super) fn legacy_keys(at: &Path, keys: &[u8]) {
    let tensors = single();
    let pickle = torch::state_dict(Container::Legacy, &tensors);
    let storage = [&512u64.to_le_bytes()[..], &tensors[0].bytes].concat();
    raw(at, [torch::legacy_head(), pickle, [b"\x80\x02", keys].concat(), storage.clone(), storage].concat());
}

pub(super) fn legacy_count(file: &mut Vec<u8>) {
    let at = file.len() - 1024 - 8;
    file[at..at + 8].copy_from_slice(&7u64.to_le_bytes());
}

pub(super) fn tar() -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[..8].copy_from_slice(b"sys_info");
    bytes[257..263].copy_from_slice(b"ustar ");
    bytes
}

/// A deflated pickle: what it is packed to does not matter, it is never unpacked.
pub(super) fn bomb(members: &mut Vec<Member>) {
    members[0] = Member { method: 8, ..Member::new("m/data.pkl", vec![0; 1 << 20]) };
}

pub(super) fn last_crc(members: &mut Vec<Member>) {
    let last = members.len() - 2;
    members[last].crc ^= 1;
}

pub(super) fn shorten(members: &mut [Member], index: usize) {
    let name = members[index].name.clone();
    members[index] = Member::new(&name, members[index].data[2..].to_vec());
}

pub(super) fn lengthen(members: &mut [Member], index: usize) {
    let name = members[index].name.clone();
    members[index] = Member::new(&name, [members[index].data.as_slice(), &[0; 2]].concat());
}

/// Tuples of two of the tuple before: 2^100000 values, were they written out.
pub(super) fn billion_laughs() -> Vec<u8> {
    [b"\x80\x02)", b"2\x86".repeat(100_000).as_slice(), b"."].concat()
}

/// Lets the directory's first entry point into the middle of a header.
pub(super) fn moved_header(zip: &mut Vec<u8>) {
    let entry = zip.windows(4).position(|window| window == b"PK\x01\x02").expect("a directory");
    zip[entry + 42] = 4;
}

/// Tensors of eight dimensions, whose parts come from the memo.
pub(super) fn many_tensors() -> Vec<u8> {
    let parts = storage(Pickle::new()).op(b"q\x000ctorch._utils\n_rebuild_tensor\nq\x010(");
    let shape = (0..8).fold(parts, |pickle, _| pickle.int(1)).op(b"tq\x020(h\x00K\x00h\x02h\x02tq\x030");
    [shape.0.as_slice(), b"h\x01h\x03R".repeat(30_000).as_slice(), b"."].concat()
}

/// Overwrites bytes `from_end` bytes before the end.
pub(super) fn patch(bytes: &mut [u8], from_end: usize, new: &[u8]) {
    let at = bytes.len() - from_end;
    bytes[at..at + new.len()].copy_from_slice(new);
}

/// Sets a number of the zip64 end record, twice for counts, and the same of the end record to "elsewhere" if `alone`.
pub(super) fn end64(bytes: &mut [u8], field: usize, value: u64, alone: bool) {
    patch(bytes, 98 - field, &value.to_le_bytes());
    match field {
        24 => patch(bytes, 98 - 32, &value.to_le_bytes()),
        40 if alone => patch(bytes, 22 - 12, &[0xff; 4]),
        _ => {}
    }
}

pub(super) fn both_counts(bytes: &mut [u8], n: u64) {
    end64(bytes, 24, n, false);
    patch(bytes, 22 - 8, &[n as u8, 0, n as u8, 0]);
}

/// Replaces the one place where `old` is.
pub(super) fn flip(bytes: &mut Vec<u8>, old: &[u8], new: &[u8]) {
    let at = bytes.windows(old.len()).position(|window| window == old).expect("there");
    bytes.splice(at..at + old.len(), new.iter().copied());
}

/// Sets the highest byte of the place of the first member's header, the last number of its zip64 field.
pub(super) fn replace_last(bytes: &mut [u8], value: u8) {
    let at = bytes.windows(4).position(|window| window == [1, 0, 24, 0]).expect("there");
    bytes[at + 4 + 23] = value;
}

/// Shards of the model with `edit` made to the folder; it is given the text of the index.
pub(super) fn shards(at: &Path, edit: impl FnOnce(&Path, &str)) {
    fs::write(at.join("config.json"), read("torch/config.json")).expect("a config");
    for name in ["pytorch_model-00001-of-00002.bin", SHARD, INDEX] {
        fs::write(at.join(name), read(&format!("torch/1.13.1-shards/{name}"))).expect("a file");
    }
    let index = fs::read_to_string(at.join(INDEX)).expect("an index");
    edit(at, &index);
}

pub(super) fn write_index(at: &Path, text: &str) {
    fs::write(at.join(INDEX), text).expect("an index");
}

pub(super) fn extra_tensor(index: &str) -> String {
    index.replacen("\"embed_out.weight\"", &format!("\"extra.weight\": \"{SHARD}\", \"embed_out.weight\""), 1)
}

pub(super) fn both_shards(at: &Path, _index: &str) {
    fs::write(at.join(SHARD), torch::file(Container::Zip, &tensors())).expect("a shard");
}
