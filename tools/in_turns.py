"""What scripts that compare speeds share: our side, engines that take turns, cells of a table. Needs nothing but Python."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A prompt, and tokens one by one.
KINDS = ("pp", "tg")


def fail(message):
    print(f"{Path(sys.argv[0]).stem}: {message}", file=sys.stderr)
    sys.exit(1)


def run_pythia(program, arguments):
    """Runs `pythia-run` and returns its standard output."""
    if not program.exists():
        fail(f"{program}: not there; build it with `cargo build --release` or name another with --pythia-run")
    return output_of([program.resolve(), *arguments])


def output_of(command, **options):
    """Standard output of a command that must succeed."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=False, **options)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))}: exit code {done.returncode}")
    return done.stdout


def bench(program, model, n_prompt, n_gen, threads, device="cpu"):
    """Tokens per second of one prompt and one generation by `pythia-run bench`."""
    arguments = ["bench", "-m", model, "-p", n_prompt, "-n", n_gen, "-r", 1, "-t", threads, "-o", "json"]
    arguments += [] if device == "cpu" else ["--device", device]
    result = {}
    for row in json.loads(run_pythia(program, arguments)):
        result["pp" if row["n_gen"] == 0 else "tg"] = statistics.median(row["samples_ts"])
    return result


def take_turns(engines, rounds, samples, after=lambda: None):
    """Runs each of `engines`, functions by name, once per round, and appends what they measure to `samples`."""
    for _ in range(rounds):
        for name, measure in engines.items():
            kept = samples.setdefault(name, {kind: [] for kind in KINDS})
            for kind, rate in measure().items():
                kept[kind].append(rate)
            after()
    return samples


def middle(samples):
    """The median of each kind."""
    return {kind: statistics.median(values) for kind, values in samples.items()}


def cpu_name():
    for line in Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown CPU"
