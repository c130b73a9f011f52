//! A Snakefile.

use super::quote::string;
use super::{Job, Scratch};
use std::fmt::Write;

pub(super) fn file(job: &Job) -> String {
    let needs = &job.needs;
    let mut options = "--threads {threads}".to_owned();
    let mut constants = String::new();
    match &job.scratch {
        Some(Scratch::Folder(folder)) => {
            let _ = writeln!(constants, "SCRATCH = {}", string(folder));
            options.push_str(" --scratch {SCRATCH:q}");
        }
        Some(Scratch::Variable { name, rest }) => {
            let _ = writeln!(constants, "SCRATCH = {}", string(rest));
            let _ = write!(options, " --scratch \\\"${name}\\\"{{SCRATCH:q}}");
        }
        None => {}
    }
    job.flags.iter().for_each(|flag| _ = write!(options, " {flag}"));
    format!(
        "{header}#
#   snakemake --snakefile THIS_FILE --cores {threads} --keep-going

PROGRAM = {program}
SWEEP = {sweep}
SHARDS = {shards}
{constants}
workdir: SWEEP

rule collect:
    input:
        expand(\"shards/{{shard}}-of-{{shards}}.done\", shard=range(SHARDS), shards=SHARDS),
    output:
        \"results.csv\",
    shell:
        \"{{PROGRAM:q}} sweep status {{SWEEP:q}} && \"
        \"{{PROGRAM:q}} sweep collect {{SWEEP:q}} --force -o {{output:q}}\"

# A shard exits with 75 for \"later\". What is done is kept, so that another try goes on where it ended.
rule shard:
    input:
        \"manifest.jsonl\",
    output:
        touch(\"shards/{{shard}}-of-{{shards}}.done\"),
    log:
        \"logs/snakemake-{{shard}}-of-{{shards}}.log\",
    threads: {threads}
    resources:
        mem_mb={memory_mb},
        runtime={minutes},
    retries: 5
    shell:
        \"{{PROGRAM:q}} sweep run {{SWEEP:q}} --shard {{wildcards.shard}}/{{SHARDS}} {options} >>{{log:q}} 2>&1\"
",
        header = job.header(&[needs.time_asked(), needs.memory()]),
        program = string(&job.program),
        sweep = string(&job.sweep),
        shards = needs.shards,
        threads = needs.threads,
        memory_mb = needs.memory_gib * 1024,
        minutes = needs.minutes,
    )
}
