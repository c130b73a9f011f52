#!/usr/bin/env python3
"""Measures sweep commands at the size of the whole suite: 16 models, 154 checkpoints, 8 recipes, 19,712 cells.

    cargo build --release --bins && cargo build --release -p pythia-sweep --example made_up && tools/sweep_scale.py

A server on this machine plays the Hub for the plan. The other commands read a sweep of made-up results. Prints seconds and
peak memory of each command, medians of several runs.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZES = ["70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b"]
STEPS = [0, *(2**i for i in range(10)), *range(1000, 144000, 1000)]


def sha1(text):
    return hashlib.sha1(text.encode()).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """Lists of branches and of files, and nothing else."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    commits = {}
    requests = 0

    def do_GET(self):
        Hub.requests += 1
        parts = self.path.split("?")[0].strip("/").split("/")
        repo, what = "/".join(parts[2:4]), parts[4]
        if what == "refs":
            branches = [{"name": f"step{n}", "ref": f"refs/heads/step{n}", "targetCommit": sha1(f"{repo} {n}")} for n in STEPS]
            answer = {"branches": branches, "tags": [], "converts": []}
        else:
            answer = self.tree(parts[5])
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def tree(self, commit):
        size = int(commit[:6], 16) + 140_000_000
        small = [("config.json", 567), ("tokenizer.json", 2113710), ("tokenizer_config.json", 396), ("README.md", 9000)]
        files = [{"type": "file", "path": name, "size": n, "oid": sha1(name)} for name, n in small]
        lfs = {"oid": hashlib.sha256(commit.encode()).hexdigest(), "size": size, "pointerSize": 134}
        files.append({"type": "file", "path": "pytorch_model.bin", "size": size, "oid": sha1(commit), "lfs": lfs})
        return files

    def log_message(self, *_):
        pass


def measure(command, env):
    """Seconds and peak memory in MB."""
    start = time.monotonic()
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))}: {err.decode()[-500:]}")
    return time.monotonic() - start, usage.ru_maxrss / 1024, out.decode()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    quant = ROOT / "target/release/pythia-quant"
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        text = folder / "text.txt"
        text.write_text("Some text.\n" * 20000)
        env = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(folder / "hf")}
        env.pop("HF_HUB_OFFLINE", None)
        sweep, made = folder / "sweep", folder / "made"
        levels = "Q8_0,Q6_K,Q5_K_M,Q4_K_M,Q4_0,Q3_K_M,Q2_K"
        plan = [quant, "sweep", "plan", "suite", "-t", levels, "-f", text, "-o", sweep, "--force"]
        subprocess.run([ROOT / "target/release/examples/made_up", made], check=True)
        commands = [
            ("plan", plan),
            ("status, nothing done", [quant, "sweep", "status", sweep]),
            ("status, all done", [quant, "sweep", "status", made]),
            ("collect as CSV", [quant, "sweep", "collect", made, "-o", folder / "table.csv", "--force"]),
            ("collect as Parquet", [quant, "sweep", "collect", made, "-o", folder / "table.parquet", "--force"]),
            ("report", [quant, "sweep", "report", made, "-o", folder / "page.html", "--force"]),
        ]
        print(f"{'command':<24}{'seconds':>9}{'MB':>7}")
        for name, command in commands:
            runs = [measure(command, env) for _ in range(args.runs)]
            print(f"{name:<24}{statistics.median(r[0] for r in runs):>9.2f}{max(r[1] for r in runs):>7.0f}")
        cells = sum('"kind":"cell"' in line for line in (sweep / "manifest.jsonl").open())
        sizes = {name: (folder / name).stat().st_size for name in ["table.csv", "table.parquet", "page.html"]}
        print(f"{cells} cells; {Hub.requests // args.runs} requests per plan; " + ", ".join(f"{n} {b / 1e6:.1f} MB" for n, b in sizes.items()))


if __name__ == "__main__":
    main()
