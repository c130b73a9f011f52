"""Conversion and comparison."""

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

import pythia_quant as pq
from conftest import CHECKPOINT, HELDOUT


@pytest.mark.parametrize("level", ["BF16", "Q6_K", "Q4_K_M", "q3_k"])
def test_converted_files_run(tmp_path: Path, level: str) -> None:
    [path] = pq.convert(CHECKPOINT, tmp_path / "model.gguf", level)
    assert path == tmp_path / "model.gguf"
    assert pq.Model(path).perplexity(HELDOUT, chunks=2)["perplexity"]["value"] < 80


def test_several_types_go_to_a_folder(files: dict[str, Path]) -> None:
    assert [path.name for path in files.values()] == [f"pythia-docs-6m-{level}.gguf" for level in files]
    assert files["F32"].stat().st_size > 2 * files["Q8_0"].stat().st_size > 2 * files["Q4_0"].stat().st_size


def test_without_an_output_it_is_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert pq.convert(str(CHECKPOINT)) == [Path("pythia-docs-6m-Q8_0.gguf")]
    assert Path("pythia-docs-6m-Q8_0.gguf").is_file()


def test_quantize_gives_the_bytes_of_convert(files: dict[str, Path], tmp_path: Path) -> None:
    [path] = pq.quantize(files["F32"], tmp_path / "x.gguf", "Q8_0")
    one, other = (pq.Model(file).logits([1, 2, 3]) for file in (path, files["Q8_0"]))
    assert np.array_equal(one, other)


def test_quantized_weights_are_rounded_again_only_if_asked(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(pq.PythiaError, match="requantize"):
        pq.quantize(files["Q8_0"], tmp_path / "x.gguf", "Q4_0")
    assert os.listdir(tmp_path) == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pq.PythiaWarning)
        [path] = pq.quantize(files["Q8_0"], tmp_path / "x.gguf", "Q4_0", allow_requantize=True)
    assert path.is_file()


def test_files_are_replaced_only_if_asked(tmp_path: Path) -> None:
    out = tmp_path / "x.gguf"
    out.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="already exists") as raised:
        pq.convert(CHECKPOINT, out)
    assert isinstance(raised.value, pq.ExistingFileError) and isinstance(raised.value, ValueError)
    assert out.read_bytes() == b"mine"
    pq.convert(CHECKPOINT, out, force=True)
    assert out.read_bytes()[:4] == b"GGUF"


def test_digests(tmp_path: Path) -> None:
    [path] = pq.convert(CHECKPOINT, tmp_path / "x.gguf", sha256=True)
    sidecar = (tmp_path / "x.gguf.sha256").read_text()
    assert hashlib.sha256(path.read_bytes()).hexdigest() in sidecar


def test_splits(tmp_path: Path, files: dict[str, Path]) -> None:
    [first] = pq.convert(CHECKPOINT, tmp_path / "x.gguf", "Q8_0", split_max_bytes=3_000_000)
    assert first.name.startswith("x-00001-of-") and len(os.listdir(tmp_path)) > 1
    split = pq.Model(first)
    assert len(split.paths) == len(os.listdir(tmp_path))
    assert np.array_equal(split.logits([1, 2]), pq.Model(files["Q8_0"]).logits([1, 2]))


def test_rules_change_types(tmp_path: Path, files: dict[str, Path]) -> None:
    rules = {"tensor_types": [r"blk\.0\.ffn_down=F16"], "output_tensor_type": "F16", "pure": True}
    [path] = pq.convert(CHECKPOINT, tmp_path / "x.gguf", "Q4_0", **rules)  # type: ignore[arg-type]
    assert path.stat().st_size > files["Q4_0"].stat().st_size + 1_000_000


