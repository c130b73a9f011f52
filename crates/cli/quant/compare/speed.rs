//! Speed and memory of each level, in a process of its own.

use super::Contestant;
use super::probe::{self, Measured};
use crate::device::Device;
use crate::exit::{self, Failure};
use crate::progress::{Bar, Unit};
use crate::report::Speed;
use pythia_model::Options;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long Ctrl-C waits to be seen while a child measures.
const POLL: Duration = Duration::from_millis(20);

/// The speeds of all levels.
pub(super) struct Speeds {
    /// In the order of the levels.
    pub(super) levels: Vec<Speed>,
    /// Whether each was measured in a process of its own.
    pub(super) process_per_level: bool,
}

/// Measures one level after the other.
pub(super) fn measure(
    device: &Device,
    contestants: &[Contestant],
    options: &Options,
    quiet: bool,
) -> Result<Speeds, Failure> {
    let cancel = exit::catch_interrupts();
    let bar = Bar::new(contestants.len() as u64, Unit::Items("levels timed"), quiet);
    let mut speeds = Speeds { levels: Vec::new(), process_per_level: true };
    for contestant in contestants {
        if cancel.load(Ordering::Relaxed) {
            return Err(Failure::interrupted());
        }
        bar.message(contestant.name.clone());
        let own = if speeds.process_per_level { in_child(device, &contestant.path, options, cancel)? } else { None };
        let measured = match own {
            Some(measured) => measured,
            None => {
                speeds.process_per_level = false;
                probe::measure(device, &contestant.path, options)?
            }
        };
        speeds.levels.push(measured.speed());
        bar.advance(1);
    }
    Ok(speeds)
}

/// Has a new process of this program measure `file`. `None` if none can be started.
fn in_child(device: &Device, file: &Path, options: &Options, cancel: &AtomicBool) -> Result<Option<Measured>, Failure> {
    let mut child = match own_program().and_then(|program| spawn(&program, probe::arguments(file, device, options))) {
        Ok(child) => child,
        Err(error) => {
            super::super::warn(&format!("cannot start a process per level ({error}); memory is less exact"));
            return Ok(None);
        }
    };
    let status = wait(&mut child, cancel)?;
    let (mut stdout, mut stderr) = (String::new(), String::new());
    read(child.stdout.take(), &mut stdout).and_then(|()| read(child.stderr.take(), &mut stderr)).map_err(lost(file))?;
    if !status.success() {
        return Err(failure(file, status, &stderr));
    }
    serde_json::from_str(&stdout).map(Some).map_err(|e| lost(file)(e.into()))
}

/// This program. On Linux that name is right even when the file has been replaced since the program was started.
fn own_program() -> io::Result<std::path::PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { std::env::current_exe() }
}

/// The pipes are large enough for what a child writes.
fn spawn(program: &Path, args: Vec<impl AsRef<OsStr>>) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn()
}

/// Waits for the child's end. It is killed, having nothing to clean up, when this program is to stop.
fn wait(child: &mut Child, cancel: &AtomicBool) -> Result<ExitStatus, Failure> {
    loop {
        if cancel.load(Ordering::Relaxed) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failure::interrupted());
        }
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => std::thread::sleep(POLL),
            Err(error) => return Err(Failure::io(format_args!("waiting for a measurement: {error}"))),
        }
    }
}

fn read(pipe: Option<impl Read>, text: &mut String) -> io::Result<()> {
    pipe.map_or(Ok(()), |mut pipe| pipe.read_to_string(text).map(drop))
}

fn lost(file: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::io(format_args!("{}: its measurement was lost: {error}", file.display()))
}

/// What a child says went wrong, with its exit code.
fn failure(file: &Path, status: ExitStatus, stderr: &str) -> Failure {
    let start = format!("{}: error: ", super::super::PROGRAM);
    let message = stderr.lines().find_map(|line| line.strip_prefix(&start));
    match (message, status.code().and_then(|code| u8::try_from(code).ok())) {
        (Some(message), Some(code)) => Failure::of_child(code, message),
        _ => Failure::io(format_args!("{}: the process that measured it ended with {status}", file.display())),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn shell(script: &str) -> Child {
        spawn(Path::new("/bin/sh"), vec!["-c", script]).unwrap()
    }

    #[test]
    fn a_child_is_killed_when_the_program_is_to_stop() {
        let start = std::time::Instant::now();
        let mut child = shell("sleep 60");
        assert_eq!(wait(&mut child, &AtomicBool::new(true)).unwrap_err().code(), 130);
        assert!(start.elapsed() < Duration::from_secs(10));
        let status = wait(&mut shell("exit 3"), &AtomicBool::new(false)).unwrap();
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn errors_of_a_child_are_those_of_the_program() {
        let file = Path::new("x.gguf");
        let status = ExitStatus::from_raw(65 << 8);
        let failed = failure(file, status, "note\npythia-quant: error: x.gguf: too short\n");
        assert_eq!((failed.code(), failed.to_string().as_str()), (65, "x.gguf: too short"));
        let killed = failure(file, ExitStatus::from_raw(9), "");
        assert_eq!(killed.code(), 74);
        assert!(
            killed.to_string().starts_with("x.gguf: the process that measured it ended with signal: 9"),
            "{killed}"
        );
    }
}
