//! `pythia-run info --fit`: what runs on this machine, and about how fast.

use super::super::model::RunArgs;
use crate::exit::{self, Failure};
use crate::input::check_gguf;
use pythia_compare::bench::rate;
use pythia_compare::fit::{self, Estimate, Fits, Machine, PROMPT_TOKENS};
use pythia_kernels::Cpu;
use pythia_model::Model;
use pythia_runtime::device::{CPU, Limits};
use pythia_runtime::machine::{self, cpu_name, memory_available};
use pythia_show::{Align, Table, Width, facts, number, wrap};
use serde_json::json;
use std::path::Path;

/// Estimates for a file, or for every published model.
pub(super) fn run(path: Option<&Path>, how: &RunArgs, json: bool) -> Result<(), Failure> {
    let options = how.options()?;
    // Before anything is allocated here.
    let memory_bytes = memory_available();
    let (machine, cpu, estimates);
    if let Some(path) = path {
        check_gguf(path)?;
        let model = Model::open(path, &options)?;
        machine = Machine { memory_bytes, limits: Limits::of_processor(model.cpu()) };
        let name = path.display().to_string();
        estimates = vec![fit::of_file(name, &model, &machine)];
        cpu = this_machine(model.cpu());
    } else {
        let own = Cpu::new(options.threads, options.isa).map_err(pythia_model::Error::from)?;
        machine = Machine { memory_bytes, limits: Limits::of_processor(&own) };
        estimates = fit::suite(&machine, options.kv);
        cpu = this_machine(&own);
    }
    if json {
        let Limits { gigabytes_per_second, int8_gigaops_per_second, f32_gigaops_per_second } = machine.limits;
        return exit::print_json_line(&json!({
            "machine": cpu,
            "memory_bytes": memory_bytes,
            "limits": {
                "gigabytes_per_second": gigabytes_per_second,
                "int8_gigaops_per_second": int8_gigaops_per_second,
                "f32_gigaops_per_second": f32_gigaops_per_second,
            },
            "estimates": estimates,
        }));
    }
    exit::print(&text(&cpu, &machine, &estimates))
}

/// The processor and its threads.
fn this_machine(cpu: &Cpu) -> machine::Machine {
    let (isa, threads) = (cpu.level().name().to_owned(), cpu.threads());
    machine::Machine { device: CPU.to_owned(), cpu: cpu_name(), isa, threads }
}

fn text(cpu: &machine::Machine, machine: &Machine, estimates: &[Estimate]) -> String {
    let width = Width::of_stdout();
    let Limits { gigabytes_per_second: memory, int8_gigaops_per_second: int8, f32_gigaops_per_second: f32 } =
        machine.limits;
    let (int8, f32) = (rate(int8, "GOP/s", int8), rate(f32, "GOP/s", f32));
    let rows = [
        ("machine", cpu.to_string()),
        ("available", machine.memory_bytes.map_or("not known".to_owned(), number::bytes)),
        ("limits", format!("memory {memory:.1} GB/s, int8 {int8}, f32 {f32}")),
    ];
    let mut table = Table::new([
        ("model", Align::Left, 0),
        ("level", Align::Left, 0),
        ("file", Align::Right, 0),
        ("memory", Align::Right, 0),
        ("fits", Align::Left, 0),
        ("prompt, tokens/s", Align::Right, 0),
        ("generation, tokens/s", Align::Right, 0),
    ]);
    let speed = |rate: Option<f64>| rate.map_or(String::new(), number::rate);
    for e in estimates {
        table.push(vec![
            e.model.clone(),
            e.level.unwrap_or_default().to_owned(),
            number::bytes(e.file_bytes),
            number::bytes(e.memory_bytes),
            fits(e.fits).to_owned(),
            speed(e.prompt_tokens_per_second),
            speed(e.generated_tokens_per_second),
        ]);
    }
    let note = format!(
        "Speeds are estimates, not measurements: the limits above, times the share of them that other models were \
         measured to reach. Prompts are of {PROMPT_TOKENS} tokens. Memory is for a context of {} tokens, without the copy of the \
         weights that generation makes where there is room for it, and that makes it faster. Where only the \
         file does not fit, its weights are read from the disk again and again.",
        estimates.iter().map(|e| e.context_tokens).max().unwrap_or(0)
    );
    format!(
        "{}\n{}\n{}",
        facts(&rows, 11, width),
        table.to_terminal(width).with_remark(width, "`--json` has them"),
        wrap(&note, width, "")
    )
}

fn fits(fits: Fits) -> &'static str {
    match fits {
        Fits::Yes => "yes",
        Fits::FromDisk => "from disk",
        Fits::No => "no",
    }
}
