#!/usr/bin/env python3
"""LoRA adapters as PEFT saves them, and what PEFT makes of them: merge_and_unload, then save_pretrained.

    tools/lora_fixtures.py BASE OUT [CASE ...]    OUT/CASE/adapter and OUT/CASE/merged for each case
    tools/lora_fixtures.py --dtype float16 BASE OUT    with the base's weights in f16
    tools/lora_fixtures.py --text TEXT BASE OUT    also OUT/CASE/perplexity.json, by transformers in f32

BASE is the folder of a GPT-NeoX checkpoint. tests/data/lora is `tools/lora_fixtures.py tests/data/torch/transformers-5.23.0
tests/data/lora matrices whole`. Needs torch, transformers and peft. Numbers are drawn with a fixed seed.
"""

import argparse
import json
import math
import pathlib

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

ALL = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]

# Name, arguments of LoraConfig, whether to save as .bin.
CASES = {
    "matrices": (dict(r=3, lora_alpha=5, target_modules=[*ALL, "embed_in", "lm_head"],
                      rank_pattern={"layers.1.attention.dense": 2, "dense_4h_to_h": 5},
                      alpha_pattern={r"1\..*dense.*": 7}), False),
    "whole": (dict(r=2, lora_alpha=4, target_modules=ALL[:2], bias="all", lora_bias=True, use_rslora=True,
                   modules_to_save=["lm_head", "final_layer_norm"]), True),
    "plain": (dict(r=8, lora_alpha=16), False),
    "rslora": (dict(r=16, lora_alpha=8, use_rslora=True, target_modules="all-linear"), False),
    "pattern": (dict(r=4, lora_alpha=4, target_modules=r".*\.(1|3)\.mlp\.dense.*", fan_in_fan_out=True), False),
    "layers": (dict(r=4, lora_alpha=2.5, target_modules=ALL, layers_to_transform=[0, 2], layers_pattern="layers",
                    exclude_modules=["2.attention.dense"]), False),
    "biases": (dict(r=1, lora_alpha=1, target_modules=["dense_h_to_4h"], bias="lora_only"), False),
    "embedding": (dict(r=6, lora_alpha=3, target_modules=["embed_in"], use_rslora=True), True),
    "saved": (dict(r=2, lora_alpha=2, target_modules=["dense"], modules_to_save=["embed_in", "lm_head", "mlp"]), False),
    "norms": (dict(r=2, lora_alpha=2, target_modules=["query_key_value"], bias="all"), False),
}


def load(base, dtype):
    return AutoModelForCausalLM.from_pretrained(base, dtype=dtype)


def make(base, dtype, out, case):
    arguments, as_bin = CASES[case]
    torch.manual_seed(sorted(CASES).index(case))
    # Fewer layers than a pattern names are no fault of this program.
    model = get_peft_model(load(base, dtype), LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **arguments))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, dtype=torch.float32) * 0.03
            parameter.data = (noise if "lora_" in name else parameter.data.float() + noise).to(parameter.dtype)
    model.save_pretrained(out / "adapter", safe_serialization=not as_bin)
    # What a user does: load the base again, and the adapter.
    merged = PeftModel.from_pretrained(load(base, dtype), out / "adapter").merge_and_unload()
    merged.save_pretrained(out / "merged")
    for name in ("README.md",):
        (out / "adapter" / name).unlink(missing_ok=True)
    return merged


def perplexity(model, base, text, window=512, windows=8):
    """Of disjoint windows, in each of which all but the first token are scored: the Hugging Face guide's with stride = window."""
    ids = AutoTokenizer.from_pretrained(base)(text, return_tensors="pt").input_ids[:, : window * windows]
    model = model.float().eval()
    total, n = 0.0, 0
    with torch.no_grad():
        for start in range(0, ids.shape[1] - 1, window):
            part = ids[:, start : start + window]
            logits = model(part).logits[0, :-1].double()
            total += torch.nn.functional.cross_entropy(logits, part[0, 1:], reduction="sum").item()
            n += part.shape[1] - 1
    return {"perplexity": math.exp(total / n), "scored": n, "windows": windows, "window": window}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("base")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    args = parser.parse_args()
    for case in args.cases:
        out = args.out / case
        merged = make(args.base, getattr(torch, args.dtype), out, case)
        if args.text:
            result = perplexity(merged, args.base, args.text.read_text().rstrip("\n"))
            (out / "perplexity.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
