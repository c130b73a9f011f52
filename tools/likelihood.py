"""Likelihoods of rows of logits, as llama-perplexity takes them. Needs numpy."""

import math

import numpy as np


def negative_log_likelihood(logits, targets):
    """-ln p(target) of each row. f32 exponentials summed in f64, as llama-perplexity does."""
    top = logits.max(axis=1, keepdims=True)
    total = np.exp(logits - top).sum(axis=1, dtype=np.float64)
    picked = np.take_along_axis(logits - top, np.asarray(targets)[:, None], axis=1)[:, 0]
    return np.log(total) - picked.astype(np.float64)


def perplexity_of(nll):
    """PPL and its standard error, as llama-perplexity prints them."""
    mean = nll.mean()
    error = math.sqrt(max((nll**2).mean() - mean**2, 0.0) / (len(nll) - 1))
    return math.exp(mean), math.exp(mean) * error
