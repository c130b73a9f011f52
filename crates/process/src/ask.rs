//! Which signal asked the program to end, for programs that end differently after Ctrl-C than on an order of a scheduler.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a scheduler has asked: SIGTERM, or SIGUSR1 after [`note_schedulers`].
static BY_SCHEDULER: AtomicBool = AtomicBool::new(false);

/// Whether a scheduler has asked the program to end, since [`note_schedulers`].
pub fn asked_by_scheduler() -> bool {
    BY_SCHEDULER.load(Ordering::Relaxed)
}

/// From now on SIGTERM is noted before its handler runs, and SIGUSR1 has the same effect. Call this once, when there is a
/// handler for SIGTERM.
#[cfg(unix)]
pub fn note_schedulers() {
    signals::install();
}

/// There are no such signals.
#[cfg(not(unix))]
pub fn note_schedulers() {}

#[cfg(unix)]
mod signals {
    use super::{BY_SCHEDULER, Ordering};
    use std::mem::MaybeUninit;
    use std::sync::atomic::AtomicUsize;

    /// The handler of SIGTERM that was there before; 0 if there was none.
    static BEFORE: AtomicUsize = AtomicUsize::new(0);

    pub(super) fn install() {
        let mut before = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: only reads the action of a signal, into a structure that is large enough.
        let read = unsafe { libc::sigaction(libc::SIGTERM, std::ptr::null(), before.as_mut_ptr()) };
        if read != 0 {
            return;
        }
        // SAFETY: the system has filled it, and all zeros are a valid value too.
        let before = unsafe { before.assume_init() };
        let is_handler = before.sa_sigaction != libc::SIG_DFL && before.sa_sigaction != libc::SIG_IGN;
        // Twice would make it call itself.
        let is_this = before.sa_sigaction == on_signal as extern "C" fn(libc::c_int) as usize;
        if !is_handler || is_this || before.sa_flags & libc::SA_SIGINFO != 0 {
            return;
        }
        BEFORE.store(before.sa_sigaction, Ordering::SeqCst);
        let mut action = before;
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
        for signal in [libc::SIGTERM, libc::SIGUSR1] {
            // SAFETY: the structure is that of the old handler, with a function of the same signature in its place.
            unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        }
    }

    /// Notes the signal and runs the handler that was there before. It only stores to an atomic and calls that handler, so
    /// it is as safe in a signal handler as that one.
    extern "C" fn on_signal(_: libc::c_int) {
        BY_SCHEDULER.store(true, Ordering::Relaxed);
        let before = BEFORE.load(Ordering::SeqCst);
        if before != 0 {
            // SAFETY: it was the handler of SIGTERM without SA_SIGINFO, which is a function of this signature.
            let before = unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(before) };
            before(libc::SIGTERM);
        }
    }
}
