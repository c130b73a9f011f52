#!/usr/bin/env python3
"""Interrupts every command of our programs at random moments and checks that each ends in time and leaves nothing.

    cargo build --release && cargo build --release --example synth --example fakehub && tools/signals.py --points 50

SIGINT and SIGTERM take turns, at any moment of the time that a command takes; every fifth point and the last send another
one shortly after. After each signal

- the program has ended within the bar (a second; `--bar` allows for a busy machine) and says "stopping";
- its exit code is 130, or 0 if it was done, or that of the signal in the first milliseconds, before it is caught;
- each output is as it was or as a whole run makes it, those that belong together all or none;
- nothing else is there: no temporary file, no folder that was made for an output. What a download has got so far stays,
  the state of a calibration, and whole files of activations with their manifest.

A line per mode sums up, with the longest and the median time from the signal to the end. Modes that write are those of
tools/kill9.py; those that only read are here, over a random model whose size `--shape` says.
"""

import argparse
import dataclasses
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kill9
from kill9 import ROOT, TEXT, Trial, clear, run_ok, temporaries

# What commands that never end by themselves are given.
ENDLESS_SECONDS = 1.5
SIGNALS = [signal.SIGINT, signal.SIGTERM]


@dataclasses.dataclass
class Material:
    """What all modes share."""

    quant: str
    run: str
    # A random checkpoint, and GGUF files of it.
    checkpoint: Path
    f16: Path
    q4: Path
    # Some 60 MB of text.
    text: Path


def prepare(bin_folder, folder, shape):
    quant, run = (str((bin_folder / name).resolve()) for name in ("pythia-quant", "pythia-run"))
    checkpoint = folder / "random"
    run_ok([str(bin_folder.resolve() / "examples/synth"), "--custom", shape, str(checkpoint)], folder)
    run_ok([quant, "convert", str(checkpoint), "-t", "F16,Q4_K_M", "-o", "gguf/", "-q"], folder)
    text = folder / "text"
    text.write_bytes(TEXT.read_bytes() * 200)
    gguf = folder / "gguf"
    return Material(quant, run, checkpoint, gguf / "random-F16.gguf", gguf / "random-Q4_K_M.gguf", text)


# --- Modes that are not those of kill9.py. Commands by the names of their models; ENDLESS never end. ---

