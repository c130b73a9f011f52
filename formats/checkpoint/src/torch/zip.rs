//! The container of PyTorch 1.6 and later: a zip archive of stored members.
//!
//! ```text
//! NAME/data.pkl     the state dict, a pickle that refers to storages by key
//! NAME/data/KEY     a storage: the elements, nothing else
//! NAME/byteorder    "little" or "big"; not in files of versions before 2.1
//! ```
//!
//! `NAME` may be anything. The directory at the end of the archive locates everything. It must fit the rest to the
//! byte, because a member could be hidden if two readers find different members in one file.
//!
//! Members are looked up as in PyTorch, ignoring the case of ASCII letters. So `NAME/DATA/0` is a second `NAME/data/0`,
//! and refused.
//!
//! Layout: <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>, sections 4.3.7 to 4.3.16.

use super::bytes::{u16_at, u32_at, u64_at};
use crate::error::{Error, excerpt};
use crate::weights::Opened;
use std::collections::HashMap;
use std::ops::Range;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;

const LOCAL_BYTES: u64 = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: u64 = 22;
const END64_BYTES: u64 = 56;
const END64_LOCATOR_BYTES: u64 = 20;

/// Placeholder for a 64-bit number that is elsewhere.
const ELSEWHERE: u32 = u32::MAX;
/// The extra field with such numbers.
const ZIP64_EXTRA: u16 = 1;

/// Bits of the flags for the three forms of encryption.
const ENCRYPTED: u16 = 1 << 0 | 1 << 6 | 1 << 13;
/// Bit of the flags: sizes and CRC follow the data, and are zero before it.
const SIZES_FOLLOW: u16 = 1 << 3;

/// Maximum size of the directory. That of 12b has 30 KB.
const DIRECTORY_LIMIT_BYTES: u64 = 4 << 20;

/// The pickle of the state dict.
const PICKLE: &str = "data.pkl";
/// A member that makes PyTorch read the archive as a program, with other weights than those of [`PICKLE`].
const PROGRAM: &str = "constants.pkl";

/// The directory of an archive.
#[derive(Debug)]
pub(super) struct Archive {
    /// The folder of all members, with its slash.
    root: String,
    /// Keyed by name without the folder, in lower case.
    members: HashMap<String, Member>,
    /// Whether the writer computed CRCs. PyTorch can omit them and then writes zeros.
    has_crcs: bool,
    /// Start of the directory. Members end before it.
    directory: u64,
}

/// A member in the directory.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// Position of its entry in the directory.
    entry: u64,
    /// Position of its own header.
    header: u64,
    n_bytes: u64,
    crc: u32,
    method: u16,
    flags: u16,
}

/// Position of the bytes of a member.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) range: Range<u64>,
    /// Their CRC-32, if the archive has any.
    pub(super) crc: Option<u32>,
}

impl Archive {
    /// Reads the directory.
    pub(super) fn open(opened: &Opened<'_>) -> Result<Self, Error> {
        let end = End::find(opened)?;
        let bad = |at: u64, reason: String| Error::container(opened.path, at, reason);
        if end.directory.end - end.directory.start > DIRECTORY_LIMIT_BYTES {
            return Err(bad(end.directory.start, format!("a directory of more than {DIRECTORY_LIMIT_BYTES} bytes")));
        }
        let bytes = opened.read(end.directory.clone())?;
        let mut members = HashMap::new();
        let mut root = "";
        let mut at = 0;
        while at < bytes.len() {
            let offset = end.directory.start + at as u64;
            let (name, member, n_bytes) = Member::parse(&bytes[at..], offset).map_err(|reason| bad(offset, reason))?;
            let plain = within(&mut root, name).map_err(|reason| bad(offset, reason))?;
            if members.insert(plain.to_ascii_lowercase(), member).is_some() {
                let reason = format!("member {} comes twice, if the case of letters is ignored", excerpt(name));
                return Err(bad(offset, reason));
            }
            at += n_bytes;
        }
        if members.len() as u64 != end.n_members {
            let reason = format!("{} members in the directory, its end says {}", members.len(), end.n_members);
            return Err(bad(end.directory.start, reason));
        }
        if members.contains_key(PROGRAM) {
            let reason = format!("a TorchScript program (it has {PROGRAM}), wanted a state dict");
            return Err(bad(end.directory.start, reason));
        }
        if !members.contains_key(PICKLE) {
            let reason = match root {
                "" => NO_PICKLE.to_owned(),
                root => format!("a zip archive without {}: not a PyTorch file?", excerpt(&format!("{root}{PICKLE}"))),
            };
            return Err(bad(end.directory.start, reason));
        }
        let has_crcs = members.values().any(|member| member.crc != 0);
        Ok(Self { root: root.to_owned(), members, has_crcs, directory: end.directory.start })
    }

