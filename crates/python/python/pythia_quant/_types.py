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


class DraftStats(TypedDict):
    """What came of the drafts of a text: how many were checked, their tokens, and the seconds that drafting took."""

    drafts: int
    drafted_tokens: int
    accepted_tokens: int
    acceptance: float
    mean_accepted: float
    seconds: float


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


class LensToken(TypedDict):
    """One of the likeliest tokens."""

    id: int
    token: str
    log_likelihood: float


class LensRecord(TypedDict):
    """What the logit lens reads at one depth and position, in nats."""

    hook: str
    layer: int | None
    position: int
    id: int
    token: str
    next_id: int | None
    next: str | None
    rank: int | None
    log_likelihood: float | None
    entropy: float
    kl: float
    same_top: bool
    top: list[LensToken]


Record = dict[str, Any]
"""One file of a comparison, with the keys of ``levels`` in report.json."""
