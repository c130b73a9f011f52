#!/usr/bin/env python3
"""Documents per second of `pythia-run eval`, of lm-evaluation-harness's `hf` backend, and of the harness through our server.

    cargo run --release --example synth -- 410m /tmp/410m
    pythia-quant convert /tmp/410m -t Q8_0 -o /tmp/410m-Q8_0.gguf
    python3 tools/eval_bench.py /tmp/410m /tmp/410m-Q8_0.gguf [--threads N] [--venv DIR] [--bin DIR]

Documents are of three kinds: four short choices after a question (like ARC), two long ones (like PIQA), and a single word
after a passage (like LAMBADA). They are words of tests/data/pythia-docs-6m/heldout.txt in random order. What a program
takes to start is taken off: its time is that of many documents less that of few. The best of the repetitions counts, with
all programs in turn. Without Python's venv or a network to install from, it says so and ends with 0.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import environment
import lm_eval_native
import serving

FEW = 4
KINDS = ["like_arc", "like_piqa", "like_lambada"]


def tasks(folder, n):
    """A task of each kind, of n documents; the first ones are the same for every n."""
    folder.mkdir(parents=True)
    words = [word for word in (lm_eval_native.MODEL / "heldout.txt").read_text().split() if word.isalpha()]

    def text(rng, least, most):
        return " ".join(rng.choice(words) for _ in range(rng.randint(least, most)))

    def choices(seed, context, n_choices, choice):
        rng = random.Random(seed)
        return [{"context": text(rng, *context), "choices": [text(rng, *choice) for _ in range(n_choices)], "gold": 0} for _ in range(n)]

    accuracy = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
    chosen = {"doc_to_text": "{{context}}", "doc_to_choice": "choices", "doc_to_target": "gold", "metric_list": accuracy}
    continued = {"doc_to_text": "{{context}}", "doc_to_target": "{{' ' + continuation}}", "metric_list": accuracy}
    rng = random.Random(3)
    passages = [{"context": text(rng, 45, 75), "continuation": text(rng, 1, 1)} for _ in range(n)]
    return [
        lm_eval_native.Own(folder, "like_arc", "multiple_choice", choices(1, (15, 45), 4, (2, 8)), chosen, 'metrics = ["acc"]'),
        lm_eval_native.Own(folder, "like_piqa", "multiple_choice", choices(2, (15, 30), 2, (4, 20)), chosen, 'metrics = ["acc"]'),
        lm_eval_native.Own(folder, "like_lambada", "loglikelihood", passages, continued, 'metrics = ["acc"]'),
    ]


def seconds(run):
    start = time.monotonic()
    run()
    return time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--venv", type=Path, default=lm_eval_native.ROOT / "target/lm-eval")
    parser.add_argument("--bin", type=Path, default=lm_eval_native.ROOT / "target/release")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--documents", type=int, default=24, help="of each kind, beyond the few")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS)
    args = parser.parse_args()
    python = environment.interpreter(args.venv, lm_eval_native.MODULES, lm_eval_native.PACKAGES)
    if python is None:
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        own = {n: tasks(scratch / f"tasks-{n}", n) for n in (FEW, FEW + args.documents)}
        for n, of in own.items():
            (scratch / f"yaml-{n}").mkdir()
            for task in of:
                (scratch / f"yaml-{n}" / f"{task.name}.yaml").write_text(json.dumps(task.definition()))
        runs = iter(range(10**6))

        def harness(model, kind, n):
            out = scratch / f"out-{next(runs)}"
            command = [python, "-m", "lm_eval", "run", *model, "--tasks", kind, "--include_path", scratch / f"yaml-{n}", "--output_path", out]
            quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(args.threads), "HF_HOME": str(scratch / "home")}
            subprocess.run([str(part) for part in command], check=True, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def native(kind, n):
            toml = next(task.toml for task in own[n] if task.name == kind)
            command = [args.bin / "pythia-run", "eval", "-q", "-m", args.file, "-t", args.threads, "--tasks", toml, "--output", scratch / f"out-{next(runs)}"]
            subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)

        def hf(dtype):
            return ["--model", "hf", "--model_args", f"pretrained={args.checkpoint},dtype={dtype}", "--device", "cpu", "--batch_size", "1"]

        def served(kind, n):
            with serving.Server(args.bin, {"M": args.file}, "-t", args.threads, "-c", 513, "--parallel", 32) as server:
                model = f"base_url={server.url}/v1/completions,model=M,tokenizer={args.checkpoint},tokenizer_backend=huggingface,max_length=512,num_concurrent=8"
                harness(["--model", "local-completions", "--model_args", model, "--batch_size", "16"], kind, n)

        programs = {
            "eval": native,
            "server": served,
            "hf float32": lambda kind, n: harness(hf("float32"), kind, n),
            "hf bfloat16": lambda kind, n: harness(hf("bfloat16"), kind, n),
        }
        print(f"{args.file.name}, {args.threads} threads, {args.documents} documents of each kind; documents per second (and the ratio of eval to it)")
        for kind in args.kinds:
            best = {}
            for _ in range(args.repeat):
                for name, run in programs.items():
                    best.setdefault(name, []).append([seconds(lambda: run(kind, n)) for n in own])
            # The best of each size, so that a slow start does not count for the documents.
            took = {name: [min(times) for times in zip(*runs)] for name, runs in best.items()}
            rate = {name: args.documents / (many - few) for name, (few, many) in took.items() if many > 1.2 * few}
            cells = [f"{name} {rate[name]:.2f} ({rate['eval'] / rate[name]:.2f})" if name in rate and "eval" in rate else f"{name}: too few documents to tell" for name in programs]
            print(f"  {kind}: {', '.join(cells)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
