"""Compares `pythia-run eval` with lm-evaluation-harness 0.4.13 on the same documents: prompts, log-likelihoods, metrics.

    python3 tools/lm_eval_native.py [--venv DIR] [--bin DIR] [--keep DIR]      the whole comparison
    python3 tools/lm_eval_native.py --prompts [--venv DIR]                     writes tests/data/eval/prompts.json anew

The harness runs its `hf` backend in float32 on tests/data/pythia-docs-6m; `pythia-run` runs the F32 file converted from
it, with keys and values in f32, and with activations in f32 and in int8. Documents are those of tests/data/eval
(tools/eval_fixtures.py) through the harness's own task definitions, and those below, which are hard: empty contexts,
ties, texts longer than the context. Nothing is read from the Hub. Without Python's venv or a network to install from, it says so and ends with 0.
"""

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import environment

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "tests/data/eval/rows"
MODEL = ROOT / "tests/data/pythia-docs-6m"
MODULES = ["lm_eval", "torch", "transformers", "accelerate"]
PACKAGES = ["lm_eval==0.4.13", "torch==2.15.0", "transformers==5.23.0", "accelerate"]

# Our name, the harness's definition, its splits and their folder.
TASKS = [
    ("lambada_openai", "lambada/lambada_openai.yaml", "EleutherAI/lambada_openai"),
    ("piqa", "piqa/piqa.yaml", "baber/piqa"),
    ("winogrande", "winogrande/default.yaml", "allenai/winogrande/winogrande_xl"),
    ("arc_easy", "arc/arc_easy.yaml", "allenai/ai2_arc/ARC-Easy"),
    ("arc_challenge", "arc/arc_challenge.yaml", "allenai/ai2_arc/ARC-Challenge"),
    ("sciq", "sciq/sciq.yaml", "allenai/sciq"),
    ("logiqa", "logiqa/logiqa.yaml", "EleutherAI/logiqa/logiqa"),
    ("wsc", "super_glue/wsc/default.yaml", "aps/super_glue/wsc.fixed"),
    ("hellaswag", "hellaswag/hellaswag.yaml", "Rowan/hellaswag"),
    ("mmlu_anatomy", "mmlu/default/mmlu_anatomy.yaml", "cais/mmlu/anatomy"),
    ("mmlu_us_foreign_policy", "mmlu/default/mmlu_us_foreign_policy.yaml", "cais/mmlu/us_foreign_policy"),
    ("truthfulqa_mc1", "truthfulqa/truthfulqa_mc1.yaml", "truthfulqa/truthful_qa/multiple_choice"),
    ("truthfulqa_mc2", "truthfulqa/truthfulqa_mc2.yaml", "truthfulqa/truthful_qa/multiple_choice"),
    ("blimp_irregular_plural_subject_verb_agreement_1", "blimp/irregular_plural_subject_verb_agreement_1.yaml", "nyu-mll/blimp/irregular_plural_subject_verb_agreement_1"),
    ("wikitext", "wikitext/wikitext.yaml", "EleutherAI/wikitext_document_level/wikitext-2-raw-v1"),
    ("gsm8k", "gsm8k/gsm8k.yaml", "openai/gsm8k/main"),
    ("drop", "drop/default.yaml", "EleutherAI/drop"),
]
# The old definition of MMLU, which the harness no longer has.
PAPER = {
    "task": "hendrycksTest-anatomy",
    "output_type": "multiple_choice",
    "test_split": "test",
    "fewshot_split": "dev",
    "doc_to_text": "Question: {{question}}\nChoices:\n{% for c in choices %}{{'ABCD'[loop.index0]}}. {{c}}\n{% endfor %}Answer:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "answer",
    "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("acc", "acc_norm")],
    "metadata": {"version": 0.0},
}
NAMES = [name for name, _, _ in TASKS] + [PAPER["task"]]
SHOTS = [0, 3]


def data_files(folder):
    return {"data_files": {path.stem: str(path) for path in sorted((ROWS / folder).glob("*.jsonl"))}}


def write_definitions(out, installed, own):
    """The harness's definitions with our rows instead of its datasets, as YAML (JSON is YAML)."""
    out.mkdir(parents=True)
    for name, definition, folder in TASKS:
        task = {"include": str(installed / "tasks" / definition), "task": name, "dataset_path": "json", "dataset_name": None, "dataset_kwargs": data_files(folder)}
        (out / f"{name}.yaml").write_text(json.dumps(task))
    paper = {**PAPER, "dataset_path": "json", "dataset_kwargs": data_files("cais/mmlu/anatomy")}
    (out / f"{PAPER['task']}.yaml").write_text(json.dumps(paper))
    for task in own:
        (out / f"{task.name}.yaml").write_text(json.dumps(task.definition()))


class Own:
    """A task of hard documents, for both programs: rows, a YAML for the harness, a TOML for ours."""

    def __init__(self, folder, name, kind, rows, yaml, toml):
        self.name, self.kind, self.yaml, self.options = name, kind, yaml, toml
        self.rows = folder / f"{name}.jsonl"
        self.toml = folder / f"{name}.toml"
        self.rows.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        self.toml.write_text(f'name = "{name}"\nkind = "{kind}"\n{toml}\n')

    def definition(self):
        common = {"task": self.name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(self.rows)}}, "test_split": "test", "fewshot_split": "test"}
        return {**common, "output_type": self.kind, "metadata": {"version": 1.0}, **self.yaml}


