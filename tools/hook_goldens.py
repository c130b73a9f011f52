#!/usr/bin/env python3
"""Makes tests/data/hooks: what transformers computes inside a small GPT-NeoX, and what interventions do to its logits.

    tools/hook_goldens.py tests/data/hooks                       needs torch, transformers, safetensors
    tools/hook_goldens.py --transformer-lens tests/data/hooks    compares with TransformerLens; writes nothing

One set of random weights, held as F16 and computed with in float32, is read with both forms of the residual stream:
`config.json` has the parallel form, and `use_parallel_residual: false` makes the other. FORM.safetensors has every
hook by the name that TransformerLens gives it, without the batch axis, of a model without any folding of norms:

    tokens                             [pos]                 i64, of TEXT
    hook_embed, hook_resid_*, *_out    [pos, d_model]        hook_resid_mid in the sequential form only
    ln1, ln2, ln_final.hook_normalized [pos, d_model]        after gain and bias
    hook_q, hook_k, hook_v             [pos, head, d_head]   before rotation, with bias; hook_rot_q, hook_rot_k after it
    hook_attn_scores, hook_pattern     [head, query, key]    scores are scaled, and -inf where masked
    hook_z                             [pos, head, d_head]   what attention.dense reads
    mlp.hook_pre, mlp.hook_post        [pos, d_mlp]          before and after GELU
    logits                             [pos, vocabulary]

and CASE.logits of each intervention (`interventions` says which), with what it needs: `steer.vector`, `patch.tokens`.

Compared with TransformerLens 2.18.0, 3.9.0 and 4.3.0. HookedTransformer of 2.18, a forward pass of its own without
processing of the weights, has every name here, in the same shape and with the same values. From some 3.x on,
`hook_normalized` is the value before gain and bias; what is here is the `hook_out` of the norms of 4.x. 4.x has no
HookedTransformer: its TransformerBridge wraps the model of transformers, and lacks `hook_rot_q` and `hook_rot_k`.
"""

import argparse
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
from transformers.models.gpt_neox import modeling_gpt_neox

CONFIG = dict(
    architectures=["GPTNeoXForCausalLM"], model_type="gpt_neox", hidden_act="gelu", hidden_size=32,
    intermediate_size=96, num_attention_heads=4, num_hidden_layers=2, vocab_size=264, max_position_embeddings=64,
    rotary_pct=0.5, rotary_emb_base=10000, layer_norm_eps=1e-5, tie_word_embeddings=False,
    use_parallel_residual=True, torch_dtype="float16", bos_token_id=0, eos_token_id=0,
)  # fmt: skip
FORMS = {"parallel": True, "sequential": False}
HEADS, D_HEAD, ROTATED = 4, 8, 4
TEXT, OTHER_TEXT = "To be, or not to be", "The rest is silence"
# Sums in another order differ by this much of the largest element.
CLOSE = 2e-6


def generator(seed):
    return torch.Generator().manual_seed(seed)


def model_of(form, weights):
    config = GPTNeoXConfig(**CONFIG | {"use_parallel_residual": FORMS[form]})
    config._attn_implementation = "eager"
    model = GPTNeoXForCausalLM(config).float().eval()
    model.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return model


def random_weights():
    """Large enough that no softmax and no GELU is nearly linear; biases and norms are not left at 0 and 1."""
    random, weights = generator(19), {}
    for name, old in GPTNeoXForCausalLM(GPTNeoXConfig(**CONFIG)).named_parameters():
        noise = torch.randn(old.shape, generator=random)
        if old.dim() == 2:
            gain = 1.5 if "query_key_value" in name else 1
            new = noise * (1 if "embed" in name else gain * old.shape[1] ** -0.5)
        else:
            new = noise * 0.3 + (1 if "norm" in name and name.endswith("weight") else 0)
        weights[name] = new.half()
    return weights


def assert_close(name, got, want):
    assert got.shape == want.shape, f"{name}: shape {tuple(got.shape)}, wanted {tuple(want.shape)}"
    finite = want.isfinite()
    assert torch.equal(finite, got.isfinite()), f"{name}: not masked alike"
    far = (got - want)[finite].abs().max().item()
    assert far <= CLOSE * want[finite].abs().max().item(), f"{name}: {far} apart"
    return far / want[finite].abs().max().item()


