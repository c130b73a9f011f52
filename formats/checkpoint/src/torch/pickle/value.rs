//! The values of a pickle. Containers are in one flat [`Heap`] and refer to each other by number. So a dict that
//! contains itself is not an ownership cycle, and a tuple nested a million times is dropped without recursion.

use super::global::{Element, Global};
use super::texts::TextId;

/// A value on the stack: small, and copied freely.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits: its little-endian bytes, or, in protocols 0 and 1, its decimal digits.
    Long(Span),
    Float,
    Text(TextId),
    Bytes,
    Global(Global),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

impl Value {
    /// Its kind, for an error message.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) | Self::Long(_) => "an int",
            Self::Float => "a float",
            Self::Text(_) => "a string",
            Self::Bytes => "bytes",
            Self::Global(_) => "a global",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

/// A part of the pickle, which has less than 4 GiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// `start` and `len` are within a pickle.
    pub(super) fn new(start: usize, len: usize) -> Self {
        Self { start: start as u32, len: len as u32 }
    }

    pub(super) fn of(self, pickle: &[u8]) -> &[u8] {
        pickle.get(self.start as usize..).and_then(|rest| rest.get(..self.len as usize)).unwrap_or_default()
    }
}

/// The containers and objects that [`Value`]s name by their number.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    pub(crate) tuples: Vec<Vec<Value>>,
    pub(crate) lists: Vec<Vec<Value>>,
    pub(crate) dicts: Vec<Dict>,
    pub(crate) storages: Vec<Storage>,
    pub(crate) tensors: Vec<Tensor>,
}

/// A dict with its items in the order they were set. A key may occur twice.
#[derive(Debug)]
pub(crate) struct Dict {
    /// Whether it is an `OrderedDict`, which may have attributes.
    pub(crate) ordered: bool,
    pub(crate) items: Vec<(Value, Value)>,
}

/// A storage as the pickle refers to it. Its bytes are elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage {
    /// The key of its bytes.
    pub(crate) key: TextId,
    pub(crate) element: &'static Element,
    /// Number of elements under that key.
    pub(crate) n_elems: u64,
    /// The part of those elements that is meant, if it is a part.
    pub(crate) part: Option<Part>,
    /// Position of the reference, in bytes from the start of the pickle.
    pub(crate) at: usize,
}

/// Some of the elements of a storage, in the older container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The name PyTorch keeps it under.
    pub(crate) key: TextId,
    /// The first element, and how many there are.
    pub(crate) first: u64,
    pub(crate) len: u64,
}

/// A tensor: a strided view of a storage, not yet checked against its bounds.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) storage: usize,
    /// In elements.
    pub(crate) offset: u64,
    pub(crate) shape: Vec<usize>,
    /// In elements, one per dimension.
    pub(crate) strides: Vec<usize>,
}