def hard_tasks(folder):
    folder.mkdir(parents=True)
    sentences = [line.strip() for line in (MODEL / "heldout.txt").read_text().split("\n") if len(line.strip()) > 80]
    long = " ".join(sentences)
    odd = ["naïve façade", "日本語の文", "emoji 🌋🌋", "a\tb", "trailing ", " leading", "x" * 40, "é́", "\u200b", "don't"]
    choices, continuations, texts, generations = [], [], [], []
    for i in range(34):
        start = sentences[i][: 20 + 3 * i]
        a, b, c = (sentences[i + k][20:60] for k in (0, 1, 2))
        if i % 7 == 1:
            b = a  # a tie
        if i % 7 == 2:
            c = odd[i % len(odd)]
        if i % 7 == 3:
            start = ""
        if i % 11 == 5:
            start = long[: 3000 + i]
        if i == 30:
            c = long[:900]  # the harness refuses continuations longer than the context
        choices.append({"context": start, "choices": [a, b, c], "gold": i % 3})
        continuations.append({"context": start + " " * (i % 3 if start else 0), "continuation": [a, odd[i % len(odd)]][i % 2]})
        texts.append({"text": [sentences[i], odd[i % len(odd)] + sentences[i], long[i * 50 : i * 50 + 300 * i + 1]][i % 3]})
        generations.append({"context": start or sentences[i][:30], "answers": [a, b]})
    acc = [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")]
    return [
        Own(folder, "hard_choices", "multiple_choice", choices, {"doc_to_text": "{{context}}", "doc_to_choice": "choices", "doc_to_target": "gold", "metric_list": acc}, ""),
        Own(folder, "hard_continuations", "loglikelihood", continuations, {"doc_to_text": "{{context}}", "doc_to_target": "{{' ' + continuation}}", "metric_list": [{"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}, {"metric": "acc", "aggregation": "mean", "higher_is_better": True}]}, ""),
        Own(folder, "hard_texts", "loglikelihood_rolling", texts, {"doc_to_text": "", "doc_to_target": "{{text}}", "metric_list": [{"metric": metric} for metric in ("word_perplexity", "byte_perplexity", "bits_per_byte")]}, ""),
        Own(folder, "hard_generations", "generate_until", generations, {"doc_to_text": "{{context}}", "doc_to_target": "{{answers[0]}}", "generation_kwargs": {"until": [".", "\n"], "do_sample": False, "max_gen_toks": 32}, "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]}, 'until = [".", "\\n"]\nmax_tokens = 32'),
    ]


def harness(python, model, tasks, shots, definitions, out):
    """Runs the harness; its results and its samples by task."""
    command = [python, "-m", "lm_eval", "run", *model, "--tasks", *tasks, "--num_fewshot", str(shots), "--include_path", definitions, "--output_path", out, "--log_samples"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "HF_HOME": str(out / "home")}
    subprocess.run([str(part) for part in command], check=True, env=environment, stdout=subprocess.DEVNULL)
    return collect(out)


def collect(out):
    results = json.loads(next(out.rglob("results_*.json")).read_text())
    samples = {}
    for path in out.rglob("samples_*.jsonl"):
        task = path.name.removeprefix("samples_").rsplit("_", 1)[0]
        samples[task] = [json.loads(line) for line in path.read_text().split("\n") if line]
    return results, samples


def arguments(sample):
    """What was asked: pairs of context and continuation; a text; a context and settings."""
    found = sample["arguments"]
    return [[found[request][key] for key in sorted(found[request])] for request in sorted(found, key=lambda name: int(name.rsplit("_", 1)[1]))]


def texts(sample):
    return [[part for part in request if isinstance(part, str)] for request in arguments(sample)]


def digest(sample):
    """Of all texts of a document and its target, each ended by a NUL."""
    parts = [part for request in texts(sample) for part in request] + [str(sample["target"])]
    return hashlib.sha256("".join(part + "\0" for part in parts).encode()).hexdigest()[:16]


def write_prompts(python, scratch):
    definitions = scratch / "definitions"
    installed = Path(subprocess.run([python, "-c", "import lm_eval; print(lm_eval.__path__[0])"], check=True, capture_output=True, text=True).stdout.strip())
    write_definitions(definitions, installed, [])
    golden = {}
    for shots in SHOTS:
        _, samples = harness(python, ["--model", "dummy"], NAMES, shots, definitions, scratch / f"dummy-{shots}")
        for task, documents in samples.items():
            # A task with filters logs each document once per filter.
            rows = {sample["doc_id"]: digest(sample) for sample in documents}
            golden.setdefault(task, {})[str(shots)] = [rows[i] for i in sorted(rows)]
    path = ROOT / "tests/data/eval/prompts.json"
    lines = [f'"{task}": {json.dumps(golden[task])}' for task in sorted(golden)]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{path}: {len(golden)} tasks")


def leaves(value):
    """All single values in nested lists."""
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]


def number(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


class Difference:
    """How far two runs of a task are apart."""

    def __init__(self, task):
        self.task, self.documents, self.requests = task, 0, 0
        self.likelihood, self.excess, self.metric, self.faults = 0.0, 0.0, 0.0, []

    def samples(self, theirs, ours):
        def by_document(found):
            return {(sample["doc_id"], sample["filter"]): sample for sample in found}

        theirs, ours = by_document(theirs), by_document(ours)
        if theirs.keys() != ours.keys():
            self.faults.append(f"documents: {len(theirs)} and {len(ours)}")
        for key in sorted(theirs.keys() & ours.keys()):
            self.sample(key, theirs[key], ours[key])

    def sample(self, key, theirs, ours):
        self.documents += 1
        for what, found in [("prompt", texts), ("target", lambda s: str(s["target"])), ("document", lambda s: s["doc"]), ("doc_hash", lambda s: s["doc_hash"])]:
            if found(theirs) != found(ours):
                self.faults.append(f"{key}: {what}: {str(found(theirs))[:300]!r} and {str(found(ours))[:300]!r}")
        left, right = leaves(theirs["resps"]), leaves(ours["resps"])
        if len(left) != len(right):
            self.faults.append(f"{key}: {len(left)} and {len(right)} replies")
        for one, other in zip(left, right):
            a, b = number(one), number(other)
            if a is None or b is None or "generate" in self.task:
                # Whether the continuation is greedy, or a generated text.
                if str(one) != str(other):
                    self.faults.append(f"{key}: {str(one)!r} and {str(other)!r}")
            else:
                self.requests += 1
                # The harness adds the tokens of a text in float32: thousands of nats are known to 2e-7 of their size.
                self.likelihood = max(self.likelihood, abs(a - b))
                self.excess = max(self.excess, abs(a - b) - abs(a) * 2.0**-22)

    def metrics(self, theirs, ours):
        for name, a in theirs.items():
            a, b = number(a), number(ours.get(name))
            if a is None or math.isnan(a):
                continue
            if b is None:
                self.faults.append(f"{name}: {a} and nothing")
            else:
                self.metric = max(self.metric, abs(a - b) / max(1.0, abs(a)))


def pythia(program, model, tasks, data, shots, activations, out):
    command = [program, "eval", "-q", "-m", model, "--tasks", ",".join(map(str, tasks)), "--data", data, "--num-fewshot", str(shots), "--activations", activations, "--kv", "f32", "--output", out, "--log-samples"]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    return collect(out)


def compare(args, python, scratch):
    own = hard_tasks(scratch / "own")
    installed = Path(subprocess.run([python, "-c", "import lm_eval; print(lm_eval.__path__[0])"], check=True, capture_output=True, text=True).stdout.strip())
    definitions = scratch / "definitions"
    write_definitions(definitions, installed, own)
    model = scratch / "model.gguf"
    subprocess.run([args.bin / "pythia-quant", "convert", MODEL, "-t", "F32", "-o", model], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    hf = ["--model", "hf", "--model_args", f"pretrained={MODEL},dtype=float32", "--device", "cpu", "--batch_size", "1"]
    failed = False
    print(f"{'activations':11} {'shots':>5} {'task':50} {'docs':>5} {'replies':>7} {'max |d ll|':>11} {'max d metric':>12}")
    for shots in args.shots:
        names = NAMES + [task.name for task in own if shots == 0]
        theirs = harness(python, hf, names, shots, definitions, scratch / f"hf-{shots}")
        for activations, bound in [("f32", 1e-4), ("int8", 1e-3)]:
            tasks = NAMES + [task.toml for task in own if shots == 0]
            ours = pythia(args.bin / "pythia-run", model, tasks, ROWS, shots, activations, scratch / f"ours-{shots}-{activations}")
            for name in names:
                found = Difference(name)
                found.samples(theirs[1].get(name, []), ours[1].get(name, []))
                found.metrics(theirs[0]["results"][name], ours[0]["results"].get(name, {}))
                wrong = bool(found.faults) or found.excess > bound or (activations == "f32" and found.metric > 1e-6)
                failed |= wrong
                mark = " <-- differs" if wrong else ""
                print(f"{activations:11} {shots:5} {name:50} {found.documents:5} {found.requests:7} {found.likelihood:11.2e} {found.metric:12.2e}{mark}")
                for fault in found.faults[:5]:
                    print(f"    {fault}")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--venv", type=Path, default=ROOT / "target/lm-eval")
    parser.add_argument("--bin", type=Path, default=ROOT / "target/release")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--prompts", action="store_true")
    parser.add_argument("--shots", type=int, nargs="*", default=SHOTS, help="numbers of examples")
    args = parser.parse_args()
    python = environment.interpreter(args.venv, MODULES, PACKAGES)
    if python is None:
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = args.keep or Path(scratch)
        scratch.mkdir(parents=True, exist_ok=True)
        if args.prompts:
            write_prompts(python, scratch)
            return 0
        return compare(args, python, scratch)


if __name__ == "__main__":
    sys.exit(main())
