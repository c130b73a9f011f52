//! Ctrl-C, SIGTERM and SIGHUP end the program within a second, whatever it is doing, and leave nothing unfinished.
//!
//! The first signal raises a flag. Long work checks the flag, removes its unfinished files and returns. Some work
//! cannot check it, such as a read from a pipe or the parser of another crate. So after [`GRACE`] a thread
//! [removes](pythia_convert::output::give_up) all unfinished files and ends the process. A second signal does the same
//! at once. A server takes as long as it promises its clients.

use super::note;
use pythia_task::{Cancel, ErrorKind};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::thread;
use std::time::Duration;

/// Time for the program to end by itself. Less than the promised second, because a busy machine is slow.
const GRACE: Duration = Duration::from_millis(700);

/// Milliseconds in addition to [`GRACE`], for a program that ends work of others.
static EXTENSION: AtomicU64 = AtomicU64::new(0);

/// Additional time for outputs that are being renamed when [`GRACE`] ends. They are complete and belong together.
const NAMING: Duration = Duration::from_secs(2);

/// Raised by the first signal, or when [nobody reads](super::stop_when_unread) the results.
static INTERRUPTED: LazyLock<Cancel> = LazyLock::new(Cancel::new);

/// Set by the first signal.
static SIGNALLED: AtomicBool = AtomicBool::new(false);

/// Raised while the program only waits for input.
static WAITING: AtomicBool = AtomicBool::new(false);

/// The program's name, for messages.
static PROGRAM: OnceLock<String> = OnceLock::new();

/// Installs the signal handler.
pub(super) fn install(program: &str) {
    let _ = PROGRAM.set(program.to_owned());
    // Under `nohup` the program must continue when the terminal is closed.
    let is_nohup = pythia_process::ignores_hangup();
    // Fails only if a handler is installed, which is then this one. Without a handler, Ctrl-C just ends the program.
    let _ = ctrlc::set_handler(on_signal);
    if is_nohup {
        pythia_process::ignore_hangup();
    }
}

/// The flag that Ctrl-C and SIGTERM raise. Work that checks it often ends cleanly; other work is ended.
pub fn catch_interrupts() -> &'static Cancel {
    &INTERRUPTED
}

/// Whether a signal has told the program to end.
pub(super) fn is_signalled() -> bool {
    SIGNALLED.load(Ordering::Relaxed)
}

/// From now on the program may take `extension` longer to end after a signal. A second signal still ends it at once.
pub(crate) fn extend_grace(extension: Duration) {
    EXTENSION.store(u64::try_from(extension.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// The exit code that asks a scheduler to run the same command again (`EX_TEMPFAIL`).
pub(crate) const TRY_AGAIN: u8 = 75;

/// From now on a scheduler that ends the program (SIGTERM, SIGUSR1) is told to run the same command again, with the exit
/// code [`TRY_AGAIN`]. Ctrl-C ends it as always.
pub(crate) fn try_again_if_told() {
    pythia_process::note_schedulers();
}

/// Whether a scheduler has asked the program to end, and it shall be asked to run the command again.
pub(crate) fn is_told_to_try_again() -> bool {
    pythia_process::asked_by_scheduler()
}

/// Runs `wait`, which may block for ever, such as a read from a pipe or a terminal. Meanwhile a signal ends the program
/// at once.
pub(crate) fn waiting<T>(wait: impl FnOnce() -> T) -> T {
    WAITING.store(true, Ordering::Relaxed);
    let result = wait();
    WAITING.store(false, Ordering::Relaxed);
    result
}

/// The handler. It runs in a separate thread, once per signal.
fn on_signal() {
    if SIGNALLED.swap(true, Ordering::Relaxed) {
        leave();
    }
    let watchdog = thread::Builder::new().spawn(|| {
        thread::sleep(GRACE.saturating_add(Duration::from_millis(EXTENSION.load(Ordering::Relaxed))));
        leave();
    });
    // After the watchdog has started, because a pipe that nobody reads could block this. Before the flag is raised,
    // because the program may end right then.
    say_stopping();
    INTERRUPTED.raise();
    if watchdog.is_err() || WAITING.load(Ordering::Relaxed) {
        leave();
    }
}

fn say_stopping() {
    let program = PROGRAM.get().map_or("", String::as_str);
    // Overwrites a progress bar.
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    note(format_args!("{program}: stopping"));
}

/// Ends the process from any thread. Unfinished files are removed; renames in progress are completed.
fn leave() -> ! {
    pythia_convert::output::give_up(NAMING);
    // Without the exit handlers of libraries, because some wait for running work.
    let code = if is_told_to_try_again() { TRY_AGAIN } else { ErrorKind::Cancelled.exit_code() };
    pythia_process::exit_now(code.into())
}
