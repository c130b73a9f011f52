//! NumPy's `.npz`: a zip file with an `.npy` file per array, not compressed.
//!
//! Sizes and places are always those of zip64, so that files beyond 4 GB are no case of their own:
//! [APPNOTE 6.3](https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT), sections 4.3 and 4.5.3. The header of
//! `.npy` is described in `numpy.lib.format`.

use super::dtype::Dtype;
use super::layout::{Entry, Scalar};
use crate::Error;
use pythia_convert::output::AtomicFile;
use serde_json::{Map, Value};
use std::io::{Read, Seek, SeekFrom};

/// A file in the archive with the metadata, beside the arrays. NumPy shows it as bytes.
const METADATA: &str = "metadata.json";

/// Values of `.npy` begin at a multiple of this, counted from its start.
const NPY_ALIGNMENT: usize = 64;

/// Says that a number stands in the field of zip64.
const IN_ZIP64: u32 = u32::MAX;
/// The version of the format that has zip64.
const VERSION: u16 = 45;
/// Names are UTF-8.
const UTF8: u16 = 1 << 11;
/// 1980-01-01, the first date of zip: files with the same contents have the same bytes.
const DATE: u16 = 0x21;

const LOCAL_BYTES: usize = 30;
const LOCAL_EXTRA_BYTES: usize = 20;
const CENTRAL_BYTES: usize = 46;
const CENTRAL_EXTRA_BYTES: usize = 28;
const END64_BYTES: usize = 56;
const LOCATOR_BYTES: usize = 20;
const END_BYTES: usize = 22;

/// A file of the archive.
struct Member {
    name: String,
    /// What it begins with: the header of `.npy`, or all of it.
    head: Vec<u8>,
    /// Bytes after that.
    values: u64,
}

impl Member {
    fn size(&self) -> u64 {
        self.head.len() as u64 + self.values
    }

    /// Bytes of the archive until its contents begin.
    fn before(&self) -> u64 {
        (LOCAL_BYTES + self.name.len() + LOCAL_EXTRA_BYTES) as u64
    }

    fn central_bytes(&self) -> u64 {
        (CENTRAL_BYTES + self.name.len() + CENTRAL_EXTRA_BYTES) as u64
    }

    fn local_header(&self, crc: u32) -> Vec<u8> {
        let mut out = Bytes(Vec::new());
        out.u32(0x0403_4b50).u16(VERSION).u16(UTF8).u16(0).u16(0).u16(DATE).u32(crc).u32(IN_ZIP64).u32(IN_ZIP64);
        out.u16(self.name.len() as u16).u16(LOCAL_EXTRA_BYTES as u16).text(&self.name);
        out.u16(1).u16(16).u64(self.size()).u64(self.size());
        out.0
    }

    fn central_header(&self, crc: u32, at: u64) -> Vec<u8> {
        let mut out = Bytes(Vec::new());
        out.u32(0x0201_4b50).u16(VERSION).u16(VERSION).u16(UTF8).u16(0).u16(0).u16(DATE).u32(crc);
        out.u32(IN_ZIP64).u32(IN_ZIP64).u16(self.name.len() as u16).u16(CENTRAL_EXTRA_BYTES as u16);
        // No comment, the first disk, no attributes.
        out.u16(0).u16(0).u16(0).u32(0).u32(IN_ZIP64).text(&self.name);
        out.u16(1).u16(24).u64(self.size()).u64(self.size()).u64(at);
        out.0
    }
}

/// Numbers, little-endian.
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(&mut self, x: u16) -> &mut Self {
        self.0.extend_from_slice(&x.to_le_bytes());
        self
    }

    fn u32(&mut self, x: u32) -> &mut Self {
        self.0.extend_from_slice(&x.to_le_bytes());
        self
    }

    fn u64(&mut self, x: u64) -> &mut Self {
        self.0.extend_from_slice(&x.to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }
}

