//! A script that submits a task array to HyperQueue.

use super::Job;

pub(super) fn script(job: &Job) -> String {
    let needs = &job.needs;
    format!(
        "#!/bin/bash
{header}#
# Run it where the server of HyperQueue is reached. It waits for the shards; workers may come and go.

{variables}
{function}
mkdir -p \"$sweep/logs\" && cd \"$sweep\" || exit 1
hq submit --name={name} --array=0-{last} --cpus={threads} --pin=taskset --resource mem={memory_mb} \\
    --time-request={minutes}min --crash-limit=20 --stdout=none --stderr=none \\
    --wait -- bash -c \"$(declare -p program sweep; declare -f shard); shard \\$HQ_TASK_ID\"
failed=$?

{end}",
        header = job.header(&[needs.time_of_group(), needs.memory()]),
        variables = job.shell_variables(),
        function = job.shell_function("$sweep/logs/hq-$1.log"),
        name = job.name,
        last = needs.shards - 1,
        threads = needs.threads,
        memory_mb = needs.memory_gib * 1024,
        minutes = needs.group_minutes,
        end = Job::shell_end(),
    )
}
