"""Texts with drafts: those without, to the piece."""

from typing import Any

import numpy as np
import pytest

import pythia_quant as pq
from conftest import HELDOUT, HOOKS

SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.8, "seed": 3},
    {"temperature": 1.2, "top_k": 20, "seed": 5, "repetition_penalty": 1.2},
    {"stop": [" the"], "ignore_eos": True},
]
LENGTHS: list[dict[str, Any]] = [{}, {"draft_min": 4}, {"draft_max": 2, "draft_min": 2}]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("way", ["model", "lookup", "itself"])
def test_a_text_is_the_same(
    model: pq.Model, small: pq.Model, way: str, settings: dict[str, Any], lengths: dict[str, Any]
) -> None:
    draft: Any = {"model": small, "lookup": way, "itself": model}[way]
    prompt = model.tokenize(HELDOUT.read_text(encoding="utf-8")[:1000])[:40]
    plain = model.generate(prompt, max_new_tokens=40, **settings)
    pieces = list(plain)
    drafted = model.generate(prompt, max_new_tokens=40, draft=draft, **lengths, **settings)
    assert list(drafted) == pieces
    assert (drafted.ids, drafted.text, drafted.finish) == (plain.ids, plain.text, plain.finish)
    assert plain.draft is None and drafted.draft is not None
    stats = drafted.draft
    assert 0 <= stats["accepted_tokens"] <= stats["drafted_tokens"] and 0 <= stats["acceptance"] <= 1
    if way == "itself" and lengths.get("draft_min"):
        # Both draw with the same random numbers.
        assert stats["drafts"] > 0 and stats["acceptance"] > 0.9
        assert stats["mean_accepted"] == stats["accepted_tokens"] / stats["drafts"]


def test_a_text_can_be_ended_within_a_draft(model: pq.Model) -> None:
    plain = model.generate("The model", max_new_tokens=20)
    drafted = model.generate("The model", max_new_tokens=20, draft=model, draft_min=8)
    assert [next(plain) for _ in range(4)] == [next(drafted) for _ in range(4)]
    plain.stop()
    drafted.stop()
    assert (drafted.text, drafted.ids) == (plain.text, plain.ids) and drafted.finish == "interrupted"
    assert list(drafted) == []


def test_many_texts_are_the_same(model: pq.Model, small: pq.Model) -> None:
    prompts = ["The model", "A crate is", "The", "The model"]
    plain = model.generate_until(prompts, until=["\n"], max_new_tokens=24)
    for draft in (small, "lookup"):
        assert model.generate_until(prompts, until=["\n"], max_new_tokens=24, draft=draft, draft_min=3) == plain


def test_changed_models_draft_and_are_drafted_for(model: pq.Model, small: pq.Model) -> None:
    cache = model.run_with_cache("The model of", "blocks.2.hook_resid_post")
    changed = model.ablate([(1, 2)], [3]).steer(np.linspace(-1, 1, 256), 4).patch(cache, "blocks.2.hook_resid_post", [1])
    for settings in SETTINGS[:3]:
        plain = changed.generate("The model of", max_new_tokens=24, **settings)
        assert "".join(plain) != "".join(model.generate("The model of", max_new_tokens=24, **settings))
        for draft in (small, changed, model, small.ablate(mlps=[0])):
            drafted = changed.generate("The model of", max_new_tokens=24, draft=draft, draft_min=3, **settings)
            assert ("".join(drafted), drafted.ids) == (plain.text, plain.ids)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"draft": "nowhere.gguf"}, pq.UsageError, 'draft: found "nowhere.gguf", wanted a Model or "lookup"'),
        ({"draft": 3}, TypeError, "draft"),
        ({"draft": "lookup", "draft_min": 9, "draft_max": 3}, pq.UsageError, "draft length: found at least 9 .* most 3"),
        ({"draft_max": 3}, pq.UsageError, "draft_max: found no draft"),
        ({"draft_min": 3}, pq.UsageError, "draft_min: found no draft"),
    ],
)
def test_wrong_drafts(model: pq.Model, wrong: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        model.generate("The model", **wrong)
    with pytest.raises(error, match=words):
        model.generate_until(["The model"], **wrong)


def test_a_draft_with_another_vocabulary_is_refused(model: pq.Model, tmp_path_factory: pytest.TempPathFactory) -> None:
    [path] = pq.convert(HOOKS, tmp_path_factory.mktemp("hooks") / "other.gguf", "F32")
    with pytest.raises(pq.DataError, match="other.gguf: draft: found a vocabulary of"):
        model.generate("The model", draft=pq.Model(path))