ENDLESS = {"perplexity-stdin", "generate-stdin", "tokenize", "perplexity-long", "imatrix-long", "generate", "bench"}
WRITERS = {
    "convert-large": (["quant", "convert", "checkpoint", "-t", "Q4_K_M,IQ4_XS,Q2_K", "-o", "out/a/"], "out/a/random-{}.gguf",
                      ["Q4_K_M", "IQ4_XS", "Q2_K"]),
    "quantize-large": (["quant", "quantize", "f16", "q.gguf", "Q3_K_M", "--sha256"], "q.gguf{}", ["", ".sha256"]),
    "dequantize-large": (["quant", "dequantize", "q4", "hf"], "hf/{}",
                         ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"]),
    "imatrix-large": (["quant", "imatrix", "f16", "-f", "text", "-o", "i.gguf", "--chunks", "2", "-c", "256"], "i.gguf{}", [""]),
    "nll-out": (["run", "perplexity", "q4", "-f", "text", "--chunks", "3", "-c", "128", "--nll-out", "nll"], "nll{}", [""]),
}
READERS = {
    "inspect": ["quant", "inspect", "f16"],
    "info": ["run", "info", "f16"],
    "verify": ["quant", "verify", "f16"],
    "verify-against": ["quant", "verify", "q4", "--against", "checkpoint"],
    "diff": ["quant", "diff", "f16", "q4"],
    "perplexity-long": ["run", "perplexity", "q4", "-f", "text"],
    "perplexity-f32": ["run", "perplexity", "q4", "-f", "text", "--activations", "f32", "--chunks", "1", "-c", "256"],
    "perplexity-stdin": ["run", "perplexity", "q4", "-f", "-"],
    "imatrix-long": ["quant", "imatrix", "f16", "-f", "text", "-c", "2048"],
    "generate": ["run", "generate", "q4", "-n", "-1", "--ignore-eos", "-p", "The " * 500],
    "generate-stdin": ["run", "generate", "q4"],
    "tokenize": ["run", "tokenize", "q4", "--ids", "-f", "text"],
    "bench": ["run", "bench", "-m", "f16", "-r", "20"],
}


def trial(name, material, folder):
    """The trial of a mode. Its first words stand for a program and models."""
    if name in kill9.MODES:
        return kill9.MODES[name](material.quant, folder)
    command, pattern, names = WRITERS.get(name) or (READERS[name], "{}", [])
    words = [str(getattr(material, word)) if hasattr(material, word) else word for word in command]
    sources = [material.f16, material.q4] if names else []
    outputs = [pattern.format(each) for each in names]
    return Trial(words, outputs, clear(folder), sources=sources, together=[outputs] if outputs else [])


class Mode:
    def __init__(self, name, material, args):
        self.name, self.bar, self.last = name, args.bar, args.points
        self.folder = Path(tempfile.mkdtemp(prefix=f"signals-{name}-"))
        self.random = random.Random(f"{args.seed}/{name}")
        self.trial = trial(name, material, self.folder)
        self.keeps_parts = name.startswith(("download", "compare", "calibrate", "activations"))
        self.faults, self.times, self.points, self.finished = [], [], 0, 0
        self.trial.before()
        self.old = self.look()
        self.seconds = ENDLESS_SECONDS
        if name not in ENDLESS:
            start = time.monotonic()
            # A difference is no failure.
            done = subprocess.run(self.trial.command, cwd=self.folder, env=self.trial.env, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True)
            if done.returncode not in (0, 1):
                sys.exit(f"signals: {name}: exit code {done.returncode}: {done.stderr.strip()}")
            self.seconds = time.monotonic() - start
        self.new = self.look()

    def look(self):
        return kill9.Mode.look(self)

    def listing(self):
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")
                if "keep" not in path.relative_to(self.folder).parts[:1]}

    def fault(self, text):
        self.faults.append(text)
        print(f"{self.name}: point {self.points}: {text}", file=sys.stderr)

    def point(self):
        self.points += 1
        self.trial.before()
        before = self.listing()
        sent = SIGNALS[self.points % 2]
        process = subprocess.Popen(self.trial.command, cwd=self.folder, env=self.trial.env, stdin=subprocess.PIPE,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            process.wait(timeout=self.seconds * self.random.uniform(0, 1))
        except subprocess.TimeoutExpired:
            pass
        start = time.monotonic()
        process.send_signal(sent)
        if self.points % 5 == 0 or self.points == self.last:
            time.sleep(self.random.uniform(0, 0.2))
            process.send_signal(sent)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            self.fault(f"does not end after {sent.name}")
        seconds = time.monotonic() - start
        told = process.communicate()[1]
        if process.returncode == 0 or (process.returncode == 1 and self.name == "diff"):
            self.finished += 1
        elif process.returncode == 130:
            self.times.append(seconds)
            if seconds > self.bar:
                self.fault(f"ended {seconds:.2f} s after {sent.name}")
            if "stopping" not in told:
                self.fault(f"does not say that it stops: {told.strip()!r}")
        elif process.returncode != -sent or self.listing() != before:
            self.fault(f"exit code {process.returncode} after {sent.name}: {told.strip()!r}")
        self.check(before)

    def check(self, before):
        if temporaries(self.folder):
            self.fault(f"left: {temporaries(self.folder)}")
        seen = self.look()
        for path, found in seen.items():
            if found not in (self.old[path], self.new[path]):
                self.fault(f"{path} is neither old nor new")
        groups = self.trial.together or ([] if self.keeps_parts else [self.trial.outputs])
        for group in filter(None, groups):
            if not any(all(seen[path] == state[path] for path in group) for state in (self.old, self.new)):
                self.fault("some outputs are old, some new")
        more = self.listing() - before
        wanted = {str(part) for path in self.trial.outputs for part in [Path(path), *Path(path).parents]}
        if any(seen[path] != self.old[path] for path in seen):
            more -= wanted
        # A digest belongs to the file beside it.
        more = {path for path in more if not (path.endswith(".sha256") and (self.folder / path).with_suffix("").is_file())}
        if more and not self.keeps_parts:
            self.fault(f"left: {sorted(more)}")
        for text in self.trial.inspect(False):
            self.fault(text)

    def summary(self):
        times = self.times or [0.0]
        state = "ok" if not self.faults else f"{len(self.faults)} FAULTS"
        return (f"{self.name}: {self.points} signals within {self.seconds:.2f} s, {len(self.times)} stopped a run: "
                f"median {statistics.median(times):.2f} s, longest {max(times):.2f} s; {state}")


def main():
    names = [*READERS, *WRITERS, *kill9.MODES]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modes", nargs="*", metavar="MODE", help=f"of {', '.join(names)} [default: all]")
    parser.add_argument("--points", type=int, default=50, help="signals per mode [default: 50]")
    parser.add_argument("--bar", type=float, default=1.0, help="seconds from the signal to the end [default: 1]")
    parser.add_argument("--shape", default="6,768,12", help="layers, width and heads of the random model [default: 6,768,12]")
    parser.add_argument("--seed", default="0", help="of the times of the signals [default: 0]")
    parser.add_argument("--bin", type=Path, default=ROOT / "target/release", help="folder of the programs")
    args = parser.parse_args()
    unknown = [mode for mode in args.modes if mode not in names]
    if unknown:
        parser.error(f"no mode {', '.join(unknown)}, wanted some of {', '.join(names)}")
    shared = Path(tempfile.mkdtemp(prefix="signals-"))
    faults = total = 0
    try:
        material = prepare(args.bin, shared, args.shape)
        for name in args.modes or names:
            reason = kill9.missing(name, material.quant)
            if reason:
                print(f"SKIPPED: {name}: {reason}", flush=True)
                continue
            mode = Mode(name, material, args)
            try:
                for _ in range(args.points):
                    mode.point()
            finally:
                shutil.rmtree(mode.folder)
            print(mode.summary(), flush=True)
            faults += len(mode.faults)
            total += mode.points
    finally:
        shutil.rmtree(shared)
    print(f"{total} signals, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
