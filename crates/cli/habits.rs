//! Flags of llama.cpp's programs. Each one becomes an option of ours, is ignored with a note, or ends in an error that
//! says what to do instead. Clap alone would read `-ngl` as `-n gl` and `-hf` as `-h -f`.
//!
//! A command's own options are never looked up here.

mod table;

use clap::Command;
use pythia_convert::Level;
use std::ffi::{OsStr, OsString};
use table::{Meaning, Values, find};

/// A command line with our options only, and notes for the user.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Translated {
    pub(crate) args: Vec<OsString>,
    pub(crate) notes: Vec<String>,
}

/// Translates `args`, which start with the program's name. `program` describes all commands and options.
///
/// # Errors
/// The explanation of a flag that cannot work here.
pub(crate) fn translate(program: &Command, args: impl IntoIterator<Item = OsString>) -> Result<Translated, String> {
    let mut state = Translation {
        program,
        command: None,
        positionals: 0,
        rest: args.into_iter().peekable(),
        out: Translated::default(),
    };
    while let Some(arg) = state.rest.next() {
        let text = arg.to_str().map(str::to_owned);
        match (text.as_deref(), state.command) {
            (Some("--"), _) => {
                state.out.args.push(arg);
                state.out.args.extend(state.rest);
                return Ok(state.out);
            }
            (Some(text), _) if !text.starts_with('-') || text == "-" => state.positional(text),
            (Some(text), Some(command)) => match own_option(command, split(text).0) {
                Some(own) => state.own_option(own, text),
                None => state.habit(text)?,
            },
            _ => state.out.args.push(arg),
        }
    }
    Ok(state.out)
}

/// A partly translated command line.
struct Translation<'p, I: Iterator<Item = OsString>> {
    program: &'p Command,
    /// The subcommand, once it has been read.
    command: Option<&'p Command>,
    /// Number of positional arguments after it.
    positionals: usize,
    rest: std::iter::Peekable<I>,
    out: Translated,
}

impl<I: Iterator<Item = OsString>> Translation<'_, I> {
    /// The program's name, the subcommand, or a positional argument.
    fn positional(&mut self, text: &str) {
        self.positionals += usize::from(self.command.is_some());
        if self.command.is_none() && !self.out.args.is_empty() {
            self.command = self.program.find_subcommand(text);
        }
        // llama-quantize IN OUT TYPE THREADS
        if self.positionals == 4 && self.command.is_some_and(|command| command.get_name() == "quantize") {
            self.out.args.push("--threads".into());
        }
        self.out.args.push(text.into());
    }

    /// An option of the command, with its value.
    fn own_option(&mut self, own: &clap::Arg, text: &str) {
        let (name, attached) = split(text);
        let next = if attached.is_none() && own.get_action().takes_values() { self.rest.next() } else { None };
        let value = attached.or_else(|| next.as_deref().and_then(OsStr::to_str));
        match (own.get_id().as_str(), value) {
            // In llama.cpp, -1 means "all".
            ("chunks", Some("-1")) => return,
            ("threads", Some("-1")) => return self.out.args.extend([OsString::from(name), "0".into()]),
            ("types", Some(number)) if name == "-t" => self.out.notes.extend(note_of_number(number)),
            _ => {}
        }
        self.out.args.push(text.into());
        self.out.args.extend(next);
    }

    /// An option that the command does not have: one of llama.cpp's, or one for clap to refuse.
    fn habit(&mut self, text: &str) -> Result<(), String> {
        let (name, attached) = split(text);
        match find(self.program.get_name(), name).map(|habit| &habit.meaning) {
            None => self.out.args.push(text.into()),
            Some(Meaning::Means(option)) => {
                let text = attached.map_or((*option).to_owned(), |value| format!("{option}={value}"));
                // This command may not have the option; then the table says what that means.
                if self.command.is_some_and(|command| own_option(command, option).is_none()) {
                    return self.habit(&text);
                }
                self.out.args.push(text.into());
            }
            Some(Meaning::Missing(why)) => return Err(format!("{name}: {why}")),
            Some(Meaning::NoEffect(values, why)) => {
                if attached.is_none() {
                    skip(*values, &mut self.rest);
                }
                self.out.notes.extend((!why.is_empty()).then(|| format!("{name} has no effect: {why}")));
            }
        }
        Ok(())
    }
}

/// The name of an option, and the value after its `=`.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('=') {
        Some((name, value)) if name.starts_with("--") => (name, Some(value)),
        _ => (text, None),
    }
}

/// The note for `-t 8` where -t is the type, because elsewhere it is a number of threads.
fn note_of_number(value: &str) -> Option<String> {
    let number: u32 = value.parse().ok()?;
    let level: Level = value.parse().ok()?;
    Some(format!(
        "-t is the type here, and {number} is llama-quantize's number for {level}; --threads sets the number of threads"
    ))
}

/// Drops the value of an option that has no effect.
fn skip(values: Values, args: &mut std::iter::Peekable<impl Iterator<Item = OsString>>) {
    let is_switch = |next: &OsString| {
        let words = ["on", "off", "auto", "0", "1"];
        next.to_str().is_some_and(|text| text.split(',').all(|word| words.contains(&word)))
    };
    match values {
        Values::None => {}
        Values::One => drop(args.next()),
        Values::Switch => drop(args.next_if(is_switch)),
    }
}

