"""Changed models, against what transformers computes (tests/data/hooks) and against themselves."""

import struct
from pathlib import Path

import numpy as np
import pytest

import pythia_quant as pq
from conftest import HELDOUT, HOOKS
from reference import Array, load


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> pq.Model:
    """The model of tests/data/hooks."""
    [path] = pq.convert(HOOKS, tmp_path_factory.mktemp("hooks") / "x.gguf", "F32")
    return pq.Model(path, activations="f32", kv="f32")


@pytest.fixture(scope="module")
def golden() -> dict[str, Array]:
    """Values of transformers, in float32."""
    return load(HOOKS / "parallel.safetensors")


@pytest.fixture(scope="module")
def tokens(golden: dict[str, Array]) -> list[int]:
    return [int(id) for id in golden["tokens"].reshape(-1)]


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    wanted = wanted.reshape(found.shape)
    return bool(np.linalg.norm(found - wanted) <= 1e-4 * np.linalg.norm(wanted))


def test_every_hook_is_that_of_transformers(hooked: pq.Model, golden: dict[str, Array], tokens: list[int]) -> None:
    cache = hooked.run_with_cache(tokens, "*")
    seen = [name for name in golden if name in cache]
    assert len(seen) > 30
    for name in seen:
        wanted = golden[name].reshape(cache[name].shape)
        finite = np.isfinite(wanted)
        assert close(cache[name][finite], wanted[finite]), name


def test_a_head_set_to_zero(hooked: pq.Model, golden: dict[str, Array], tokens: list[int]) -> None:
    with hooked.ablate(heads=[(1, 2)]) as changed:
        assert close(changed.logits(tokens), golden["zero_head.logits"])
        assert not changed.run_with_cache(tokens, "blocks.1.attn.hook_z")["blocks.1.attn.hook_z"][:, 2].any()
    assert close(hooked.logits(tokens), golden["logits"])


def test_a_head_set_to_its_mean(hooked: pq.Model, golden: dict[str, Array], tokens: list[int]) -> None:
    changed = hooked.ablate([(0, 1)], mean="To be, or not to be")
    assert close(changed.logits(tokens), golden["mean_head.logits"])


def test_an_mlp_set_to_zero(hooked: pq.Model, golden: dict[str, Array], tokens: list[int]) -> None:
    assert close(hooked.ablate(mlps=[0]).logits(tokens), golden["zero_mlp.logits"])


@pytest.mark.parametrize("scale", [1.0, -2.0])
def test_a_vector_added(hooked: pq.Model, golden: dict[str, Array], tokens: list[int], scale: float) -> None:
    vector = golden["steer.vector"].reshape(-1)
    changed = hooked.steer(vector / scale, layer=0, scale=scale)
    assert close(changed.logits(tokens), golden["steer.logits"])


def test_a_vector_from_a_file(hooked: pq.Model, golden: dict[str, Array], tokens: list[int], tmp_path: Path) -> None:
    vector = golden["steer.vector"].reshape(-1).astype("<f4").tobytes()
    header = f'{{"layers.0":{{"dtype":"F32","shape":[32],"data_offsets":[0,{len(vector)}]}}}}'.encode()
    file = tmp_path / "vector.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + vector)
    assert close(hooked.steer(file).logits(tokens), golden["steer.logits"])
    with pytest.raises(pq.DataError, match="none for block 1"):
        hooked.steer(file, layer=1)
    with pytest.raises(FileNotFoundError):
        hooked.steer(tmp_path / "none.safetensors")


def test_values_of_another_run(hooked: pq.Model, golden: dict[str, Array], tokens: list[int]) -> None:
    other = [int(id) for id in golden["patch.tokens"].reshape(-1)]
    cache = hooked.run_with_cache(other, ["blocks.*.hook_resid_post"])
    with hooked.patch(cache, "blocks.0.hook_resid_post", positions=[5]) as changed:
        assert close(changed.logits(tokens), golden["patch.logits"])


def test_all_of_a_run_is_that_run(model: pq.Model, ids: list[int]) -> None:
    one, other = ids[:20], ids[40:60]
    cache = model.run_with_cache(other, "blocks.5.hook_resid_post")
    assert np.array_equal(model.patch(cache, "layers.5").logits(one), model.logits(other))


