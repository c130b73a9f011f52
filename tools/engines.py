#!/usr/bin/env python3
"""Runs OpenVINO, CTranslate2, ONNX Runtime and transformers beside pythia, from one checkpoint, on the CPU.

    cargo build --release
    python3 tools/engines.py install                          each engine in its own environment in target/engines
    python3 tools/engines.py prepare CHECKPOINT               what each engine reads, at each precision
    python3 tools/engines.py check CHECKPOINT -f TEXT         whether each engine computes this model
    python3 tools/engines.py speed CHECKPOINT [--rounds 5]    tokens per second, the engines taking turns

CHECKPOINT is a Hugging Face folder: a real one for `check`, one with random weights will do for `speed`. `--only
openvino,torch:bfloat16,pythia:Q4_0` restricts any of them. Every measurement is a process of its own: a warm-up, then one
prompt that leaves the last row of logits, and tokens one by one, the most likely each, from an empty cache. With
`--samples FILE`, what was measured is added to what the file already holds, so that rounds can be run one at a time.

`check` compares with transformers in float32: perplexity and likelihoods of tokens as llama-perplexity scores them, and
generated tokens. It exits with 1 if an engine is too far off. llama.cpp is measured by tools/peers.py.
"""

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import peer_engines
from in_turns import KINDS, ROOT, bench, cpu_name, fail, middle, output_of, run_pythia, take_turns

HERE = Path(__file__).resolve().parent
OURS = "pythia"
TYPES = ["Q8_0", "Q4_0", "Q4_K_M"]
REFERENCE = ("torch", "float32")


def entries(args):
    """Pairs of an engine and a precision: all, or those that --only names."""
    every = [(OURS, kind) for kind in TYPES]
    every += [(name, precision) for name, precisions in peer_engines.PRECISIONS.items() for precision in precisions]
    wanted = args.only.split(",") if args.only else []
    for word in wanted:
        if not any(word in (name, f"{name}:{precision}") for name, precision in every):
            fail(f"--only {word}: no such engine or precision")
    return [(n, p) for n, p in every if not wanted or n in wanted or f"{n}:{p}" in wanted]


# ---- what engines need ------------------------------------------------------------------------------------------------


