//! How a program ends: exit codes, one-line errors, Ctrl-C.

mod failure;
mod signal;

pub use failure::Failure;
pub(crate) use failure::locate;
pub use signal::catch_interrupts;
pub(crate) use signal::waiting;

use clap::Parser;
use clap::error::ErrorKind as ClapErrorKind;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::{ExitCode, Termination};

/// The code of `result`; its error goes to stderr as `PROGRAM: error: ...`, in one line. What succeeds has the code 0,
/// or one of its own: `diff` found a difference.
pub fn report(program: &str, result: Result<impl Termination, Failure>) -> ExitCode {
    match result {
        Ok(done) => done.report(),
        Err(failure) => {
            // Messages are one line by contract; a name from a file must not break it.
            let line = failure.to_string().replace(['\n', '\r'], " ");
            note(format_args!("{program}: error: {line}"));
            ExitCode::from(failure.code())
        }
    }
}

/// A line on stderr. A stderr that nobody reads is no error, so this is not `eprintln!`, which panics there.
pub fn note(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Parses the command line. Before that, makes the faults of mapped files errors like all others, and Ctrl-C a request.
///
/// # Errors
/// The exit code, when there is nothing left to do: help was printed, or the error was reported.
pub fn parse<T: Parser>(program: &str) -> Result<T, ExitCode> {
    pythia_tensor::exit_on_fault(program);
    signal::install(program);
    T::try_parse().map_err(|error| match error.kind() {
        ClapErrorKind::DisplayHelp
        | ClapErrorKind::DisplayVersion
        | ClapErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
        _ => report(program, Err::<(), _>(Failure::usage(one_line(&error.to_string())))),
    })
}

/// The first paragraph of a clap error, as one line.
fn one_line(text: &str) -> String {
    let paragraph = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let line = paragraph.collect::<Vec<_>>().join(" ");
    format!("{} (--help lists what is possible)", line.strip_prefix("error: ").unwrap_or(&line))
}

/// Writes to stdout. A reader that has gone (`| head`) is no error: what it wanted it has.
///
/// # Errors
/// If stdout cannot be written for another reason.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::io(format_args!("stdout: {error}"))),
        _ => Ok(()),
    }
}

/// Writes `value` to stdout as indented JSON and a newline.
///
/// # Errors
/// If stdout cannot be written.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value).map_err(|e| Failure::io(format_args!("stdout: {e}")))?;
    print(&(json + "\n"))
}

/// Writes `value` to stdout as one line of JSON.
///
/// # Errors
/// If stdout cannot be written.
pub fn print_json_line(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_errors_become_one_line() {
        let text = "error: the following required arguments were not provided:\n  <SRC>\n  --type <T>\n\nUsage: x\n";
        let line =
            "the following required arguments were not provided: <SRC> --type <T> (--help lists what is possible)";
        assert_eq!(one_line(text), line);
    }
}
