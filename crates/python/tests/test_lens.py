"""The logit lens, against the model's own logits and against the command."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import pythia_quant as pq
from conftest import ROOT, TEXT
from reference import softmax

PROGRAMS = [path for kind in ("release", "debug") if (path := ROOT / "target" / kind / "pythia-run").is_file()]


def test_the_last_layer_is_the_model(model: pq.Model) -> None:
    ids = model.tokenize(TEXT)
    logits = model.logits(ids).astype(np.float64)
    records = model.lens(TEXT, layers="0,last", top=3)
    assert [record["layer"] for record in records] == [0] * len(ids) + [5] * len(ids)
    assert [record["position"] for record in records] == 2 * list(range(len(ids)))
    ends = records[len(ids) :]
    own = model.log_likelihood(ids)
    for i, record in enumerate(ends):
        p = softmax(logits[i])
        # Exponentials are those of the kernels, in f32.
        assert record["entropy"] == pytest.approx(-(p * np.log(p)).sum(), rel=1e-6)
        assert [token["id"] for token in record["top"]] == list(np.argsort(-logits[i], kind="stable")[:3])
        assert record["top"][0]["log_likelihood"] == pytest.approx(np.log(p.max()), rel=1e-6)
        assert record["kl"] == pytest.approx(0, abs=1e-12) and record["same_top"]
        if i + 1 < len(ids):
            assert record["next_id"] == ids[i + 1]
            assert record["log_likelihood"] == pytest.approx(own[i], rel=1e-9)
            assert record["rank"] == 1 + (logits[i] > logits[i][ids[i + 1]]).sum()
        else:
            assert [record["next_id"], record["next"], record["rank"], record["log_likelihood"]] == [None] * 4


def test_an_early_layer_says_something_else(model: pq.Model) -> None:
    records = model.lens(model.tokenize(TEXT), layers="embed")
    assert all(record["hook"] == "hook_embed" and record["layer"] is None for record in records)
    assert sum(record["kl"] for record in records) > 1 and not all(record["same_top"] for record in records)
    assert all(len(record["top"]) == 5 for record in records)
    with model.ablate(mlps=[0]) as changed:
        assert changed.lens(TEXT, layers="last") != model.lens(TEXT, layers="last")


@pytest.mark.skipif(not PROGRAMS, reason="pythia-run is not built here")
def test_records_are_the_lines_of_the_command(files: dict[str, Path], model: pq.Model) -> None:
    newest = max(PROGRAMS, key=lambda path: path.stat().st_mtime)
    args = ["lens", "-m", str(files["Q8_0"]), "-p", TEXT, "-k", "2", "--format", "jsonl", "-q"]
    lines = subprocess.run([str(newest), *args], check=True, capture_output=True, text=True).stdout.splitlines()
    assert [json.loads(line) for line in lines] == model.lens(TEXT, top=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": "6"}, "layers: found '6'"),
        ({"top": 0}, "top: found 0, wanted 1 to 4096"),
        ({"top": 5000}, "top: found 5000"),
    ],
)
def test_wrong_options(model: pq.Model, options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        model.lens(TEXT, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tokens: found 0"):
        model.lens("")
