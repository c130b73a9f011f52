//! What the programs tell other programs about their own commands and options: completions for shells, manual pages.

pub(crate) mod completions;
pub(crate) mod man;

use clap::Command;

/// The program without the commands that its help hides. Neither clap_complete nor clap leaves these out.
fn visible(program: &Command) -> Command {
    let commands = program.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let name = || program.get_name().to_owned();
    Command::new(name())
        .bin_name(name())
        .version(program.get_version().unwrap_or_default().to_owned())
        .about(program.get_about().cloned().unwrap_or_default())
        .subcommand_required(true)
        .subcommands(commands)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// [`visible`] looks at the commands of the program only.
    fn nothing_is_hidden_in(command: &Command) {
        for argument in command.get_arguments() {
            assert!(!argument.is_hide_set(), "{}: {}", command.get_name(), argument.get_id());
        }
        for inner in command.get_subcommands() {
            assert!(!inner.is_hide_set(), "{}: {}", command.get_name(), inner.get_name());
            nothing_is_hidden_in(inner);
        }
    }

    #[test]
    fn hidden_commands_are_left_out_and_nothing_else() {
        for program in [crate::run::Args::command(), crate::quant::Args::command()] {
            let shown = visible(&program);
            shown.clone().debug_assert();
            nothing_is_hidden_in(&shown);
            let names = |program: &Command| -> Vec<String> {
                let not_hidden = program.get_subcommands().filter(|command| !command.is_hide_set());
                not_hidden.map(|command| command.get_name().to_owned()).collect()
            };
            assert_eq!(names(&shown), names(&program));
            assert!(names(&shown).len() >= 6);
            assert_eq!(shown.get_version(), program.get_version());
        }
        let hidden = "measure-level";
        assert!(crate::quant::Args::command().find_subcommand(hidden).is_some());
        assert!(visible(&crate::quant::Args::command()).find_subcommand(hidden).is_none());
    }
}
