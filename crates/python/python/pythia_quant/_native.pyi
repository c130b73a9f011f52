from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._types import DraftStats, Hparams, LensRecord, Perplexity

__all__ = ["Generation", "Model", "__version__", "compare", "convert", "quantize"]

__version__: str

_Path: TypeAlias = str | PathLike[str]
_Ids: TypeAlias = Sequence[int] | NDArray[np.integer[Any]]
_Tokens: TypeAlias = str | _Ids
_Draft: TypeAlias = "Model | Literal['lookup']"

@final
class Generation:
    @property
    def text(self) -> str: ...
    @property
    def ids(self) -> list[int]: ...
    @property
    def finish(self) -> str | None: ...
    @property
    def stopped_by(self) -> str | None: ...
    @property
    def draft(self) -> DraftStats | None: ...
    def stop(self) -> None: ...
    def __iter__(self) -> Iterator[str]: ...
    def __next__(self) -> str: ...

@final
class Model:
    def __new__(
        cls,
        path: _Path,
        *,
        threads: int | None = None,
        activations: str = "int8",
        gelu: str | None = None,
        kv: str = "f16",
        isa: str | None = None,
        device: str = "cpu",
        mmap: bool | None = True,
    ) -> Model: ...
    @property
    def path(self) -> Path: ...
    @property
    def paths(self) -> list[Path]: ...
    @property
    def hparams(self) -> Hparams: ...
    @property
    def metadata(self) -> dict[str, Any]: ...
    @property
    def n_layer(self) -> int: ...
    @property
    def n_embd(self) -> int: ...
    @property
    def n_head(self) -> int: ...
    @property
    def n_vocab(self) -> int: ...
    @property
    def n_tokens(self) -> int: ...
    @property
    def n_ctx(self) -> int: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def eos(self) -> int | None: ...
    @property
    def file_bytes(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def activations(self) -> str: ...
    @property
    def gelu(self) -> str: ...
    @property
    def kv(self) -> str: ...
    def tokenize(self, text: str, /) -> list[int]: ...
    def detokenize(self, ids: _Ids, /, *, skip_special: bool = False) -> str: ...
    def token_bytes(self, id: int, /) -> bytes: ...
    def logits(self, tokens: _Tokens, /) -> NDArray[np.float32]: ...
    def log_likelihood(self, tokens: _Tokens, /) -> NDArray[np.float64]: ...
    def log_likelihoods(self, pairs: Sequence[tuple[str, str]], /) -> list[tuple[float, bool]]: ...
    def rolling_log_likelihoods(self, texts: Sequence[str], /) -> list[float]: ...
    def generate_until(
        self,
        contexts: Sequence[str],
        /,
        *,
        until: Sequence[str] | None = None,
        max_new_tokens: int | None = None,
        draft: _Draft | None = None,
        draft_max: int | None = None,
        draft_min: int | None = None,
    ) -> list[str]: ...
    def generate(
        self,
        prompt: _Tokens,
        /,
        *,
        max_new_tokens: int | None = 128,
        stop: Sequence[str] | None = None,
        ignore_eos: bool = False,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        penalty_tokens: int | None = None,
        seed: int = 0,
        ctx: int | None = None,
        draft: _Draft | None = None,
        draft_max: int | None = None,
        draft_min: int | None = None,
    ) -> Generation: ...
    def run_with_cache(self, tokens: _Tokens, /, hooks: str | Sequence[str]) -> dict[str, NDArray[np.float32]]: ...
    def lens(self, tokens: _Tokens, /, *, layers: str = "all", top: int = 5) -> list[LensRecord]: ...
    def ablate(
        self,
        heads: Sequence[tuple[int, int]] | None = None,
        mlps: Sequence[int] | None = None,
        *,
        mean: _Path | None = None,
    ) -> Model: ...
    def steer(self, vector: ArrayLike | _Path, layer: int | None = None, scale: float = 1.0) -> Model: ...
    def patch(
        self, cache: dict[str, NDArray[np.float32]], hooks: str | Sequence[str], positions: Sequence[int] | None = None
    ) -> Model: ...
    @property
    def changes(self) -> list[str]: ...
    def __enter__(self) -> Model: ...
    def __exit__(self, *_exception: object) -> None: ...
    def perplexity(
        self,
        text: _Path,
        /,
        protocol: str = "llama",
        *,
        ctx: int | None = None,
        stride: int | None = None,
        chunks: int | None = None,
    ) -> Perplexity: ...

def convert(
    source: _Path,
    output: _Path | None,
    names: str | Sequence[str],
    lora: _Path | None,
    provenance_sha: bool,
    variant: str | None,
    offline: bool,
    given: dict[str, Any],
) -> list[Path]: ...
def quantize(
    source: _Path,
    output: _Path,
    names: str | Sequence[str],
    allow_requantize: bool,
    given: dict[str, Any],
) -> list[Path]: ...
def compare(
    source: _Path,
    text: _Path,
    variant: str | None,
    offline: bool,
    given: dict[str, Any],
) -> dict[str, Any]: ...
