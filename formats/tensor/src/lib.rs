//! Tensor types as bytes on disk: one registry of block formats, their codecs, and the one memory map.
//!
//! A *block* is the unit a format quantizes: 32 (or 256) consecutive elements of one row, stored as one or two f16
//! scales and packed integers. Decoders are scalar and portable: the oracle the vector kernels are tested against.
//! Encoders repeat the float operations of the reference in its order, for many blocks side by side (`lanes`).
//!
//! A quantizer that chooses scales or codes itself works with a [`BlockFormat`]: scales first, then codes.
//!
//! ```
//! use pythia_tensor::TensorType;
//!
//! let row: Vec<f32> = (0..64).map(|i| (i as f32 - 31.5) / 64.0).collect();
//! let ty: TensorType = "q8_0".parse().unwrap();
//! let mut bytes = vec![0; ty.row_bytes(row.len()).unwrap()];
//! ty.encode(&row, &mut bytes);
//! let mut back = vec![0.0; row.len()];
//! ty.decode(&bytes, &mut back);
//! assert!(row.iter().zip(&back).all(|(a, b)| (a - b).abs() < 0.003));
//! ```

pub mod blocks;
mod fit;
mod format;
pub mod grid;
mod lanes;
mod map;
mod memory;
mod registry;
mod scales;
mod search;

pub use format::{BlockFormat, BlockGrid};
pub use map::{FileMap, MapWatcher, watch_maps};
pub use memory::LargePages;
pub use registry::{ForeignType, ParseTypeError, TensorType};
pub use scales::{Group, Levels, Scales};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
