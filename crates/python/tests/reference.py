"""GPT-NeoX in NumPy, in float64 and from the checkpoint itself: what the package must agree with."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def load(path: Path) -> dict[str, Array]:
    """The tensors of a safetensors file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + size + offset for offset in entry["data_offsets"])
        dtype = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}[entry["dtype"]]
        values: NDArray[Any] = np.frombuffer(data[start:end], dtype).reshape(entry["shape"])
        tensors[name] = values.astype(np.float64)
    return tensors


def softmax(x: Array) -> Array:
    """Over the last dimension."""
    x = np.exp(x - x.max(-1, keepdims=True))
    result: Array = x / x.sum(-1, keepdims=True)
    return result


def gelu(x: Array) -> Array:
    """The form with erf."""
    erf = np.vectorize(math.erf, otypes=[np.float64])
    result: Array = 0.5 * x * (1 + erf(x / math.sqrt(2)))
    return result


class Reference:
    """A model; ``run`` gives the values at every hook."""

    def __init__(self, folder: Path) -> None:
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        self.weights = load(folder / "model.safetensors")

    def linear(self, name: str, x: Array) -> Array:
        """A matrix with its bias."""
        result: Array = x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]
        return result

    def norm(self, name: str, x: Array) -> Array:
        """LayerNorm with gain and bias."""
        centred = x - x.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + self.config["layer_norm_eps"])
        result: Array = centred / scale * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
        return result

    def rotated(self, x: Array, first: int = 0) -> Array:
        """Queries or keys [n, n_head, head_dim] turned by their positions."""
        n, _, head_dim = x.shape
        n_rot = int(head_dim * self.config["rotary_pct"])
        half = n_rot // 2
        base = self.config.get("rotary_emb_base", 10000)
        angles = np.outer(np.arange(first, first + n), base ** (-np.arange(half) / half))[:, None, :]
        cos, sin = np.cos(angles), np.sin(angles)
        a, b, rest = x[..., :half], x[..., half:n_rot], x[..., n_rot:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], -1)

    def run(self, ids: list[int]) -> dict[str, Array]:
        """All values by the names of TransformerLens."""
        n, heads = len(ids), self.config["num_attention_heads"]
        seen: dict[str, Array] = {}
        x = seen["hook_embed"] = self.weights["gpt_neox.embed_in.weight"][ids]
        mask = np.triu(np.full((n, n), -np.inf), 1)
        for layer in range(self.config["num_hidden_layers"]):
            of, here = f"gpt_neox.layers.{layer}", f"blocks.{layer}"
            seen[f"{here}.hook_resid_pre"] = x
            entering = seen[f"{here}.ln1.hook_normalized"] = self.norm(f"{of}.input_layernorm", x)
            qkv = self.linear(f"{of}.attention.query_key_value", entering).reshape(n, heads, 3, -1)
            q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
            seen.update({f"{here}.attn.hook_q": q, f"{here}.attn.hook_k": k, f"{here}.attn.hook_v": v})
            q, k = self.rotated(q), self.rotated(k)
            seen.update({f"{here}.attn.hook_rot_q": q, f"{here}.attn.hook_rot_k": k})
            scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1]) + mask
            pattern = softmax(scores)
            seen.update({f"{here}.attn.hook_attn_scores": scores, f"{here}.attn.hook_pattern": pattern})
            z = seen[f"{here}.attn.hook_z"] = np.einsum("hqk,khd->qhd", pattern, v)
            attn = seen[f"{here}.hook_attn_out"] = self.linear(f"{of}.attention.dense", z.reshape(n, -1))
            middle = x if self.config.get("use_parallel_residual", True) else x + attn
            entering = seen[f"{here}.ln2.hook_normalized"] = self.norm(f"{of}.post_attention_layernorm", middle)
            pre = seen[f"{here}.mlp.hook_pre"] = self.linear(f"{of}.mlp.dense_h_to_4h", entering)
            post = seen[f"{here}.mlp.hook_post"] = gelu(pre)
            mlp = seen[f"{here}.hook_mlp_out"] = self.linear(f"{of}.mlp.dense_4h_to_h", post)
            x = seen[f"{here}.hook_resid_post"] = x + attn + mlp
        final = seen["ln_final.hook_normalized"] = self.norm("gpt_neox.final_layer_norm", x)
        seen["logits"] = final @ self.weights["embed_out.weight"].T
        return seen
