//! Writes a random GPT-NeoX checkpoint of any Pythia shape, for work on speed and memory:
//!
//! ```text
//! cargo run --release --example synth -- 410m OUT_DIR
//! ```
//!
//! The folder is laid out as EleutherAI's are. The weights are noise, so perplexities mean nothing; sizes, shapes and
//! the cost of everything are those of the real model. Weights go straight to disk in constant memory, and their bytes
//! depend on the options alone, not on the machine or its number of cores.

mod make;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match make::synthesize(&make::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("synth: {e}");
            ExitCode::FAILURE
        }
    }
}
