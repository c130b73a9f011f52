//! Ctrl-C, SIGTERM and SIGHUP: the program ends within a second, whatever it is doing, and leaves nothing unfinished.
//!
//! The first one raises a flag, which long work looks at: it then removes what it has begun and returns. Not everything can
//! look at a flag, such as a read from a pipe or the parser of another crate. So after [`GRACE`] a thread does what is
//! necessary: it [removes](pythia_convert::output::give_up) everything that is under construction and ends the process. A
//! second signal does the same at once.

use super::note;
use pythia_task::Cancel;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::thread;
use std::time::Duration;

/// What the program has to end by itself. A second in all is promised, and a busy machine takes its share.
const GRACE: Duration = Duration::from_millis(700);

/// How long outputs may take that are getting their names when the time is over: they are complete, and belong together.
const NAMING: Duration = Duration::from_secs(2);

/// The exit code after all these signals.
pub(super) const INTERRUPTED_CODE: u8 = 130;

/// Raised by the first signal.
static INTERRUPTED: LazyLock<Cancel> = LazyLock::new(Cancel::new);

/// Raised while the program only waits for somebody else.
static WAITING: AtomicBool = AtomicBool::new(false);

/// The program's name, for messages.
static PROGRAM: OnceLock<String> = OnceLock::new();

/// From now on the signals are requests to stop.
pub(super) fn install(program: &str) {
    let _ = PROGRAM.set(program.to_owned());
    // `nohup` is for work that goes on when the terminal is closed.
    let is_nohup = pythia_process::ignores_hangup();
    // Fails only if there is a handler already, which is then this one; without one, Ctrl-C just ends the program.
    let _ = ctrlc::set_handler(on_signal);
    if is_nohup {
        pythia_process::ignore_hangup();
    }
}

/// The flag that Ctrl-C and SIGTERM raise. Work that looks at it often ends cleanly; other work is ended.
pub fn catch_interrupts() -> &'static Cancel {
    &INTERRUPTED
}

/// Runs `wait`, which may take for ever: reading from a pipe or a terminal. Meanwhile a signal ends the program at once.
pub(crate) fn waiting<T>(wait: impl FnOnce() -> T) -> T {
    WAITING.store(true, Ordering::Relaxed);
    let result = wait();
    WAITING.store(false, Ordering::Relaxed);
    result
}

/// Runs in a thread of its own for each signal, one after the other.
fn on_signal() {
    static SEEN: AtomicBool = AtomicBool::new(false);
    if SEEN.swap(true, Ordering::Relaxed) {
        leave();
    }
    let watchdog = thread::Builder::new().spawn(|| {
        thread::sleep(GRACE);
        leave();
    });
    // Not before there is a watchdog, since a pipe that nobody reads could keep this waiting; and before the flag is
    // raised, since the program may end right then.
    say_stopping();
    INTERRUPTED.raise();
    if watchdog.is_err() || WAITING.load(Ordering::Relaxed) {
        leave();
    }
}

fn say_stopping() {
    let program = PROGRAM.get().map_or("", String::as_str);
    // Over a progress bar rather than behind it.
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    note(format_args!("{program}: stopping"));
}

/// Ends the process from any thread: what is under construction goes, what is being named is completed.
fn leave() -> ! {
    pythia_convert::output::give_up(NAMING);
    // Without the handlers that libraries have registered for the end: some wait for work that goes on.
    pythia_process::exit_now(INTERRUPTED_CODE.into())
}
