"""What the tests share: the model of tests/data, converted once, in a folder of this run."""

import shutil
from pathlib import Path

import pytest

import pythia_quant as pq
from reference import Reference

ROOT = Path(__file__).resolve().parents[3]
CHECKPOINT = ROOT / "tests/data/pythia-docs-6m"
HELDOUT = CHECKPOINT / "heldout.txt"
HOOKS = ROOT / "tests/data/hooks"

TEXT = "A crate is a compilation unit in Rust, whether it is a binary or a library.\n"


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """GGUF files by type."""
    types = ["F32", "F16", "Q8_0", "Q4_0"]
    folder = tmp_path_factory.mktemp("models")
    return dict(zip(types, pq.convert(CHECKPOINT, folder, types), strict=True))


@pytest.fixture(scope="session")
def exact(files: dict[str, Path]) -> pq.Model:
    """The model without a rounded weight, activation or key."""
    return pq.Model(files["F32"], activations="f32", kv="f32")


@pytest.fixture(scope="session")
def model(files: dict[str, Path]) -> pq.Model:
    """The model as it is used: Q8_0, int8 activations."""
    return pq.Model(files["Q8_0"])


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> pq.Model:
    """A smaller model of the same family."""
    folder = tmp_path_factory.mktemp("small")
    steps = ROOT / "tests/data/pythia-docs-1m-steps"
    for file in (steps / "step1500/model.safetensors", steps / "config.json"):
        shutil.copy(file, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(CHECKPOINT / name, folder)
    [path] = pq.convert(folder, folder / "small.gguf", "Q8_0")
    return pq.Model(path)


@pytest.fixture(scope="session")
def reference() -> Reference:
    """The same model in NumPy."""
    return Reference(CHECKPOINT)


@pytest.fixture(scope="session")
def ids(exact: pq.Model) -> list[int]:
    """Tokens of a text."""
    return exact.tokenize(HELDOUT.read_text(encoding="utf-8")[:2000])[:300]
