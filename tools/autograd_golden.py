#!/usr/bin/env python3
"""Makes tests/data/goldens/autograd.safetensors: gradients of transformers' GPT-NeoX, by PyTorch in float64.

A tiny random model with both forms of the residual stream (and of GELU) reads random tokens. The log-likelihood of
given random labels, summed over all positions, is differentiated at the outputs of the matrices and at the embedding.

    pip install torch transformers safetensors
    tools/autograd_golden.py tests/data/goldens/autograd.safetensors

In the file: the weights (F16) by their usual names; `tokens` and `labels` of two windows; `FORM.likelihood` and, by
GGUF name, `FORM.TENSOR`, the gradients of both windows, rows of query, key and value regrouped as in GGUF files; `long`
tokens and labels of one longer window, and `long.TENSOR`, the sum over its tokens of g gT.
"""

import sys

import torch
from safetensors.torch import save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

SIZES = dict(
    hidden_size=32, num_attention_heads=2, num_hidden_layers=2, intermediate_size=48, vocab_size=40,
    max_position_embeddings=256, rotary_pct=0.25, rotary_emb_base=10000, layer_norm_eps=1e-5,
)
FORMS = {
    "parallel": dict(use_parallel_residual=True, hidden_act="gelu"),
    "sequential": dict(use_parallel_residual=False, hidden_act="gelu_new"),
}
WINDOWS, TOKENS, LONG = 2, 20, 150


def model_of(form):
    config = GPTNeoXConfig(**SIZES, **FORMS[form], attn_implementation="eager", tie_word_embeddings=False)
    return GPTNeoXForCausalLM(config).double().eval()


def random_weights(model):
    """Large enough that no softmax and no GELU is nearly linear; biases and norms are not left at 0 and 1."""
    generator = torch.Generator().manual_seed(16)
    weights = {}
    for name, old in model.named_parameters():
        noise = torch.randn(old.shape, generator=generator, dtype=torch.float64)
        if old.dim() == 2:
            new = noise / (1 if "embed" in name else old.shape[1] ** 0.5)
        else:
            new = noise * 0.3 + (1 if "norm" in name and name.endswith("weight") else 0)
        weights[name] = new.half()
    return weights


def modules_of(model):
    """GGUF names of the points where gradients are taken."""
    base = model.gpt_neox
    yield "token_embd.weight", base.embed_in
    for n, layer in enumerate(base.layers):
        yield f"blk.{n}.attn_qkv.weight", layer.attention.query_key_value
        yield f"blk.{n}.attn_output.weight", layer.attention.dense
        yield f"blk.{n}.ffn_up.weight", layer.mlp.dense_h_to_4h
        yield f"blk.{n}.ffn_down.weight", layer.mlp.dense_4h_to_h


def gradients(model, tokens, labels):
    outputs, hooks = {}, []
    for name, module in modules_of(model):
        def keep(_module, _inputs, output, name=name):
            output.retain_grad()
            outputs[name] = output
        hooks.append(module.register_forward_hook(keep))
    logits = model(tokens, use_cache=False).logits
    likelihood = torch.log_softmax(logits, -1).gather(-1, labels[..., None]).sum()
    likelihood.backward()
    for hook in hooks:
        hook.remove()
    grads = {name: output.grad.flatten(0, 1) for name, output in outputs.items()}
    heads = SIZES["num_attention_heads"]
    for name, grad in grads.items():
        if "qkv" in name:
            grads[name] = grad.unflatten(1, (heads, 3, -1)).transpose(1, 2).flatten(1)
    return likelihood.detach(), grads


def main():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(17)
    ids = lambda *shape: torch.randint(SIZES["vocab_size"], shape, generator=generator)
    weights = random_weights(model_of("parallel"))
    tokens, labels = ids(WINDOWS, TOKENS), ids(WINDOWS, TOKENS)
    long_tokens, long_labels = ids(1, LONG), ids(1, LONG)
    out = dict(weights, tokens=tokens.flatten(), labels=labels.flatten())
    out |= {"long.tokens": long_tokens.flatten(), "long.labels": long_labels.flatten()}
    for form in FORMS:
        model = model_of(form)
        model.load_state_dict({name: weight.double() for name, weight in weights.items()})
        likelihood, grads = gradients(model, tokens, labels)
        out[f"{form}.likelihood"] = likelihood.float().reshape(1)
        out |= {f"{form}.{name}": grad.float().contiguous() for name, grad in grads.items()}
        if form == "parallel":
            _, grads = gradients(model, long_tokens, long_labels)
            for name in ["token_embd.weight", "blk.0.attn_qkv.weight"]:
                out[f"long.{name}"] = (grads[name].T @ grads[name]).float().contiguous()
    save_file(out, sys.argv[1])


if __name__ == "__main__":
    main()
