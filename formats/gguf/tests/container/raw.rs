//! Files built by hand, so that they can break any rule.

/// A file under construction: parts are bytes, in the order of the format.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) magic: Vec<u8>,
    pub(crate) version: u32,
    /// The declared counts; those of the parts if none.
    pub(crate) n_tensors: Option<u64>,
    pub(crate) n_pairs: Option<u64>,
    pub(crate) pairs: Vec<Vec<u8>>,
    pub(crate) tensors: Vec<Vec<u8>>,
    pub(crate) alignment: usize,
    pub(crate) data: Vec<u8>,
}

impl Raw {
    /// A valid file without pairs or tensors.
    pub(crate) fn empty() -> Self {
        Self {
            magic: b"GGUF".to_vec(),
            version: 3,
            n_tensors: None,
            n_pairs: None,
            pairs: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            data: Vec::new(),
        }
    }

    /// A valid file with one pair of each type and two tensors: 8 x 2 of F32 and 32 of Q8_0.
    pub(crate) fn valid() -> Self {
        let mut raw = Self::empty();
        let numbers: [(u32, usize); 10] =
            [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (10, 8), (11, 8), (12, 8)];
        for (id, size) in numbers {
            raw.pairs.push(pair(format!("number.{id}"), id, &vec![0; size]));
            raw.pairs.push(pair(format!("array.{id}"), 9, &array(id, 2, &vec![0; 2 * size])));
        }
        raw.pairs.push(pair("bool", 7, &[1]));
        raw.pairs.push(pair("bools", 9, &array(7, 2, &[0, 1])));
        raw.pairs.push(pair("text", 8, &string("héllo")));
        raw.pairs.push(pair("texts", 9, &array(8, 2, &[string("a"), string("")].concat())));
        raw.tensors = vec![tensor("a", &[8, 2], 0, 0), tensor("b", &[32], 8, 64)];
        raw.data = (0..64 + 34).collect();
        raw
    }

    pub(crate) fn with_pair(mut self, pair: Vec<u8>) -> Self {
        self.pairs.push(pair);
        self
    }

    /// With these tensors only, and zeros for data.
    pub(crate) fn with_tensors(mut self, tensors: &[Vec<u8>], data_bytes: usize) -> Self {
        self.tensors = tensors.to_vec();
        self.data = vec![0; data_bytes];
        self
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut out = self.magic.clone();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.n_pairs.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        out.extend(self.pairs.concat());
        out.extend(self.tensors.concat());
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out.extend(&self.data);
        out
    }
}

pub(crate) fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

pub(crate) fn pair(key: impl AsRef<[u8]>, id: u32, value: &[u8]) -> Vec<u8> {
    [&string(key), &id.to_le_bytes()[..], value].concat()
}

pub(crate) fn array(id: u32, n: u64, values: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], &n.to_le_bytes(), values].concat()
}

pub(crate) fn tensor(name: impl AsRef<[u8]>, dims: &[u64], id: u32, offset: u64) -> Vec<u8> {
    let mut out = string(name);
    out.extend((dims.len() as u32).to_le_bytes());
    for d in dims {
        out.extend(d.to_le_bytes());
    }
    out.extend(id.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}
