//! Ways to round the same levels, compared with each other.

use crate::{Error, Request};
use pythia_convert::Quantizer;
use pythia_text::hex;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Digits of a digest in file names.
const DIGEST_CHARS: usize = 8;

/// How the levels of a comparison are rounded. The files that one of them makes are a series.
#[derive(Clone, Debug)]
pub enum Rounding {
    /// By the encoders alone, as llama.cpp does without options.
    Plain,
    /// By the encoders, with the [importance matrix](Request::imatrix) of the request.
    Imatrix,
    /// By a quantizer.
    By(Arc<dyn Quantizer>),
}

impl Rounding {
    /// Its name, also that of its series.
    pub fn name(&self) -> &str {
        match self {
            Self::Plain => "plain",
            Self::Imatrix => "imatrix",
            Self::By(quantizer) => quantizer.name(),
        }
    }

    /// The ways to round that a request asks for, in its order, at least one.
    pub(crate) fn of(request: &Request) -> Result<Vec<Self>, Error> {
        let has_imatrix = request.imatrix.is_some();
        if request.quantizers.is_empty() {
            return Ok(vec![if has_imatrix { Self::Imatrix } else { Self::Plain }]);
        }
        let mut roundings: Vec<Self> = Vec::new();
        for rounding in &request.quantizers {
            if roundings.iter().any(|other| other.name() == rounding.name()) {
                let name = rounding.name();
                return Err(Error::Request(format!("the quantizer {name} was named twice, wanted each once")));
            }
            roundings.push(rounding.clone());
        }
        match (roundings.iter().any(|rounding| matches!(rounding, Self::Imatrix)), has_imatrix) {
            (true, false) => Err(Error::Request("--quantizer imatrix needs an importance matrix (--imatrix)".into())),
            (false, true) => {
                Err(Error::Request("--imatrix is for the quantizer imatrix, which --quantizer does not name".into()))
            }
            _ => Ok(roundings),
        }
    }

    /// Whether it makes levels that need importances.
    pub(crate) fn has_importances(&self) -> bool {
        !matches!(self, Self::Plain)
    }
}

/// The start of `digest` that names files.
pub(crate) fn short(digest: &str) -> &str {
    digest.get(..DIGEST_CHARS).unwrap_or(digest)
}

/// Changes with all that a quantizer says of itself.
pub(crate) fn digest(quantizer: &dyn Quantizer) -> String {
    hex(&Sha256::digest(format!("{} {:?} {}", quantizer.name(), quantizer.metadata(), quantizer.changes_vectors())))
}
