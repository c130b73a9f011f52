//! GGUF files of any model: reader, writer, metadata, split models, importance matrices.
//!
//! A GGUF file is a header (metadata as typed key-value pairs, then a table of tensors) and the tensors' bytes, each
//! aligned. Reading works on the bytes of a whole file, usually a map of it; writing produces the header and the
//! offsets, and leaves it to the caller to stream the tensors there. What a model's keys and tensors mean is for the
//! caller to know; `docs/gguf-files.md` in the repository lists those of the files that this project writes.
//!
//! ```
//! use pythia_gguf::{Gguf, Layout, Metadata};
//! use pythia_tensor::TensorType;
//!
//! let mut metadata = Metadata::new();
//! metadata.insert("general.architecture", "llama");
//! let layout = Layout::new(&metadata, vec![("scale".to_owned(), TensorType::F32, vec![2])])?;
//! let mut file = layout.header().to_vec();
//! file.extend(1.5f32.to_le_bytes());
//! file.extend(2.5f32.to_le_bytes());
//! file.resize(layout.total_bytes() as usize, 0);
//!
//! let gguf = Gguf::parse(&file)?;
//! let scale = gguf.tensor("scale").expect("just written");
//! assert_eq!(gguf.data(&file, scale)[..4], 1.5f32.to_le_bytes());
//! # Ok::<(), pythia_gguf::Error>(())
//! ```

#![forbid(unsafe_code)]

mod cursor;
mod error;
mod file_type;
mod files;
mod imatrix;
pub mod keys;
mod metadata;
mod read;
mod rules;
mod split;
mod tensor;
mod value;
mod write;

pub use error::{Error, Place};
pub use file_type::FileType;
pub use files::{ModelFile, OpenError, open};
pub use imatrix::{Imatrix, ImatrixEntry};
pub use metadata::Metadata;
pub use read::Gguf;
pub use split::{Limits, Merge, Split, shard_name, shard_prefix};
pub use tensor::{AnyType, TensorInfo};
pub use value::{Array, Value};
pub use write::Layout;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
