//! Reads text of unknown origin within limits, and makes it safe to show.
//!
//! Names in model files, file names, answers of servers and command lines can hold anything: escape sequences that
//! control a terminal, line breaks that forge a line of output, marks that reorder a name, invisible characters.
//! [`hazard`] lists those characters, once for the whole workspace. All output passes one of the escapers here:
//!
//! - [`Line`] for a message or a table cell, which is one line;
//! - [`Lines`] for a whole output, whose fields went through [`Line`];
//! - [`Prose`] for text that a model wrote, at a terminal;
//! - [`json`] for JSON, with JSON's own escapes.
//!
//! Escapes are those of Rust's source code: `\n`, `\u{1b}`. Escaped text has no hazards, so escaping it again changes
//! nothing. The two characters `\n` in the original text look the same as an escape, which is harmless.
//!
//! [`read_text`] and [`read_bytes`] read foreign files: regular ones only, of a limited size.

#![forbid(unsafe_code)]

mod escape;
mod file;
mod hazard;
mod hex;
mod names;

pub use escape::{Escaper, Line, Lines, Prose, json};
pub use file::{ReadError, SNIFFED_BYTES, open_regular, placeholder, read_bytes, read_text};
pub use hazard::{Hazard, hazard};
pub use hex::hex;
pub use names::{counted, cut_middle, nearest_name, path, quoted};
