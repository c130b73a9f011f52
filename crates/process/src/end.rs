//! System calls that end this process, or control which signals do.

/// Ends the process at once, from any thread, without running exit handlers.
pub fn exit_now(code: i32) -> ! {
    #[cfg(unix)]
    // SAFETY: `_exit` may be called at any time; it does not return.
    unsafe {
        libc::_exit(code)
    }
    #[cfg(not(unix))]
    std::process::exit(code)
}

/// Whether this process was started with SIGHUP ignored, as under `nohup`.
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
