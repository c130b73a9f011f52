"""For tools/kill9.py: a server that plays the Hub (`tools/fakehub.rs`), and what must hold of the cache at any moment.

The layout is that of `huggingface_hub`; see the head of `crates/hub/src/cache.rs`.
"""

import atexit
import hashlib
import os
import subprocess

REPO = "pythia/docs-6m"
FOLDER = "cache/models--pythia--docs-6m"


class Server:
    """The files of `folder` as the repository REPO, sent at `rate` bytes per second and connection."""

    def __init__(self, program, folder, rate):
        command = [program, str(folder), "--repo", REPO, "--port", "0", "--rate", str(rate)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        atexit.register(self.end)
        self.endpoint = self.process.stdout.readline().strip()
        if not self.endpoint.startswith("http://"):
            raise SystemExit(f"kill9: {program} did not start")

    def end(self):
        self.process.kill()
        self.process.wait()


def environment(endpoint, cache):
    """A run's variables: this server, this cache, and nothing that the user has set for the Hub."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS"))}
    # Proxies are not asked for what is on this machine, but some environments say otherwise.
    kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    return {**kept, "HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "HF_HOME": str(cache.parent / "home")}


class Contents:
    """Every content that the server has had, by the names that a cache gives it."""

    def __init__(self, folders):
        self.by_digest, self.by_name = {}, {}
        for folder in folders:
            for path in folder.iterdir():
                data = path.read_bytes()
                for digest in (hashlib.sha256(data), hashlib.sha1(b"blob %d\0" % len(data) + data)):
                    self.by_digest[digest.hexdigest()] = data
                self.by_name.setdefault(path.name, []).append(data)

    def faults(self, repo, commits):
        """What is wrong with the part of a cache below `repo`. `commits` are whole snapshots: commit to file names."""
        return [*self._blobs(repo), *self._snapshots(repo), *self._references(repo, commits)]

    def _blobs(self, repo):
        for blob in sorted(repo.glob("blobs/*")):
            data = blob.read_bytes()
            digest, _, rest = blob.name.partition(".")
            whole = self.by_digest.get(digest)
            if whole is None or (rest and not rest.endswith(".incomplete")):
                yield f"blobs/{blob.name} is nothing that the server has"
            elif not rest and data != whole:
                yield f"blobs/{blob.name} has {len(data)} bytes that do not make its digest, wanted {len(whole)}"
            elif rest and not whole.startswith(data):
                yield f"blobs/{blob.name} is no beginning of its content"

    def _snapshots(self, repo):
        for path in sorted(repo.glob("snapshots/*/*")):
            if not path.is_file():
                yield f"{path.relative_to(repo)} leads nowhere"
            elif path.read_bytes() not in self.by_name.get(path.name, []):
                yield f"{path.relative_to(repo)} is not the server's {path.name}"

    def _references(self, repo, commits):
        for path in sorted(p for p in repo.glob("refs/**/*") if p.is_file()):
            commit = path.read_text()
            if commit not in commits:
                yield f"{path.relative_to(repo)} says {commit!r}, wanted one of {', '.join(commits)}"
                continue
            lacking = [name for name in commits[commit] if not (repo / "snapshots" / commit / name).is_file()]
            if lacking:
                yield f"{path.relative_to(repo)} is of a snapshot without {', '.join(lacking)}"


def remains(repo):
    """What no whole run leaves: unfinished downloads, files without their names."""
    found = [path for begin in ("blobs/*.incomplete", ".pythia-*") for path in repo.glob(begin)]
    return sorted(str(path.relative_to(repo)) for path in found)
