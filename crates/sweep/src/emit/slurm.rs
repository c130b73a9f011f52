//! A batch script for `sbatch`.

use super::{Job, quote};
use crate::Error;

/// `MaxArraySize` is 1001 by default, so that the last index is 1000.
const MAX_SHARDS: usize = 1001;

pub(super) fn script(job: &Job) -> Result<String, Error> {
    let needs = &job.needs;
    if needs.shards > MAX_SHARDS {
        let found = needs.shards;
        return Err(Error::Request(format!(
            "--shards: found {found}, wanted at most {MAX_SHARDS}, as Slurm's MaxArraySize"
        )));
    }
    let scratch = match &job.scratch {
        Some(_) => {
            format!(
                "# Scratch disk of a shard: {} GiB. Where nodes declare theirs, add --tmp={0}G.\n",
                needs.scratch_gib
            )
        }
        None => String::new(),
    };
    Ok(format!(
        "#!/bin/bash
{header}{scratch}#
#   sbatch [--account=A] [--partition=P] THIS_FILE
#   {program} sweep status {sweep}
#   {program} sweep collect {sweep} -o results.csv
#
#SBATCH --job-name={name}
#SBATCH --array=0-{last}{limit}
#SBATCH --cpus-per-task={threads}
#SBATCH --mem={memory}G
#SBATCH --time={time}
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --output=/dev/null

{variables}
# Slurm does not create the folder of a log.
mkdir -p \"$sweep/logs\"
exec >>\"$sweep/logs/slurm-${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID.log\" 2>&1

# Two minutes before the time is over, this shell gets USR1 and passes it on. The program keeps what it has and exits.
\"$program\" sweep run \"$sweep\" --shard \"$SLURM_ARRAY_TASK_ID/{shards}\" {options} &
trap 'kill -USR1 $!' USR1
wait $!
code=$?
# A wait that a signal ended is repeated. After a program that a signal ended, that changes nothing.
[ $code -le 128 ] || {{ wait $!; code=$?; }}

# 75 means \"later\".
[ $code -ne 75 ] || [ \"${{SLURM_RESTART_COUNT:-0}}\" -ge 20 ] || scontrol requeue \"$SLURM_JOB_ID\"
exit $code
",
        header = job.header(&[needs.time_asked(), needs.memory()]),
        program = quote::shell(&job.program),
        sweep = quote::shell(&job.sweep),
        name = job.name,
        last = needs.shards - 1,
        limit = job.at_once.map(|n| format!("%{n}")).unwrap_or_default(),
        threads = needs.threads,
        memory = needs.memory_gib,
        time = time(needs.minutes),
        variables = job.shell_variables(),
        shards = needs.shards,
        options = job.shell_options(),
    ))
}

/// `D-HH:MM:SS`.
fn time(minutes: u64) -> String {
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    if days > 0 { format!("{days}-{hours:02}:{minutes:02}:00") } else { format!("{hours:02}:{minutes:02}:00") }
}

#[cfg(test)]
#[test]
fn times_are_those_of_slurm() {
    assert_eq!([15, 195, 1440, 3061].map(time), ["00:15:00", "03:15:00", "1-00:00:00", "2-03:01:00"]);
}
