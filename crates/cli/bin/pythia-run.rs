//! `pythia-run`: see `pythia_cli::run`.

fn main() -> std::process::ExitCode {
    pythia_cli::run::main()
}
