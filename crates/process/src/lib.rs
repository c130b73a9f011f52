//! The program as a process: how it ends, who asked for that, which signals it ignores, and whether its output is read.
//!
//! Only programs call this: a library must not end its process.

mod ask;
mod end;
mod fault;
mod unread;

pub use ask::{asked_by_scheduler, note_schedulers};
pub use end::{exit_now, ignore_hangup, ignores_hangup};
pub use fault::exit_on_fault;
pub use unread::await_no_reader;
