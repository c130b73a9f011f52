//! `completions`: a script by which a shell completes commands, options and their values.

use super::visible;
use crate::exit::{self, Failure};
use clap::builder::{PossibleValuesParser, Str, ValueHint};
use clap::{Arg, Command};
use clap_complete::Shell;
use pythia_convert::Level;
use pythia_kernels::IsaLevel;
use pythia_tensor::TensorType;
use std::any::TypeId;

/// Print a script that completes this program's commands and options in a shell
///
/// Write it to where the shell looks for such scripts: for bash
/// ~/.local/share/bash-completion/completions/PROGRAM, for zsh _PROGRAM in a folder of $fpath, for fish
/// ~/.config/fish/completions/PROGRAM.fish.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// The subcommand. `program` describes all commands and options.
pub(crate) fn run(args: &Args, program: &Command) -> Result<(), Failure> {
    exit::print_prose(&script(args.shell, program))
}

fn script(shell: Shell, program: &Command) -> String {
    let name = program.get_name();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut with_values(visible(program)), name.to_owned(), &mut script);
    let script = String::from_utf8_lossy(&script);
    match shell {
        // In a name with a hyphen it writes the labels of commands in two ways, and then finds no options of a command
        // (clap-rs/clap#6421).
        Shell::Bash => script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__")),
        _ => script.into_owned(),
    }
}

/// The command with the values that its options take, where they are a choice, and folders where no file is wanted.
fn with_values(command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
    let command = command.mut_args(|arg| match values(&arg) {
        Some(values) => arg.value_parser(PossibleValuesParser::new(values)),
        None if is_folder(&arg) => arg.value_hint(ValueHint::DirPath),
        None => arg,
    });
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, with_values))
}

/// The words that are values of an option whose parser clap cannot ask for them: because help names them all, as in
/// `<int8|f32>`, or by the type of the value.
fn values(arg: &Arg) -> Option<Vec<Str>> {
    if let Some([shown]) = arg.get_value_names() {
        let is_word = |part: &str| part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if shown.contains('|') && shown.split('|').all(is_word) {
            return Some(shown.split('|').map(|word| Str::from(word.to_owned())).collect());
        }
    }
    let ty = arg.get_value_parser().type_id();
    let names: Vec<&'static str> = if ty == TypeId::of::<Level>() {
        Level::ALL.iter().map(|level| level.name()).collect()
    } else if ty == TypeId::of::<TensorType>() {
        TensorType::ALL.iter().map(|ty| ty.name()).collect()
    } else if ty == TypeId::of::<IsaLevel>() {
        IsaLevel::ALL.iter().map(|level| level.name()).collect()
    } else {
        return None;
    };
    Some(names.into_iter().map(Str::from).collect())
}

/// Whether the value is a path of a folder.
fn is_folder(arg: &Arg) -> bool {
    arg.get_value_hint() == ValueHint::AnyPath
        && arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == "DIR" || name == "FOLDER"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, ValueEnum};

    /// How a script writes a long option.
    fn written(shell: Shell, long: &str) -> String {
        match shell {
            Shell::Fish => format!("-l {long}"),
            _ => format!("--{long}"),
        }
    }

    /// Asserts that the script names every command and every option. `command` is so many commands below the program.
    fn names_all(script: &str, shell: Shell, command: &Command, depth: usize) {
        for inner in command.get_subcommands() {
            assert!(script.contains(inner.get_name()), "{shell}: {}", inner.get_name());
            // For fish, clap_complete knows no options of commands as deep as `sweep emit slurm`.
            if shell == Shell::Fish && depth == 2 {
                continue;
            }
            for long in inner.get_arguments().filter_map(Arg::get_long_and_visible_aliases).flatten() {
                let option = written(shell, long);
                let follows = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
                let is_there = script.split(&option).skip(1).any(follows);
                assert!(is_there, "{shell}: {} {option}", inner.get_name());
            }
            names_all(script, shell, inner, depth + 1);
        }
    }

    #[test]
    fn every_command_and_option_is_in_every_script() {
        for program in [crate::run::Args::command(), crate::quant::Args::command()] {
            for &shell in Shell::value_variants() {
                let script = script(shell, &program);
                names_all(&script, shell, &visible(&program), 0);
                assert!(!script.contains("measure-level"), "{shell}");
            }
        }
    }

    #[test]
    fn values_are_those_that_the_parsers_take() {
        let commands = [crate::run::Args::command(), crate::quant::Args::command()].map(with_values);
        let values = |program: usize, command: &str, option: &str| -> Vec<String> {
            let command = commands[program].find_subcommand(command).unwrap();
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(option)).unwrap();
            arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
        };
        assert_eq!(values(0, "generate", "activations"), ["int8", "f32"]);
        assert_eq!(values(0, "generate", "isa").len(), IsaLevel::ALL.len());
        assert_eq!(values(1, "convert", "type").len(), Level::ALL.len());
        assert_eq!(values(1, "convert", "output-tensor-type").len(), TensorType::ALL.len());
        assert_eq!(values(1, "convert", "quantizer"), ["plain", "feedback"]);
        // A type of tensors, but not every one.
        assert_eq!(values(1, "dequantize", "dtype"), ["f32", "f16", "bf16"]);
        assert!(values(0, "generate", "threads").is_empty() && values(0, "generate", "prompt").is_empty());
    }

    /// Instruction sets are left out: parsers refuse those that this CPU lacks.
    #[test]
    fn every_value_is_accepted() {
        use clap::error::ErrorKind::{InvalidValue, ValueValidation};
        let mut n_values = 0;
        for program in [crate::run::Args::command(), crate::quant::Args::command()] {
            for command in with_values(visible(&program)).get_subcommands() {
                for arg in command.get_opts().filter(|arg| arg.get_id() != "isa") {
                    for value in arg.get_possible_values() {
                        let option = format!("--{}={}", arg.get_long().unwrap(), value.get_name());
                        let line = [program.get_name(), command.get_name(), &option];
                        // What else the command needs is missing, which is noticed later.
                        let error = program.clone().try_get_matches_from(line).err().map(|error| error.kind());
                        assert!(!matches!(error, Some(InvalidValue | ValueValidation)), "{line:?}: {error:?}");
                        n_values += 1;
                    }
                }
            }
        }
        assert!(n_values > 2 * Level::ALL.len());
    }
}
