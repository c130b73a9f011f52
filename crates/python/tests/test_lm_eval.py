"""The model class of lm-evaluation-harness, where that is installed; against its `hf` class where torch is too."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import CHECKPOINT, HELDOUT

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
lm_eval = pytest.importorskip("lm_eval")

WORDS = HELDOUT.read_text(encoding="utf-8").split()


def documents(n: int) -> list[dict[str, Any]]:
    """Questions of words: what follows, among three."""
    starts = range(0, 40 * n, 40)
    return [
        {"context": " ".join(WORDS[at : at + 20]), "choices": WORDS[at + 20 : at + 23], "label": at % 3, "text": " ".join(WORDS[at : at + 600])}  # fmt: skip
        for at in starts
    ]


TASKS: dict[str, dict[str, Any]] = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "likelihood": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{context}}",
        "doc_to_target": " {{choices[0]}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "write": {
        "output_type": "generate_until",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": [".", "\n\n"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(document) + "\n" for document in documents(8)), encoding="utf-8")
    for name, task in TASKS.items():
        data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(rows)}}, "test_split": "test"}
        # JSON is YAML.
        (folder / f"{name}.yaml").write_text(json.dumps({"task": name, **data, **task}))
    return folder


def evaluate(definitions: Path, model: str, **model_args: Any) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(definitions), include_defaults=False)
    arguments = {"tasks": list(TASKS), "task_manager": manager, "bootstrap_iters": 0, "log_samples": True}
    result: dict[str, Any] = lm_eval.simple_evaluate(model=model, model_args=model_args, **arguments)
    return result


def replies(result: dict[str, Any], task: str) -> list[Any]:
    return [sample["resps"] for sample in result["samples"][task]]


@pytest.fixture(scope="module")
def ours(definitions: Path, files: dict[str, Path]) -> dict[str, Any]:
    import pythia_quant.lm_eval  # noqa: F401

    return evaluate(definitions, "pythia_gguf", path=str(files["F32"]), activations="f32", kv="f32")


@pytest.mark.parametrize("task", TASKS)
def test_results_are_those_of_transformers(definitions: Path, ours: dict[str, Any], task: str, theirs: Any) -> None:
    for metric, value in theirs["results"][task].items():
        if isinstance(value, float):
            assert ours["results"][task][metric] == pytest.approx(value, rel=1e-4), metric
    if task == "write":
        assert replies(ours, task) == replies(theirs, task)
        return
    for mine, other in zip(replies(ours, task), replies(theirs, task), strict=True):
        for [one], [two] in zip(mine, other, strict=True):
            found, wanted = (value if isinstance(value, float) else value[0] for value in (one, two))
            assert float(found) == pytest.approx(float(wanted), rel=1e-4, abs=1e-4)
            if not isinstance(one, float):
                assert one[1] == two[1]


@pytest.fixture(scope="module")
def theirs(definitions: Path) -> dict[str, Any]:
    for module in ("torch", "transformers", "accelerate"):
        pytest.importorskip(module)
    return evaluate(definitions, "hf", pretrained=str(CHECKPOINT), dtype="float32", device="cpu", batch_size=4)


def test_the_command(definitions: Path, files: dict[str, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pythia_quant.lm_eval", "--model", "pythia_gguf"]
    arguments = ["--model_args", f"path={files['Q8_0']},threads=1", "--tasks", "choice", "--include_path", definitions]
    done = subprocess.run(
        [*command, *map(str, arguments), "--output_path", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    [results] = tmp_path.rglob("results_*.json")
    assert 0 <= json.loads(results.read_text())["results"]["choice"]["acc,none"] <= 1


def test_sampling_and_wrong_settings(files: dict[str, Path]) -> None:
    from lm_eval.api.instance import Instance

    from pythia_quant.lm_eval import PythiaGGUF

    lm = PythiaGGUF(path=str(files["Q8_0"]))

    def write(**settings: Any) -> str:
        [text] = lm.generate_until([Instance("generate_until", {}, ("The model", settings), 0)])
        return text

    greedy = write(until=["\n"], max_gen_toks=8)
    assert write(until=["\n"], max_gen_toks=8, do_sample=False, temperature=0.0) == greedy
    sampled = [write(until="\n", max_gen_toks=8, do_sample=True, temperature=1.5, seed=seed) for seed in range(4)]
    assert len({greedy, *sampled}) > 2
    drafted = PythiaGGUF(path=str(files["Q8_0"]), draft=str(files["Q4_0"]), draft_min=2)
    for settings in ({}, {"do_sample": True, "temperature": 1.5, "seed": 1}):
        instance = Instance("generate_until", {}, ("The model", {"until": ["\n"], "max_gen_toks": 8, **settings}), 0)
        assert drafted.generate_until([instance]) == lm.generate_until([instance])
    with pytest.raises(ValueError, match="num_beams"):
        write(until=[], num_beams=4)
    with pytest.raises(ValueError, match="path"):
        PythiaGGUF()
