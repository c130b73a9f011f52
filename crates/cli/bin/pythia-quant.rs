//! `pythia-quant`: see `pythia_cli::quant`.

fn main() -> std::process::ExitCode {
    pythia_cli::quant::main()
}
