//! Measures speed and memory of a file in a separate process.
//!
//! Earlier allocations of a process stay on its heap and would count as memory of later files. So a comparison starts a
//! program for each file.

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

/// Time between two checks of [`Cancel`] while a child measures.
const POLL: Duration = Duration::from_millis(20);

/// The program that measures one file, and its first arguments.
///
/// It is started with `args`, then `--threads N --activations int8|f32 --kv f16|q8_0|f32 --device DEVICE [--gelu erf|tanh]
/// [--isa ISA] -- FILE`. It calls [`measure()`](crate::measure()) and prints the result to stdout as JSON. It should end when its stdin ends, so
/// that it never outlives its parent. If it fails, its last line on stderr is `NAME: error: MESSAGE`, and its exit code
/// is that of the [kind](ErrorKind::exit_code).
#[derive(Clone, Debug)]
pub struct Worker {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub args: Vec<OsString>,
}

/// The path of the running program. On Linux it is right even if the file was replaced after the program started.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { std::env::current_exe() }
}

impl Worker {
    /// The running program, with these first arguments.
    ///
    /// # Errors
    /// If the system does not report its path.
    pub fn this_program<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> io::Result<Self> {
        Ok(Self { program: own_program()?, args: args.into_iter().map(Into::into).collect() })
    }

    /// Measures `file` in a new process. `Ok(Err(_))` if none can be started.
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
            // Ctrl-C at a terminal also ends the child, possibly before this process notices it.
            return Err(if cancel.is_raised() { Error::Cancelled } else { failure(file, status, &stderr) });
        }
        serde_json::from_str(&stdout).map(Ok).map_err(|error| lost(file, &error.into()))
    }
}

/// The arguments of a worker for these options.
fn arguments(file: &Path, device: &Device, options: &Options) -> impl Iterator<Item = OsString> + use<> {
    let Arithmetic { activations, gelu, kv_cache } = Arithmetic::of(options);
    let settings = [
        ("--threads", options.threads.to_string()),
        ("--activations", activations.to_owned()),
        ("--kv", kv_cache.to_owned()),
        ("--device", device.argument()),
    ];
    // `None` means that each file uses its own.
    let gelu = options.gelu.map(|_| ("--gelu", gelu.to_owned()));
    // `None` means what is best on this machine.
    let isa = options.isa.map(|isa| ("--isa", isa.name().to_owned()));
    let settings = settings.into_iter().chain(gelu).chain(isa).flat_map(|(name, value)| [name.into(), value.into()]);
    // The file comes last, after `--`, because its name may begin with a dash.
    settings.chain(["--".into(), file.into()])
}

/// Starts the child. Its output fits into the buffers of the pipes.
fn spawn(program: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn()
}

/// Waits for the child. If this program must stop, the child is killed; it has nothing to clean up.
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

/// The error that a child reports.
fn failure(file: &Path, status: ExitStatus, stderr: &str) -> Error {
    let message = stderr.lines().rev().find_map(|line| Some(line.split_once(": error: ")?.1));
    let kind = status.code().and_then(ErrorKind::from_exit_code);
    match (message, kind) {
        (Some(message), Some(kind)) => Error::Worker { kind, message: message.to_owned() },
        _ => io_failure(format!("{}: the process that measured it ended with {status}", file.display())),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use pythia_model::{Activations, Gelu, KvType};
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
    fn a_worker_gets_all_options() {
        let options = Options {
            threads: 3,
            isa: Some("scalar".parse().unwrap()),
            activations: Activations::F32,
            gelu: Some(Gelu::Tanh),
            kv: KvType::F32,
            ..Options::default()
        };
        let words = arguments(Path::new("-x.gguf"), &Device::cpu(), &options);
        let line: Vec<String> = words.map(|word| word.into_string().unwrap()).collect();
        let wanted = "--threads 3 --activations f32 --kv f32 --device cpu --gelu tanh --isa scalar -- -x.gguf";
        assert_eq!(line.join(" "), wanted);
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
