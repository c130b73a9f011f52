//! The container before PyTorch 1.6, still written with `_use_new_zipfile_serialization=False`.
//!
//! ```text
//! pickle   0x1950a86a20f9469cfc6c
//! pickle   1001
//! pickle   {"protocol_version": 1001, "little_endian": True, "type_sizes": {...}}
//! pickle   the state dict, which refers to storages by key
//! pickle   [key, ...]
//! storage  of each key: i64 number of elements, then the elements
//! ```
//!
//! There are no checksums. Described by `_legacy_load` in
//! <https://github.com/pytorch/pytorch/blob/main/torch/serialization.py>.

use super::bytes::u64_at;
use super::pickle::{self, Element, Pickle, TextId, Value};
use crate::error::{Error, excerpt};
use crate::weights::Opened;
use std::collections::HashMap;
use std::ops::Range;

/// The magic number, little-endian.
const MAGIC: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The same in pickle protocols 0 and 1.
const MAGIC_DIGITS: &[u8] = b"119547037146038801333356";
const PROTOCOL: i64 = 1001;

/// Bytes of the number before a storage.
const COUNT_BYTES: u64 = 8;

/// Whether a file may be of this kind: it starts with a pickle of protocol 2 or newer, or with a pickled integer.
pub(super) fn is_pickle(start: &[u8]) -> bool {
    matches!(start.first(), Some(0x80 | b'L'))
}

/// The pickles of a file, read one after the other.
pub(super) struct Pickles<'o, 'p> {
    bytes: &'p [u8],
    at: usize,
    opened: &'o Opened<'o>,
}

/// The start of a file, with its pickles.
pub(super) fn read_start(opened: &Opened<'_>) -> Result<Vec<u8>, Error> {
    opened.read(0..opened.n_bytes.min(pickle::LIMIT_BYTES))
}

impl<'o, 'p> Pickles<'o, 'p> {
    /// Checks the pickles before the state dict. `bytes` are the file's start.
    pub(super) fn open(opened: &'o Opened<'o>, bytes: &'p [u8]) -> Result<Self, Error> {
        let mut pickles = Self { bytes, at: 0, opened };
        let magic = pickles.next()?;
        match magic.root {
            Value::Long(span) if [MAGIC, MAGIC_DIGITS].contains(&magic.long(span)) => {}
            other => {
                let reason = format!(
                    "a pickle that starts with {}, not with PyTorch's magic number: not written by torch.save?",
                    other.kind()
                );
                return Err(pickles.bad(0, reason));
            }
        }
        let at = pickles.at;
        match pickles.next()?.root {
            Value::Int(PROTOCOL) => {}
            Value::Int(other) => return Err(pickles.bad(at, format!("protocol {other}, wanted {PROTOCOL}"))),
            other => return Err(pickles.bad(at, format!("protocol is {}, wanted {PROTOCOL}", other.kind()))),
        }
        let at = pickles.at;
        let system = pickles.next()?;
        let Value::Dict(dict) = system.root else {
            return Err(pickles.bad(at, format!("the system is {}, wanted a dict", system.root.kind())));
        };
        let is_order = |key: Value| matches!(key, Value::Text(key) if system.text(key) == "little_endian");
        let mut orders = system.heap.dicts[dict].items.iter().filter(|&&(key, _)| is_order(key));
        if orders.any(|(_, order)| !matches!(order, Value::Bool(true))) {
            return Err(pickles.bad(at, "written on a big-endian machine, wanted little-endian".to_owned()));
        }
        Ok(pickles)
    }

    /// The next pickle.
    pub(super) fn next(&mut self) -> Result<Pickle<'p>, Error> {
        let pickle = Pickle::load(&self.bytes[self.at..]).map_err(|e| self.bad(self.at + e.at, e.reason))?;
        self.at += pickle.n_bytes;
        Ok(pickle)
    }

    /// Position of the next pickle.
    pub(super) fn at(&self) -> u64 {
        self.at as u64
    }

    fn bad(&self, at: usize, reason: String) -> Error {
        Error::container(self.opened.path, at as u64, reason)
    }

    /// Reads the list of keys and returns the position of each storage, by its number in the state dict. `element`
    /// gives that number, the type and the length for a key.
    pub(super) fn storages(
        mut self,
        element: impl Fn(&str) -> Option<(TextId, &'static Element, u64)>,
    ) -> Result<HashMap<TextId, Range<u64>>, Error> {
        let list_at = self.at;
        let pickle = self.next()?;
        let Value::List(list) = pickle.root else {
            return Err(self.bad(list_at, format!("keys are {}, wanted a list", pickle.root.kind())));
        };
        let mut storages = HashMap::new();
        let mut at = self.at as u64;
        for key in &pickle.heap.lists[list] {
            let Value::Text(key) = *key else {
                return Err(self.bad(list_at, format!("a key is {}, wanted a string", key.kind())));
            };
            let key = pickle.text(key);
            let bad = |at: u64, reason: String| {
                Err(Error::container(self.opened.path, at, format!("storage {}: {reason}", excerpt(key))))
            };
            let Some((id, element, n_elems)) = element(key) else {
                return bad(at, "no tensor refers to it".to_owned());
            };
            let left = self.opened.n_bytes - at;
            let n_bytes =
                n_elems.checked_mul(element.size).filter(|n| n.checked_add(COUNT_BYTES).is_some_and(|n| n <= left));
            let Some(n_bytes) = n_bytes else {
                return bad(
                    at,
                    format!("wanted {n_elems} x {} bytes, but only {left} follow: truncated?", element.size),
                );
            };
            let found = u64_at(&self.opened.read(at..at + COUNT_BYTES)?, 0);
            if found != n_elems {
                return bad(at, format!("{found} elements, the state dict says {n_elems}"));
            }
            let start = at + COUNT_BYTES;
            if storages.insert(id, start..start + n_bytes).is_some() {
                return bad(at, "comes twice".to_owned());
            }
            at = start + n_bytes;
        }
        match self.opened.n_bytes - at {
            0 => Ok(storages),
            more => Err(Error::container(self.opened.path, at, format!("{more} bytes follow the last storage"))),
        }
    }
}
