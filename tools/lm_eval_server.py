#!/usr/bin/env python3
"""lm-evaluation-harness 0.4.13, unmodified, against `pythia-run serve`: the answers must be those of its `hf` backend.

    cargo build --release
    python3 tools/lm_eval_server.py [--venv DIR] [--bin DIR]

Four kinds of tasks over the hard documents of lm_eval_native.py, by the clients `local-completions` (ids; texts; batches
of 4; 4 requests at once; the server's tokenizer) and `gguf`. The server has the F32 file of tests/data/pythia-docs-6m --activations
f32 and --kv f32. Every log-likelihood must be within 1e-3 of the harness's own, every greedy flag and every accuracy the
same.

Then a Q8_0 and a Q4_0 file with int8 activations, through the server and by `pythia-run eval`: the harness has no such
model, so each is the other's reference. Only how the numbers are written and added may differ, by 1e-5.

Nothing is read from the Hub. Where the harness cannot be installed, it says so and ends with 0.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import environment
import lm_eval_native as native
import serving

LIMIT = 1e-3
# The server writes each token's log-likelihood as f32, and the harness adds them.
SAME = 1e-5
CONTEXT = 512
# The harness subtracts a token for a generated one, and one from rolling windows: with 2 more it makes the requests of hf.
CLIENT = f"max_length={CONTEXT + 2},num_concurrent=1"


def part(task, folder, name, keep, change=lambda row: row):
    """A task of the documents of another that a client can send."""
    rows = [json.loads(line) for line in task.rows.read_text().split("\n") if line]
    return native.Own(folder, name, task.kind, [change(row) for row in rows if keep(row)], task.yaml, task.options)


def tasks_of(folder):
    """All documents that `hf` can score, and short ones for clients that know no windows, no empty context, or that count
    characters to find a continuation: a context must not end in the space that belongs to the continuation."""
    def can_be_scored(row):
        context = row.get("context", "")
        return all(len(choice) < 1500 for choice in row.get("choices", [])) and (context == "" or context.strip() != "")

    hard = [part(task, folder, task.name, can_be_scored) for task in native.hard_tasks(folder)]
    short = [
        part(task, folder, task.name.replace("hard", "short"), lambda row: row["context"].strip() and len(json.dumps(row)) < 900, lambda row: {**row, "context": row["context"].strip()})
        for task in hard
        if task.kind != "loglikelihood_rolling"
    ]
    return hard, short


def numbers(sample):
    """Log-likelihoods and greedy flags of a document."""
    found = []

    def walk(value):
        if isinstance(value, list):
            for part in value:
                walk(part)
        elif isinstance(value, bool) or value in ("True", "False"):
            found.append(str(value) == "True")
        else:
            found.append(float(value))

    walk(sample["resps"])
    return found


def compare(name, task, kind, want, got, limit=LIMIT):
    """What differs, as lines; and the largest difference of log-likelihoods."""
    failures, worst = [], 0.0
    (want_results, want_samples), (got_results, got_samples) = want, got
    expected = {sample["doc_id"]: sample for sample in want_samples[task]}
    found = {sample["doc_id"]: sample for sample in got_samples.get(task, [])}
    if expected.keys() != found.keys():
        return [f"{name}: {task}: {len(found)} documents, wanted {len(expected)}"], worst
    for i, sample in expected.items():
        if kind == "generate_until":
            ours, theirs = found[i]["resps"][0][0].strip(), sample["resps"][0][0].strip()
            # `gguf` sends no length, and the server's own may be shorter.
            same = ours == theirs or (name == "gguf" and ours and theirs.startswith(ours))
            if not same:
                failures.append(f"{name}: {task} {i}: {ours!r}, wanted {theirs!r}")
            continue
        ours, theirs = numbers(found[i]), numbers(sample)
        if [type(x) for x in ours] != [type(x) for x in theirs]:
            failures.append(f"{name}: {task} {i}: {ours}, wanted {theirs}")
            continue
        for a, b in zip(ours, theirs):
            if isinstance(a, bool):
                # The old client also looks at the generated token, which is greedy itself.
                if a != b:
                    failures.append(f"{name}: {task} {i}: greedy is {a}, wanted {b}")
            else:
                worst = max(worst, abs(a - b))
                if abs(a - b) > limit:
                    failures.append(f"{name}: {task} {i}: log-likelihood {a}, wanted {b}")
    if not (name == "gguf" and kind == "generate_until"):
        for metric, value in want_results["results"][task].items():
            if metric.split(",")[0] in ("acc", "acc_norm", "exact_match") and value != got_results["results"][task][metric]:
                failures.append(f"{name}: {task}: {metric} is {got_results['results'][task][metric]}, wanted {value}")
    return failures, worst


def quantized(bin, python, scratch, tasks, definitions):
    """What differs between the server and `pythia-run eval` for quantized files, as lines."""
    failures = []
    for level, file in serving.convert(bin, scratch, ["Q8_0", "Q4_0"]).items():
        want = native.pythia(bin / "pythia-run", file, [task.toml for task in tasks], scratch, 0, "int8", scratch / f"eval-{level}")
        with serving.Server(bin, {level: file}, "--activations", "int8", "--kv", "f32") as server:
            local = f"base_url={server.url}/v1/completions,model={level},tokenizer={serving.MODEL},tokenizer_backend=huggingface,num_concurrent=1"
            got = {"results": {}}, {}
            # With the token more that scores need, the client keeps more of a long prompt before a text than hf does.
            for generates, max_length in [(False, CONTEXT + 2), (True, CONTEXT + 1)]:
                names = [task.name for task in tasks if (task.kind == "generate_until") == generates]
                model = ["--model", "local-completions", "--model_args", f"{local},max_length={max_length}"]
                results, samples = native.harness(python, model, names, 0, definitions, scratch / f"served-{level}-{max_length}")
                got[0]["results"].update(results["results"])
                got[1].update(samples)
        for task in tasks:
            differences, worst = compare(level, task.name, task.kind, want, got, SAME)
            print(f"{level + ', int8':16} {task.name:20} {len(got[1].get(task.name, [])):3} documents, largest difference {worst:.2e}, {len(differences)} failures", flush=True)
            failures += differences
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--venv", type=Path, default=serving.ROOT / "target/lm-eval")
    parser.add_argument("--bin", type=Path, default=serving.ROOT / "target/release")
    args = parser.parse_args()
    modules, packages = [*native.MODULES, "tenacity", "aiohttp", "requests"], [*native.PACKAGES, "lm_eval[api]==0.4.13"]
    python = environment.interpreter(args.venv, modules, packages)
    if python is None:
        return 0
    failures = []
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        hard, short = tasks_of(scratch / "rows")
        definitions = scratch / "definitions"
        definitions.mkdir()
        for task in hard + short:
            (definitions / f"{task.name}.yaml").write_text(json.dumps(task.definition()))
        kinds = {task.name: task.kind for task in hard + short}
        names = [task.name for task in hard]
        short_names = [task.name for task in short]
        hf = ["--model", "hf", "--model_args", f"pretrained={serving.MODEL},dtype=float32", "--device", "cpu"]
        want = native.harness(python, hf, names + short_names, 0, definitions, scratch / "hf")
        files = serving.convert(args.bin, scratch, ["F32"])
        with serving.Server(args.bin, files, "--activations", "f32", "--kv", "f32") as server:
            url = f"base_url={server.url}/v1/completions,model=F32"
            local = f"{url},tokenizer={serving.MODEL},tokenizer_backend=huggingface,{CLIENT}"
            ways = [
                ("ids", ["local-completions", "--model_args", local], names),
                # A text is cut by the server's tokenizer, so that one of cut-off tokens may become other tokens.
                ("texts", ["local-completions", "--model_args", f"{local},tokenized_requests=False"], short_names),
                ("batches of 4", ["local-completions", "--model_args", local, "--batch_size", "4"], names),
                ("4 at once", ["local-completions", "--model_args", local.replace("num_concurrent=1", "num_concurrent=4")], names),
                ("remote tokenizer", ["local-completions", "--model_args", f"{url},tokenizer_backend=remote,{CLIENT}"], names),
                ("gguf", ["gguf", "--model_args", f"base_url={server.url}"], short_names),
            ]
            for name, model, tasks in ways:
                out = scratch / name.replace(" ", "-")
                try:
                    got = native.harness(python, ["--model", *model], tasks, 0, definitions, out)
                except subprocess.CalledProcessError as error:
                    failures.append(f"{name}: lm_eval ended with {error.returncode}")
                    continue
                for task in tasks:
                    differences, worst = compare(name, task, kinds[task], want, got)
                    documents = len(got[1].get(task, []))
                    print(f"{name:16} {task:20} {documents:3} documents, largest difference {worst:.2e}, {len(differences)} failures", flush=True)
                    failures += differences
        failures += quantized(args.bin, python, scratch, hard, definitions)
    for failure in failures[:40]:
        print(f"lm_eval_server: {failure[:400]}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
