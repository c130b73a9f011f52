#!/usr/bin/env python3
"""Loads a server for ten minutes with requests that are answered, streamed, wrong, or given up in the middle.

    cargo build --release
    python3 tools/soak.py [--seconds 600] [--clients 12]

At the end memory must be what it was after the first tenth (within 8 MiB and 5 %), all slots idle, and a control request
must have given the same bits throughout.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import serving

CONTROL = {"prompt": "A trait is a collection of methods", "max_tokens": 24, "temperature": 0.7, "seed": 11, "logprobs": 3, "echo": True}


def control(server):
    reply = server.post("/v1/completions", CONTROL)
    return json.dumps([reply["choices"], reply["usage"]], sort_keys=True)


class Load:
    """Clients that ask for random things until told to stop."""

    def __init__(self, server, text):
        self.server, self.text, self.stop = server, text, threading.Event()
        self.lock = threading.Lock()
        self.counts, self.errors = {}, []

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def client(self, number):
        dice = random.Random(number)
        while not self.stop.is_set():
            try:
                self.count(self.one(dice))
            except Exception as error:
                if "429" in str(error):
                    self.count("refused as busy")
                    time.sleep(0.2)
                else:
                    with self.lock:
                        self.errors.append(repr(error))
                    return

    def one(self, dice):
        start = dice.randrange(len(self.text) - 2000)
        prompt = self.text[start : start + dice.choice([10, 100, 600])]
        body = {"prompt": prompt, "max_tokens": dice.choice([1, 8, 40]), "temperature": dice.choice([0, 0.8]), "seed": dice.randrange(100)}
        kind = dice.choice(["plain", "echo", "several", "streamed", "hung up", "hung up", "hung up early", "tokens", "wrong"])
        if kind == "echo":
            self.server.post("/v1/completions", {**body, "echo": True, "logprobs": 2})
        elif kind == "several":
            self.server.post("/v1/completions", {**body, "prompt": [prompt, prompt[:20]], "n": 2})
        elif kind == "streamed":
            if not serving.stream(self.server.address, body, lambda event: True):
                raise RuntimeError("a stream ended without [DONE]")
        elif kind == "hung up":
            left = dice.randrange(1, 6)

            def event(_):
                nonlocal left
                left -= 1
                return left > 0

            serving.stream(self.server.address, {**body, "max_tokens": 200}, event)
        elif kind == "hung up early":
            import http.client

            connection = http.client.HTTPConnection(self.server.address, timeout=60)
            connection.request("POST", "/v1/completions", json.dumps({**body, "max_tokens": 200}), {"Content-Type": "application/json"})
            time.sleep(dice.random() * 0.05)
            connection.close()
        elif kind == "tokens":
            self.server.post("/v1/tokens", {"prompt": prompt, "top": 3})
        elif kind == "wrong":
            try:
                self.server.post("/v1/completions", {**body, "temperature": -1})
            except RuntimeError as error:
                if " 400 " not in str(error):
                    raise
            else:
                raise RuntimeError("a negative temperature was accepted")
        else:
            self.server.post("/v1/completions", body)
        return kind


def fill(server, text, parallel, models):
    """Makes every sequence of every model as long as it can be: memory of the caches is taken when it is first used."""
    ids = server.post("/tokenize", {"content": text[:4000], "add_special": False})["tokens"]
    for model in models:
        one = lambda i: server.post("/v1/completions", {"model": model, "prompt": ids[i : i + 500], "max_tokens": 8})
        serving.together(2 * parallel, one)
        server.post("/v1/tokens", {"prompt": ids[:500], "top": 3})


def idle(server, seconds=20):
    """Whether all slots are idle within this time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(slot["is_processing"] for slot in server.get("/slots")):
            return True
        time.sleep(0.2)
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--bin", type=Path, default=serving.ROOT / "target/release")
    args = parser.parse_args()
    text = (serving.MODEL / "heldout.txt").read_text()
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        files = serving.convert(args.bin, folder, ["F16", "Q4_0"])
        # glibc gives threads heaps of their own, which fill up for a long time. In a single one, what grows is a leak.
        with serving.Server(args.bin, files, "--parallel", 8, env={"MALLOC_ARENA_MAX": "1"}) as server:
            fill(server, text, 8, files)
            expected = control(server)
            load = Load(server, text)
            clients = [threading.Thread(target=load.client, args=(i,)) for i in range(args.clients)]
            for client in clients:
                client.start()
            begin, memory, controls = time.monotonic(), [], 0
            while time.monotonic() - begin < args.seconds and not load.errors:
                time.sleep(min(2, args.seconds / 20))
                try:
                    if control(server) != expected:
                        failures.append(f"the control request changed after {time.monotonic() - begin:.0f} s")
                        break
                    controls += 1
                except RuntimeError as error:
                    if "429" not in str(error):
                        raise
                memory.append((time.monotonic() - begin, server.rss()))
            load.stop.set()
            for client in clients:
                client.join()
            if not idle(server):
                failures.append(f"slots are still busy: {server.get('/slots')}")
            if control(server) != expected:
                failures.append("the control request changed after the load")
            failures += load.errors[:5]
            early = max(rss for at, rss in memory if at <= max(args.seconds / 10, memory[0][0]))
            late = max(rss for at, rss in memory if at > args.seconds * 0.9) if memory[-1][0] > args.seconds * 0.9 else memory[-1][1]
            if late > early * 1.05 + (8 << 20):
                failures.append(f"memory grew from {early >> 20} to {late >> 20} MiB")
            requests = ", ".join(f"{count} {kind}" for kind, count in sorted(load.counts.items()))
            print(f"{time.monotonic() - begin:.0f} s, {args.clients} clients, {sum(load.counts.values())} requests: {requests}")
            fifths = [max((rss for at, rss in memory if i <= 5 * at / args.seconds < i + 1), default=0) >> 20 for i in range(5)]
            print(f"memory by fifths of the time, at most: {fifths} MiB")
            print(f"memory: at most {early >> 20} MiB in the first tenth, {late >> 20} MiB in the last; {controls} control requests gave the same bits")
    for failure in failures:
        print(f"soak: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