def test_bytes_do_not_depend_on_threads(tmp_path: Path) -> None:
    paths = [pq.convert(CHECKPOINT, tmp_path / f"{n}.gguf", "Q4_K_M", threads=n)[0] for n in (1, 2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda out: pq.Model("no such.gguf"), FileNotFoundError, "no such.gguf: No such file"),
        (lambda out: pq.Model(CHECKPOINT), pq.DataError, "a folder with a checkpoint"),
        (lambda out: pq.Model(HELDOUT), pq.DataError, "heldout.txt"),
        (lambda out: pq.Model(out), OSError, "not a regular file"),
        (lambda out: pq.convert("no such folder", out), FileNotFoundError, "no such folder"),
        (lambda out: pq.convert(CHECKPOINT, out, "Q9"), pq.UsageError, "Q9"),
        (lambda out: pq.convert(CHECKPOINT, out, []), pq.UsageError, "type"),
        (lambda out: pq.convert(CHECKPOINT, out, tensor_types=["("]), pq.UsageError, "tensor_types"),
        (lambda out: pq.convert(CHECKPOINT, out, tensor_types=["nothing=F16"]), pq.UsageError, "nothing"),
        (lambda out: pq.convert(CHECKPOINT, out, output_tensor_type="X"), pq.UsageError, "output_tensor_type"),
        (lambda out: pq.convert(CHECKPOINT, out / "a" / "x.gguf"), FileNotFoundError, "x.gguf"),
        (lambda out: pq.convert(CHECKPOINT, out, threads=0), pq.UsageError, "threads"),
        (lambda out: pq.convert(CHECKPOINT, out, imatrix="none.gguf"), FileNotFoundError, "none.gguf"),
        (lambda out: pq.quantize(CHECKPOINT, out / "x.gguf"), pq.DataError, "checkpoint"),
        (lambda out: pq.convert("nobody/nothing", out, offline=True), OSError, "nobody/nothing"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, call: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as raised:
        call(tmp_path)  # type: ignore[operator]
    assert isinstance(raised.value, pq.PythiaError)
    assert "\n" not in str(raised.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activations": "int4"}, "activations: found 'int4', wanted int8 or f32"),
        ({"gelu": "relu"}, "gelu"),
        ({"kv": "q8"}, "kv"),
        ({"isa": "sse"}, "isa"),
        ({"device": "tpu"}, "device"),
        ({"threads": 5000}, "threads"),
    ],
)
def test_wrong_options_of_a_model(files: dict[str, Path], options: dict[str, object], words: str) -> None:
    with pytest.raises(pq.UsageError, match=words):
        pq.Model(files["F32"], **options)  # type: ignore[arg-type]


def test_an_unreadable_file(tmp_path: Path, files: dict[str, Path]) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF")
    path.chmod(0)
    with pytest.raises(PermissionError):
        pq.Model(path)


def test_a_file_that_was_cut(tmp_path: Path, files: dict[str, Path]) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(files["Q8_0"].read_bytes()[:100_000])
    with pytest.raises(pq.DataError, match="cut.gguf"):
        pq.Model(path)


def test_notes_are_warnings(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.warns(pq.PythiaWarning):
        pq.quantize(files["Q8_0"], tmp_path / "x.gguf", "Q4_0", allow_requantize=True)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> pq.Comparison:
    folder = tmp_path_factory.mktemp("compared")
    types = ["Q8_0", "Q4_0"]
    return pq.compare(
        CHECKPOINT, HELDOUT, types, chunks=4, ctx=128, cache=folder / "cache", report=folder / "report"
    )


def test_compare_returns_a_record_per_file(compared: pq.Comparison) -> None:
    assert [record["name"] for record in compared] == ["F16", "Q8_0", "Q4_0"]
    base, fine, coarse = compared
    assert base["against_base"] is None
    assert 0 < fine["against_base"]["kld_mean"]["value"] < coarse["against_base"]["kld_mean"]["value"]
    assert base["file_bytes"] > fine["file_bytes"] > coarse["file_bytes"]


def test_a_report_has_the_same_records(compared: pq.Comparison) -> None:
    assert compared.report["levels"] == list(compared)
    assert compared.report["protocol"]["chunks"] == 4 and compared.report["base"] == "F16"


def test_perplexities_are_those_of_the_models(compared: pq.Comparison, files: dict[str, Path]) -> None:
    wanted = pq.Model(files["Q4_0"]).perplexity(HELDOUT, ctx=128, chunks=4)["perplexity"]
    assert compared[2]["perplexity"] == wanted


def test_compare_files_with_a_file(files: dict[str, Path], tmp_path: Path) -> None:
    records = pq.compare(
        files["F16"], HELDOUT, files=[files["Q8_0"]], chunks=2, ctx=64, cache=tmp_path / "cache", activations="f32"
    )
    assert [record["name"] for record in records] == ["F16", "Q8_0"]
    assert records.report["arithmetic"]["activations"] == "f32"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"types": ["Q9"]}, "Q9"),
        ({"quantizers": ["best"]}, "quantizers"),
        ({"quantizers": ["feedback"]}, "calibration"),
        ({"ctx": 3}, "window: found 3"),
        ({"device": "x"}, "device"),
    ],
)
def test_compare_refuses(tmp_path: Path, settings: dict[str, object], words: str) -> None:
    with pytest.raises(pq.UsageError, match=words):
        pq.compare(CHECKPOINT, HELDOUT, cache=tmp_path, **settings)  # type: ignore[arg-type]
