//! Text that others wrote, made safe to show.
//!
//! Names in model files, file names, answers of servers and command lines can hold anything: sequences that command a
//! terminal, line breaks that forge a line of output, marks that show a name in another order, characters that nobody
//! sees. [`hazard`] says which characters those are, once for the whole workspace, and everything that is shown passes one
//! of the escapers here:
//!
//! - [`Line`] for a message or a field of a table, which is one line;
//! - [`Lines`] for a whole output, whose fields went through [`Line`];
//! - [`Prose`] for text that a model wrote, at a terminal;
//! - [`json`] for JSON, where an escape must be JSON's own.
//!
//! An escape is what Rust's source code has: `\n`, `\u{1b}`. Escaped text has no hazards, so escaping it again changes
//! nothing, and it is no loss where two layers do it. What stands in the text already as `\n`, two characters, is not told
//! apart; it does no harm.

#![forbid(unsafe_code)]

mod escape;
mod hazard;
mod hex;
mod names;

pub use escape::{Escaper, Line, Lines, Prose, json};
pub use hazard::{Hazard, hazard};
pub use hex::hex;
pub use names::{cut_middle, nearest_name, path, quoted};
