//! Ids of cells and groups: digests of what they stand for, without any fact about a machine.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Bytes of an id.
const ID_BYTES: usize = 8;

/// The id of a cell: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct CellId([u8; ID_BYTES]);

/// The start of the SHA-256 of `value` as JSON.
pub(crate) fn of(value: &impl Serialize) -> [u8; ID_BYTES] {
    // Structures without maps have one form as JSON, so this is canonical. Only maps with other keys than texts fail.
    let json = serde_json::to_vec(value).unwrap_or_default();
    let digest = Sha256::digest(&json);
    std::array::from_fn(|i| digest[i])
}

/// SHA-256 of several digests, hexadecimal.
pub fn digest(digests: &[String]) -> String {
    pythia_text::hex(&Sha256::digest(digests.join("\n")))
}

/// The same in hexadecimal.
pub(crate) fn hex_of(value: &impl Serialize) -> String {
    pythia_text::hex(&of(value))
}

/// Whether `text` is an id, and so safe as the name of a file.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 2 * ID_BYTES && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl CellId {
    /// The id of what `value` describes.
    pub(crate) fn of(value: &impl Serialize) -> Self {
        Self(of(value))
    }
}

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&pythia_text::hex(&self.0))
    }
}

impl From<CellId> for String {
    fn from(id: CellId) -> Self {
        id.to_string()
    }
}

impl FromStr for CellId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !is_id(text) {
            return Err(format!("found {text:.40}, wanted 16 hexadecimal digits"));
        }
        let nibble = |i: usize| (text.as_bytes()[i] as char).to_digit(16).unwrap_or(0) as u8;
        Ok(Self(std::array::from_fn(|i| nibble(2 * i) << 4 | nibble(2 * i + 1))))
    }
}

impl TryFrom<String> for CellId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
