#!/usr/bin/env python3
"""Tokens per second of 1, 8 and 32 generations at once: `pythia-run serve`, and another server beside it.

    cargo build --release
    python3 tools/serve_bench.py FILE.gguf... [--threads N] [--tokens 64] [--repeat 3]
        [--llama-server PROGRAM | --peer PYTHON]

PROGRAM is llama.cpp's `llama-server`: no package has it, but the sources of llama-cpp-python (`pip download --no-binary
:all: llama-cpp-python`, folder vendor/llama.cpp) build it with cmake. PYTHON is an interpreter with
llama-cpp-python[server], which works on one request after another.

The two servers take turns in one sitting, one at a time, with the same file, threads and requests. The best of the
repetitions counts.
"""

import argparse
import os
import socket
import subprocess
import time
from pathlib import Path

import serving

AT_ONCE = [1, 8, 32]
POSITIONS = 256
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
    """Another server, given by its command."""

    def __init__(self, command, port):
        self.address = f"127.0.0.1:{port}"
        self.process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                serving.request(self.address, "GET", "/v1/models")
                return
            except (OSError, RuntimeError):
                if self.process.poll() is not None:
                    raise RuntimeError(f"{command[0]} did not start") from None
                time.sleep(0.1)
        raise RuntimeError(f"{command[0]} does not answer")

    @classmethod
    def llama_server(cls, program, path, threads):
        """As many sequences as ours, with the same room for each."""
        port, n = free_port(), max(AT_ONCE)
        options = ["--model", path, "--port", port, "--threads", threads, "--threads-batch", threads, "--parallel", n, "--ctx-size", n * POSITIONS, "--alias", "M"]
        return cls([program, *options], port)

    @classmethod
    def llama_cpp_python(cls, python, path, threads):
        port = free_port()
        options = ["--model", path, "--port", port, "--n_threads", threads, "--n_threads_batch", threads, "--n_ctx", POSITIONS, "--model_alias", "M", "--verbose", "False"]
        return cls([python, "-m", "llama_cpp.server", *options], port)

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
    parser.add_argument("--llama-server", type=Path)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    if args.llama_server:
        peer_name, program, start = "llama-server", args.llama_server, Peer.llama_server
    else:
        peer_name, program, start = "llama-cpp-python", args.peer, Peer.llama_cpp_python
    for path in args.files:
        best = {}
        for _ in range(args.repeat):
            with serving.Server(args.bin, {"M": path}, "--parallel", max(AT_ONCE), "-c", POSITIONS, "-t", args.threads) as server:
                measure(server.address, "M", 1, 8)
                for n in AT_ONCE:
                    best["pythia", n] = max(best.get(("pythia", n), 0), measure(server.address, "M", n, args.tokens))
            if program:
                with start(program, path, args.threads) as peer:
                    measure(peer.address, "M", 1, 8)
                    for n in AT_ONCE:
                        best[peer_name, n] = max(best.get((peer_name, n), 0), measure(peer.address, "M", n, args.tokens))
        print(f"{path.name}, {args.threads} threads, {args.tokens} tokens each")
        for name in ("pythia", peer_name):
            if (name, 1) not in best:
                continue
            figures = [best[name, n] for n in AT_ONCE]
            cells = ", ".join(f"{n} at once {rate:.1f} t/s ({rate / figures[0]:.2f} x)" for n, rate in zip(AT_ONCE, figures))
            print(f"  {name}: {cells}", flush=True)
        if program:
            ratios = ", ".join(f"{n} at once {best['pythia', n] / best[peer_name, n]:.2f}" for n in AT_ONCE)
            print(f"  pythia / {peer_name}: {ratios}", flush=True)


if __name__ == "__main__":
    main()
