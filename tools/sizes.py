#!/usr/bin/env python3
"""Random checkpoints of every Pythia size through the tools: time, memory, parameter counts.

    cargo build --release --bins --example synth
    tools/sizes.py 14m 31m 70m 160m 410m 1b 1.4b 2.8b --folder /var/tmp

For each size: a checkpoint in f16 is made (tools/synth), converted to each type alone, its parameters counted by
`pythia-run info`, a few tokens generated where the file fits in memory, and everything deleted. With --imatrix the types
are encoded with an importance matrix, which the model itself gives on a short text. The checkpoint, and one file at a
time, must fit into --folder.

Prints a table. "over" is the peak of resident memory of the conversion less the largest tensor as f32, which may be 200
MB at most: the exit code is 1 if it is more, or if a count is not that of the model card.
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
TEXT = ROOT / "tests/data/pythia-docs-6m/heldout.txt"
# Layers, width, rows of the vocabulary, parameters by the model card (the two smallest: counted from the shape).
SIZES = {
    "14m": (6, 128, 50304, 14_067_712),
    "31m": (6, 256, 50304, 30_494_720),
    "70m": (6, 512, 50304, 70_426_624),
    "160m": (12, 768, 50304, 162_322_944),
    "410m": (24, 1024, 50304, 405_334_016),
    "1b": (16, 2048, 50304, 1_011_781_632),
    "1.4b": (24, 2048, 50304, 1_414_647_808),
    "2.8b": (32, 2560, 50304, 2_775_208_960),
    "6.9b": (32, 4096, 50432, 6_857_302_016),
    "12b": (36, 5120, 50688, 11_846_072_320),
}
ALLOWED_MB = 200


def measured(command):
    """Seconds, CPU seconds, peak resident MB and stdout of a command."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"sizes: {' '.join(map(str, command))}: exit code {process.returncode}")
    # In KiB on Linux, in bytes on macOS.
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, peak / 1e6, out


def memory_available():
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def run_size(size, args, folder):
    quant, run, synth = args.bin / "pythia-quant", args.bin / "pythia-run", args.bin / "examples/synth"
    _, width, rows, wanted = SIZES[size]
    checkpoint = folder / size
    # Beyond a width of about 12000 the feed-forward matrices would be the largest.
    largest_mb = max(rows, 4 * width) * width * 4 / 1e6
    shards = ["--shard-bytes", "10000000000"]
    seconds, *_ = measured([synth, size, checkpoint, *shards])
    n_bytes = sum(path.stat().st_size for path in checkpoint.glob("*.safetensors"))
    print(f"{size}: checkpoint of {n_bytes / 1e9:.2f} GB made in {seconds:.0f} s", file=sys.stderr)
    weighted = []
    if args.imatrix:
        model, imatrix = folder / "f16.gguf", folder / "imatrix.gguf"
        measured([quant, "convert", checkpoint, "-t", "F16", "-o", model, "-q"])
        measured([quant, "imatrix", model, "-f", TEXT, "-o", imatrix, "--chunks", "1", "-q"])
        model.unlink()
        weighted = ["--imatrix", imatrix]
    sound = True
    for level in args.types.split(","):
        file = folder / f"{size}-{level}.gguf"
        seconds, cpu, peak, _ = measured([quant, "convert", checkpoint, "-t", level, "-o", file, "-q", *weighted])
        info = json.loads(measured([run, "info", "-m", file, "--json"])[3])
        counted = info["parameters"]
        speed = "does not fit"
        if memory_available() > 1.2 * file.stat().st_size:
            start = time.monotonic()
            measured([run, "generate", "-m", file, "-p", "Hello", "-n", "8", "--temp", "0"])
            speed = f"{time.monotonic() - start:.1f} s"
        over = peak - largest_mb
        sound &= over <= ALLOWED_MB and counted == wanted
        mark = "" if counted == wanted else f" (wanted {wanted})"
        row = [size, f"{counted}{mark}", level, f"{n_bytes / 1e9:.2f}", f"{file.stat().st_size / 1e9:.2f}",
               f"{seconds:.1f}", f"{cpu:.1f}", f"{peak:.0f}", f"{largest_mb:.0f}", f"{over:.0f}", speed]
        print(f"| {' | '.join(row)} |", flush=True)
        file.unlink()
    shutil.rmtree(checkpoint)
    return sound


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sizes", nargs="*", metavar="SIZE", help=f"of {' '.join(SIZES)} [default: up to 2.8b]")
    parser.add_argument("--types", default="Q4_0,Q8_0", help="types to convert to [default: Q4_0,Q8_0]")
    parser.add_argument("--imatrix", action="store_true", help="encode with an importance matrix")
    parser.add_argument("--folder", type=Path, help="where to work [default: that of temporary files]")
    parser.add_argument("--bin", type=Path, default=ROOT / "target/release", help="folder of the programs")
    args = parser.parse_args()
    sizes = args.sizes or list(SIZES)[:8]
    unknown = [size for size in sizes if size not in SIZES]
    if unknown:
        parser.error(f"no size {', '.join(unknown)}, wanted some of {', '.join(SIZES)}")
    heads = ["size", "parameters", "type", "checkpoint, GB", "file, GB", "seconds", "CPU seconds", "peak memory, MB",
             "largest tensor as f32, MB", "over, MB", "8 tokens"]
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    sound = True
    for size in sizes:
        folder = Path(tempfile.mkdtemp(prefix=f"sizes-{size}-", dir=args.folder))
        try:
            sound &= run_size(size, args, folder)
        finally:
            shutil.rmtree(folder)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
