#!/usr/bin/env python3
"""Everything that wants a real GPU, on a machine that may have nothing else: no Rust, no network.

    tools/cuda_device.py pack target/cuda-kit            # here: programs and tests, built and stripped
    python3 tools/cuda_device.py run target/cuda-kit     # there, from a copy of this folder and the kit

`run` takes the names of steps; without any, all of them:

    tests       unit tests and integration tests, with PYTHIA_REQUIRE=cuda: nothing is skipped
    sanitizer   the unit tests of the kernels under compute-sanitizer: memcheck, then racecheck
    bench       random checkpoints of --shapes at --types: prompt, generation, and what share of the GPU's limits that is
    torch       the same checkpoints by transformers in bfloat16 beside ours (wants torch and transformers there)

What each prints goes to a file in --out as well. Ends with 1 if a step failed; later steps run all the same.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS = ["tests", "sanitizer", "bench", "torch"]


def build(arguments):
    """Runs cargo and returns what it made: executables by target name."""
    command = ["cargo", *arguments, "--message-format=json-render-diagnostics"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    made = {}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message.get("executable"):
            made[message["target"]["name"]] = Path(message["executable"])
    return made


def pack(args):
    """Builds, and copies what `run` needs."""
    release = build(["build", "--release", "--features", "cuda", "--bins", "--example", "synth"])
    tests = build(["test", "--no-run", "-p", "pythia-cuda", "--lib"])
    tests |= build(["test", "--no-run", "--features", "cuda", "--test", "it"])
    args.kit.mkdir(parents=True, exist_ok=True)
    chosen = {f"release/{name}": release[name] for name in ("pythia-run", "pythia-quant", "synth")}
    chosen |= {"tests/unit": tests["pythia_cuda"], "tests/it": tests["it"]}
    for name, path in chosen.items():
        target = args.kit / name
        target.parent.mkdir(exist_ok=True)
        subprocess.run(["strip", "-o", target, path], check=True)
    # The integration tests look for the programs where cargo built them.
    (args.kit / "root").write_text(str(ROOT))
    size = sum(path.stat().st_size for path in args.kit.rglob("*") if path.is_file())
    print(f"{args.kit}: {size / 1e6:.0f} MB")


def make_root(args):
    """Puts this folder where the tests were built, and the programs that they start into it."""
    root = Path((args.kit / "root").read_text())
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        root.symlink_to(ROOT)
    folder = root / "target/debug"
    folder.mkdir(parents=True, exist_ok=True)
    (root / "target/tmp").mkdir(exist_ok=True)
    for name in ("pythia-run", "pythia-quant"):
        shutil.copy2(args.kit / "release" / name, folder / name)


class Log:
    """Standard output and a file."""

    def __init__(self, path):
        self.file = open(path, "w")

    def print(self, text):
        print(text, flush=True)
        print(text, file=self.file, flush=True)

    def run(self, command, **environment):
        """Runs a command with its output here; whether it ended well."""
        self.print("$ " + " ".join(map(str, command)))
        child = subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | environment,
        )
        for line in child.stdout:
            self.print(line.rstrip("\n"))
        return child.wait() == 0


def step_tests(args, log):
    make_root(args)
    unit = log.run([args.kit / "tests/unit"], PYTHIA_REQUIRE="cuda")
    return log.run([args.kit / "tests/it", "cuda::"], PYTHIA_REQUIRE="cuda") and unit


def step_sanitizer(args, log):
    good = True
    for tool in ("memcheck", "racecheck"):
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "99", "--print-limit", "20"]
        command += [args.kit / "tests/unit", "ops", "--test-threads", "1"]
        good = log.run(command, PYTHIA_REQUIRE="cuda") and good
    return good


def checkpoints(args, log, folder):
    """Of each shape: its name, its checkpoint, and a file of each type. They go when the next is asked for."""
    programs = args.kit / "release"
    for shape in args.shapes.split(","):
        checkpoint = folder / shape
        start = time.monotonic()
        made = log.run([programs / "synth", shape, checkpoint])
        (folder / "files").mkdir()
        convert = [programs / "pythia-quant", "convert", checkpoint, "-t", args.types, "-o", folder / "files"]
        if not (made and log.run(convert)):
            yield shape, checkpoint, None
            return
        log.print(f"{shape} made in {time.monotonic() - start:.0f} s")
        yield shape, checkpoint, sorted((folder / "files").glob("*.gguf"))
        shutil.rmtree(checkpoint)
        shutil.rmtree(folder / "files")


def step_bench(args, log):
    good = True
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        for _, _, files in checkpoints(args, log, Path(folder)):
            if files is None:
                return False
            command = [args.kit / "release/pythia-run", "bench", "-m", ",".join(map(str, files)), "--device", args.device]
            good = log.run([*command, "-p", "512", "-n", "128", "-r", args.rounds]) and good
    return good


def step_torch(args, log):
    good = True
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        for _, checkpoint, files in checkpoints(args, log, Path(folder)):
            if files is None:
                return False
            command = [sys.executable, ROOT / "tools/peers.py", "speed", *files, "--vs", "torch", "-r", args.rounds]
            command += ["--checkpoint", checkpoint, "--device", args.device]
            good = log.run([*command, "--pythia-run", args.kit / "release/pythia-run"]) and good
    return good


def run(args):
    args.out.mkdir(parents=True, exist_ok=True)
    unknown = set(args.steps) - set(STEPS)
    if unknown:
        sys.exit(f"no step {', '.join(sorted(unknown))}: there are {', '.join(STEPS)}")
    results = {}
    for step in args.steps or STEPS:
        log, start = Log(args.out / f"{step}.log"), time.monotonic()
        try:
            results[step] = globals()[f"step_{step}"](args, log)
        except OSError as error:
            log.print(f"{step}: {error}")
            results[step] = False
        log.print(f"==== {step}: {'passed' if results[step] else 'FAILED'} in {time.monotonic() - start:.0f} s")
    sys.exit(0 if all(results.values()) else 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    sub = commands.add_parser("pack", help="build and collect what a GPU machine needs")
    sub.set_defaults(function=pack)
    sub.add_argument("kit", type=Path)
    sub = commands.add_parser("run", help="run steps on a GPU machine")
    sub.set_defaults(function=run)
    sub.add_argument("kit", type=Path)
    sub.add_argument("steps", nargs="*", metavar="STEP")
    sub.add_argument("--out", type=Path, default=Path("cuda-device"), help="folder of the logs")
    sub.add_argument("--scratch", type=Path, help="where checkpoints are made: some 40 GB for 12b")
    sub.add_argument("--shapes", default="70m,1.4b,6.9b,12b")
    sub.add_argument("--types", default="Q8_0,Q4_0,Q4_K_M")
    sub.add_argument("--device", default="cuda")
    sub.add_argument("-r", "--rounds", default="5")
    args = parser.parse_args()
    args.kit = args.kit.resolve()
    args.function(args)


if __name__ == "__main__":
    main()
