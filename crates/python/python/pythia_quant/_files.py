"""Conversion and comparison: functions with keyword arguments around those of the native module."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import _native
from ._types import Record

StrPath = str | os.PathLike[str]
Types = str | Sequence[str]

_SHARED = (
    "tensor_types",
    "output_tensor_type",
    "token_embedding_type",
    "pure",
    "strict",
    "imatrix",
    "calibration",
    "allow_nonfinite",
    "sha256",
    "split_max_bytes",
    "split_max_tensors",
    "threads",
    "force",
)
"""The arguments that convert and quantize share."""


def _shared(arguments: dict[str, Any]) -> dict[str, Any]:
    """Those among the arguments of a function."""
    return {name: arguments[name] for name in _SHARED}


def convert(
    source: StrPath,
    out: StrPath | None = None,
    type: Types = "Q8_0",
    *,
    lora: StrPath | None = None,
    imatrix: StrPath | None = None,
    calibration: StrPath | None = None,
    tensor_types: Sequence[str] = (),
    output_tensor_type: str | None = None,
    token_embedding_type: str | None = None,
    pure: bool = False,
    strict: bool = False,
    allow_nonfinite: bool = False,
    sha256: bool = False,
    split_max_bytes: int | None = None,
    split_max_tensors: int | None = None,
    provenance_sha: bool = False,
    variant: str | None = None,
    offline: bool = False,
    threads: int | None = None,
    force: bool = False,
) -> list[Path]:
    """Convert a Hugging Face checkpoint to GGUF files, one per type, in one pass. Returns their paths.

    ``source`` is a folder, a weight file in one, or an id of the Hugging Face Hub such as
    ``EleutherAI/pythia-70m@step3000``, which is looked for in the Hub's cache and downloaded if it is missing
    (``offline=True`` opens no connection). ``out`` is a file, or a folder if there are several types, if it exists as a
    folder or if it ends in a separator; by default ``SOURCE-TYPE.gguf`` in the current folder.

    ``tensor_types`` are rules ``REGEX=TYPE`` by GGUF name, of which the last match wins. ``imatrix`` is an importance
    matrix. With ``calibration``, a file of ``pythia-quant calibrate``, the quantizer ``feedback`` rounds the matrices.
    A file that exists is replaced only with ``force=True``. Files appear whole or not at all.
    """
    return _native.convert(source, out, type, lora, provenance_sha, variant, offline, _shared(locals()))


def quantize(
    source: StrPath,
    out: StrPath,
    type: Types = "Q8_0",
    *,
    allow_requantize: bool = False,
    imatrix: StrPath | None = None,
    calibration: StrPath | None = None,
    tensor_types: Sequence[str] = (),
    output_tensor_type: str | None = None,
    token_embedding_type: str | None = None,
    pure: bool = False,
    strict: bool = False,
    allow_nonfinite: bool = False,
    sha256: bool = False,
    split_max_bytes: int | None = None,
    split_max_tensors: int | None = None,
    threads: int | None = None,
    force: bool = False,
) -> list[Path]:
    """Quantize a GGUF file to others, one per type. Returns their paths.

    ``source`` is best in F32, F16 or BF16; weights that are quantized already are rounded a second time only with
    ``allow_requantize=True``. The other arguments are those of :func:`convert`.
    """
    return _native.quantize(source, out, type, allow_requantize, _shared(locals()))


class Comparison(list[Record]):
    """A record per file: the base and the levels, the largest file first."""

    report: dict[str, Any]
    """The whole of report.json."""

    def __init__(self, report: dict[str, Any]) -> None:
        super().__init__(report["levels"])
        self.report = report


def compare(
    source: StrPath,
    text: StrPath,
    types: Types = (),
    *,
    files: Sequence[StrPath] = (),
    base: str | None = None,
    lora: StrPath | None = None,
    imatrix: StrPath | None = None,
    calibration: StrPath | None = None,
    quantizers: Sequence[str] = (),
    allow_requantize: bool = False,
    ctx: int = 512,
    chunks: int | None = None,
    report: StrPath | None = None,
    cache: StrPath | None = None,
    fresh: bool = False,
    variant: str | None = None,
    offline: bool = False,
    activations: str = "int8",
    gelu: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    force: bool = False,
) -> Comparison:
    """Compare quantization levels of a model on a text. Returns a list of records, one per file.

    ``source`` is a checkpoint as for :func:`convert`, or a GGUF file, which becomes the base. ``types`` are converted
    into the cache folder and compared with the base, and so are the GGUF ``files``; if there are neither, the usual
    levels are. ``text`` is a str, the text itself, or a :class:`pathlib.Path`, a file. ``report`` names a folder for
    report.html, report.md, report.csv and report.json.

    A record is a dict with ``name``, ``file_bytes``, ``bits_per_weight``, ``perplexity`` (``value`` and standard error
    ``se``), ``against_base`` (``kld_mean`` and other distances; ``None`` for the base), speeds and memory. The whole
    report is the attribute ``report`` of the list. Speed and memory are measured in this process, so the memory of a
    file includes what the process had before.
    """
    given = dict(
        types=types,
        files=list(files),
        base=base,
        lora=lora,
        imatrix=imatrix,
        calibration=calibration,
        quantizers=list(quantizers),
        allow_requantize=allow_requantize,
        ctx=ctx,
        chunks=chunks,
        report=report,
        cache=cache,
        fresh=fresh,
        activations=activations,
        gelu=gelu,
        device=device,
        threads=threads,
        force=force,
    )
    return Comparison(_native.compare(source, text, variant, offline, given))