/// The option of `command` that is named exactly `text`: `--threads` or `-t`, not `-t4` or `--threads=4`.
fn own_option<'c>(command: &'c Command, text: &str) -> Option<&'c clap::Arg> {
    let is_named = |arg: &&clap::Arg| match text.strip_prefix("--") {
        Some(long) => arg.get_long_and_visible_aliases().is_some_and(|names| names.contains(&long)),
        None => {
            let mut chars = text.chars().skip(1);
            let (short, rest) = (chars.next(), chars.next());
            rest.is_none() && short.is_some() && arg.get_short() == short
        }
    };
    command.get_arguments().find(is_named)
}

/// A warning if more threads are requested than the machine has processors.
pub(crate) fn too_many_threads(matches: &clap::ArgMatches) -> Option<String> {
    let (_, command) = matches.subcommand()?;
    let asked = command.try_get_many::<usize>("threads").ok()??.copied().max()?;
    let processors = std::thread::available_parallelism().ok()?.get();
    (asked > processors).then(|| {
        format!("warning: {asked} threads on {processors} processors are slower, because they wait for each other")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn translated(program: &Command, line: &str) -> Result<(String, usize), String> {
        let words = line.split(' ').map(OsString::from);
        let Translated { args, notes } = translate(program, words)?;
        Ok((args.join(OsStr::new(" ")).into_string().unwrap(), notes.len()))
    }

    #[test]
    fn habits_become_our_options() {
        let run = crate::run::Args::command();
        for (line, wanted, notes) in [
            ("p generate m -ngl 99 -n 5", "p generate m --gpu-layers 99 -n 5", 0),
            ("p generate m --n-gpu-layers=99", "p generate m --n-gpu-layers=99", 0),
            ("p generate m -fa -p x", "p generate m -p x", 1),
            ("p generate m -fa on -p x", "p generate m -p x", 1),
            ("p generate m -b 512 -ub 64 -p x", "p generate m -p x", 2),
            ("p generate m -ctk f16 -ctv f16", "p generate m --cache-type-k f16 --cache-type-v f16", 0),
            ("p generate m --no-display-prompt -no-cnv -p x", "p generate m -p x", 0),
            ("p perplexity m -f t --chunks -1 -t -1", "p perplexity m -f t -t 0", 0),
            ("p perplexity m --chunks=-1 --threads=-1 --ctx-size=64", "p perplexity m --threads 0 --ctx-size=64", 0),
            ("p generate m -np 4", "p generate m --parallel 4", 0),
            ("p perplexity m -f t -np 4", "p perplexity m -f t", 1),
            ("p bench -m m -fa 0,1 -t 1,2", "p bench -m m -t 1,2", 1),
            // An option that takes a value takes the next argument, even if that looks like an option.
            ("p generate m -p -fa", "p generate m -p -fa", 0),
            ("p generate m -r -ngl -n 3", "p generate m -r -ngl -n 3", 0),
            ("p generate -- -fa", "p generate -- -fa", 0),
            ("p generate m -n32 -t4", "p generate m -n32 -t4", 0),
            ("p -fa generate m", "p -fa generate m", 0),
        ] {
            assert_eq!(translated(&run, line), Ok((wanted.to_owned(), notes)), "{line}");
        }
    }

    #[test]
    fn what_cannot_work_is_explained() {
        let run = crate::run::Args::command();
        for line in
            ["p generate -hf a/b", "p generate m -cnv", "p generate m --lora x", "p perplexity m --kl-divergence"]
        {
            let flag = line.split(' ').find(|word| word.starts_with('-')).unwrap();
            let why = translated(&run, line).unwrap_err();
            assert!(why.starts_with(&format!("{flag}: ")), "{why}");
        }
        let quant = crate::quant::Args::command();
        assert!(translated(&quant, "p quantize a b Q4_0 --leave-output-tensor").is_err());
        let quantize = translated(&quant, "p quantize a b Q4_0 8 --pure").unwrap();
        assert_eq!(quantize.0, "p quantize a b Q4_0 --threads 8 --pure");
        let note = translate(&quant, "p convert m -t 8".split(' ').map(OsString::from)).unwrap().notes;
        assert!(note[0].starts_with("-t is the type here, and 8 is llama-quantize's number for Q5_0"), "{note:?}");
        for line in ["p convert m -t Q8_0", "p convert m --type 8", "p imatrix m -f t -t 8"] {
            assert_eq!(translated(&quant, line), Ok((line.to_owned(), 0)));
        }
        assert_eq!(translated(&quant, "p imatrix m -f t -b 64").unwrap().1, 0, "it has a -b of its own");
    }

    /// A row would be dead if every command had an option of that name, or if its target did not exist.
    #[test]
    fn every_row_can_apply() {
        let programs = [crate::run::Args::command(), crate::quant::Args::command()];
        for habit in table::HABITS {
            for name in habit.names {
                let commands = || {
                    let of_program = programs.iter().filter(|p| find(p.get_name(), name).is_some());
                    of_program.flat_map(|program| program.get_subcommands())
                };
                assert!(commands().any(|command| own_option(command, name).is_none()), "{name}");
                // Without the feature `server` no command has it.
                let is_absent = |option: &str| cfg!(not(feature = "server")) && option == "--parallel";
                if let Meaning::Means(option) = habit.meaning
                    && !is_absent(option)
                {
                    assert!(commands().any(|command| own_option(command, option).is_some()), "{name}: {option}");
                }
            }
        }
    }
}
