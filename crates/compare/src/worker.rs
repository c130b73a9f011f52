//! Speed and memory of a file, measured by a process of its own.
//!
//! What a process has allocated before stays on its heap and counts as memory of whatever comes after. So a comparison
//! starts a program again for each file.

use crate::Error;
use crate::measure::Measured;
use pythia_model::Options;
use pythia_runtime::{Arithmetic, Device};
use pythia_task::{Cancel, ErrorKind};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long a raised [`Cancel`] waits to be seen while a child measures.
const POLL: Duration = Duration::from_millis(20);

/// The program that measures one file, and its first arguments.
///
/// It is started with `args`, then `--threads N --activations int8|f32 --device DEVICE [--gelu erf|tanh] -- FILE`. It
/// calls [`measure()`](crate::measure()) with that and prints the result to stdout as JSON. It should end when its
/// stdin does: then it never outlives the process that started it. If it fails, its last line on stderr is
/// `NAME: error: MESSAGE`, and its exit code 2 for a request that cannot be met, 65 for bad data, 74 for input and
/// output, or 130 if it was cancelled.
#[derive(Clone, Debug)]
pub struct Worker {
    /// The program.
    pub program: PathBuf,
    /// Its arguments before those that say what to measure.
    pub args: Vec<OsString>,
}

/// The program that is running. On Linux that name is right even when the file has been replaced since it was started.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { std::env::current_exe() }
}

impl Worker {
    /// The program that is running, started with these arguments first.
    ///
    /// # Errors
    /// If the system does not tell which that is.
    pub fn this_program<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> io::Result<Self> {
        Ok(Self { program: own_program()?, args: args.into_iter().map(Into::into).collect() })
    }

    /// Has a new process measure `file`. `Ok(Err(_))` if none can be started.
    pub(crate) fn measure(
        &self,
        device: &Device,
        file: &Path,
        options: &Options,
        cancel: &Cancel,
    ) -> Result<io::Result<Measured>, Error> {
        let args = self.args.iter().cloned().chain(arguments(file, device, options));
        let mut child = match spawn(&self.program, args) {
            Ok(child) => child,
            Err(error) => return Ok(Err(error)),
        };
        let status = wait(&mut child, cancel)?;
        let (mut stdout, mut stderr) = (String::new(), String::new());
        read(child.stdout.take(), &mut stdout)
            .and_then(|()| read(child.stderr.take(), &mut stderr))
            .map_err(|error| lost(file, &error))?;
        if !status.success() {
            // Ctrl-C at a terminal ends the child too, maybe before it is seen here.
            return Err(if cancel.is_raised() { Error::Cancelled } else { failure(file, status, &stderr) });
        }
        serde_json::from_str(&stdout).map(Ok).map_err(|error| lost(file, &error.into()))
    }
}

/// What to measure, as the arguments of a worker.
fn arguments(file: &Path, device: &Device, options: &Options) -> impl Iterator<Item = OsString> {
    let Arithmetic { activations, gelu, .. } = Arithmetic::of(options);
    let settings = [
        ("--threads", options.threads.to_string()),
        ("--activations", activations.to_owned()),
        ("--device", device.argument()),
    ];
    // Where none is asked for, each file has its own.
    let gelu = options.gelu.map(|_| ("--gelu", gelu.to_owned()));
    let settings = settings.into_iter().chain(gelu).flat_map(|(name, value)| [name.into(), value.into()]);
    // The file comes last, after what ends the options: its name may begin with a dash.
    settings.chain(["--".into(), file.into()])
}

/// The pipes are large enough for what a child writes.
fn spawn(program: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn()
}

/// Waits for the child's end. It is killed, having nothing to clean up, when this program is to stop.
fn wait(child: &mut Child, cancel: &Cancel) -> Result<ExitStatus, Error> {
    loop {
        if cancel.is_raised() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::Cancelled);
        }
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => std::thread::sleep(POLL),
            Err(error) => return Err(io_failure(format!("waiting for a measurement: {error}"))),
        }
    }
}

fn read(pipe: Option<impl Read>, text: &mut String) -> io::Result<()> {
    pipe.map_or(Ok(()), |mut pipe| pipe.read_to_string(text).map(drop))
}

fn io_failure(message: String) -> Error {
    Error::Worker { kind: ErrorKind::Io, message }
}

fn lost(file: &Path, error: &io::Error) -> Error {
    io_failure(format!("{}: no result of its measurement: {error}", file.display()))
}

/// What a child says went wrong.
fn failure(file: &Path, status: ExitStatus, stderr: &str) -> Error {
    let message = stderr.lines().rev().find_map(|line| Some(line.split_once(": error: ")?.1));
    let kind = match status.code() {
        Some(2) => Some(ErrorKind::Usage),
        Some(65) => Some(ErrorKind::Data),
        Some(74) => Some(ErrorKind::Io),
        Some(130) => Some(ErrorKind::Cancelled),
        _ => None,
    };
    match (message, kind) {
        (Some(message), Some(kind)) => Error::Worker { kind, message: message.to_owned() },
        _ => io_failure(format!("{}: the process that measured it ended with {status}", file.display())),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn shell(script: &str) -> Child {
        spawn(Path::new("/bin/sh"), ["-c", script]).unwrap()
    }

    #[test]
    fn a_child_is_killed_when_the_program_is_to_stop() {
        let start = std::time::Instant::now();
        let mut child = shell("sleep 60");
        let cancel = Cancel::new();
        cancel.raise();
        assert_eq!(wait(&mut child, &cancel).unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(start.elapsed() < Duration::from_secs(10));
        let status = wait(&mut shell("exit 3"), &Cancel::new()).unwrap();
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn errors_of_a_child_are_those_of_the_program() {
        let file = Path::new("x.gguf");
        let status = ExitStatus::from_raw(65 << 8);
        let failed = failure(file, status, "note\npythia-quant: error: x.gguf: too short\n");
        assert_eq!((failed.kind(), failed.to_string().as_str()), (ErrorKind::Data, "x.gguf: too short"));
        let killed = failure(file, ExitStatus::from_raw(9), "");
        assert_eq!(killed.kind(), ErrorKind::Io);
        assert!(
            killed.to_string().starts_with("x.gguf: the process that measured it ended with signal: 9"),
            "{killed}"
        );
    }
}
