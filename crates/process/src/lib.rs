//! The program as a process of the system: how it ends, which signals it ignores, where it may keep a cache.
//!
//! Programs call this; libraries do not end the process that they are part of. [`user_cache`] is for both.

mod cache;
mod end;
mod fault;

pub use cache::user_cache;
pub use end::{exit_now, ignore_hangup, ignores_hangup};
pub use fault::exit_on_fault;
