"""What a model computes, against NumPy and against itself."""

import gc
import json
import math
import weakref
from pathlib import Path

import numpy as np
import pytest

import pythia_quant as pq
from conftest import HELDOUT, ROOT, TEXT
from reference import Reference, softmax


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("n", [1, 2, 17, 300])
def test_logits_are_those_of_numpy(exact: pq.Model, reference: Reference, ids: list[int], n: int) -> None:
    found = exact.logits(ids[:n])
    assert found.shape == (n, exact.n_vocab) and found.dtype == np.float32
    assert relative_error(found, reference.run(ids[:n])["logits"]) < 1e-5


@pytest.mark.parametrize("level", ["F16", "Q8_0", "Q4_0"])
def test_levels_are_near_the_exact_model(
    files: dict[str, Path], exact: pq.Model, ids: list[int], level: str
) -> None:
    error = relative_error(pq.Model(files[level]).logits(ids[:64]), exact.logits(ids[:64]))
    low, high = {"F16": (1e-6, 2e-3), "Q8_0": (1e-3, 5e-2), "Q4_0": (2e-2, 0.5)}[level]
    assert low < error < high


def test_a_text_and_its_ids_are_the_same(model: pq.Model) -> None:
    assert np.array_equal(model.logits(TEXT), model.logits(model.tokenize(TEXT)))


@pytest.mark.parametrize("make", [list, tuple, np.array, lambda ids: np.array(ids, np.uint16)])
def test_ids_come_in_any_sequence(model: pq.Model, ids: list[int], make: type) -> None:
    assert np.array_equal(model.logits(make(ids[:5])), model.logits(ids[:5]))


def test_bits_do_not_depend_on_threads_or_length(files: dict[str, Path], ids: list[int]) -> None:
    one, two = (pq.Model(files["Q8_0"], threads=n) for n in (1, 2))
    assert (one.threads, two.threads) == (1, 2)
    whole = one.logits(ids)
    assert np.array_equal(whole, two.logits(ids))
    assert np.array_equal(whole[:40], two.logits(ids[:40]))


def test_bits_do_not_depend_on_the_instruction_set(files: dict[str, Path], ids: list[int]) -> None:
    scalar = pq.Model(files["Q8_0"], isa="scalar")
    assert scalar.isa == "scalar"
    assert np.array_equal(scalar.logits(ids[:20]), pq.Model(files["Q8_0"]).logits(ids[:20]))


def test_activations_change_results(files: dict[str, Path], ids: list[int]) -> None:
    rounded, exact = (pq.Model(files["Q8_0"], activations=a).logits(ids[:20]) for a in ("int8", "f32"))
    assert 0 < relative_error(rounded, exact) < 0.05


def test_arrays_are_not_copies(model: pq.Model, ids: list[int]) -> None:
    logits = model.logits(ids)
    assert logits.base is not None and logits.flags.c_contiguous and logits.flags.writeable
    alive = weakref.ref(logits)
    view = logits[3]
    kept = view.copy()
    del logits
    gc.collect()
    # The view keeps the memory, which is Rust's.
    assert alive() is None or view.base is not None
    assert np.array_equal(view, kept)


def test_log_likelihoods_are_of_the_logits(exact: pq.Model, ids: list[int]) -> None:
    found = exact.log_likelihood(ids)
    logits = exact.logits(ids).astype(np.float64)
    wanted = np.log(softmax(logits[:-1]))[np.arange(len(ids) - 1), ids[1:]]
    assert found.shape == (len(ids) - 1,) and found.dtype == np.float64
    assert np.allclose(found, wanted, rtol=0, atol=1e-6)


def test_one_token_predicts_nothing_known(model: pq.Model) -> None:
    assert model.log_likelihood([5]).shape == (0,)