def modules_of(model):
    """What is seen at a module: its name, the module, and whether its input is meant or its output."""
    base = model.gpt_neox
    yield "hook_embed", base.embed_in, "output"
    for n, layer in enumerate(base.layers):
        block = f"blocks.{n}"
        yield f"{block}.hook_resid_pre", layer, "input"
        yield f"{block}.ln1.hook_normalized", layer.input_layernorm, "output"
        yield f"{block}.attn.qkv", layer.attention.query_key_value, "output"
        yield f"{block}.attn.hook_z", layer.attention.dense, "input"
        yield f"{block}.hook_attn_out", layer.attention.dense, "output"
        if not layer.use_parallel_residual:
            yield f"{block}.hook_resid_mid", layer.post_attention_layernorm, "input"
        yield f"{block}.ln2.hook_normalized", layer.post_attention_layernorm, "output"
        yield f"{block}.mlp.hook_pre", layer.mlp.dense_h_to_4h, "output"
        yield f"{block}.mlp.hook_post", layer.mlp.dense_4h_to_h, "input"
        yield f"{block}.hook_mlp_out", layer.mlp.dense_4h_to_h, "output"
        yield f"{block}.hook_resid_post", layer, "output"
    yield "ln_final.hook_normalized", base.final_layer_norm, "output"


@torch.no_grad()
def hooks_of(model, tokens):
    """Every hook of a pass over the tokens, by name. What transformers returns itself is held to it."""
    seen, handles, rotated = {}, [], []
    for name, module, side in modules_of(model):
        def keep(_module, inputs, output, name=name, side=side):
            seen[name] = (inputs[0] if side == "input" else output)[0].clone()

        handles.append(module.register_forward_hook(keep))

    eager = modeling_gpt_neox.eager_attention_forward

    def attention(module, query, key, value, mask, scaling, **rest):
        rotated.append((query[0], key[0], value[0], scaling))
        return eager(module, query, key, value, mask, scaling, **rest)

    modeling_gpt_neox.eager_attention_forward = attention
    out = model(tokens[None], use_cache=False, output_attentions=True, output_hidden_states=True)
    modeling_gpt_neox.eager_attention_forward = eager
    for handle in handles:
        handle.remove()

    future = torch.ones(len(tokens), len(tokens), dtype=torch.bool).triu(1)
    for n, (query, key, value, scaling) in enumerate(rotated):
        attn, layer = f"blocks.{n}.attn", model.gpt_neox.layers[n]
        q, k, v = seen.pop(f"{attn}.qkv").unflatten(1, (HEADS, 3, D_HEAD)).unbind(2)
        seen |= {f"{attn}.hook_q": q, f"{attn}.hook_k": k, f"{attn}.hook_v": v}
        seen |= {f"{attn}.hook_rot_q": query.transpose(0, 1), f"{attn}.hook_rot_k": key.transpose(0, 1)}
        assert scaling == D_HEAD**-0.5
        scores = (query @ key.transpose(1, 2) * scaling).masked_fill(future, -torch.inf)
        seen |= {f"{attn}.hook_attn_scores": scores, f"{attn}.hook_pattern": out.attentions[n][0]}
        z = seen[f"{attn}.hook_z"] = seen[f"{attn}.hook_z"].unflatten(1, (HEADS, D_HEAD))

        # The parts fit together, and are what the model has returned.
        assert_close("values", value.transpose(0, 1), v)
        assert torch.equal(q[0], query[:, 0]), "position 0 is not rotated"
        assert torch.equal(q[..., ROTATED:], query.transpose(0, 1)[..., ROTATED:]), "half of a head is rotated"
        assert_close("pattern", scores.softmax(-1), out.attentions[n][0])
        assert_close("z", (out.attentions[n][0] @ v.transpose(0, 1)).transpose(0, 1), z)
        pre, attn_out, mlp_out = (seen[f"blocks.{n}.hook_{at}"] for at in ("resid_pre", "attn_out", "mlp_out"))
        assert_close("attn_out", layer.attention.dense(z.flatten(1)), attn_out)
        if not layer.use_parallel_residual:
            assert_close("resid_mid", pre + attn_out, seen[f"blocks.{n}.hook_resid_mid"])
        assert_close("resid_post", pre + attn_out + mlp_out, seen[f"blocks.{n}.hook_resid_post"])
        mlp_post = torch.nn.functional.gelu(seen[f"blocks.{n}.mlp.hook_pre"])
        assert_close("mlp.post", mlp_post, seen[f"blocks.{n}.mlp.hook_post"])
        assert torch.equal(pre, out.hidden_states[n][0])
    assert torch.equal(seen["hook_embed"], out.hidden_states[0][0])
    # The last of the hidden states is normed.
    assert torch.equal(seen["ln_final.hook_normalized"], out.hidden_states[-1][0])
    last = seen[f"blocks.{len(rotated) - 1}.hook_resid_post"]
    assert_close("ln_final", model.gpt_neox.final_layer_norm(last), seen["ln_final.hook_normalized"])
    assert_close("logits", model.lm_head(seen["ln_final.hook_normalized"]), out.logits[0])
    return {name: value.contiguous() for name, value in (seen | {"logits": out.logits[0]}).items()}


