"""Quantize, run and compare EleutherAI's Pythia models as GGUF files."""

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
from ._native import Generation, Model

__all__ = [
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
]
