//! Rows in JSON: one object per line, or an array of objects.

use crate::{Error, Row};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The longest line, and the longest array.
const LIMIT_BYTES: u64 = 1 << 30;

/// Reads the rows of a file.
pub(super) fn read(path: &Path) -> Result<Vec<Row>, Error> {
    let wrong = |problem: String| Error::data(pythia_text::path(path), problem);
    let (file, _) = pythia_text::open_regular(path).map_err(Error::read(path))?;
    let mut reader = BufReader::new(file);
    if first_character(&mut reader).map_err(Error::io(path))? == Some(b'[') {
        let mut bytes = Vec::new();
        reader.take(LIMIT_BYTES).read_to_end(&mut bytes).map_err(Error::io(path))?;
        return serde_json::from_slice(&bytes).map_err(|e| wrong(format!("not an array of objects: {e}")));
    }
    let mut rows = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = (&mut reader).take(LIMIT_BYTES).read_until(b'\n', &mut line).map_err(Error::io(path))?;
        if read == 0 {
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let row: Row = serde_json::from_slice(&line).map_err(|e| {
            // The message of the parser calls every line the first.
            let at = format!(" at line {} column {}", e.line(), e.column());
            let reason = e.to_string().replace(&at, "");
            wrong(format!("line {number}, column {}: {reason}; wanted a JSON object on each line", e.column()))
        })?;
        rows.push(row);
    }
    Ok(rows)
}

/// The first character that is not white space, which stays unread.
fn first_character(reader: &mut impl BufRead) -> std::io::Result<Option<u8>> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if let Some(&byte) = buffer.get(blank) {
            return Ok(Some(byte));
        }
        reader.consume(blank);
    }
}
