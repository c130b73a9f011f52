//! The program as a process: how it ends, which signals it ignores, and its cache folder.
//!
//! Only programs call this, except for [`user_cache`]: a library must not end its process.

mod cache;
mod end;
mod fault;

pub use cache::user_cache;
pub use end::{exit_now, ignore_hangup, ignores_hangup};
pub use fault::exit_on_fault;