@pytest.mark.parametrize(
    ("context", "continuation"),
    [("The model", " is small"), ("", "The model"), ("ends in spaces  ", "x"), ("def f(x):\n", "    return x")],
)
def test_continuations_add_up(exact: pq.Model, context: str, continuation: str) -> None:
    [(found, greedy)] = exact.log_likelihoods([(context, continuation)])
    first = len(exact.tokenize(context.rstrip())) or 1
    ids = exact.tokenize(context + continuation)
    ids = ids if context else [0, *ids]
    assert found == pytest.approx(exact.log_likelihood(ids)[first - 1 :].sum(), abs=1e-9)
    choices = exact.logits(ids).argmax(-1)[first - 1 : -1]
    assert greedy == (list(choices) == ids[first:])


def test_pairs_are_encoded_as_by_the_harness(exact: pq.Model) -> None:
    golden = json.loads((ROOT / "tests/data/eval/tokens.json").read_text())
    pairs = [pair for pair in golden["pairs"] if pair["tokens"] and len(pair["tokens"]) < golden["n_ctx"]]
    assert len(pairs) >= 10
    found = exact.log_likelihoods([(pair["context"], pair["continuation"]) for pair in pairs])
    for pair, (value, _) in zip(pairs, found, strict=True):
        wanted = exact.log_likelihood(pair["tokens"])[-pair["scored"] :].sum()
        assert value == pytest.approx(wanted, abs=1e-9), pair


def test_pairs_get_the_bits_that_they_get_alone(model: pq.Model) -> None:
    pairs = [("The model", f" {word}") for word in ("is", "has", "was", "is", "and the")]
    assert model.log_likelihoods(pairs) == [model.log_likelihoods([pair])[0] for pair in pairs]


def test_rolling_covers_a_text_longer_than_the_context(exact: pq.Model) -> None:
    text = HELDOUT.read_text(encoding="utf-8")[:6000]
    ids = [0, *exact.tokenize(text)]
    assert len(ids) > exact.n_ctx
    n, wanted, at = exact.n_ctx, 0.0, 1
    while at < len(ids):
        end = min(len(ids), at + n)
        start = max(0, end - n - 1)
        logits = exact.logits(ids[start : end - 1]).astype(np.float64)
        nll = np.log(softmax(logits))[np.arange(len(logits)), ids[start + 1 : end]]
        wanted, at = wanted + nll[at - start - 1 :].sum(), end
    [found] = exact.rolling_log_likelihoods([text])
    assert found == pytest.approx(wanted, rel=1e-6)
    assert exact.rolling_log_likelihoods([]) == []


def test_perplexity_is_that_of_its_windows(exact: pq.Model) -> None:
    result = exact.perplexity(HELDOUT, "llama", ctx=64, chunks=5)
    ids = exact.tokenize(HELDOUT.read_text(encoding="utf-8"))
    nll = [-exact.log_likelihood(ids[start : start + 64])[32:] for start in range(0, 320, 64)]
    wanted = np.concatenate(nll)
    assert result["scored"] == wanted.size == 5 * 31 and result["windows"] == 5
    assert result["nll"]["value"] == pytest.approx(wanted.mean(), abs=1e-9)
    assert result["perplexity"]["value"] == pytest.approx(math.exp(wanted.mean()))
    assert result["protocol"] == {"name": "llama", "n_ctx": 64}


def test_perplexity_with_a_stride(exact: pq.Model) -> None:
    text = HELDOUT.read_text(encoding="utf-8")[:1500]
    result = exact.perplexity(text, "hf-stride", ctx=128, stride=32)
    n = len(exact.tokenize(text))
    assert result["scored"] == n - 1 and result["bytes"] == len(text.encode())
    assert result["protocol"] == {"name": "hf-stride", "window": 128, "stride": 32}


def test_a_str_is_a_text_and_a_path_a_file(model: pq.Model, tmp_path: Path) -> None:
    text = HELDOUT.read_text(encoding="utf-8")[:3000]
    file = tmp_path / "text"
    file.write_text(text + "\n", encoding="utf-8")
    one, other = (model.perplexity(given, ctx=32)["nll"] for given in (text, file))
    assert one == other


def test_coarser_levels_predict_worse(files: dict[str, Path]) -> None:
    fine, coarse = (pq.Model(files[level]).perplexity(HELDOUT, chunks=8)["nll"] for level in ("F16", "Q4_0"))
    assert fine["value"] < coarse["value"] < fine["value"] + 0.3


