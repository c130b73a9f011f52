//! Handles mapped files that can no longer be read, because another process has truncated them or the disk has failed.
//!
//! Access to such a page raises SIGBUS. By default that ends the program without a message. The handler here ends it
//! with a line that names the file. It uses only what is allowed in a signal handler: atomics, `write`, `pause`,
//! `_exit`.

#[cfg(unix)]
mod table;

/// Installs the handler: a mapped file that can no longer be read ends the program with exit code 74 and the line
/// `PROGRAM: error: FILE: ...`. Without it, and on systems without signals, the program ends without a message. Call it
/// before the first file is mapped.
pub fn exit_on_fault(program: &str) {
    #[cfg(unix)]
    handler::install(program);
    #[cfg(not(unix))]
    let _ = program;
}

#[cfg(unix)]
mod handler {
    use super::table::{self, Name, Table};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Exit code of `sysexits.h` for errors of input and output.
    const EXIT_IO: i32 = 74;
    /// What the line begins with.
    static PREFIX: OnceLock<String> = OnceLock::new();
    /// Raised by the first of several threads that fault at once: it writes the line.
    static REPORTING: AtomicBool = AtomicBool::new(false);

    pub(super) fn install(program: &str) {
        if PREFIX.set(format!("{program}: error: ")).is_err() {
            return;
        }
        pythia_tensor::watch_maps(&Table);
        // SAFETY: an all-zero sigaction is a valid value: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_fault;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: `action` is initialised, and the handler has the signature that SA_SIGINFO asks for. Failure leaves
        // the default in place, which ends the program too.
        unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) };
    }

    extern "C" fn on_fault(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
        // SAFETY: the system passes a valid siginfo to a handler installed with SA_SIGINFO; for SIGBUS it has an
        // address.
        let address = unsafe { (*info).si_addr() } as usize;
        let Some(name) = table::name_at(address) else {
            // Not a page of ours, or a signal sent by another process: continue with the default action.
            // SAFETY: resets the action of one signal and raises it, which takes effect on return. No handler is
            // installed.
            unsafe {
                libc::signal(libc::SIGBUS, libc::SIG_DFL);
                libc::raise(libc::SIGBUS);
            }
            return;
        };
        report(&name)
    }

    fn report(name: &Name) -> ! {
        if REPORTING.swap(true, Ordering::Relaxed) {
            loop {
                // SAFETY: only waits; the thread that reports ends the process.
                unsafe { libc::pause() };
            }
        }
        write(PREFIX.get().map_or(b"", |prefix| prefix.as_bytes()));
        write(name.bytes());
        write(b": was cut off while it was in use, or cannot be read any more\n");
        crate::exit_now(EXIT_IO)
    }

    fn write(bytes: &[u8]) {
        // SAFETY: pointer and length are of a live slice. A stderr that cannot be written is no reason to stay.
        unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
    }
}
