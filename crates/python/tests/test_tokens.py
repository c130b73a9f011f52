"""Texts and tokens."""

import unicodedata

import numpy as np
import pytest

import pythia_quant as pq

TEXTS = [
    "",
    "Hello, world!",
    "  leading and trailing  ",
    "line\nbreaks\r\n\tand tabs",
    "Füße, 日本語, 🦀 and e\u0301",
    "def f(x):\n    return x ** 2\n",
    "<|endoftext|>",
    "a" * 5000,
]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_survive(model: pq.Model, text: str) -> None:
    ids = model.tokenize(text)
    # The tokenizer composes characters, as that of the checkpoint does.
    text = unicodedata.normalize("NFC", text)
    assert model.detokenize(ids) == text
    assert b"".join(model.token_bytes(id) for id in ids) == text.encode()


def test_special_tokens(model: pq.Model) -> None:
    assert model.tokenize("<|endoftext|>") == [model.eos]
    assert model.detokenize([0], skip_special=True) == ""
    assert model.detokenize([0, 450], skip_special=True) == model.detokenize([450])


def test_parts_of_characters(model: pq.Model) -> None:
    ids = model.tokenize("🦀")
    assert len(ids) > 1
    assert "\ufffd" in model.detokenize(ids[:1])


def test_ids_outside_the_vocabulary_have_no_text(model: pq.Model) -> None:
    assert model.detokenize([1_000_000]) == "" and model.token_bytes(1_000_000) == b""


def test_arrays_are_ids(model: pq.Model) -> None:
    ids = model.tokenize("The model")
    assert model.detokenize(np.array(ids)) == "The model"


@pytest.mark.parametrize("method", ["logits", "log_likelihood"])
@pytest.mark.parametrize(
    ("tokens", "error"),
    [
        ([], ValueError),
        ([4096], ValueError),
        ([-1], ValueError),
        ([2**40], ValueError),
        (list(range(513)), ValueError),
        (3.5, TypeError),
        ([1.5], TypeError),
        (np.zeros((2, 2), int), TypeError),
        (None, TypeError),
    ],
)
def test_wrong_tokens(model: pq.Model, method: str, tokens: object, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        getattr(model, method)(tokens)
    assert "\n" not in str(raised.value)