    /// The position of the member `name`, confirmed by its own header.
    pub(super) fn find(&self, opened: &Opened<'_>, name: &str) -> Result<Option<Stored>, Error> {
        let Some(member) = self.members.get(&name.to_ascii_lowercase()) else { return Ok(None) };
        // The search ignores case, as PyTorch's does. But the member's own header must have exactly this name, so a
        // member that differs in case is refused.
        let name = format!("{}{name}", self.root);
        let bad =
            |at: u64, reason: String| Error::container(opened.path, at, format!("member {}: {reason}", excerpt(&name)));
        if member.method != 0 {
            return Err(bad(member.entry, format!("compressed (method {}), wanted stored as it is", member.method)));
        }
        if member.flags & ENCRYPTED != 0 {
            return Err(bad(member.entry, "encrypted".to_owned()));
        }
        let names_end = member.header.checked_add(LOCAL_BYTES + name.len() as u64);
        let Some(names_end) = names_end.filter(|&end| end <= self.directory) else {
            return Err(bad(member.entry, format!("its header at byte {} is not in the file", member.header)));
        };
        let header = opened.read(member.header..names_end)?;
        let extra = member.agrees_with(&header, &name).map_err(|reason| bad(member.header, reason))?;
        let start = names_end + u64::from(extra);
        match start.checked_add(member.n_bytes).filter(|&end| end <= self.directory) {
            Some(end) => Ok(Some(Stored { range: start..end, crc: self.has_crcs.then_some(member.crc) })),
            None => {
                let reason = format!(
                    "{} bytes from byte {start} on, but the directory is at byte {}",
                    member.n_bytes, self.directory
                );
                Err(bad(member.entry, reason))
            }
        }
    }
}

/// The end of an archive.
struct End {
    directory: Range<u64>,
    n_members: u64,
}

/// The directory according to an end record.
struct Sizes {
    n_members: u64,
    n_bytes: u64,
    start: u64,
}

impl Sizes {
    /// Whether each number equals the 64-bit one, or is the placeholder.
    fn may_stand_for(&self, wide: &Self) -> bool {
        let fits = |small: u64, elsewhere: u64, wide: u64| small == wide || small == elsewhere;
        fits(self.n_members, u64::from(u16::MAX), wide.n_members)
            && fits(self.n_bytes, u64::from(ELSEWHERE), wide.n_bytes)
            && fits(self.start, u64::from(ELSEWHERE), wide.start)
    }
}

impl End {
    fn find(opened: &Opened<'_>) -> Result<Self, Error> {
        let bad = |at: u64, reason: &str| Err(Error::container(opened.path, at, reason));
        let Some(end_at) = opened.n_bytes.checked_sub(END_BYTES) else {
            return bad(opened.n_bytes, "a zip archive that ends in its first header: truncated?");
        };
        let end = opened.read(end_at..opened.n_bytes)?;
        // No archive comment, because PyTorch writes none.
        if u32_at(&end, 0) != END || u16_at(&end, 20) != 0 {
            return bad(end_at, "the zip archive does not end in an end record: truncated?");
        }
        let n_members = u16_at(&end, 10);
        if (u16_at(&end, 4), u16_at(&end, 6)) != (0, 0) || u16_at(&end, 8) != n_members {
            return bad(end_at, "an archive in several parts");
        }
        let small = Sizes {
            n_members: u64::from(n_members),
            n_bytes: u64::from(u32_at(&end, 12)),
            start: u64::from(u32_at(&end, 16)),
        };
        let (sizes, records_at) = match Self::wide(opened, end_at)? {
            None => (small, end_at),
            Some((wide, at)) if small.may_stand_for(&wide) => (wide, at),
            Some((_, at)) => return bad(at, "the zip64 end record contradicts the end record"),
        };
        let Sizes { n_members, n_bytes, start } = sizes;
        match start.checked_add(n_bytes) {
            Some(end) if end == records_at => Ok(Self { directory: start..end, n_members }),
            _ => {
                let reason = format!(
                    "the directory of {n_bytes} bytes at byte {start} does not end at byte {records_at}, where its end \
                     record is"
                );
                bad(end_at, &reason)
            }
        }
    }

    /// The record of 64-bit numbers and its position. Every archive of PyTorch has one.
    fn wide(opened: &Opened<'_>, end_at: u64) -> Result<Option<(Sizes, u64)>, Error> {
        let Some(at) = end_at.checked_sub(END64_LOCATOR_BYTES + END64_BYTES) else { return Ok(None) };
        let record = opened.read(at..end_at)?;
        let (record, locator) = record.split_at(END64_BYTES as usize);
        if u32_at(locator, 0) != END64_LOCATOR {
            return Ok(None);
        }
        let single = u32_at(locator, 4) == 0 && u32_at(locator, 16) <= 1;
        let size = END64_BYTES - 12; // without the signature and this number
        let here = u64_at(locator, 8) == at && u32_at(record, 0) == END64 && u64_at(record, 4) == size;
        let members = u64_at(record, 32);
        if !single || !here || u64_at(record, 16) != 0 || u64_at(record, 24) != members {
            return Err(Error::container(
                opened.path,
                at,
                "the zip64 end record is not where its locator says, or damaged",
            ));
        }
        let sizes = Sizes { n_members: members, n_bytes: u64_at(record, 40), start: u64_at(record, 48) };
        Ok(Some((sizes, at)))
    }
}