def tokenizer():
    """An end of text, a token for each byte (its id is one more), one merge. The other rows are padding, as in Pythia."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    end = {"id": 0, "content": "<|endoftext|>", "special": True}
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    vocabulary = {end["content"]: 0} | {letters[byte]: byte + 1 for byte in range(256)} | {"qu": 257}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [end | flags],
        "normalizer": {"type": "NFC"}, "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "vocab": vocabulary, "merges": ["q u"]},
    }  # fmt: skip


def inputs_of():
    ids = lambda text: torch.tensor([byte + 1 for byte in text.encode()])
    vector = 4 * torch.randn(CONFIG["hidden_size"], generator=generator(20))
    return {"tokens": ids(TEXT), "patch.tokens": ids(OTHER_TEXT), "steer.vector": vector}


def interventions(model, inputs, other):
    """By name: a module, and what replaces its input or its output. `other` is resid_post of layer 0 of patch.tokens."""
    layers = model.gpt_neox.layers

    def head(layer, n, change):
        def replace(_module, arguments):
            z = arguments[0].clone()
            part = z[..., n * D_HEAD : (n + 1) * D_HEAD]
            part.copy_(change(part))
            return (z,)

        return layers[layer].attention.dense.register_forward_pre_hook(replace)

    def output(module, change):
        return module.register_forward_hook(lambda _module, _inputs, out: change(out.clone()))

    def patched(out):
        out[0, 5] = other[5]
        return out

    return {
        # z of head 2 of layer 1 is 0.
        "zero_head": lambda: head(1, 2, torch.zeros_like),
        # z of head 1 of layer 0 is at every position its mean over the positions of this text.
        "mean_head": lambda: head(0, 1, lambda part: part.mean(1, keepdim=True)),
        # The MLP of layer 0 adds nothing, its bias included.
        "zero_mlp": lambda: output(layers[0].mlp, torch.zeros_like),
        # steer.vector is added to resid_post of layer 0 at every position.
        "steer": lambda: output(layers[0], lambda out: out + inputs["steer.vector"]),
        # resid_post of layer 0 at position 5 is that of patch.tokens.
        "patch": lambda: output(layers[0], patched),
    }


@torch.no_grad()
def logits_of(model, tokens):
    return model(tokens[None], use_cache=False).logits[0]


@torch.no_grad()
def intervened(form, weights, inputs):
    model = model_of(form, weights)
    plain = logits_of(model, inputs["tokens"])
    other = hooks_of(model, inputs["patch.tokens"])["blocks.0.hook_resid_post"]
    out = {}
    for case, start in interventions(model, inputs, other).items():
        handle = start()
        out[case] = logits_of(model, inputs["tokens"])
        handle.remove()
        assert (out[case] - plain).abs().max() > 0.1 * plain.abs().max(), f"{case} changes nothing"
    assert torch.equal(out["patch"][:5], plain[:5]), "a patch changes what comes before it"

    # The same by other weights instead of hooks.
    block = "gpt_neox.layers.{}.{}".format
    down, dense = block(0, "mlp.dense_4h_to_h"), block(1, "attention.dense.weight")
    zero_head = weights[dense].clone()
    zero_head[:, 2 * D_HEAD : 3 * D_HEAD] = 0
    nothing = {f"{down}.{part}": torch.zeros_like(weights[f"{down}.{part}"]) for part in ("weight", "bias")}
    steered = {f"{down}.bias": weights[f"{down}.bias"].float() + inputs["steer.vector"]}
    for case, change in {"zero_head": {dense: zero_head}, "zero_mlp": nothing, "steer": steered}.items():
        assert_close(case, logits_of(model_of(form, weights | change), inputs["tokens"]), out[case])
    return {f"{case}.logits": logits for case, logits in out.items()}


def transformer_lens_hooks(form, weights, tokens):
    """What TransformerLens has by the same names, norms with gain and bias."""
    model = model_of(form, weights)
    norms = {name: module for name, module, _side in modules_of(model) if name.endswith("hook_normalized")}
    try:
        from transformer_lens import HookedTransformer, HookedTransformerConfig
    except ImportError:
        from transformer_lens.model_bridge import TransformerBridge

        with tempfile.TemporaryDirectory() as folder:
            model.config.save_pretrained(folder)
            lens = TransformerBridge.boot_transformers(folder, hf_model=model, device="cpu")
        lens.enable_compatibility_mode(no_processing=True)
    else:
        from transformer_lens.pretrained.weight_conversions import convert_neox_weights

        config = HookedTransformerConfig(
            n_layers=2, d_model=32, n_ctx=64, d_head=D_HEAD, n_heads=HEADS, d_mlp=96, d_vocab=264, act_fn="gelu", eps=1e-5,
            normalization_type="LN", positional_embedding_type="rotary", rotary_dim=ROTATED, rotary_adjacent_pairs=False,
            parallel_attn_mlp=FORMS[form], device="cpu", original_architecture="GPTNeoXForCausalLM",
        )  # fmt: skip
        if not hasattr(model, "embed_out"):
            model.embed_out = model.lm_head
        lens = HookedTransformer(config)
        state = lens.fill_missing_keys(convert_neox_weights(model, config))
        lens.load_and_process_state_dict(
            state, fold_ln=False, center_writing_weights=False, center_unembed=False, fold_value_biases=False
        )
    logits, cache = lens.run_with_cache(tokens[None], prepend_bos=False)
    release = version("transformer_lens")
    print(f"{type(lens).__name__} of TransformerLens {release}")
    hooks = {name: value[0] for name, value in cache.items()} | {"logits": logits[0]}
    if int(release.split(".")[0]) >= 3:
        hooks |= {name: hooks[name] * norm.weight + norm.bias for name, norm in norms.items()}
    return hooks


@torch.no_grad()
def compare(folder):
    weights = load_file(folder / "model.safetensors")
    for form in FORMS:
        goldens = load_file(folder / f"{form}.safetensors")
        lens = transformer_lens_hooks(form, weights, goldens["tokens"])
        hooks = [name for name in goldens if "hook_" in name or name == "logits"]
        missing = [name for name in hooks if name not in lens]
        apart = {name: assert_close(name, lens[name], goldens[name]) for name in hooks if name in lens}
        worst = max(apart, key=apart.get)
        print(f"{form}: {len(apart)} hooks agree, at most {apart[worst]:.1e} of the largest element apart ({worst})")
        print(f"{form}: not there: {', '.join(missing) or 'none'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transformer-lens", action="store_true", help="compare the folder with TransformerLens")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.transformer_lens:
        compare(args.folder)
        return
    weights, inputs = random_weights(), inputs_of()
    (args.folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    (args.folder / "tokenizer.json").write_text(json.dumps(tokenizer(), ensure_ascii=False) + "\n", encoding="utf-8")
    save_file(weights, args.folder / "model.safetensors", {"format": "pt"})
    for form in FORMS:
        hooks = hooks_of(model_of(form, weights), inputs["tokens"])
        save_file(inputs | hooks | intervened(form, weights, inputs), args.folder / f"{form}.safetensors")


if __name__ == "__main__":
    main()
