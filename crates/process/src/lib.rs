//! The program as a process: how it ends and which signals it ignores.
//!
//! Only programs call this: a library must not end its process.

mod end;
mod fault;

pub use end::{exit_now, ignore_hangup, ignores_hangup};
pub use fault::exit_on_fault;