def test_a_patch_beyond_the_tokens_is_refused(model: pq.Model, ids: list[int]) -> None:
    cache = model.run_with_cache(ids[:20], "*")
    changed = model.patch(cache, "*").ablate(mlps=[0])
    for run in (changed.logits, changed.log_likelihood, lambda tokens: changed.run_with_cache(tokens, "logits")):
        run(ids[:20])
        with pytest.raises(ValueError, match="found 19, wanted 0 to 18: the text has 19 tokens"):
            run(ids[:19])
    with pytest.raises(ValueError, match="found 19, wanted 0 to 4: the prompt has 5 tokens"):
        changed.generate(ids[:5])
    with pytest.raises(ValueError, match="wanted 0 to 1: the longest text has 2 tokens"):
        model.patch(cache, "hook_embed").log_likelihoods([("The", " model")])


def test_changes_add_up(model: pq.Model, ids: list[int]) -> None:
    step = model.ablate([(0, 1)]).ablate(mlps=[2])
    both = model.ablate([(0, 1)], [2])
    assert np.array_equal(step.logits(ids[:30]), both.logits(ids[:30]))
    assert len(step.changes) == 2 and model.changes == []
    assert all(change in repr(step) for change in step.changes)


def test_everything_is_of_the_changed_model(model: pq.Model) -> None:
    changed = model.ablate(mlps=range(6))
    assert "".join(changed.generate("The model")) != "".join(model.generate("The model"))
    worse, usual = (m.perplexity(HELDOUT, chunks=2)["nll"]["value"] for m in (changed, model))
    assert worse > usual + 0.5
    assert changed.log_likelihoods([("The", " model")]) != model.log_likelihoods([("The", " model")])


def test_no_change_changes_no_bit(model: pq.Model, ids: list[int]) -> None:
    wanted = model.logits(ids[:50])
    assert np.array_equal(model.ablate().logits(ids[:50]), wanted)
    assert np.array_equal(model.steer(np.zeros(256), 3).logits(ids[:50]), wanted)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda m: m.ablate([(6, 0)]), ValueError, "layer: found 6, wanted 0 to 5"),
        (lambda m: m.ablate([(0, 8)]), ValueError, "head: found 8"),
        (lambda m: m.ablate(mlps=[9]), ValueError, "layer: found 9"),
        (lambda m: m.ablate([(0, 0)], mean=""), ValueError, "no tokens"),
        (lambda m: m.steer(np.ones(5), 0), ValueError, "found 5 numbers, wanted 256"),
        (lambda m: m.steer(np.ones(256)), ValueError, "layer"),
        (lambda m: m.steer(np.full(256, np.inf), 0), ValueError, "finite"),
        (lambda m: m.steer(object(), 0), TypeError, "array of numbers"),
        (lambda m: m.patch({}, "blocks.0.hook_resid_post"), ValueError, "found no blocks.0.hook_resid_post"),
        (lambda m: m.patch({"logits": np.ones((2, 4096))}, "logits"), ValueError, "cannot be|not changed|seen"),
        (lambda m: m.patch({"hook_embed": np.ones((2, 3))}, "hook_embed"), ValueError, "shape"),
        (lambda m: m.patch({"hook_embed": np.ones((2, 256))}, "hook_embed", [2]), ValueError, "positions: found 2"),
        (lambda m: m.patch({"hook_embed": np.ones((2, 256))}, "hook_embed", [0, 0]), ValueError, "twice"),
        (lambda m: m.patch({"hook_embed": np.full((2, 256), np.nan)}, "hook_embed"), ValueError, "NaN .* position 0"),
        (lambda m: m.patch({"blocks.0.attn.hook_z": np.ones((2, 256))}, "blocks.0.attn.hook_z"), ValueError, "shape"),
        (lambda m: m.patch({"hook_embed": "text"}, "hook_embed"), TypeError, "array of numbers"),
        (lambda m: m.patch({"hook_embed": np.ones(())}, "hook_embed"), ValueError, "shape|wanted"),
    ],
)
def test_wrong_changes(model: pq.Model, change: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        change(model)  # type: ignore[operator]
