"""Texts that a model writes."""

from typing import Any

import numpy as np
import pytest

import pythia_quant as pq


def test_greedy_takes_the_likeliest(exact: pq.Model) -> None:
    ids = exact.tokenize("The model")
    text = exact.generate(ids, max_new_tokens=12, ignore_eos=True)
    assert "".join(text) == text.text == exact.detokenize(text.ids)
    for chosen in text.ids:
        assert chosen == int(np.argmax(exact.logits(ids)[-1]))
        ids.append(chosen)


def test_pieces_come_one_by_one(model: pq.Model) -> None:
    text = model.generate("The model", max_new_tokens=10)
    first = next(text)
    assert first and len(text.ids) == 1 and text.finish is None
    rest = list(text)
    assert all(rest) and first + "".join(rest) == text.text
    assert text.finish == "length" and len(text.ids) == 10
    with pytest.raises(StopIteration):
        next(text)


def test_a_text_can_be_stopped(model: pq.Model) -> None:
    text = model.generate("The model", max_new_tokens=10)
    next(text)
    text.stop()
    assert list(text) == [] and text.finish == "interrupted"


def test_seeds(model: pq.Model) -> None:
    def write(**settings: Any) -> str:
        return "".join(model.generate("The", max_new_tokens=16, **settings))

    assert write(temperature=1.0, seed=1) == write(temperature=1.0, seed=1)
    assert write(temperature=1.0, seed=1) != write(temperature=1.0, seed=2)
    assert write(temperature=0.0, seed=1) == write() == write(top_k=1)
    assert write(top_p=0.9, seed=3) == write(top_p=0.9, temperature=1.0, seed=3)


def test_stop_strings_are_not_shown(model: pq.Model) -> None:
    whole = "".join(model.generate("The model", max_new_tokens=20))
    stop = whole[5:9]
    text = model.generate("The model", max_new_tokens=20, stop=[stop, "never"])
    assert "".join(text) == whole[: whole.index(stop)]
    assert (text.finish, text.stopped_by) == ("stop", stop)


def test_a_penalty_changes_the_text(model: pq.Model) -> None:
    plain, penalised = ("".join(model.generate("The", max_new_tokens=20, repetition_penalty=r)) for r in (1.0, 1.5))
    assert plain != penalised


def test_the_context_ends_a_text(model: pq.Model) -> None:
    text = model.generate("The model", max_new_tokens=None, ctx=16, ignore_eos=True)
    assert len(model.tokenize("The model" + "".join(text))) >= 14
    assert text.finish == "context"


def test_an_empty_prompt_is_the_token_that_begins_texts(model: pq.Model) -> None:
    assert "".join(model.generate("", max_new_tokens=5)) == "".join(model.generate([0], max_new_tokens=5))


def test_many_prompts_get_what_each_gets_alone(model: pq.Model) -> None:
    prompts = ["The model", "A crate is", "The", "The model"]
    found = model.generate_until(prompts, max_new_tokens=8)
    assert found == [model.generate_until([prompt], max_new_tokens=8)[0] for prompt in prompts]
    assert found[0] == "".join(model.generate("The model", max_new_tokens=8))
    [cut] = model.generate_until(["The model"], until=[found[0][4:6]], max_new_tokens=8)
    assert cut == found[0][: found[0].index(found[0][4:6])]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top-p"),
        ({"min_p": 2.0}, "min-p"),
        ({"repetition_penalty": 0.0}, "repetition penalty"),
        ({"stop": [""]}, "stop"),
        ({"ctx": 10_000}, "ctx"),
    ],
)
def test_wrong_settings(model: pq.Model, settings: dict[str, object], named: str) -> None:
    with pytest.raises(pq.UsageError, match=named):
        model.generate("The model", **settings)  # type: ignore[arg-type]


def test_a_prompt_that_is_too_long(model: pq.Model) -> None:
    with pytest.raises(pq.DataError, match="513 tokens"):
        model.generate([5] * 513)
