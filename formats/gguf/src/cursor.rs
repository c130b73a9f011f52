//! Bounded reads from the front of a byte slice.

use crate::error::Error;
use crate::rules::MAX_METADATA_BYTES;
use byteorder::{ByteOrder, LE};

/// A position in the bytes of a file. Every read checks what is left first.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
    /// Memory that what is kept may still take.
    memory_left: u64,
}

impl<'a> Cursor<'a> {
    /// Starts at byte `pos` of `bytes`, or at the end if there are fewer.
    pub(crate) fn new(bytes: &'a [u8], pos: usize) -> Self {
        Self { bytes, pos: pos.min(bytes.len()), memory_left: MAX_METADATA_BYTES }
    }

    /// Bytes from the start of the file.
    pub(crate) fn offset(&self) -> u64 {
        self.pos as u64
    }

    /// Bytes from here to the end of the file.
    pub(crate) fn left(&self) -> u64 {
        (self.bytes.len() - self.pos) as u64
    }

    /// The next `n` bytes, which are `what`.
    pub(crate) fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8], Error> {
        let taken = usize::try_from(n).ok().and_then(|n| self.bytes[self.pos..].get(..n));
        let Some(taken) = taken else {
            let found = format!("{} bytes up to the end of the file", self.left());
            return Err(Error::header(found, format!("{n} bytes of {what}")).at(self.offset()));
        };
        self.pos += taken.len();
        Ok(taken)
    }

    /// `count` items of `size` bytes.
    pub(crate) fn take_items(&mut self, count: u64, size: u64, what: &str) -> Result<&'a [u8], Error> {
        // A saturated product is more than any file has left.
        self.take(count.saturating_mul(size), what)
    }

    /// Memory for `n` values, which the file is known to have.
    pub(crate) fn reserve<T>(&mut self, n: u64) -> Result<Vec<T>, Error> {
        let n_bytes = n.saturating_mul(size_of::<T>() as u64);
        let Some(memory_left) = self.memory_left.checked_sub(n_bytes) else {
            let wanted = format!("values that take at most {MAX_METADATA_BYTES} bytes of memory together");
            return Err(Error::header("too much metadata", wanted).at(self.offset()));
        };
        self.memory_left = memory_left;
        let mut values = Vec::new();
        match values.try_reserve_exact(n as usize) {
            Ok(()) => Ok(values),
            Err(_) => Err(Error::header(format!("no memory for {n_bytes} bytes"), "more memory").at(self.offset())),
        }
    }

    /// The next string, to be kept.
    pub(crate) fn owned_string(&mut self, what: &str) -> Result<String, Error> {
        let text = self.string(what)?;
        let mut bytes = self.reserve(text.len() as u64)?;
        bytes.extend_from_slice(text.as_bytes());
        // Cannot fail: they were text before.
        Ok(String::from_utf8(bytes).unwrap_or_default())
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, Error> {
        Ok(LE::read_u32(self.take(4, what)?))
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, Error> {
        Ok(LE::read_u64(self.take(8, what)?))
    }

    /// A string: its length as u64, then UTF-8.
    pub(crate) fn string(&mut self, what: &str) -> Result<&'a str, Error> {
        let n_bytes = self.u64(what)?;
        let start = self.offset();
        let bytes = self.take(n_bytes, what)?;
        std::str::from_utf8(bytes).map_err(|e| {
            let found = format!("{what} that is not UTF-8");
            Error::header(found, "valid UTF-8").at(start + e.valid_up_to() as u64)
        })
    }
}
