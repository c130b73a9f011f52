//! The integration tests, one program: `cargo test --test it`, `cargo test --test it hub::` for a part of them.
//!
//! They drive the two programs, and the libraries where a program would not show what is tested. A new test goes to
//! the module of its subject.

mod activations;
mod changes;
mod cli;
mod common;
mod comparison;
#[cfg(feature = "cuda")]
mod cuda;
mod docs;
mod drafts;
mod engine;
mod eval;
mod fuzz_replay;
mod golden_convert;
mod hostile;
#[cfg(feature = "hub")]
mod hub;
mod imatrix;
mod inside;
#[cfg(unix)]
mod many;
#[cfg(unix)]
mod nothing_lost;
mod parity;
mod quantizer;
#[cfg(feature = "server")]
mod server;
mod sizes;
mod sweep;
mod tasks;
mod tokenizer;
mod torch;
mod variants;
