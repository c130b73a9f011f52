"""Quantize, run and compare EleutherAI's Pythia models as GGUF files.

    import pythia_quant as pq

    [path] = pq.convert("EleutherAI/pythia-70m", type="Q8_0")
    model = pq.Model(path)
    print("".join(model.generate("The model", max_new_tokens=20)))
    model.logits("The model").shape  # (tokens, n_vocab)

Work runs in Rust with the interpreter let go: other threads of Python go on meanwhile, and Ctrl-C stops it.
"""

from ._errors import (
    DataError,
    ExistingFileError,
    FileError,
    ForbiddenFileError,
    MissingFileError,
    PythiaError,
    PythiaWarning,
    UsageError,
)
from ._files import Comparison, compare, convert, quantize
from ._native import Generation, Model, __version__

__all__ = [
    "Comparison",
    "DataError",
    "ExistingFileError",
    "FileError",
    "ForbiddenFileError",
    "Generation",
    "MissingFileError",
    "Model",
    "PythiaError",
    "PythiaWarning",
    "UsageError",
    "__version__",
    "compare",
    "convert",
    "quantize",
]
