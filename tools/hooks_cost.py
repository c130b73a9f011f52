#!/usr/bin/env python3
"""What a pass with nothing hooked costs: two builds of pythia-run, compared by instructions and by processor time.

    tools/hooks_cost.py --before PYTHIA_RUN --after PYTHIA_RUN FILE.gguf --text TEXT [--rounds 20] [--bar 1] [--no-time]

Both run on one thread what costs a pass over one token (`decode`: generate) and over many (`prompt`: perplexity). A small
model shows the most: what is done per layer is the same in all sizes. Each workload is run short and long, and what counts
is the difference, so that loading and tokenizing are left out.

Instructions are counted by callgrind, which knows no AVX-512: the programs choose another instruction set under it. The
count hardly depends on the machine or what else runs there. Processor times, without callgrind, are taken in rounds of
before, after, after, before; the ratio is the median over the rounds, with a 95 % interval of the median by resampling.
Times also move by a percent or two when code only comes to lie elsewhere; on a busy machine, repeat before believing.

Exit code 1: more than the bar (in percent) by instructions, or by time beyond doubt (the whole interval).
"""

import argparse
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CALLGRIND = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]


def workloads(model, text, few):
    """By name: the command for a number of units, and the short and the long number."""
    decode = lambda n: ["generate", model, "-p", "The", "-n", str(n), "-t", "1", "--ignore-eos", "-q"]
    prompt = lambda n: ["perplexity", model, "-f", text, "--chunks", str(n), "-t", "1", "-q"]
    return {
        "decode": (decode, *((11, 111) if few else (11, 500))),
        "prompt": (prompt, *((1, 2) if few else (1, 31))),
    }


def check(program, arguments, status, stderr):
    if status != 0:
        sys.exit(f"hooks_cost: {program} {' '.join(arguments)} ended with {status}: {stderr.decode(errors='replace')}")


def instructions(program, arguments):
    done = subprocess.run([*CALLGRIND, program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    check(program, arguments, done.returncode, done.stderr)
    return int(re.search(rb"Collected : (\d+)", done.stderr)[1])


def seconds(program, arguments):
    """Processor time of a process and its threads."""
    with tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=stderr)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        stderr.seek(0)
        check(program, arguments, child.returncode, stderr.read())
    return used.ru_utime + used.ru_stime


def difference(measure, program, workload):
    command, short, long = workload
    return measure(program, command(long)) - measure(program, command(short))


def interval(ratios):
    """Of the median, by resampling."""
    draw = random.Random(19)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[-51]


def percent(ratio):
    return f"{100 * (ratio - 1):+.2f} %"


def by_instructions(programs, model, text, bar):
    """Prints a line for each workload. Returns whether all are within the bar."""
    within = True
    for name, workload in workloads(model, text, few=True).items():
        before, after = (difference(instructions, program, workload) for program in programs)
        units = workload[2] - workload[1]
        print(f"{name:8} instructions  {before / units:>14,.0f} {after / units:>14,.0f}  {percent(after / before)}", flush=True)
        within &= after / before <= 1 + bar / 100
    return within


def by_time(programs, model, text, bar, rounds):
    within = True
    for name, workload in workloads(model, text, few=False).items():
        taken = []
        for number in range(rounds + 1):
            first, second, third, fourth = (difference(seconds, programs[i], workload) for i in (0, 1, 1, 0))
            # The first round only warms up.
            if number > 0:
                taken.append(((first + fourth) / 2, (second + third) / 2))
        units = workload[2] - workload[1]
        before, after = (1e6 * statistics.median(column) / units for column in zip(*taken))
        ratios = [after / before for before, after in taken]
        low, high = interval(ratios)
        ratio = f"{percent(statistics.median(ratios))} ({percent(low)} to {percent(high)})"
        print(f"{name:8} microseconds  {before:>14,.2f} {after:>14,.2f}  {ratio}", flush=True)
        within &= low <= 1 + bar / 100
    return within


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="pythia-run of the older build")
    parser.add_argument("--after", type=Path, required=True, help="pythia-run of the newer one")
    parser.add_argument("model", help="a small GGUF file")
    parser.add_argument("--text", type=Path, required=True, help="a text of some 200 kB or more")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of processor times [20]")
    parser.add_argument("--bar", type=float, default=1, help="what is allowed, in percent [1]")
    parser.add_argument("--no-time", action="store_true", help="count instructions only")
    args = parser.parse_args()
    programs = [str(args.before.resolve()), str(args.after.resolve())]
    has_valgrind = shutil.which(CALLGRIND[0]) is not None
    if args.no_time and not has_valgrind:
        sys.exit("hooks_cost: valgrind is needed to count instructions")
    print(f"{'':8} {'per unit':13} {'before':>14} {'after':>14}  after - before", flush=True)
    within = True
    with tempfile.TemporaryDirectory() as folder:
        # Tokenizing is most of what callgrind would have to do with a long text.
        start = Path(folder) / "start.txt"
        start.write_bytes(args.text.read_bytes()[:12_000].rpartition(b"\n")[0])
        if has_valgrind:
            within &= by_instructions(programs, args.model, str(start), args.bar)
        else:
            print("SKIPPED: valgrind is not installed, so instructions are not counted")
        if not args.no_time:
            within &= by_time(programs, args.model, str(args.text), args.bar, args.rounds)
    print("within the bar" if within else f"more than {args.bar:g} %")
    sys.exit(0 if within else 1)


if __name__ == "__main__":
    main()
