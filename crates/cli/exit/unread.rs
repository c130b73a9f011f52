//! Work that stops once nobody reads its results, as with `| head -1`.

use super::Failure;
use super::signal::{catch_interrupts, is_signalled};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Set once nobody reads stdout any more.
static UNREAD: AtomicBool = AtomicBool::new(false);

/// From now on work is told to stop, as by Ctrl-C, when the reader of stdout has gone. For work of which nothing but its
/// output remains.
pub(crate) fn stop_when_unread() {
    // Without this thread, and where the system cannot tell, the next write notices it.
    let _ = thread::Builder::new().spawn(|| {
        if pythia_process::await_no_reader(&io::stdout()) {
            note_unread();
            catch_interrupts().raise();
        }
    });
}

/// A write has found that the reader of stdout has gone.
pub(super) fn note_unread() {
    UNREAD.store(true, Ordering::SeqCst);
}

/// Whether the reader of stdout has gone, as far as is known.
pub(crate) fn is_unread() -> bool {
    UNREAD.load(Ordering::SeqCst)
}

/// The end of work that was told to stop. If nobody reads its results, that is no failure.
pub(crate) fn stopped() -> Result<(), Failure> {
    if is_unread() && !is_signalled() { Ok(()) } else { Err(Failure::interrupted()) }
}
