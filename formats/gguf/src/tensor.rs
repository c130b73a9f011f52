//! Entries of the tensor table.

use pythia_tensor::{ForeignType, TensorType};

/// A tensor type that is known at least by size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnyType {
    /// One this project can decode.
    Known(TensorType),
    /// One it can only list.
    Foreign(ForeignType),
}

impl AnyType {
    /// The type of this GGUF id.
    pub fn from_id(id: u32) -> Option<Self> {
        TensorType::from_id(id).map(Self::Known).or_else(|| ForeignType::from_id(id).map(Self::Foreign))
    }

    /// Its id in GGUF files.
    pub fn id(self) -> u32 {
        match self {
            Self::Known(ty) => ty.id(),
            Self::Foreign(ty) => ty.id,
        }
    }

    /// Its name: `Q8_0`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Known(ty) => ty.name(),
            Self::Foreign(ty) => ty.name,
        }
    }

    /// Elements in a block: 1 for plain numbers.
    pub fn block_elems(self) -> usize {
        match self {
            Self::Known(ty) => ty.block_elems(),
            Self::Foreign(ty) => ty.block_elems,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Known(ty) => ty.block_bytes(),
            Self::Foreign(ty) => ty.block_bytes,
        }
    }

    /// The type, if this project can decode it.
    pub fn known(self) -> Option<TensorType> {
        match self {
            Self::Known(ty) => Some(ty),
            Self::Foreign(_) => None,
        }
    }
}

impl From<TensorType> for AnyType {
    fn from(ty: TensorType) -> Self {
        Self::Known(ty)
    }
}

/// One tensor of a model: what it is and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// Its name, 1 to 63 bytes.
    pub name: String,
    /// How its elements are stored.
    pub ty: AnyType,
    /// 1 to 4 extents, the innermost first: `dims[0]` is the row length, so a matrix is `[cols, rows]`.
    pub dims: Vec<u64>,
    /// Which file of the model it is in, counted from 0: always 0 but in a [split](crate::Merge) model.
    pub file: usize,
    /// Where its bytes start, from the start of that file.
    pub offset: u64,
    /// How many bytes it has, without the padding after it.
    pub n_bytes: u64,
}

impl TensorInfo {
    /// Number of elements.
    pub fn n_elems(&self) -> u64 {
        // Cannot wrap: the product was checked when the entry was read or planned.
        self.dims.iter().product()
    }

    /// The extents from the outermost to the innermost, as everyone else writes them: a matrix is `[rows, cols]`.
    pub fn shape(&self) -> Vec<u64> {
        self.dims.iter().rev().copied().collect()
    }
}
