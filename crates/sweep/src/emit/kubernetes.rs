//! A manifest of a Kubernetes Job.

use super::quote::{container_argument, string};
use super::{Job, Pod, Scratch, absolute};
use crate::Error;
use std::path::Path;

pub(super) fn manifest(job: &Job, pod: &Pod) -> Result<String, Error> {
    let needs = &job.needs;
    let parent = Path::new(&job.sweep).parent().unwrap_or(Path::new("/"));
    let mount = absolute(pod.mount.as_deref().unwrap_or(parent))?;
    if !Path::new(&job.sweep).starts_with(&mount) {
        let (sweep, mount) = (pythia_text::path(job.sweep.as_ref()), pythia_text::path(mount.as_ref()));
        return Err(Error::Request(format!("--mount: found {mount}, wanted a folder that has {sweep} in it")));
    }
    let scratch = match &job.scratch {
        None => None,
        Some(Scratch::Folder(folder)) => Some(folder.as_str()),
        Some(Scratch::Variable { .. }) => {
            let wanted = "wanted the folder where a volume of the pod's own is mounted, such as /scratch";
            return Err(Error::Request(format!("--scratch: found a variable, {wanted}")));
        }
    };
    let shards = format!("--shards={}", needs.shards);
    let threads = format!("--threads={}", needs.threads);
    let command: String = [&job.program, "sweep", "run", &job.sweep, &shards, &threads]
        .into_iter()
        .chain(scratch.iter().flat_map(|folder| ["--scratch", folder]))
        .chain(job.flags.iter().copied())
        .map(|argument| format!("            - {}\n", container_argument(argument)))
        .collect();
    let (storage, scratch_mount, scratch_volume) = scratch.map_or_else(Default::default, |folder| {
        (
            format!("              ephemeral-storage: {}Gi\n", needs.scratch_gib),
            format!("            - name: scratch\n              mountPath: {}\n", string(folder)),
            "        - name: scratch\n          emptyDir: {}\n",
        )
    });
    Ok(format!(
        "{header}#
# For Kubernetes 1.29 and later. `kubectl apply -f THIS_FILE`, then `kubectl wait --for=condition=complete job/{name}`
# and `sweep collect` wherever the claim is mounted.
apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
spec:
  completionMode: Indexed
  completions: {shards}
  parallelism: {at_once}
  # Exit code 75 means \"later\": the index is tried again, as after a lost node. 65 and 2 do not pass with time.
  backoffLimitPerIndex: 20
  maxFailedIndexes: {shards}
  podFailurePolicy:
    rules:
      - action: Ignore
        onPodConditions:
          - type: DisruptionTarget
            status: \"True\"
      - action: FailIndex
        onExitCodes:
          operator: In
          values: [2, 65]
  template:
    spec:
      restartPolicy: Never
      # Time to keep unfinished work after SIGTERM.
      terminationGracePeriodSeconds: 120
      containers:
        - name: run
          image: {image}
          command:
{command}          resources:
            requests:
              cpu: {threads}
              memory: {memory}Gi
{storage}            limits:
              memory: {memory}Gi
          volumeMounts:
            - name: sweep
              mountPath: {mount}
{scratch_mount}      volumes:
        - name: sweep
          persistentVolumeClaim:
            claimName: {claim}
{scratch_volume}",
        header = job.header(&[needs.time(), needs.memory()]),
        name = job.name,
        shards = needs.shards,
        at_once = job.at_once.unwrap_or(needs.shards),
        image = string(&pod.image),
        threads = needs.threads,
        memory = needs.memory_gib,
        mount = string(&mount),
        claim = string(&pod.claim),
    ))
}
