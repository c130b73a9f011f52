//! Writes a made-up sweep of the size of the whole suite, to measure commands on: 16 models, 154 checkpoints each,
//! 8 recipes, with all results.
//!
//!     cargo run -p pythia-sweep --example made_up -- FOLDER [MODELS [STEPS [LEVELS]]]

use pythia_sweep::{Cell, Sweep, manifest, result, spec};
use std::{env, fs};

#[allow(dead_code, reason = "tests use the rest")]
#[path = "../src/sample.rs"]
mod sample;

const SIZES: [&str; 8] = ["70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let folder = args.first().ok_or("wanted a folder")?;
    let number = |i: usize, default: usize| args.get(i).map_or(Ok(default), |text| text.parse());
    let names = SIZES.iter().flat_map(|size| [format!("pythia-{size}"), format!("pythia-{size}-deduped")]);
    let names: Vec<String> = names.take(number(1, 16)?).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut steps = sample::pythia_steps();
    steps.truncate(number(2, 154)?);
    let manifest = sample::manifest(&names, &steps, number(3, 7)?, args.get(4).is_some_and(|text| text == "tasks"));
    let results = sample::results(&manifest);
    let sweep = Sweep::create(folder.as_ref(), manifest, false, &())?;
    fs::create_dir_all(sweep.folder().join("results"))?;
    // Not by `write_result`, which syncs every file.
    for result in results.into_iter().flatten() {
        fs::write(sweep.result_path(result.cell), serde_json::to_string_pretty(&result)?)?;
    }
    Ok(())
}
