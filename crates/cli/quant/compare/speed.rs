//! Speed and memory of each level, in a process of its own.

use super::super::cache::folder::{Folder, SPEEDS, program_id, read_json, write_json};
use super::Contestant;
use super::facts::Facts;
use super::probe::{self, Measured};
use crate::exit::{self, Failure};
use crate::progress::{Bar, Log, Unit};
use crate::report::Speed;
use pythia_model::Options;
use pythia_runtime::machine::cpu_name;
use pythia_runtime::{Arithmetic, Device};
use pythia_task::Cancel;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

const FORMAT: &str = "pythia-speeds/2";

/// Measurements older than this are taken again: the machine may be in another state.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long Ctrl-C waits to be seen while a child measures.
const POLL: Duration = Duration::from_millis(20);

/// The speeds of all levels.
pub(super) struct Speeds {
    /// In the order of the levels.
    pub(super) levels: Vec<Speed>,
    /// Whether each was measured in a process of its own.
    pub(super) process_per_level: bool,
}

/// What a run has measured before it was stopped.
pub(super) struct KeptSpeeds {
    /// Where it is kept, if anywhere.
    path: Option<PathBuf>,
    kept: Kept,
}

#[derive(Deserialize, Serialize)]
struct Kept {
    format: String,
    /// What else the measurements depend on.
    setting: String,
    levels: Vec<KeptLevel>,
}

#[derive(Deserialize, Serialize)]
struct KeptLevel {
    /// The digest of the level.
    id: String,
    when: SystemTime,
    measured: Measured,
}

impl KeptLevel {
    /// A date to come is as little use as an old one.
    fn is_recent(&self) -> bool {
        self.when.elapsed().is_ok_and(|age| age <= MAX_AGE)
    }
}

impl KeptSpeeds {
    /// What `folder` has for this setting; nothing if `afresh`.
    pub(super) fn open(folder: Option<&Folder>, device: &Device, options: &Options, afresh: bool) -> Self {
        let path = folder.map(|folder| folder.path().join(SPEEDS));
        let Arithmetic { activations, kv_cache, .. } = Arithmetic::of(options);
        // Without one, each file has its own.
        let gelu = options.gelu;
        let (program, cpu, device, threads) = (program_id(), cpu_name(), device.argument(), options.threads);
        let setting = format!("{program}, {cpu}, {device}, {threads}, {activations}, {gelu:?}, {kv_cache}");
        let kept = path.as_deref().filter(|_| !afresh).and_then(read_json::<Kept>);
        let kept = kept.filter(|kept| kept.format == FORMAT && kept.setting == setting);
        let mut kept = kept.unwrap_or_else(|| Kept { format: FORMAT.to_owned(), setting, levels: Vec::new() });
        kept.levels.retain(KeptLevel::is_recent);
        Self { path, kept }
    }

    fn get(&self, id: &str) -> Option<Measured> {
        self.kept.levels.iter().find(|level| level.id == id).map(|level| level.measured.clone())
    }

    /// Keeps a measurement. That this fails is no reason to fail.
    fn put(&mut self, id: String, measured: Measured) {
        self.kept.levels.push(KeptLevel { id, when: SystemTime::now(), measured });
        if let Some(path) = &self.path {
            let _ = write_json(path, &self.kept);
        }
    }

    /// Removes them all: they are of one run, which has ended.
    pub(super) fn forget(self) {
        if let Some(path) = self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Measures one level after the other.
pub(super) fn measure(
    device: &Device,
    contestants: &[Contestant],
    facts: &[Facts],
    options: &Options,
    kept: &mut KeptSpeeds,
    quiet: bool,
    log: &Log,
) -> Result<Speeds, Failure> {
    let cancel = exit::catch_interrupts();
    let n = contestants.len();
    let bar = Bar::new(n as u64, Unit::Items("levels timed"), quiet);
    let n_known = facts.iter().filter(|facts| kept.get(&facts.id()).is_some()).count();
    if n_known > 0 && !quiet {
        exit::note(format_args!(
            "speeds of {n_known} of {n} files were measured by an earlier run that was stopped (--fresh measures them \
             again)"
        ));
    }
    let mut speeds = Speeds { levels: Vec::new(), process_per_level: true };
    for (i, (contestant, facts)) in contestants.iter().zip(facts).enumerate() {
        if cancel.is_raised() {
            return Err(Failure::interrupted());
        }
        let Contestant { name, path } = contestant;
        bar.message(name.clone());
        let known = kept.get(&facts.id());
        let whence = if known.is_some() { "measured by a run that was stopped" } else { "speed and memory" };
        log.line(format_args!("level {} of {n}: {name}: {whence}", i + 1));
        let own = match known {
            Some(measured) => Some(measured),
            None if speeds.process_per_level => {
                let measured = in_child(device, path, options, cancel)?;
                measured.iter().for_each(|measured| kept.put(facts.id(), measured.clone()));
                measured
            }
            None => None,
        };
        let measured = match own {
            Some(measured) => measured,
            None => {
                speeds.process_per_level = false;
                probe::measure(device, path, options)?
            }
        };
        speeds.levels.push(measured.speed());
        bar.advance(1);
    }
    Ok(speeds)
}

/// Has a new process of this program measure `file`. `None` if none can be started.
fn in_child(device: &Device, file: &Path, options: &Options, cancel: &Cancel) -> Result<Option<Measured>, Failure> {
    let mut child = match super::super::own_program()
        .and_then(|program| spawn(&program, probe::arguments(file, device, options)))
    {
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
        // Ctrl-C at a terminal ends the child too, maybe before it is seen here.
        if cancel.is_raised() {
            return Err(Failure::interrupted());
        }
        return Err(failure(file, status, &stderr));
    }
    serde_json::from_str(&stdout).map(Some).map_err(|e| lost(file)(e.into()))
}

/// The pipes are large enough for what a child writes.
fn spawn(program: &Path, args: Vec<impl AsRef<OsStr>>) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn()
}

/// Waits for the child's end. It is killed, having nothing to clean up, when this program is to stop.
fn wait(child: &mut Child, cancel: &Cancel) -> Result<ExitStatus, Failure> {
    loop {
        if cancel.is_raised() {
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
        let raised = Cancel::new();
        raised.raise();
        assert_eq!(wait(&mut child, &raised).unwrap_err().code(), 130);
        assert!(start.elapsed() < Duration::from_secs(10));
        let status = wait(&mut shell("exit 3"), &Cancel::new()).unwrap();
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn measurements_of_the_last_day_are_recent() {
        let measured = serde_json::json!({ "prefill": [1.0], "decode_seconds": [1.0] });
        let measured: Measured = serde_json::from_value(measured).unwrap();
        let level = |when| KeptLevel { id: String::new(), when, measured: measured.clone() };
        let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
        assert!(level(now - hour).is_recent());
        assert!(!level(now - 25 * hour).is_recent());
        assert!(!level(now + hour).is_recent());
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
