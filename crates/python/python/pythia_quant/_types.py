"""The shapes of what the package returns as dicts."""

from typing import Any, TypedDict


class Estimate(TypedDict):
    """A value and its standard error; ``None`` where there are too few samples for one."""

    value: float
    se: float | None


class Perplexity(TypedDict):
    """The perplexity of a text, with related figures."""

    protocol: dict[str, Any]
    windows: int
    scored: int
    bytes: int
    nll: Estimate
    perplexity: Estimate
    bits_per_byte: float
    tokens_per_second: float


class Hparams(TypedDict):
    """The dimensions of a model."""

    n_layer: int
    n_embd: int
    n_head: int
    head_dim: int
    n_ff: int
    n_vocab: int
    n_ctx: int
    n_rot: int
    rope_base: float
    norm_eps: float
    parallel_residual: bool


Record = dict[str, Any]
"""One file of a comparison, with the keys of ``levels`` in report.json."""
