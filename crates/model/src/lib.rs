//! GPT-NeoX over a backend: weights, key-value cache, forward pass.
