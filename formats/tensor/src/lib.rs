//! Tensor types as bytes on disk: one registry of block formats, their scalar codecs, the one memory map, and
//! the rule where programs keep what they can make again.
//!
//! A *block* is the unit a format quantizes: 32 (or 256) consecutive elements of one row, stored as one or two f16
//! scales and packed integers. Decoders are scalar and portable: the oracle the vector kernels are tested against.
//! Encoders repeat the float operations of the reference in its order, for many blocks side by side (`lanes`).
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
mod cache;
mod fit;
pub mod grid;
mod lanes;
mod map;
mod process;
mod registry;
mod search;

pub use cache::user_cache;
pub use map::{FileMap, exit_on_fault};
pub use process::{exit_now, ignore_hangup, ignores_hangup};
pub use registry::{ForeignType, ParseTypeError, TensorType, nearest_name};
