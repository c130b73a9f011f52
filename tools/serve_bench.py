#!/usr/bin/env python3
"""Tokens per second of 1, 8 and 32 generations at once: `pythia-run serve`, and llama-cpp-python's server beside it.

    cargo build --release
    python3 tools/serve_bench.py FILE.gguf... [--threads N] [--peer PYTHON] [--tokens 64] [--repeat 3]

PYTHON is an interpreter with llama-cpp-python[server]. The two servers take turns in one sitting, one at a time, with the
same file, threads and requests. The best of the repetitions counts. That server works on one request after another, and
needs that: llama.cpp's own server is a program that this package does not have.
"""

import argparse
import os
import socket
import subprocess
import time
from pathlib import Path

import serving

AT_ONCE = [1, 8, 32]
# Ends of texts would make runs differ in length: token 0 is Pythia's.
NO_END = {"0": -100}
PROMPT = "Request {}: the history of the town begins with"


def measure(address, model, n, tokens):
    """Generated tokens per second of n requests at once."""

    def one(i):
        body = {"model": model, "prompt": PROMPT.format(i), "max_tokens": tokens, "temperature": 0, "logit_bias": NO_END}
        return serving.request(address, "POST", "/v1/completions", body)["usage"]["completion_tokens"]

    counts, seconds = serving.together(n, one)
    return sum(counts) / seconds


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Peer:
    """llama-cpp-python's server."""

    def __init__(self, python, path, threads):
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        options = ["--model", path, "--port", port, "--n_threads", threads, "--n_threads_batch", threads, "--n_ctx", 512, "--model_alias", "M", "--verbose", "False"]
        command = [str(python), "-m", "llama_cpp.server", *map(str, options)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                serving.request(self.address, "GET", "/v1/models")
                return
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError("llama-cpp-python's server did not start") from None
                time.sleep(0.1)
        raise RuntimeError("llama-cpp-python's server does not answer")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--bin", type=Path, default=serving.ROOT / "target/release")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    for path in args.files:
        best = {}
        for _ in range(args.repeat):
            with serving.Server(args.bin, {"M": path}, "--parallel", max(AT_ONCE), "-t", args.threads) as server:
                measure(server.address, "M", 1, 8)
                for n in AT_ONCE:
                    best["pythia", n] = max(best.get(("pythia", n), 0), measure(server.address, "M", n, args.tokens))
            if args.peer:
                with Peer(args.peer, path, args.threads) as peer:
                    measure(peer.address, "M", 1, 8)
                    for n in AT_ONCE:
                        best["llama-cpp-python", n] = max(best.get(("llama-cpp-python", n), 0), measure(peer.address, "M", n, args.tokens))
        print(f"{path.name}, {args.threads} threads, {args.tokens} tokens each")
        for name in ("pythia", "llama-cpp-python"):
            if (name, 1) not in best:
                continue
            figures = [best[name, n] for n in AT_ONCE]
            cells = ", ".join(f"{n} at once {rate:.1f} t/s ({rate / figures[0]:.2f} x)" for n, rate in zip(AT_ONCE, figures))
            print(f"  {name}: {cells}", flush=True)
        if args.peer:
            ratios = ", ".join(f"{n} at once {best['pythia', n] / best['llama-cpp-python', n]:.2f}" for n in AT_ONCE)
            print(f"  pythia / llama-cpp-python: {ratios}", flush=True)


if __name__ == "__main__":
    main()
