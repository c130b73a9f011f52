#!/usr/bin/env python3
"""Writes the state dict of a tiny GPT-NeoX with the PyTorch that is installed, in every container it has.

    tools/torch_fixtures.py weights OUT        OUT/VERSION-*.bin, and a folder of shards
    tools/torch_fixtures.py safetensors OUT    the same weights as safetensors, and OUT/config.json
    tools/torch_fixtures.py pretrained OUT     OUT/transformers-VERSION: the same as a whole checkpoint

tools/torch_fixtures.sh runs it with several versions; the files are tests/data/torch. Needs nothing but the package
in question: values come from a generator written out here, so that every version has the same.
"""

import collections
import json
import os
import struct
import sys

N_LAYER, N_EMBD, N_HEAD, N_FF, N_VOCAB, N_CTX = 2, 16, 2, 32, 32, 4

CONFIG = {
    "hidden_size": N_EMBD, "num_hidden_layers": N_LAYER, "num_attention_heads": N_HEAD, "intermediate_size": N_FF,
    "vocab_size": N_VOCAB, "max_position_embeddings": N_CTX, "layer_norm_eps": 1e-5, "hidden_act": "gelu",
    "use_parallel_residual": True, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 0,
}


def shapes():
    """Names and shapes in the order of the model."""
    yield "gpt_neox.embed_in.weight", (N_VOCAB, N_EMBD)
    for layer in range(N_LAYER):
        block = f"gpt_neox.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield block + norm + ".weight", (N_EMBD,)
            yield block + norm + ".bias", (N_EMBD,)
        for matrix, rows, cols in (("attention.query_key_value", 3 * N_EMBD, N_EMBD), ("attention.dense", N_EMBD, N_EMBD),
                                   ("mlp.dense_h_to_4h", N_FF, N_EMBD), ("mlp.dense_4h_to_h", N_EMBD, N_FF)):
            yield block + matrix + ".weight", (rows, cols)
            yield block + matrix + ".bias", (rows,)
    yield "gpt_neox.final_layer_norm.weight", (N_EMBD,)
    yield "gpt_neox.final_layer_norm.bias", (N_EMBD,)
    yield "embed_out.weight", (N_VOCAB, N_EMBD)


def values():
    """Multiples of 1/128 with at most 8 significant bits: exact in every float type."""
    state = 1
    for name, shape in shapes():
        n = 1
        for dim in shape:
            n *= dim
        out = []
        for _ in range(n):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            out.append(((state >> 33) % 127 - 63) / 128 + (1 if "norm.weight" in name else 0))
        yield name, shape, out


def state_dict(torch, dtype):
    """As Transformers 4 saves it, with the buffers that it had until 4.30 or so."""
    tensors = collections.OrderedDict()
    tensors._metadata = collections.OrderedDict([("", {"version": 1})])
    for name, shape, out in values():
        if name.endswith("input_layernorm.weight"):
            attention = name.replace("input_layernorm.weight", "attention.")
            mask = torch.ones((N_CTX, N_CTX), dtype=torch.uint8).tril().view(1, 1, N_CTX, N_CTX)
            tensors[attention + "bias"] = mask if "layers.0" in name else mask.bool()
            tensors[attention + "masked_bias"] = torch.tensor(-1e9, dtype=dtype)
            tensors[attention + "rotary_emb.inv_freq"] = torch.ones(2)
        tensors[name] = torch.tensor(out).reshape(shape).to(dtype)
    return tensors


def awkward(torch):
    """The same weights once more, as views that are not simply a storage each."""
    tensors = state_dict(torch, torch.float16)
    # Transposed, narrowed on both sides, every second column, one storage for two tensors, one element for all.
    name = "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"
    tensors[name] = tensors[name].t().contiguous().t()
    name = "gpt_neox.layers.0.attention.dense.weight"
    wide = torch.full((N_EMBD + 2, N_EMBD + 3), 9.0, dtype=torch.float16)
    wide[1:-1, 2:-1] = tensors[name]
    tensors[name] = wide[1:-1, 2:-1]
    name = "gpt_neox.layers.1.attention.dense.weight"
    wide = torch.full((N_EMBD, 2 * N_EMBD), 9.0, dtype=torch.float16)
    wide[:, ::2] = tensors[name]
    tensors[name] = wide[:, ::2]
    norm = "gpt_neox.layers.1.input_layernorm."
    both = torch.cat([tensors[norm + "weight"], tensors[norm + "bias"]])
    tensors[norm + "weight"], tensors[norm + "bias"] = both[:N_EMBD], both[N_EMBD:]
    name = "gpt_neox.layers.1.post_attention_layernorm.weight"
    tensors[name] = torch.nn.Parameter(tensors[name])
    return tensors


