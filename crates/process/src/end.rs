//! Calls of the system that end this process, or say what may.

/// Ends the process at once, from any thread, and without the handlers that were registered for its end.
pub fn exit_now(code: i32) -> ! {
    #[cfg(unix)]
    // SAFETY: `_exit` may be called at any time; it does not return.
    unsafe {
        libc::_exit(code)
    }
    #[cfg(not(unix))]
    std::process::exit(code)
}

/// Whether this process was started to ignore SIGHUP, as `nohup` does it.
pub fn ignores_hangup() -> bool {
    #[cfg(unix)]
    {
        // SAFETY: an all-zero sigaction is a valid value.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: only asks, and writes to `action`, which lives through the call.
        let asked = unsafe { libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut action) };
        asked == 0 && action.sa_sigaction == libc::SIG_IGN
    }
    #[cfg(not(unix))]
    false
}

/// Ignores SIGHUP from now on, where there are signals.
pub fn ignore_hangup() {
    #[cfg(unix)]
    // SAFETY: no handler is installed; one may be removed.
    unsafe {
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
    }
}
