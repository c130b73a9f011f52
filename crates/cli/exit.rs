//! The end of a program: exit codes, one-line errors, Ctrl-C.

mod failure;
mod signal;
mod unread;

pub use failure::Failure;
pub(crate) use failure::locate;
pub use signal::catch_interrupts;
pub(crate) use signal::{TRY_AGAIN, extend_grace, is_told_to_try_again, try_again_if_told, waiting};
pub(crate) use unread::{is_unread, stop_when_unread, stopped};

use crate::habits;
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind as ClapErrorKind};
use pythia_task::Progress;
use pythia_text::{Line, Lines, Prose};
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::{ExitCode, Termination};

/// Where most commands show all columns.
pub(crate) const IN_JSON: &str = "--json has them";

/// The exit code of `result`. An error is printed to stderr as one line, `PROGRAM: error: ...`. Success has exit code
/// 0, or one chosen by the command: `diff` returns 1 for a difference.
pub fn report(program: &str, result: Result<impl Termination, Failure>) -> ExitCode {
    match result {
        Ok(done) => done.report(),
        Err(failure) => {
            note(format_args!("{program}: error: {failure}"));
            ExitCode::from(failure.code())
        }
    }
}

/// Writes a single escaped line to stderr. Ignores a closed stderr, where `eprintln!` would panic.
pub fn note(line: impl Display) {
    // In one write, so that lines of several threads do not mix.
    let _ = io::stderr().write_all(format!("{}\n", Line(line)).as_bytes());
}

/// Prints the notes of an operation and nothing else of its progress.
pub(crate) struct Notes {
    /// Prints nothing at all.
    pub(crate) quiet: bool,
}

impl Progress for Notes {
    fn note(&self, line: &str) {
        if !self.quiet {
            note(line);
        }
    }
}

/// Parses the command line, including flags of llama.cpp. Before that, installs the handlers for faults of mapped files
/// and for Ctrl-C.
///
/// # Errors
/// The exit code, if help was printed or an error was reported.
pub fn parse<T: Parser>(program: &str) -> Result<T, ExitCode> {
    pythia_process::exit_on_fault(program);
    signal::install(program);
    let command = T::command();
    let translated = habits::translate(&command, std::env::args_os());
    let habits::Translated { args, notes } =
        translated.map_err(|why| report(program, Err::<(), _>(Failure::usage(why))))?;
    let parsed = command.try_get_matches_from(&args).and_then(|matches| {
        let args = T::from_arg_matches(&matches)?;
        notes.iter().for_each(|line| note(format_args!("{program}: {line}")));
        habits::too_many_threads(&matches).iter().for_each(|line| note(format_args!("{program}: {line}")));
        Ok(args)
    });
    parsed.map_err(|error| match error.kind() {
        ClapErrorKind::DisplayHelp
        | ClapErrorKind::DisplayVersion
        | ClapErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
        _ => report(program, Err::<(), _>(Failure::usage(usage_line(&on_one_line_each::<T>(error, &args))))),
    })
}

/// The same error for escaped arguments, because clap and the value parsers quote arguments unchanged.
fn on_one_line_each<T: Parser>(error: clap::Error, args: &[OsString]) -> clap::Error {
    let escaped = args.iter().map(|arg| Line(arg.display()).to_string());
    T::try_parse_from(escaped).err().unwrap_or(error)
}

/// A clap error as one line, with a suggestion.
fn usage_line(error: &clap::Error) -> String {
    let kinds = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    let suggested = kinds.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(name) => Some(name.clone()),
        ContextValue::Strings(names) => names.first().cloned(),
        _ => None,
    });
    let hint = suggested.map_or(String::new(), |name| format!("; did you mean '{name}'?"));
    one_line(&error.to_string(), &hint)
}

/// The first paragraph of a clap error and a hint, as one line.
fn one_line(text: &str, hint: &str) -> String {
    let paragraph = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let line = paragraph.collect::<Vec<_>>().join(" ");
    format!("{}{hint} (--help lists all options)", line.strip_prefix("error: ").unwrap_or(&line))
}

/// Writes text of this program to stdout. Foreign fields must already be escaped to one line ([`pythia_text::Line`]). A
/// closed pipe (`| head`) is not an error.
///
/// # Errors
/// If stdout cannot be written for another reason.
pub fn print(text: &str) -> Result<(), Failure> {
    write(&Lines(text).to_string())
}

/// As [`print()`], for text that is the result itself, such as the output of a model. A file or a pipe gets it
/// unchanged; a terminal gets it with control characters escaped.
///
/// # Errors
/// As [`print()`].
pub fn print_prose(text: &str) -> Result<(), Failure> {
    if io::stdout().is_terminal() { write(&Prose(text).to_string()) } else { write(text) }
}

fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    is_read(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())).map(drop)
}

/// Whether stdout is still read after a write to it.
///
/// # Errors
/// If it could not be written, but not because its reader has closed the pipe.
pub(crate) fn is_read(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            unread::note_unread();
            Ok(false)
        }
        Err(error) => Err(Failure::io(format_args!("stdout: {error}"))),
    }
}

/// Writes `value` to stdout as indented JSON and a newline.
///
/// # Errors
/// If stdout cannot be written.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value).map_err(|e| Failure::io(format_args!("stdout: {e}")))?;
    print(&(pythia_text::json(&json) + "\n"))
}

/// Writes `value` to stdout as one line of JSON.
///
/// # Errors
/// If stdout cannot be written.
pub fn print_json_line(value: &serde_json::Value) -> Result<(), Failure> {
    print(&(pythia_text::json(&value.to_string()) + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_errors_become_one_line() {
        let text = "error: the following required arguments were not provided:\n  <SRC>\n  --type <T>\n\nUsage: x\n";
        let line = "the following required arguments were not provided: <SRC> --type <T> (--help lists all options)";
        assert_eq!(one_line(text, ""), line);
    }

    #[test]
    fn misspelt_commands_and_options_are_recognised() {
        use clap::CommandFactory;
        for (line, meant) in [
            ("pythia-quant convrt x", "did you mean 'convert'?"),
            ("pythia-quant convert x --tpye Q4_0", "did you mean '--type'?"),
            ("pythia-quant verify x --agianst y", "did you mean '--against'?"),
        ] {
            let error = crate::quant::Args::command().try_get_matches_from(line.split(' ')).unwrap_err();
            let line = usage_line(&error);
            assert!(line.contains(meant) && !line.contains('\n'), "{line}");
        }
    }
}