def write_weights(out):
    import torch

    version = torch.__version__.split("+")[0]
    path = lambda name: os.path.join(out, f"{version}-{name}.bin")
    for name, dtype in (("half", torch.float16), ("bfloat16", torch.bfloat16), ("float", torch.float32)):
        if name == "half" or version.startswith("1."):
            torch.save(state_dict(torch, dtype), path(name))
    torch.save(state_dict(torch, torch.float16), path("legacy"), _use_new_zipfile_serialization=False)
    if version.startswith("2.0"):
        return
    torch.save(awkward(torch), path("views"))
    if hasattr(torch.serialization, "set_crc32_options"):
        torch.serialization.set_crc32_options(False)
        torch.save(state_dict(torch, torch.float16), path("no-crc"))
        torch.serialization.set_crc32_options(True)
    if not version.startswith("1."):
        return
    torch.save(awkward(torch), path("views-legacy"), _use_new_zipfile_serialization=False)
    tied = state_dict(torch, torch.float16)
    tied["embed_out.weight"] = tied["gpt_neox.embed_in.weight"]
    torch.save(tied, path("tied"), _use_new_zipfile_serialization=False)
    wrapped = collections.OrderedDict(("module." + name, t) for name, t in state_dict(torch, torch.float16).items())
    # Protocol 4 names globals in another way than 2, which torch.save uses unless told otherwise.
    torch.save({"epoch": 3, "loss": 0.5, "state_dict": wrapped}, path("wrapped"), pickle_protocol=4)
    folder = os.path.join(out, f"{version}-shards")
    os.makedirs(folder, exist_ok=True)
    tensors = list(state_dict(torch, torch.float16).items())
    files, weight_map = (tensors[:20], tensors[20:]), {}
    for number, part in enumerate(files, 1):
        file = f"pytorch_model-{number:05}-of-{len(files):05}.bin"
        torch.save(dict(part), os.path.join(folder, file))
        weight_map.update((name, file) for name, _ in part)
    with open(os.path.join(folder, "pytorch_model.bin.index.json"), "w") as f:
        json.dump({"metadata": {}, "weight_map": weight_map}, f, indent=2, sort_keys=True)


def write_safetensors(out):
    """By hand: the format is a JSON header and the elements."""
    header, data = {}, b""
    for name, shape, out_values in values():
        start, data = len(data), data + struct.pack(f"<{len(out_values)}e", *out_values)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, len(data)]}
    header = json.dumps(header).encode()
    with open(os.path.join(out, "half.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header + data)
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump({"model_type": "gpt_neox", "rotary_pct": 0.5, "rotary_emb_base": 10000, **CONFIG}, f, indent=2)


def write_pretrained(out):
    """As users have it: with save_pretrained, a .bin file where it still can. Rotation is not the default one."""
    import torch
    import transformers

    config = transformers.GPTNeoXConfig(**CONFIG, rotary_pct=0.25, rotary_emb_base=500)
    model = transformers.GPTNeoXForCausalLM(config).half()
    head = next(name for name in model.state_dict() if name in ("embed_out.weight", "lm_head.weight"))
    tensors = {name: torch.tensor(out_values).reshape(shape).half() for name, shape, out_values in values()}
    tensors[head] = tensors.pop("embed_out.weight")
    model.load_state_dict(tensors)
    major = transformers.__version__.split(".")[0]
    binary = {"safe_serialization": False} if major == "4" else {}
    folder = os.path.join(out, f"transformers-{transformers.__version__}")
    model.save_pretrained(folder, **binary)
    os.remove(os.path.join(folder, "generation_config.json"))


if __name__ == "__main__":
    {"weights": write_weights, "safetensors": write_safetensors, "pretrained": write_pretrained}[sys.argv[1]](sys.argv[2])