def command_install(args):
    """An environment per engine. They share torch, which is large: each finds it through a .pth file."""
    shared = args.root / "shared"
    for name in dict.fromkeys(name for name, _ in entries(args) if name != OURS):
        python = interpreter(args, name)
        if not python.exists():
            output_of([sys.executable, "-m", "venv", args.root / name])
        if not (shared / "torch").exists():
            install(python, "shared", "--target", shared)
        packages = output_of([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True).strip()
        Path(packages, "shared.pth").write_text(f"{shared.resolve()}\n")
        install(python, name)
        print(f"{name}: installed", flush=True)


def install(python, name, *options):
    requirements = HERE / "peer_engines" / f"{name}.txt"
    output_of([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *options, "-r", requirements])


def interpreter(args, name):
    return args.root / name / "bin/python"


def converted(args, name, precision):
    """Where an engine has its form of the checkpoint."""
    return args.root / "models" / args.checkpoint.resolve().name / f"{name}-{peer_engines.weights_of(precision)}"


def our_file(args, kind):
    return converted(args, OURS, kind).with_suffix(".gguf")


def command_prepare(args):
    """Converts the checkpoint for each engine. What is there is made anew."""
    done = set()
    for name, precision in entries(args):
        folder = converted(args, name, precision)
        if folder in done:
            continue
        done.add(folder)
        if name == OURS:
            file = our_file(args, precision)
            file.parent.mkdir(parents=True, exist_ok=True)
            program = args.pythia_run.with_name("pythia-quant").resolve()
            output_of([program, "convert", args.checkpoint, "-t", precision, "-o", file, "--force"], stderr=subprocess.DEVNULL)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            ask(args, name, precision, {"task": "convert"})
        print(f"{name} {peer_engines.weights_of(precision)}: converted", flush=True)


def ask(args, name, precision, task):
    """Has a process of the engine's environment do a task, and returns its answer. See peer_engines/__main__.py."""
    python = interpreter(args, name)
    if not python.exists():
        fail(f"{name} is not installed: python3 tools/engines.py install --only {name}")
    folder = converted(args, name, precision).resolve()
    command = [python.absolute(), "-m", "peer_engines", name, precision, folder, args.checkpoint.resolve()]
    with tempfile.TemporaryFile("w+") as log:
        text = json.dumps(task)
        done = subprocess.run(list(map(str, command)), cwd=HERE, input=text, stdout=subprocess.PIPE, stderr=log, text=True)
        if done.returncode != 0:
            log.seek(0)
            sys.stderr.write(log.read()[-4000:])
            fail(f"{name} {precision}: exit code {done.returncode}")
    return json.loads(done.stdout)


# ---- check ------------------------------------------------------------------------------------------------------------


def command_check(args):
    """How far each engine is from transformers in float32, on the same token ids."""
    windows = token_windows(args)
    task = {"task": "check", "threads": args.threads, "windows": windows, "n_gen": args.n_gen}
    reference = ask(args, *REFERENCE, task)
    base = statistics.fmean(reference["nll"])
    print(f"{len(reference['nll'])} tokens scored, {args.n_gen} generated; {versions(reference)} in float32: PPL {math.exp(base):.4f}\n")
    print("| engine | precision | PPL | of float32's | mean of differences, nats | largest | generated as float32 | as its own prompts |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    bad = []
    for name, precision in entries(args):
        if (name, precision) == REFERENCE:
            answer = reference
        else:
            answer = our_check(args, precision) if name == OURS else ask(args, name, precision, task)
        apart = [abs(a - b) for a, b in zip(answer["nll"], reference["nll"], strict=True)]
        change = 100 * math.expm1(statistics.fmean(answer["nll"]) - base)
        cells = [name, precision, f"{math.exp(statistics.fmean(answer['nll'])):.4f}", f"{change:+.3f} %"]
        cells += [f"{statistics.fmean(apart):.2g}", f"{max(apart):.2g}"]
        if "tokens" in answer:
            same = next((i for i, (a, b) in enumerate(zip(answer["tokens"], reference["tokens"])) if a != b), args.n_gen)
            cells += [f"first {same}", f"{answer['own']} of {args.n_gen}"]
        print(f"| {' | '.join(cells)} |", flush=True)
        if abs(change) > args.within or answer.get("own", args.n_gen) < args.n_gen * 0.9:
            bad.append(f"{name} {precision}")
    if bad:
        fail(f"these do not compute the model: {', '.join(bad)}")


def token_windows(args):
    """The text's first windows of token ids, by our tokenizer: tokenizers are no part of what is compared."""
    ids = json.loads(run_pythia(args.pythia_run, ["tokenize", our_file(args, TYPES[0]), "-f", args.file, "--json"]))
    ids = ids["ids"] if isinstance(ids, dict) else ids
    n = args.ctx_size
    return [ids[i * n : (i + 1) * n] for i in range(args.chunks)]


def our_check(args, kind):
    """Likelihoods of the same tokens by `pythia-run perplexity`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "nll.jsonl")
        arguments = ["perplexity", our_file(args, kind), "-f", args.file, "-c", args.ctx_size, "--chunks", args.chunks]
        run_pythia(args.pythia_run, [*arguments, "-t", args.threads, "--nll-out", out, "--json", "-q"])
        return {"nll": [json.loads(line)["nll"] for line in out.read_text().splitlines()]}


def versions(answer):
    return ", ".join(f"{package} {version}" for package, version in answer["versions"].items())


# ---- speed ------------------------------------------------------------------------------------------------------------


def command_speed(args):
    """Tokens per second of each engine, medians of the rounds with min..max, and how many times as many pythia has."""
    kept = json.loads(args.samples.read_text()) if args.samples and args.samples.exists() else {"rates": {}, "notes": {}}

    def measure(name, precision):
        if name == OURS:
            return bench(args.pythia_run, our_file(args, precision), args.n_prompt, args.n_gen, args.threads)
        task = {"task": "speed", "threads": args.threads, "n_prompt": args.n_prompt, "n_gen": args.n_gen}
        answer = ask(args, name, precision, task)
        kept["notes"][f"{name} {precision}"] = f"{versions(answer)}; {answer['what']}"
        return {kind: answer[kind] for kind in KINDS}

    def save():
        if args.samples:
            args.samples.write_text(json.dumps(kept))

    measures = {f"{n} {p}": (lambda n=n, p=p: measure(n, p)) for n, p in entries(args)}
    take_turns(measures, args.rounds, kept["rates"], after=save)
    table(args, kept)


def table(args, kept):
    rates = {label: samples for label, samples in kept["rates"].items() if samples["pp"]}
    medians = {label: middle(samples) for label, samples in rates.items()}
    rounds = sorted({len(samples["pp"]) for samples in rates.values()})
    print(f"{cpu_name()}, {args.threads} threads, rounds: {', '.join(map(str, rounds))}, engines in turn; tokens/s\n")
    print(f"| engine | precision | pp{args.n_prompt} | min..max | {ratio_heading()} | tg{args.n_gen} | min..max | {ratio_heading()} |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for label, samples in rates.items():
        cells = label.split(" ", 1)
        for kind in KINDS:
            low, high = min(samples[kind]), max(samples[kind])
            cells += [f"{medians[label][kind]:.1f}", f"{low:.1f}..{high:.1f}", ratio(medians, label, kind)]
        print(f"| {' | '.join(cells)} |")
    print()
    for label, note in kept["notes"].items():
        print(f"- {label}: {note}")


def ratio_heading():
    return "pythia / engine"


def ratio(medians, label, kind):
    """Ours with as many bits per weight, Q4_0 beside int4 and Q8_0 beside anything larger, to theirs."""
    name, precision = label.split(" ", 1)
    ours = medians.get(f"{OURS} {'Q4_0' if precision.startswith('int4') else 'Q8_0'}")
    return "" if name == OURS or ours is None else f"{ours[kind] / medians[label][kind]:.2f}"


# ---- command line -----------------------------------------------------------------------------------------------------


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, run, help, checkpoint=True):
        sub = commands.add_parser(name, help=help, description=run.__doc__)
        sub.set_defaults(run=run)
        sub.add_argument("--root", type=Path, default=ROOT / "target/engines", help="environments and converted models")
        sub.add_argument("--only", help="engines, or engine:precision, separated by commas")
        sub.add_argument("--pythia-run", type=Path, default=ROOT / "target/release/pythia-run")
        sub.add_argument("-t", "--threads", type=int, default=2)
        if checkpoint:
            sub.add_argument("checkpoint", type=Path)
        return sub

    command("install", command_install, "install the engines", checkpoint=False)
    command("prepare", command_prepare, "convert a checkpoint for each engine")
    sub = command("check", command_check, "compare what they compute with float32")
    sub.add_argument("-f", "--file", type=Path, required=True, help="the text to score")
    sub.add_argument("-c", "--ctx-size", type=int, default=128)
    sub.add_argument("--chunks", type=int, default=2)
    sub.add_argument("-n", "--n-gen", type=int, default=32)
    sub.add_argument("--within", type=float, default=10.0, metavar="PERCENT", help="of perplexity (default 10)")
    sub = command("speed", command_speed, "prompt and generation speed")
    sub.add_argument("-p", "--n-prompt", type=int, default=512)
    sub.add_argument("-n", "--n-gen", type=int, default=128)
    sub.add_argument("-r", "--rounds", type=int, default=5)
    sub.add_argument("--samples", type=Path, metavar="FILE", help="JSON to which rounds are added")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse()
    arguments.run(arguments)
