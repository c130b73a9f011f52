//! The `.dat` form, which llama.cpp wrote before GGUF and still writes on request.
//!
//! ```text
//! entries i32 | entry x entries | chunks i32 | bytes i32 | name of the text
//! entry:  bytes i32 | name | chunks i32 | values i32 | f32 x values
//! ```
//! Little-endian, nothing aligned. A value is a column's mean square times the entry's number of chunks. What follows
//! the entries came later and may be missing.

use super::{Imatrix, ImatrixEntry, MAX_ENTRIES};
use crate::cursor::Cursor;
use crate::error::{Error, quoted};
use std::collections::HashSet;

/// Length of a name, a byte of name, chunks, number of values, a value.
const MIN_ENTRY_BYTES: u64 = 4 + 1 + 4 + 4 + 4;

pub(super) fn parse(bytes: &[u8]) -> Result<Imatrix, Error> {
    let mut cursor = Cursor::new(bytes, 0);
    let n_entries = read_entry_count(&mut cursor, bytes)?;
    let mut imatrix = Imatrix::default();
    let mut seen = HashSet::new();
    for _ in 0..n_entries {
        let offset = cursor.offset();
        let entry = read_entry(&mut cursor).map_err(|e| e.at(offset))?;
        if !seen.insert(entry.name.clone()) {
            return Err(Error::tensor(&entry.name, "a second entry of this name", "one").at(offset));
        }
        imatrix.entries.push(entry);
    }
    if cursor.left() > 0 {
        imatrix.chunk_count = read_length(&mut cursor, "the number of chunks")?;
    }
    if cursor.left() > 0 {
        let n_bytes = read_length(&mut cursor, "the length of the text's name")?;
        let name = cursor.take(n_bytes.into(), "the text's name")?;
        // It is there for people: an encoding of some file system should not make the file useless.
        imatrix.datasets.push(String::from_utf8_lossy(name).into_owned());
    }
    Ok(imatrix)
}

/// The form has no magic, so this is where other files are told from it.
fn read_entry_count(cursor: &mut Cursor<'_>, bytes: &[u8]) -> Result<u32, Error> {
    let strange = |found: String| {
        Error::header(found, "an importance matrix: a GGUF file, or a .dat file, which starts with a count of entries")
            .at(0)
    };
    if bytes.is_empty() {
        return Err(strange("an empty file".to_owned()));
    }
    let n_entries = cursor.u32("the number of entries")?;
    if !(1..=MAX_ENTRIES.min(cursor.left() / MIN_ENTRY_BYTES)).contains(&n_entries.into()) {
        return Err(strange(format!("bytes {}", quoted(&bytes[..4].escape_ascii().to_string()))));
    }
    Ok(n_entries)
}

fn read_entry(cursor: &mut Cursor<'_>) -> Result<ImatrixEntry, Error> {
    let n_bytes = read_length(cursor, "the length of a name")?;
    let name = cursor.take(n_bytes.into(), "a name")?;
    let Ok(name) = str::from_utf8(name) else {
        return Err(Error::header("a name that is not UTF-8", "valid UTF-8"));
    };
    let chunks = read_length(cursor, "the number of chunks").map_err(|e| e.in_tensor(name))?;
    let n_values = read_length(cursor, "the number of values").map_err(|e| e.in_tensor(name))?;
    let values = cursor.take_items(n_values.into(), 4, "values").map_err(|e| e.in_tensor(name))?;
    let values = super::floats(values).map_err(|e| e.in_tensor(name))?;
    ImatrixEntry::new(name, values, vec![chunks as f32])
}

/// An i32 that counts something.
fn read_length(cursor: &mut Cursor<'_>, what: &str) -> Result<u32, Error> {
    let offset = cursor.offset();
    let value = cursor.u32(what)?.cast_signed();
    u32::try_from(value).map_err(|_| Error::header(format!("{value} as {what}"), "0 or more").at(offset))
}