/// The files of the archive: first the metadata, then an array each.
fn members(entries: &[Entry], metadata: &[(String, String)]) -> Vec<Member> {
    let facts: Map<String, Value> = metadata.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    let metadata = Member { name: METADATA.to_owned(), head: Value::Object(facts).to_string().into(), values: 0 };
    let member =
        |entry: &Entry| Member { name: format!("{}.npy", entry.name), head: npy(entry), values: entry.bytes() };
    std::iter::once(metadata).chain(entries.iter().map(member)).collect()
}

/// The header of an `.npy` file.
fn npy(entry: &Entry) -> Vec<u8> {
    let descr = match entry.scalar {
        Scalar::I64 => "<i8",
        Scalar::I32 => "<i4",
        Scalar::Value(Dtype::F16) => "<f2",
        // NumPy has no bf16: a request for it is refused.
        Scalar::Value(Dtype::F32 | Dtype::Bf16) => "<f4",
    };
    let shape: String = entry.shape.iter().map(|n| format!("{n}, ")).collect();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", shape.trim_end());
    const FIXED: usize = 10;
    let padded = (FIXED + text.len() + 1).next_multiple_of(NPY_ALIGNMENT) - FIXED;
    text.push_str(&" ".repeat(padded - text.len() - 1));
    text.push('\n');
    [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat()
}

/// Where the values of each entry begin, and the bytes of the file.
pub(super) fn places(entries: &[Entry], metadata: &[(String, String)]) -> (Vec<u64>, u64) {
    let members = members(entries, metadata);
    let (mut at, mut starts) = (0, Vec::new());
    for member in &members {
        at += member.before() + member.size();
        starts.push(at - member.values);
    }
    let central: u64 = members.iter().map(Member::central_bytes).sum();
    let total = at + central + (END64_BYTES + LOCATOR_BYTES + END_BYTES) as u64;
    // Without that of the metadata.
    (starts.split_off(1), total)
}

/// Writes all but the values. Reads these back, because the checksum of a file covers them.
pub(super) fn finish(entries: &[Entry], metadata: &[(String, String)], file: &AtomicFile) -> Result<(), Error> {
    let members = members(entries, metadata);
    let n = members.len() as u64;
    let (mut at, mut central) = (0, Vec::new());
    for member in members {
        let contents = at + member.before();
        file.write_at(&member.head, contents)?;
        let crc = checksum(file, &member, contents + member.head.len() as u64)?;
        file.write_at(&member.local_header(crc), at)?;
        central.extend(member.central_header(crc, at));
        at = contents + member.size();
    }
    let mut end = Bytes(Vec::new());
    let (size, end64_at) = (central.len() as u64, at + central.len() as u64);
    end.u32(0x0606_4b50).u64(END64_BYTES as u64 - 12).u16(VERSION).u16(VERSION).u32(0).u32(0);
    end.u64(n).u64(n).u64(size).u64(at);
    end.u32(0x0706_4b50).u32(0).u64(end64_at).u32(1);
    end.u32(0x0605_4b50).u16(0).u16(0).u16(u16::MAX).u16(u16::MAX).u32(IN_ZIP64).u32(IN_ZIP64).u16(0);
    central.extend(end.0);
    Ok(file.write_at(&central, at)?)
}

/// The CRC-32 of a member whose values begin at `start` and are written.
fn checksum(file: &AtomicFile, member: &Member, start: u64) -> Result<u32, Error> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&member.head);
    let io = |source| pythia_convert::Error::Io { path: file.target().to_owned(), action: "read back", source };
    let (mut left, mut buffer) = (member.values, vec![0; 1 << 18]);
    let mut file = file.file();
    file.seek(SeekFrom::Start(start)).map_err(io)?;
    while left > 0 {
        let n = left.min(buffer.len() as u64) as usize;
        file.read_exact(&mut buffer[..n]).map_err(io)?;
        hasher.update(&buffer[..n]);
        left -= n as u64;
    }
    Ok(hasher.finalize())
}
