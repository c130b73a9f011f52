#!/usr/bin/env python3
"""Perplexities that transformers gives variants of a checkpoint: tests/data/goldens/hf_variants.json.

    tools/hf_variants.py CHECKPOINT TEXT GOLDENS      computes what GOLDENS lists anew and writes it back
    tools/hf_variants.py CHECKPOINT TEXT              prints the perplexity of the checkpoint as it is

GOLDENS holds the number of chunks and, by name, the edits of config.json that make a variant. The model runs in float32 with
eager attention. Chunks are disjoint and of 512 tokens, and the second half of each is scored: `perplexity` of pythia-run.
"""

import json
import math
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoTokenizer, GPTNeoXForCausalLM

N_CTX = 512
CHUNKS = 4


def perplexity(folder, text, chunks):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = GPTNeoXForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = tokenizer(text.removesuffix("\n"), return_tensors="pt", add_special_tokens=False).input_ids[0]
    total = count = 0
    with torch.no_grad():
        for chunk in ids[: chunks * N_CTX].split(N_CTX):
            logits = model(chunk[None]).logits[0].double()
            losses = torch.nn.functional.cross_entropy(logits[N_CTX // 2 : -1], chunk[N_CTX // 2 + 1 :], reduction="none")
            total, count = total + losses.sum().item(), count + len(losses)
    return math.exp(total / count)


def main():
    checkpoint, text = Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8")
    if len(sys.argv) < 4:
        print(repr(perplexity(checkpoint, text, CHUNKS)))
        return
    path = Path(sys.argv[3])
    goldens = json.loads(path.read_text())
    for name, variant in goldens["variants"].items():
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
            config = json.loads((checkpoint / "config.json").read_text()) | variant["config"]
            (Path(folder) / "config.json").write_text(json.dumps(config))
            variant["perplexity"] = perplexity(folder, text, goldens["chunks"])
        print(name, variant["perplexity"], file=sys.stderr)
    path.write_text(json.dumps(goldens, indent=1) + "\n")


main()