impl Member {
    /// The directory entry at the start of `bytes`: the member's name, the member, and the length of the entry.
    fn parse(bytes: &[u8], entry: u64) -> Result<(&str, Self, usize), String> {
        if bytes.len() < CENTRAL_BYTES || u32_at(bytes, 0) != CENTRAL {
            return Err("not an entry of the directory".to_owned());
        }
        let lens = [28, 30, 32].map(|at| usize::from(u16_at(bytes, at)));
        let n_bytes = CENTRAL_BYTES + lens.iter().sum::<usize>();
        if n_bytes > bytes.len() {
            return Err(format!("an entry of {n_bytes} bytes, the directory has {} more", bytes.len()));
        }
        let (name, extra) = bytes[CENTRAL_BYTES..CENTRAL_BYTES + lens[0] + lens[1]].split_at(lens[0]);
        let name = str::from_utf8(name).map_err(|_| "a member's name is not UTF-8")?;
        check_name(name)?;
        let wrong = |reason: &str| format!("member {}: {reason}", excerpt(name));
        let mut wide = zip64_extra(extra).map_err(wrong)?.chunks_exact(8);
        // The numbers that did not fit, in this order.
        let mut number = |at: usize| match u32_at(bytes, at) {
            ELSEWHERE => wide.next().map(|bytes| u64_at(bytes, 0)).ok_or_else(|| wrong("its zip64 field is too short")),
            number => Ok(u64::from(number)),
        };
        let (unpacked, stored, header) = (number(24)?, number(20)?, number(42)?);
        if wide.next().is_some() {
            return Err(wrong("its zip64 field holds more than is missing"));
        }
        let method = u16_at(bytes, 10);
        if method == 0 && unpacked != stored {
            return Err(wrong("stored as it is, but with another size"));
        }
        if u16_at(bytes, 34) != 0 {
            return Err(wrong("in another part of the archive"));
        }
        if name.ends_with('/') && stored != 0 {
            return Err(wrong("a folder with content"));
        }
        let member = Self { entry, header, n_bytes: stored, crc: u32_at(bytes, 16), method, flags: u16_at(bytes, 8) };
        Ok((name, member, n_bytes))
    }

    /// Compares the member's own header, up to its name, with the directory. Returns the number of bytes between that
    /// name and the data.
    fn agrees_with(&self, header: &[u8], name: &str) -> Result<u16, String> {
        if u32_at(header, 0) != LOCAL {
            return Err("no header here, where the directory says it is".to_owned());
        }
        if usize::from(u16_at(header, 26)) != name.len() || &header[LOCAL_BYTES as usize..] != name.as_bytes() {
            let found = String::from_utf8_lossy(&header[LOCAL_BYTES as usize..]);
            return Err(format!("its own header calls it {}", excerpt(&found)));
        }
        let flags = u16_at(header, 6);
        if u16_at(header, 8) != self.method || flags & ENCRYPTED != 0 {
            return Err("its own header says it is compressed or encrypted".to_owned());
        }
        let is = |at: usize, wanted: u64| u64::from(u32_at(header, at)) == wanted || u32_at(header, at) == ELSEWHERE;
        let same = u32_at(header, 14) == self.crc && is(18, self.n_bytes) && is(22, self.n_bytes);
        if flags & SIZES_FOLLOW == 0 && !same {
            return Err("its own header has another size or CRC than the directory".to_owned());
        }
        Ok(u16_at(header, 28))
    }
}

/// The data of the zip64 field of a member's extra fields. Empty if there is none.
fn zip64_extra(mut extra: &[u8]) -> Result<&[u8], &'static str> {
    while extra.len() >= 4 {
        let (head, rest) = extra.split_at(4);
        let data = rest.get(..usize::from(u16_at(head, 2))).ok_or("an extra field is longer than all of them")?;
        if u16_at(head, 0) == ZIP64_EXTRA {
            return Ok(data);
        }
        extra = &rest[data.len()..];
    }
    Ok(&[])
}

/// Refuses names that could leave a folder, or that some readers understand differently. Nothing is unpacked here, but
/// no honest file has such names.
fn check_name(name: &str) -> Result<(), String> {
    // A name that ends in a slash is a folder.
    let mut parts = name.strip_suffix('/').unwrap_or(name).split('/');
    let strange = name.contains(['\\', '\0']) || parts.any(|part| matches!(part, "" | "." | ".."));
    match strange && !name.is_empty() {
        true => Err(format!("member {} leaves its folder, or could be another", excerpt(name))),
        false => Ok(()),
    }
}

const NO_PICKLE: &str = "a zip archive without NAME/data.pkl: not a PyTorch file?";

/// `name` without the folder of all members, which the first member determines.
fn within<'n>(root: &mut &'n str, name: &'n str) -> Result<&'n str, String> {
    let (folder, plain) = name.split_at(name.find('/').ok_or(NO_PICKLE)? + 1);
    if root.is_empty() {
        *root = folder;
    }
    if *root != folder {
        return Err(format!("members in the folders {} and {}, wanted one", excerpt(root), excerpt(folder)));
    }
    Ok(plain)
}