def test_properties(model: pq.Model, files: dict[str, Path]) -> None:
    assert model.path == files["Q8_0"] and model.paths == [files["Q8_0"]]
    assert model.file_bytes == files["Q8_0"].stat().st_size
    assert (model.n_layer, model.n_embd, model.n_head, model.n_vocab, model.n_ctx) == (6, 256, 8, 4096, 512)
    assert model.hparams["head_dim"] == 32 and model.hparams["parallel_residual"] is True
    assert (model.activations, model.gelu, model.kv, model.device) == ("int8", "erf", "f16", "cpu")
    assert model.eos == 0 and "6 layers" in repr(model)


def test_metadata_has_every_type(model: pq.Model) -> None:
    metadata = model.metadata
    assert metadata["general.architecture"] == "gptneox" and metadata["gptneox.block_count"] == 6
    assert metadata["gptneox.use_parallel_residual"] is True
    assert metadata["gptneox.attention.layer_norm_epsilon"] == pytest.approx(1e-5)
    tokens = metadata["tokenizer.ggml.tokens"]
    assert len(tokens) == model.n_vocab and isinstance(tokens[300], str)


SITES = [
    "blocks.*.hook_resid_pre", "blocks.*.ln1.hook_normalized", "blocks.*.attn.hook_q", "blocks.*.attn.hook_k",
    "blocks.*.attn.hook_v", "blocks.*.attn.hook_rot_q", "blocks.*.attn.hook_rot_k", "blocks.*.attn.hook_attn_scores",
    "blocks.*.attn.hook_pattern", "blocks.*.attn.hook_z", "blocks.*.hook_attn_out", "blocks.*.ln2.hook_normalized",
    "blocks.*.mlp.hook_pre", "blocks.*.mlp.hook_post", "blocks.*.hook_mlp_out", "blocks.*.hook_resid_post",
    "hook_embed", "ln_final.hook_normalized", "logits",
]  # fmt: skip


@pytest.fixture(scope="module")
def wanted(reference: Reference, ids: list[int]) -> dict[str, np.ndarray]:
    return {name: value for name, value in reference.run(ids[:48]).items()}


@pytest.mark.parametrize("site", SITES)
def test_every_hook_is_that_of_numpy(
    exact: pq.Model, wanted: dict[str, np.ndarray], ids: list[int], site: str
) -> None:
    cache = exact.run_with_cache(ids[:48], site)
    assert len(cache) == (6 if "*" in site else 1)
    for name, found in cache.items():
        value = wanted[name]
        assert found.shape == value.shape and found.dtype == np.float32, name
        seen = np.isfinite(value)
        assert np.array_equal(np.isfinite(found), seen)
        assert relative_error(found[seen], value[seen]) < 1e-4, name


def test_hooks_in_other_spellings(exact: pq.Model, ids: list[int]) -> None:
    [(name, found)] = exact.run_with_cache(ids[:9], ["gpt_neox.layers.3.mlp"]).items()
    assert name == "blocks.3.hook_mlp_out"
    assert np.array_equal(found, exact.run_with_cache(ids[:9], ["layers.3.mlp"])[name])


def test_seeing_changes_nothing(model: pq.Model, ids: list[int]) -> None:
    cache = model.run_with_cache(ids[:64], ["blocks.*.hook_resid_post", "logits"])
    assert np.array_equal(cache["logits"], model.logits(ids[:64]))


def test_an_unknown_hook_is_told(model: pq.Model) -> None:
    with pytest.raises(pq.UsageError, match="hook_resid_pots"):
        model.run_with_cache([1, 2], ["blocks.0.hook_resid_pots"])


def test_a_copy_in_memory_gives_the_same_bits(files: dict[str, Path]) -> None:
    mapped, copied, chosen = (pq.Model(files["Q8_0"], mmap=mmap) for mmap in (True, False, None))
    for other in (copied, chosen):
        assert (mapped.logits([1, 2, 3]) == other.logits([1, 2, 3])).all()
