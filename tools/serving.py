"""A `pythia-run serve` for the scripts of this folder, and requests to it. Needs nothing but Python."""

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "tests/data/pythia-docs-6m"


def convert(bin, folder, types, checkpoint=MODEL):
    """Files of the shipped model, by type."""
    files = {}
    for kind in types:
        files[kind] = Path(folder, f"{kind}.gguf")
        command = [str(Path(bin, "pythia-quant")), "convert", str(checkpoint), "-t", kind, "-o", str(files[kind])]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return files


class Server:
    """The server of these files, at a free port of this machine, until the end of the `with`."""

    def __init__(self, bin, files, *options, env=None):
        models = [part for name, path in files.items() for part in ("-m", f"{name}={path}")]
        command = [str(Path(bin, "pythia-run")), "serve", *models, "--port", "0", *map(str, options)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        line = self.process.stdout.readline()
        if "http://" not in line:
            raise RuntimeError(f"the server did not start: {line!r}, exit code {self.process.wait()}")
        self.address = line.split("http://")[1].strip()
        self.url = f"http://{self.address}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise RuntimeError("the server did not stop within 30 seconds of SIGTERM") from None

    def _status(self, *names):
        """The sum of these numbers of the system's status of the process."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.split(":")[0] in names)

    def memory(self):
        """Bytes of its own, in memory or swapped: without the pages of the mapped files."""
        return 1024 * self._status("RssAnon", "VmSwap")

    def threads(self):
        return self._status("Threads")

    def files(self):
        """Files and connections that are open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def text(self, path):
        return request(self.address, "GET", path, parse=str)

    def get(self, path):
        return request(self.address, "GET", path)

    def post(self, path, body):
        return request(self.address, "POST", path, body)


def request(address, method, path, body=None, timeout=600, parse=json.loads):
    """The reply, as JSON unless it is parsed otherwise; an error for any status but 200."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
        response = connection.getresponse()
        text = response.read().decode()
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {response.status} {text[:300]!r}")
        return parse(text)
    finally:
        connection.close()


def stream(address, body, on_event, timeout=600):
    """The events of a streamed completion, until the end or until `on_event` returns False: then the client hangs up."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request("POST", "/v1/completions", json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"stream: {response.status} {response.read()[:300]!r}")
        for line in response:
            line = line.strip()
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return True
            if on_event(json.loads(data)) is False:
                return False
        return False
    finally:
        connection.close()


def together(n, work):
    """Runs work(0) to work(n - 1) at the same time, and returns what they return and the seconds until all were done."""
    results, errors = [None] * n, []

    def run(i):
        try:
            results[i] = work(i)
        except Exception as error:  # shown by the caller's thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - start
    if errors:
        raise errors[0]
    return results, seconds
