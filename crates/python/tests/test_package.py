"""The package itself: exceptions, help, threads, signals."""

import inspect
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import pythia_quant as pq
from conftest import CHECKPOINT, HELDOUT


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (pq.UsageError, ValueError),
        (pq.DataError, ValueError),
        (pq.FileError, OSError),
        (pq.MissingFileError, FileNotFoundError),
        (pq.ForbiddenFileError, PermissionError),
        (pq.ExistingFileError, FileExistsError),
    ],
)
def test_exceptions_are_also_those_of_python(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, pq.PythiaError) and issubclass(error, builtin)
    assert str(error("one line")) == "one line"


def test_everything_public_has_help() -> None:
    for name in pq.__all__:
        if name != "__version__":
            assert inspect.getdoc(getattr(pq, name)), name
    for cls in (pq.Model, pq.Generation):
        for name, member in vars(cls).items():
            if not name.startswith("_"):
                assert inspect.getdoc(member), name


def test_versions_agree() -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        assert pq.__version__ == version("pythia-quant")
    except PackageNotFoundError:
        pytest.skip("the package is not installed")


def test_other_threads_go_on(files: dict[str, Path]) -> None:
    """While the model works, Python counts: the lock is free."""
    model = pq.Model(files["F32"], activations="f32", threads=1)
    counted, done = 0, threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    before = counted
    model.perplexity(HELDOUT, chunks=8)
    during = counted - before
    done.set()
    thread.join()
    # With the interpreter held there would be none.
    assert during > 3


def test_threads_share_a_model(model: pq.Model, ids: list[int]) -> None:
    wanted = model.log_likelihood(ids).tolist()
    found: list[list[float]] = []
    threads = [threading.Thread(target=lambda: found.append(model.log_likelihood(ids).tolist())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 4


WORK = {
    "perplexity": "pq.Model(f32, activations='f32', isa='scalar', threads=1).perplexity(text)",
    "generate": "list(pq.Model(f32, activations='f32', isa='scalar', threads=1).generate('A', max_new_tokens=500))",
    "logits": "[m.logits(m.tokenize(text.read_text())[:512]) for m in [pq.Model(f32, isa='scalar', threads=1)] * 50]",
    "compare": "pq.compare(checkpoint, text, cache=out / 'cache', fresh=True, activations='f32', threads=1)",
}


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on Unix")
@pytest.mark.parametrize("name", WORK)
def test_ctrl_c_stops(name: str, files: dict[str, Path], tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import signal, sys
        from pathlib import Path
        import pythia_quant as pq
        # A shell that runs the tests in its background has them ignore the signal.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        f32, checkpoint, text, out = map(Path, sys.argv[1:])
        print("ready", flush=True)
        try:
            {WORK[name]}
        except KeyboardInterrupt:
            print("stopped", flush=True)
        else:
            print("ended", flush=True)
        """
    )
    arguments = [sys.executable, "-c", script, *map(str, [files["F32"], CHECKPOINT, HELDOUT, tmp_path])]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.7)
        start = time.perf_counter()
        process.send_signal(signal.SIGINT)
        try:
            ended, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        assert ended == "stopped\n" and process.returncode == 0
        # A block of the slowest instruction set on a busy machine.
        assert time.perf_counter() - start < 10


def test_an_exception_of_a_handler_comes_through(files: dict[str, Path]) -> None:
    class Alarm(Exception):
        pass

    def handler(number: int, frame: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Alarm):
            pq.Model(files["F32"], activations="f32", isa="scalar", threads=1).perplexity(HELDOUT)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
