//! `pythia-run serve` of a program without the feature `server`: says so, whatever the options.

use crate::exit::Failure;
use std::ffi::OsString;

/// Not in this program, which was built without the feature `server`
#[derive(Debug, clap::Args)]
#[command(hide = true, disable_help_flag = true)]
pub(super) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _options: Vec<OsString>,
}

pub(super) fn run(_args: &Args) -> Result<(), Failure> {
    Err(Failure::usage("serve: not in this program, which was built without the feature `server`"))
}

#[cfg(test)]
mod tests {
    use crate::run;
    use clap::Parser;

    #[test]
    fn every_command_line_gets_the_same_answer() {
        for line in ["p serve", "p serve -m x.gguf --port 0", "p serve --help", "p serve x -np 4"] {
            let run::Command::Serve(args) = run::Args::try_parse_from(line.split(' ')).unwrap().command else {
                panic!("{line}")
            };
            assert!(super::run(&args).unwrap_err().to_string().contains("feature `server`"));
        }
    }
}
