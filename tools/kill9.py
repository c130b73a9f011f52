#!/usr/bin/env python3
"""Kills our programs at random points and checks that nothing is lost.

    cargo build --release && cargo build --release --example fakehub && tools/kill9.py --points 50

Each mode runs one command again and again and ends it with SIGKILL after a random time: two points of three anywhere in
the time that the command takes, the third in its last tenth, where files get their names. After every kill

- each output is absent, what it was before (modes with --force over older files), or what a whole run writes;
- the sources have the bytes they had;
- after a download, what the cache holds under a final name is right and what refs/ names is all there;

and every few points, and after the last, one run that is left alone must succeed, give the right bytes and leave no
temporary file. Files are compared by SHA-256.

A line per mode sums up: of the outputs looked at after the kills, how many were absent, old, complete or torn; of the
runs, how many had ended before the signal came. The exit code is 1 if anything was torn or wrong.

A mode is a function in MODES: it prepares a folder and says what to run.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import checkpoints
import kill9_hub

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "tests/data/pythia-docs-6m"
TEXT = CHECKPOINT / "heldout.txt"
# Long enough to be killed at, and every kind of encoder.
TYPES = ["F32", "Q8_0", "Q6_K", "Q4_K_M", "Q2_K", "IQ4_XS", "Q4_0"]
LAST_TENTH = 0.9
# Bytes per second of a connection, so that a download takes longer than the conversion after it.
RATE = 8_000_000
CLEAN_EVERY = 10


@dataclasses.dataclass
class Trial:
    """What a mode runs and looks at. Paths are relative to its folder."""

    command: list
    # Files that must be whole or absent.
    outputs: list
    # Called before every run: puts older files in place, or clears the folder.
    before: object
    # Turns a file into what is compared: the bytes, or of a report what does not depend on the clock.
    essence: object = None
    # Outputs that must be there whatever happens, old or new.
    always: bool = False
    # Outputs that are of use together only: where the first is there, all are, and all old or all new.
    together: list = dataclasses.field(default_factory=list)
    # Files and folders, absolute, that must not change.
    sources: list = dataclasses.field(default_factory=lambda: [CHECKPOINT])
    # Variables of the runs, None for those of this process.
    env: dict = None
    # What is wrong with the rest of the folder, as lines; the argument says whether the run was left alone.
    inspect: object = lambda is_whole: []


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def digest_of(paths):
    """One digest of all files under `paths`."""
    whole = hashlib.sha256()
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            whole.update(f"{file}\0{sha256(file.read_bytes())}\0".encode())
    return whole.hexdigest()


def clear(folder):
    def run():
        for path in folder.iterdir():
            if path.name != "keep":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return run


def temporaries(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob(".*.pythia-*"))


def run_ok(command, folder, env=None):
    done = subprocess.run(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"kill9: {' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stderr


# --- Modes: each gets its folder and the path of pythia-quant. ---


def gguf(quant, folder, level="F32"):
    """A GGUF file to start from, made once per mode, in a folder that is not cleared."""
    keep = folder / "keep"
    keep.mkdir(exist_ok=True)
    run_ok([quant, "convert", str(CHECKPOINT), "-t", level, "-o", str(keep / "model.gguf"), "-q"], folder)
    return keep / "model.gguf"


def convert(quant, folder):
    outputs = [f"out/pythia-docs-6m-{level}.gguf" for level in TYPES]
    command = [quant, "convert", str(CHECKPOINT), "-t", ",".join(TYPES), "-o", "out", "--force"]
    return Trial(command, outputs, clear(folder))


def convert_over_older(quant, folder):
    """With --force and digests, over files of another recipe."""
    keep = folder / "keep/older"
    pure = ["--pure", "--sha256", "-q"]
    run_ok([quant, "convert", str(CHECKPOINT), "-t", ",".join(TYPES), "-o", str(keep), *pure], folder)

    def before():
        clear(folder)()
        shutil.copytree(keep, folder / "out")

    outputs = [f"out/pythia-docs-6m-{level}.gguf" for level in TYPES]
    command = [quant, "convert", str(CHECKPOINT), "-t", ",".join(TYPES), "-o", "out", "--sha256", "--force"]
    return Trial(command, outputs, before, always=True)


def convert_bin(quant, folder):
    """From what torch.save writes."""
    source = folder / "keep/docs-6m"
    checkpoints.write_bin(CHECKPOINT, source)
    command = [quant, "convert", str(source), "-t", ",".join(TYPES), "-o", "out", "--sha256", "--force"]
    return Trial(command, [f"out/docs-6m-{level}.gguf" for level in TYPES], clear(folder), sources=[source])


def quantize(quant, folder):
    source = gguf(quant, folder)
    command = [quant, "quantize", str(source), "q.gguf", "Q4_K_M", "--sha256", "--force"]
    return Trial(command, ["q.gguf", "q.gguf.sha256"], clear(folder), sources=[CHECKPOINT, source])


def dequantize(quant, folder):
    source = gguf(quant, folder, "Q4_0")
    files = ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"]
    command = [quant, "dequantize", str(source), "hf", "--force"]
    return Trial(command, [f"hf/{name}" for name in files], clear(folder), sources=[CHECKPOINT, source])


def dequantize_over_older(quant, folder):
    trial = dequantize(quant, folder)
    run_ok([*trial.command[:3], "keep/older", "--dtype", "f16", "-q"], folder)

    def before():
        clear(folder)()
        shutil.copytree(folder / "keep/older", folder / "hf")

    # On Linux the two folders change places in one step, so there is always one.
    return dataclasses.replace(trial, before=before, always=sys.platform == "linux")


def imatrix(quant, folder):
    source = gguf(quant, folder)
    command = [quant, "imatrix", str(source), "-f", str(TEXT), "-o", "i.gguf", "--chunks", "4", "--force"]
    return Trial(command, ["i.gguf"], clear(folder), sources=[CHECKPOINT, source])


def calibrate(quant, folder):
    """A run that is stopped leaves its state, c.gguf.partial, and the next one goes on from there to the same bytes."""
    command = [quant, "calibrate", str(CHECKPOINT), "-f", str(TEXT), "-o", "c.gguf", "-c", "128", "--windows", "12", "--force"]
    return Trial(command, ["c.gguf"], clear(folder))


def compare_essence(path, data):
    """Speeds and memory differ from run to run: of reports what was measured of the model, whole or not at all."""
    if path.endswith(".json"):
        report = json.loads(data)
        keys = ["name", "file_bytes", "perplexity", "against_base"]
        return json.dumps([{key: level[key] for key in keys} for level in report["levels"]]).encode()
    ends = {"csv": b"\n", "md": b"\n", "html": b"</html>\n"}
    end = ends.get(path.rsplit(".", 1)[-1])
    if end is None:
        return data
    return b"whole" if data.endswith(end) and len(data) > 500 else data


def compare(quant, folder):
    levels = ["F16", "Q8_0", "Q4_0"]
    command = [quant, "compare", str(CHECKPOINT), "-t", ",".join(levels[1:]), "-f", str(TEXT), "-o", "report",
               "--cache", ".pythia-cache"]
    command += ["-c", "64", "--chunks", "2", "--force"]
    # The cache's folder is named after the time stamps of the checkpoint: it is found by a run.
    run_ok(command, folder)
    cache = [str(p.relative_to(folder)) for p in folder.glob(".pythia-cache/*/*.gguf")]
    reports = [f"report/report.{end}" for end in ("json", "csv", "md", "html")]
    return Trial(command, cache + reports, clear(folder), compare_essence)


def split(quant, folder):
    """Several files of one model."""
    command = [quant, "convert", str(CHECKPOINT), "-t", "Q8_0,F16", "-o", "out", "--split-max-size", "3M", "--force"]
    run_ok(command, folder)
    outputs = sorted(str(p.relative_to(folder)) for p in folder.glob("out/*.gguf"))
    models = {}
    for path in outputs:
        models.setdefault(path.rsplit("-", 3)[0], []).append(path)
    return Trial(command, outputs, clear(folder), together=list(models.values()))


def split_over_older(quant, folder):
    """Over files of the same names and sizes."""
    command = [quant, "convert", str(CHECKPOINT), "-t", "F16", "--split-max-size", "3M", "--force"]
    run_ok([*command, "-o", "keep/older/", "--tensor-type", "=BF16", "-q"], folder)

    def before():
        clear(folder)()
        shutil.copytree(folder / "keep/older", folder / "out")

    outputs = sorted(f"out/{p.name}" for p in folder.glob("keep/older/*.gguf"))
    return Trial([*command, "-o", "out/"], outputs, before, together=[outputs])


def sharded(folder, name):
    """A checkpoint for the server: several files to be in the middle of."""
    source = folder / "keep" / name
    checkpoints.write_shards(CHECKPOINT, source, 6)
    return source


def download(quant, folder, older=None):
    """From a server that takes its time. The cache is empty, or has what the branch was before."""
    source = folder / "keep/server" if older else sharded(folder, "server")
    server = kill9_hub.Server(fakehub(quant), source, RATE)
    env = kill9_hub.environment(server.endpoint, folder / "cache")
    contents = kill9_hub.Contents([path for path in (source, older) if path])
    command = [quant, "convert", kill9_hub.REPO, "-t", "Q4_0,Q4_K_M", "-o", "out", "--force"]
    repo, names = folder / kill9_hub.FOLDER, [path.name for path in source.iterdir()]

    def before():
        clear(folder)()
        if older:
            shutil.copytree(folder / "keep/cache", folder / "cache", symlinks=True)

    before()
    commits = [path.read_text() for path in repo.glob("refs/main")]
    run_ok(command, folder, env)
    new = (repo / "refs/main").read_text()
    whole = {commit: names for commit in (*commits, new)}
    outputs = sorted(str(path.relative_to(folder)) for path in folder.glob("out/*.gguf"))
    outputs += [f"{kill9_hub.FOLDER}/refs/main", *(f"{kill9_hub.FOLDER}/snapshots/{new}/{name}" for name in names)]

    def inspect(is_whole):
        return contents.faults(repo, whole) + (kill9_hub.remains(repo) if is_whole else [])

    return Trial(command, outputs, before, sources=[source], env=env, inspect=inspect)


def download_newer(quant, folder):
    """A branch that has moved on: one of six files of weights and the model card are others."""
    older = sharded(folder, "older")
    server = kill9_hub.Server(fakehub(quant), older, 1 << 30)
    env = kill9_hub.environment(server.endpoint, folder / "keep/cache")
    run_ok([quant, "convert", kill9_hub.REPO, "-t", "Q8_0", "-o", "keep/made/", "-q"], folder, env)
    server.end()
    newer = Path(shutil.copytree(older, folder / "keep/server"))
    weights = sorted(newer.glob("*.safetensors"))[2]
    data = bytearray(weights.read_bytes())
    # The sign of a weight.
    data[-1] ^= 0x80
    weights.write_bytes(data)
    (newer / "README.md").write_text("Another version.\n")
    return download(quant, folder, older)


def pythia_run(quant, folder):
    """The program beside this one, and variables that keep its cache in the folder."""
    return str(Path(quant).parent / "pythia-run"), {**os.environ, "PYTHIA_CACHE": str(folder / "keep/cache")}


def activations(quant, folder):
    """A run that is stopped leaves whole files, a manifest that lists them, and the next one goes on from there."""
    source = gguf(quant, folder, "Q8_0")
    run, env = pythia_run(quant, folder)
    command = [run, "activations", "-m", str(source), "-f", str(TEXT), "--hooks", "blocks.*.hook_resid_post"]
    command += ["-c", "128", "--chunks", "100", "--shard-size", "8M", "-o", "acts"]
    run_ok(command, folder, env)
    outputs = sorted(str(p.relative_to(folder)) for p in folder.glob("acts/*.safetensors"))

    def inspect(is_whole):
        path = folder / "acts/manifest.json"
        if not path.is_file():
            # An export has its manifest before its first file.
            return [f"{p} without a manifest" for p in folder.glob("acts/*.safetensors")]
        manifest = json.loads(path.read_bytes())
        files = [(folder / "acts" / shard["file"], shard["sha256"]) for shard in manifest["shards"]]
        wrong = [f"{file} is not what the manifest says" for file, digest in files
                 if not file.is_file() or sha256(file.read_bytes()) != digest]
        return wrong + ([] if manifest["complete"] or not is_whole else ["the manifest is not complete"])

    return Trial(command, outputs, clear(folder), sources=[CHECKPOINT, source], env=env, inspect=inspect)


def lens(quant, folder):
    source = gguf(quant, folder, "Q4_0")
    run, env = pythia_run(quant, folder)
    command = [run, "lens", "-m", str(source), "-f", str(TEXT), "--tokens", "256", "--html", "lens.html", "--force"]
    return Trial(command, ["lens.html"], clear(folder), sources=[CHECKPOINT, source], env=env)


def attention(quant, folder):
    source = gguf(quant, folder, "Q4_0")
    run, env = pythia_run(quant, folder)
    command = [run, "attention", "-m", str(source), "-f", str(TEXT), "--tokens", "512", "-o", "patterns.safetensors"]
    command += ["--html", "attention.html", "--force"]
    outputs = ["patterns.safetensors", "attention.html"]
    return Trial(command, outputs, clear(folder), sources=[CHECKPOINT, source], env=env)


def diff_activations(quant, folder):
    """Of a file with itself, which is no difference and exit code 0."""
    source = gguf(quant, folder, "Q8_0")
    command = [quant, "diff", "--activations", str(source), str(source), "-f", str(TEXT), "--chunks", "2"]
    command += ["--csv", "damage.csv", "--html", "damage.html", "--force"]
    return Trial(command, ["damage.csv", "damage.html"], clear(folder), sources=[CHECKPOINT, source])


MODES = {
    "convert": convert,
    "convert-force": convert_over_older,
    "convert-bin": convert_bin,
    "quantize": quantize,
    "dequantize": dequantize,
    "dequantize-force": dequantize_over_older,
    "imatrix": imatrix,
    "calibrate": calibrate,
    "compare": compare,
    "activations": activations,
    "lens": lens,
    "attention": attention,
    "diff-activations": diff_activations,
    "split": split,
    "split-force": split_over_older,
    "download": download,
    "download-newer": download_newer,
}


def options_of(quant, command):
    return subprocess.run([quant, command, "--help"], capture_output=True, text=True).stdout


def fakehub(quant):
    return str(Path(quant).parent / "examples/fakehub")


def missing(mode, quant):
    """Why a mode cannot run here, if so."""
    if mode.startswith("split") and "--split-max-size" not in options_of(quant, "convert"):
        return "this build has no --split-max-size"
    if mode.startswith("download") and "--offline" not in options_of(quant, "convert"):
        return "this build has no feature hub"
    if mode.startswith("download") and not os.access(fakehub(quant), os.X_OK):
        return f"no {fakehub(quant)}: cargo build --release --example fakehub"
    return None


# --- The trials. ---


class Mode:
    def __init__(self, name, quant, seed):
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix=f"kill9-{name}-"))
        self.random = random.Random(f"{seed}/{name}")
        self.trial = MODES[name](quant, self.folder)
        self.faults = []
        self.counts = {"absent": 0, "old": 0, "complete": 0, "torn": 0}
        self.finished = self.points = 0
        self.sources = digest_of(self.trial.sources)
        self.trial.before()
        self.old = self.look()
        # The first run is the reference; the shortest time counts, so that most kills find the process alive.
        self.seconds = float("inf")
        for _ in range(3):
            self.trial.before()
            start = time.monotonic()
            run_ok(self.trial.command, self.folder, self.trial.env)
            self.seconds = min(self.seconds, time.monotonic() - start)
        self.new = self.look()
        absent = [path for path, found in self.new.items() if found is None]
        if absent:
            sys.exit(f"kill9: {name}: a whole run does not make {', '.join(absent)}")

    def look(self):
        """The digest of each output, None for one that is not there."""
        found = {}
        for path in self.trial.outputs:
            file = self.folder / path
            if not file.is_file():
                found[path] = None
                continue
            data = file.read_bytes()
            try:
                data = self.trial.essence(path, data) if self.trial.essence else data
            except ValueError:
                data = b"not whole: " + data
            found[path] = sha256(data)
        return found

    def fault(self, text):
        self.faults.append(text)
        print(f"{self.name}: point {self.points}: {text}", file=sys.stderr)

    def point(self):
        self.points += 1
        # A third of the points is a kill right after another one: over what that left.
        is_fresh = self.points % 3 != 0
        if is_fresh:
            self.trial.before()
        low = LAST_TENTH if self.random.random() < 1 / 3 else 0.0
        delay = self.seconds * self.random.uniform(low, 1.05)
        start = time.monotonic()
        process = subprocess.Popen(
            self.trial.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env=self.trial.env,
        )
        try:
            process.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        code = process.wait()
        if code == 0:
            self.finished += 1
            # A run over remains has less to do.
            if is_fresh:
                self.seconds = min(self.seconds, time.monotonic() - start)
        elif code != -signal.SIGKILL:
            self.fault(f"exit code {code}")
        self.check()
        if self.points % CLEAN_EVERY == 0:
            self.clean_run()

    def check(self):
        seen = self.look()
        for group in self.trial.together:
            is_all = [all(seen[path] == state[path] for path in group) for state in (self.old, self.new)]
            if seen[group[0]] is not None and not any(is_all):
                self.fault(f"{group[0]} can be opened, but not all of its {len(group)} files are of one run")
        for path, found in seen.items():
            if found is None:
                self.counts["absent"] += 1
                if self.trial.always:
                    self.fault(f"{path} is lost: neither old nor new")
            elif found == self.new[path]:
                self.counts["complete"] += 1
            elif found == self.old[path]:
                self.counts["old"] += 1
            else:
                self.counts["torn"] += 1
                self.fault(f"{path} is torn")
        for text in self.trial.inspect(False):
            self.fault(text)
        for sidecar in self.folder.glob("**/*.sha256"):
            self.check_sidecar(sidecar)
        if digest_of(self.trial.sources) != self.sources:
            sys.exit(f"kill9: {self.name}: a source has changed")

    def check_sidecar(self, sidecar):
        """Digests are never those of another file."""
        file = sidecar.with_suffix("")
        if file.is_file() and sidecar.read_text().split()[0] != sha256(file.read_bytes()):
            self.fault(f"{sidecar.name} is not of the file beside it")

    def clean_run(self):
        """What a run that nobody kills makes of what is there."""
        left = temporaries(self.folder)
        told = run_ok(self.trial.command, self.folder, self.trial.env)
        if temporaries(self.folder):
            self.fault(f"left after a whole run: {temporaries(self.folder)}")
        for text in self.trial.inspect(True):
            self.fault(f"after a whole run: {text}")
        if left and "removed" not in told:
            self.fault(f"removed without a word: {left}")
        if self.look() != self.new:
            self.fault("a whole run over the remains gives something else")

    def summary(self):
        counts = ", ".join(f"{n} {what}" for what, n in self.counts.items())
        state = "ok" if not self.faults else f"{len(self.faults)} FAULTS"
        return (f"{self.name}: {self.points} points over {self.seconds:.2f} s ({self.finished} ended before the signal); "
                f"outputs: {counts}; {state}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modes", nargs="*", metavar="MODE", help=f"of {', '.join(MODES)} [default: all]")
    parser.add_argument("--points", type=int, default=50, help="kills per mode [default: 50]")
    parser.add_argument("--seed", default="0", help="of the times of the kills [default: 0]")
    parser.add_argument("--bin", type=Path, default=ROOT / "target/release", help="folder of the programs")
    parser.add_argument("--keep", action="store_true", help="keep the folders of the trials")
    args = parser.parse_args()
    unknown = [mode for mode in args.modes if mode not in MODES]
    if unknown:
        parser.error(f"no mode {', '.join(unknown)}, wanted some of {', '.join(MODES)}")
    quant = str((args.bin / "pythia-quant").resolve())
    faults = total = 0
    for name in args.modes or MODES:
        reason = missing(name, quant)
        if reason:
            print(f"SKIPPED: {name}: {reason}", flush=True)
            continue
        mode = Mode(name, quant, args.seed)
        try:
            for _ in range(args.points):
                mode.point()
            if mode.points % CLEAN_EVERY:
                mode.clean_run()
        finally:
            if args.keep:
                print(f"{name}: {mode.folder}")
            else:
                shutil.rmtree(mode.folder)
        print(mode.summary(), flush=True)
        faults += len(mode.faults)
        total += mode.points
    print(f"{total} points, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
