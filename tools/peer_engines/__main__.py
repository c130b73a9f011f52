"""One task of one engine, in the engine's own environment: python -m peer_engines ENGINE PRECISION FOLDER CHECKPOINT

The task comes as JSON on the standard input, the answer goes as JSON to the standard output. Tasks are

    {"task": "convert"}
    {"task": "speed", "threads": T, "n_prompt": P, "n_gen": N}
    {"task": "check", "threads": T, "windows": [[id, ...], ...], "n_gen": N}

`check` scores the second half of each window as llama-perplexity does, each token by a prompt of its own, and generates
after the first window. So one figure stands for prompts, and the other for the cache.
"""

import contextlib
import importlib.metadata
import json
import sys
import time
from pathlib import Path

import numpy as np
from likelihood import negative_log_likelihood

import peer_engines


def speed(engine, task):
    """Tokens per second of a prompt, and of tokens one by one from an empty cache, each after a warm-up.

    The token ids do not matter: there is no sparsity in GPT-NeoX.
    """
    ids = [(7 * i + 1) % 1000 for i in range(task["n_prompt"])]
    rates = {}
    for kind, n, run in [
        ("pp", task["n_prompt"], lambda: engine.prompt(ids)),
        ("tg", task["n_gen"], lambda: engine.generate(ids[:1], task["n_gen"])),
    ]:
        if kind == "pp":
            run()
        else:
            engine.generate(ids[:1], 8)
        start = time.perf_counter()
        run()
        rates[kind] = n / (time.perf_counter() - start)
    return rates


def check(engine, task):
    """NLL of each scored token, generated tokens, and how many of these its own prompts would give."""
    nll = []
    for window in task["windows"]:
        for at in range(len(window) // 2 + 1, len(window)):
            nll.append(float(negative_log_likelihood(engine.prompt(window[:at])[None], [window[at]])[0]))
    first = task["windows"][0]
    tokens = [int(token) for token in engine.generate(first, task["n_gen"])]
    own = sum(int(engine.prompt(first + tokens[:i]).argmax()) == token for i, token in enumerate(tokens))
    return {"nll": nll, "tokens": tokens, "own": own}


def main():
    name, precision, folder, checkpoint = sys.argv[1:]
    task = json.load(sys.stdin)
    module = peer_engines.module(name)
    answer = {"versions": {package: importlib.metadata.version(package) for package in module.PACKAGES}}
    # Some engines print: that must not mix with the answer.
    with contextlib.redirect_stdout(sys.stderr):
        if task["task"] == "convert":
            module.convert(Path(checkpoint), Path(folder), peer_engines.weights_of(precision))
        else:
            engine = module.Engine(Path(checkpoint), Path(folder), precision, task["threads"])
            answer["what"] = engine.what
            answer |= {"speed": speed, "check": check}[task["task"]](engine, task)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
