//! A script for one machine with GNU parallel.

use super::Job;

pub(super) fn script(job: &Job) -> String {
    let needs = &job.needs;
    let (jobs, at_once) = match job.at_once {
        Some(n) => (String::new(), n.to_string()),
        None => {
            let jobs = format!(
                "# As many shards at once as the cores allow.\njobs=$(($(nproc) / {}))\n[ $jobs -gt 0 ] || jobs=1\n",
                needs.threads
            );
            (jobs, "$jobs".to_owned())
        }
    };
    format!(
        "#!/bin/bash
{header}# A shard starts when that much memory is free.

{variables}
{function}
export program sweep PARALLEL_SHELL=/bin/bash
export -f shard
mkdir -p \"$sweep/logs\" && cd \"$sweep\" || exit 1
{jobs}parallel --jobs {at_once} --memfree {memory}G --joblog logs/parallel.tsv shard {{}} ::: {{0..{last}}}
failed=$?

{end}",
        header = job.header(&[needs.time(), needs.memory()]),
        variables = job.shell_variables(),
        function = job.shell_function("$sweep/logs/parallel-$1.log"),
        memory = needs.memory_gib,
        last = needs.shards - 1,
        end = Job::shell_end(),
    )
}
