//! The digest that identifies a file: SHA-256 for large files, Git's SHA-1 for small ones.

use pythia_text::hex;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const BUFFER_BYTES: usize = 1 << 18;

/// The digest of a file, which the Hub uses as entity tag and the cache as file name. It is hexadecimal and of the
/// right length, so it is always safe as a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BlobId {
    /// Files in large file storage: the SHA-256 of the content.
    Sha256(String),
    /// Files in Git: the SHA-1 of `blob LENGTH`, a NUL and the content, which is Git's object id.
    GitSha1(String),
}

impl BlobId {
    pub(crate) fn sha256(text: &str) -> Option<Self> {
        is_hex(text, 64).then(|| Self::Sha256(text.to_owned()))
    }

    pub(crate) fn git_sha1(text: &str) -> Option<Self> {
        is_hex(text, 40).then(|| Self::GitSha1(text.to_owned()))
    }

    /// Parses an entity tag, quoted and possibly marked as weak. `None` if it is neither kind of digest.
    pub(crate) fn from_etag(etag: &str) -> Option<Self> {
        let text = etag.trim().trim_start_matches("W/").trim_matches('"');
        Self::sha256(text).or_else(|| Self::git_sha1(text))
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Sha256(text) | Self::GitSha1(text) => text,
        }
    }

    /// Kind and digits, for other programs: `sha256:...`, `git-sha1:...`.
    pub(crate) fn label(&self) -> String {
        let kind = match self {
            Self::Sha256(_) => "sha256",
            Self::GitSha1(_) => "git-sha1",
        };
        format!("{kind}:{}", self.as_str())
    }

    /// The digest, of the same kind, of the file at `path`.
    pub(crate) fn digest_of(&self, path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hasher = self.hasher(file.metadata()?.len());
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finish()),
                n => hasher.update(&buffer[..n]),
            }
        }
    }

    /// A hasher for a file of `size_bytes` bytes.
    pub(crate) fn hasher(&self, size_bytes: u64) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Self::GitSha1(_) => {
                let mut hasher = Sha1::new();
                hasher.update(format!("blob {size_bytes}\0"));
                Hasher::GitSha1(hasher)
            }
        }
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(text) => write!(f, "SHA-256 {text}"),
            Self::GitSha1(text) => write!(f, "Git SHA-1 {text}"),
        }
    }
}

/// A digest being computed.
pub(crate) enum Hasher {
    Sha256(Sha256),
    GitSha1(Sha1),
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::GitSha1(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> BlobId {
        match self {
            Self::Sha256(hasher) => BlobId::Sha256(hex(&hasher.finalize())),
            Self::GitSha1(hasher) => BlobId::GitSha1(hex(&hasher.finalize())),
        }
    }
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_git_and_of_sha256sum() {
        // `printf 'hello\n' | git hash-object --stdin`, and the same through sha256sum.
        let cases = [
            BlobId::git_sha1("ce013625030ba8dba906f756967f9e9ca394464a").unwrap(),
            BlobId::sha256("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03").unwrap(),
        ];
        for id in cases {
            let mut hasher = id.hasher(6);
            hasher.update(b"hel");
            hasher.update(b"lo\n");
            assert_eq!(hasher.finish(), id);
        }
    }

    #[test]
    fn only_digests_become_file_names() {
        let sha1 = "ce013625030ba8dba906f756967f9e9ca394464a";
        for etag in [sha1.to_owned(), format!("\"{sha1}\""), format!("W/\"{sha1}\"")] {
            assert_eq!(BlobId::from_etag(&etag).unwrap().as_str(), sha1);
        }
        for etag in ["", "\"../../x\"", &sha1[1..], &sha1.to_uppercase(), &format!("{sha1}0"), &"é".repeat(20)] {
            assert_eq!(BlobId::from_etag(etag), None, "{etag}");
        }
        assert_eq!(BlobId::sha256(sha1), None);
    }
}
