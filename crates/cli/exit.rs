//! How a program ends: exit codes, one-line errors, Ctrl-C.

mod failure;
mod signal;

pub use failure::Failure;
pub(crate) use failure::locate;
pub use signal::catch_interrupts;
pub(crate) use signal::waiting;

use crate::habits;
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind as ClapErrorKind};
use pythia_text::{Line, Lines, Prose};
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::{ExitCode, Termination};

/// Where most commands have the columns that a terminal is too narrow for.
pub(crate) const IN_JSON: &str = "--json has them";

/// The code of `result`; its error goes to stderr as `PROGRAM: error: ...`, in one line. What succeeds has the code 0,
/// or one of its own: `diff` found a difference.
pub fn report(program: &str, result: Result<impl Termination, Failure>) -> ExitCode {
    match result {
        Ok(done) => done.report(),
        Err(failure) => {
            note(format_args!("{program}: error: {failure}"));
            ExitCode::from(failure.code())
        }
    }
}

/// A line on stderr, one whatever is in it. A stderr that nobody reads is no error, so this is not `eprintln!`, which
/// panics there.
pub fn note(line: impl Display) {
    // At once, so that lines of several threads do not mix.
    let _ = io::stderr().write_all(format!("{}\n", Line(line)).as_bytes());
}

/// Parses the command line, flags of llama.cpp included. Before that, makes the faults of mapped files errors like all
/// others, and Ctrl-C a request.
///
/// # Errors
/// The exit code, when there is nothing left to do: help was printed, or the error was reported.
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

/// What clap says when every argument is one line: it quotes them as they are, and so does what parses their values.
fn on_one_line_each<T: Parser>(error: clap::Error, args: &[OsString]) -> clap::Error {
    let escaped = args.iter().map(|arg| Line(arg.display()).to_string());
    T::try_parse_from(escaped).err().unwrap_or(error)
}

/// A clap error as one line, with what was probably meant.
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
    format!("{}{hint} (--help lists what is possible)", line.strip_prefix("error: ").unwrap_or(&line))
}

/// Writes to stdout what this program says. Fields that come from elsewhere are one line each by now
/// ([`pythia_text::Line`]). A reader that has gone (`| head`) is no error: what it wanted it has.
///
/// # Errors
/// If stdout cannot be written for another reason.
pub fn print(text: &str) -> Result<(), Failure> {
    write(&Lines(text).to_string())
}

/// As [`print()`], for text that is the result itself, such as what a model wrote: as it is into a file or a pipe, without
/// what could command the terminal on one.
///
/// # Errors
/// As there.
pub fn print_prose(text: &str) -> Result<(), Failure> {
    if io::stdout().is_terminal() { write(&Prose(text).to_string()) } else { write(text) }
}

fn write(text: &str) -> Result<(), Failure> {
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
        let line =
            "the following required arguments were not provided: <SRC> --type <T> (--help lists what is possible)";
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
