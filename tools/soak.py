#!/usr/bin/env python3
"""Loads a server for ten minutes with requests that are answered, streamed, wrong, or given up in the middle.

    cargo build --release
    python3 tools/soak.py [--seconds 600] [--warm-up 60] [--clients 12]

First every sequence is filled, and the clients warm up. From then to the end:

- Memory (anonymous pages, swapped ones too) must not grow by more than `--growth` MiB: the median of the last fifth of the
  samples less that of the first fifth. The allocator is the system's own, so the kept heaps of its threads are in it.
- A control request, sent again and again, must give the same bits every time.

Once the clients are gone, every slot must be idle, nothing may run or wait, and there must be as many open files as before
them, and as many threads, but for those that wait for more work.
"""

import argparse
import json
import random
import statistics
import string
import sys
import tempfile
import threading
import time
from pathlib import Path

import serving

# Threads that prepare requests, or run one of /v1/tokens: `max_blocking_threads` in crates/server/src/server.rs.
BLOCKING_THREADS = 4
CONTROL = {"prompt": "A trait is a collection of methods", "max_tokens": 24, "temperature": 0.7, "seed": 11, "logprobs": 3, "echo": True}


def control(server):
    """What must not depend on other requests: all but how many tokens of the prompt happened to be in a sequence already."""
    reply = server.post("/v1/completions", CONTROL)
    del reply["usage"]["prompt_tokens_details"]
    return json.dumps([reply["choices"], reply["usage"]], sort_keys=True)


def difference(expected, reply):
    """Of two replies, from a little before where they part."""
    at = next((i for i, (a, b) in enumerate(zip(expected, reply)) if a != b), min(len(expected), len(reply)))
    return " instead of ".join(repr(text[max(at - 120, 0) : at + 120]) for text in (reply, expected))


class Load:
    """Clients that ask for random things until told to stop."""

    def __init__(self, server, text):
        self.server, self.text, self.stop = server, text, threading.Event()
        self.lock = threading.Lock()
        self.counts, self.errors = {}, []

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def total(self):
        with self.lock:
            return sum(self.counts.values())

    def by_kind(self):
        return ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items()))

    def client(self, number):
        dice = random.Random(number)
        self.repeat(lambda: self.one(dice))

    def controls(self, expected):
        def one():
            if (reply := control(self.server)) != expected:
                raise RuntimeError(f"the control request changed: {difference(expected, reply)}")
            self.stop.wait(0.5)
            return "control, with the same bits"

        self.repeat(one)

    def repeat(self, one):
        while not self.stop.is_set():
            try:
                self.count(one())
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
        kind = dice.choice(["plain", "echo", "several", "streamed", "hung up", "hung up", "hung up early", "tokens", "strange", "wrong"])
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
        elif kind == "strange":
            # Nothing may remember words that nobody used before.
            word = lambda: "".join(dice.choices(string.ascii_letters, k=dice.randrange(10, 250)))
            self.server.post("/tokenize", {"prompt": " ".join(word() for _ in range(100))})
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


def within(seconds, reached):
    """Whether this is so within this time."""
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def open_work(server):
    """What runs or waits: slots by /slots, and the gauges of /metrics that are not 0. One connection is the one that asks."""
    found = [f"slot {slot['id']} is {slot['state']}" for slot in server.get("/slots") if slot["is_processing"]]
    for line in server.text("/metrics").splitlines():
        name, _, value = line.rpartition(" ")
        gauge = name.removeprefix("pythia:").split("{")[0]
        if gauge in ("requests_processing", "requests_deferred", "completions", "connections"):
            if float(value) > (gauge == "connections"):
                found.append(line)
    return found


def measure(server, load, warm_up, seconds):
    """Samples of memory after the warm-up, as (time, bytes)."""
    begin, samples, shown = time.monotonic(), [], 0
    while (now := time.monotonic() - begin) < seconds and not load.errors:
        memory = server.memory()
        if now >= shown:
            print(f"{now:5.0f} s: {memory / 2**20:.1f} MiB, {server.threads()} threads, {load.total()} requests", flush=True)
            shown += 60 if seconds > 120 else 5
        if now >= warm_up:
            samples.append((now, memory))
        time.sleep(min(2, seconds / 100))
    return samples


def growth(samples):
    """Of memory, in bytes: the medians of the first and of the last fifth of the samples, and their difference."""
    fifth = max(len(samples) // 5, 1)
    first, last = (statistics.median(memory for _, memory in part) for part in (samples[:fifth], samples[-fifth:]))
    return first, last, last - first


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--warm-up", type=float, help="of these; a tenth, and at least 8, if it is not given")
    parser.add_argument("--growth", type=float, default=4, help="MiB that memory may grow by after that")
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--bin", type=Path, default=serving.ROOT / "target/release")
    args = parser.parse_args()
    warm_up = max(args.seconds / 10, 8) if args.warm_up is None else args.warm_up
    text = (serving.MODEL / "heldout.txt").read_text()
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        files = serving.convert(args.bin, folder, ["F16", "Q4_0"])
        with serving.Server(args.bin, files, "--parallel", 8) as server:
            fill(server, text, 8, files)
            expected = control(server)
            within(10, lambda: not open_work(server))
            before = server.files(), server.threads()
            load = Load(server, text)
            clients = [threading.Thread(target=load.client, args=(i,)) for i in range(args.clients)]
            clients.append(threading.Thread(target=load.controls, args=(expected,)))
            for client in clients:
                client.start()
            samples = measure(server, load, warm_up, args.seconds)
            load.stop.set()
            for client in clients:
                client.join()
            if not within(20, lambda: not open_work(server)):
                failures.append(f"20 s after the last request: {', '.join(open_work(server))}")
            if not within(10, lambda: server.files() <= before[0]):
                failures.append(f"{server.files()} files are open, {before[0]} before")
            if server.threads() > before[1] + BLOCKING_THREADS:
                failures.append(f"{server.threads()} threads, {before[1]} before")
            if (last := control(server)) != expected:
                failures.append(f"the control request changed after the load: {difference(expected, last)}")
            failures += load.errors[:5]
            print(f"{args.clients} clients, {load.total()} requests: {load.by_kind()}")
            if len(samples) < 10:
                failures.append(f"{len(samples)} samples of memory after the warm-up, wanted at least 10")
            else:
                first, last, more = growth(samples)
                seconds = samples[-1][0] - samples[0][0]
                print(f"memory: {first / 2**20:.1f} MiB after {warm_up:.0f} s of warm-up, {last / 2**20:.1f} MiB {seconds:.0f} s later")
                if more > args.growth * 2**20:
                    failures.append(f"memory grew by {more / 2**20:.1f} MiB in {seconds:.0f} s, wanted at most {args.growth:g}")
    for failure in failures:
        print(f"soak: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
