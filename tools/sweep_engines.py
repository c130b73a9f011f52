#!/usr/bin/env python3
"""Runs one sweep by several engines, kills a third of the jobs, and compares the tables.

    cargo build --release && tools/sweep_engines.py --models FOLDER --text FILE [--install]

FOLDER has subfolders stepN. The sweep is planned once and run

- in one process that nobody disturbs,
- by Slurm (one node, with its own configuration, munge, slurmctld and slurmd, which this tool starts and ends),
- by HyperQueue (server and worker of the PyPI package; see sweep_engines_hq.py),
- by GNU parallel,
- with --two-runners, by two processes at once that share all of it,

each with the script that `sweep emit` prints. A third of the shards is ended by SIGKILL at a random moment: half of them
the program alone, half of them the shell of the job too. Others are told to stop by SIGUSR1, as before a time limit. Jobs
that end with an error are requeued, until `sweep status --check` finds all cells. Then the table of `sweep collect
--results-only` must have the same bytes everywhere.

A line per engine sums up. The exit code is 1 after a difference, and 2 if an engine that was asked for is not there.
With --install, Debian's packages and a virtual environment are installed first (as root).
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENGINES = ["slurm", "hq", "parallel"]
PACKAGES = ["slurm-wlm", "munge", "parallel"]
# Share of the starts that are told to stop, of those that are not killed.
STOP_SHARE = 1 / 4
# Until then a program cannot be told to stop.
START_SECONDS = 0.3
# A sweep that is not done after so many rounds never will be.
ROUNDS = 20
POLL_SECONDS = 0.05


class Unavailable(Exception):
    """An engine is not installed, or does not start."""


def call(*command, **options):
    """Runs a command that must succeed, and returns its output."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def need(*programs):
    """Raises if one of `programs` is not found. Daemons of Debian are not in everybody's PATH."""
    os.environ["PATH"] = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        raise Unavailable(f"not found: {', '.join(missing)}")


class Killer(threading.Thread):
    """Ends some of the shards that `program` starts, at random moments.

    The scripts call a wrapper, which notes its process and shard and then becomes the program.
    """

    def __init__(self, folder, program, shards, share, seconds, seed, tells_shell):
        super().__init__(daemon=True)
        # Slurm tells the shell of the job to stop; elsewhere the program is told.
        self.tells_shell = tells_shell
        self.log = folder / "started"
        self.log.touch()
        self.wrapper = folder / "pythia-quant"
        self.wrapper.write_text(
            "#!/bin/bash\n"
            f'[ "$2" = run ] && echo "$$ $PPID $5" >>{self.log}\n'
            f'exec {program} "$@"\n'
        )
        self.wrapper.chmod(0o755)
        self.random = random.Random(seed)
        # So many shards are to be killed; which ones is drawn when they start for the first time.
        self.share = share
        self.wanted = round(shards * share)
        self.unseen = shards
        self.seconds = seconds
        self.seen = set()
        self.starts = self.kills = self.stops = self.late = 0
        self.ending = threading.Event()
        self.start()

    def run(self):
        read = 0
        pending = []
        while not self.ending.wait(POLL_SECONDS):
            lines = self.log.read_text().splitlines()
            for line in lines[read:]:
                pid, parent, shard = line.split()
                self.starts += 1
                moment = self.random.uniform(0, 0.8 * self.seconds)
                if self.is_chosen(shard):
                    end = self.kill_both if self.random.random() < 0.5 else self.kill_program
                elif self.random.random() < STOP_SHARE:
                    end, moment = self.stop, max(moment, START_SECONDS)
                else:
                    continue
                pending.append((time.monotonic() + moment, end, int(pid), int(parent)))
            read = len(lines)
            due = [victim for victim in pending if victim[0] <= time.monotonic()]
            pending = [victim for victim in pending if victim not in due]
            for _, end, pid, parent in due:
                if self.is_running(pid):
                    with contextlib.suppress(ProcessLookupError):
                        end(pid, parent)
                else:
                    self.late += 1

    def is_chosen(self, shard):
        """Every set of shards of that size is equally likely. What has been killed may be killed again."""
        if shard in self.seen:
            return self.random.random() < self.share
        self.seen.add(shard)
        is_chosen = self.random.random() * self.unseen < self.wanted - self.kills
        self.unseen -= 1
        return is_chosen

    @staticmethod
    def is_running(pid):
        try:
            return b"--shard" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False

    def kill_program(self, pid, parent):
        os.kill(pid, signal.SIGKILL)
        self.kills += 1

    def kill_both(self, pid, parent):
        # The shell first, so that it cannot see what happens to its child.
        os.kill(parent, signal.SIGKILL)
        self.kill_program(pid, parent)

    def stop(self, pid, parent):
        os.kill(parent if self.tells_shell else pid, signal.SIGUSR1)
        self.stops += 1

    def finish(self):
        self.ending.set()
        self.join()


class Sweep:
    """The folder of a sweep, and the program."""

    def __init__(self, program, folder):
        self.program = program
        self.folder = folder

    def call(self, command, *arguments, program=None):
        return call(program or self.program, "sweep", command, self.folder, *arguments)

    def is_done(self):
        command = [str(self.program), "sweep", "status", str(self.folder), "--check"]
        return subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0

    def table(self):
        output = self.folder / "compared.csv"
        self.call("collect", "--results-only", "--force", "-o", output)
        return output.read_bytes()

    def copy(self, folder):
        """The same plan. It lies beside this one, because paths in it are relative."""
        assert folder.parent == self.folder.parent
        folder.mkdir()
        shutil.copy(self.folder / "manifest.jsonl", folder)
        return Sweep(self.program, folder)


class Slurm:
    """Slurm on one node, this one."""

    def __init__(self, args, folder):
        need("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
        if os.geteuid() != 0:
            raise Unavailable("slurmd needs root")
        self.folder = folder
        self.daemons = []
        node = call("hostname", "-s").strip()
        for name in ["state", "spool", "log"]:
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        conf = {
            "ClusterName": "pythia",
            "SlurmctldHost": f"{node}(127.0.0.1)",
            "SlurmctldPort": 27817,
            "SlurmdPort": 27818,
            "AuthType": "auth/munge",
            # A requeued job waits until its credential is out of date: 5 s, the least that is taken, instead of two minutes.
            "AuthInfo": f"socket={folder}/munge.socket,cred_expire=5",
            "SlurmUser": "root",
            "SlurmdUser": "root",
            "StateSaveLocation": folder / "state",
            "SlurmdSpoolDir": folder / "spool",
            "SlurmctldPidFile": folder / "slurmctld.pid",
            "SlurmdPidFile": folder / "slurmd.pid",
            "SlurmctldLogFile": folder / "log/slurmctld",
            "SlurmdLogFile": folder / "log/slurmd",
            # Containers have neither systemd nor control groups of their own.
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "MpiDefault": "none",
            "JobAcctGatherType": "jobacct_gather/none",
            "AccountingStorageType": "accounting_storage/none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core_Memory",
            "SchedulerParameters": "batch_sched_delay=0,sched_interval=2",
            "ReturnToService": 2,
            "KillWait": 5,
            "NodeName": f"{node} NodeAddr=127.0.0.1 CPUs={args.jobs * args.threads} RealMemory={memory_mib()}",
            "PartitionName": f"all Nodes={node} Default=YES MaxTime=INFINITE State=UP",
        }
        (folder / "slurm.conf").write_text("".join(f"{key}={value}\n" for key, value in conf.items()))
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        self.start("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket",
                   f"--pid-file={folder}/munge.pid", f"--log-file={folder}/log/munged", f"--seed-file={folder}/munge.seed")
        wait_for("munged", lambda: (folder / "munge.socket").exists())
        self.start("slurmctld", "-D", "-c")
        self.start("slurmd", "-D", "-c")
        wait_for("slurmd", lambda: "idle" in subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True,
                                                            text=True).stdout)

    def start(self, *command):
        with open(self.folder / "log" / (command[0] + ".out"), "w") as log:
            self.daemons.append(subprocess.Popen(command, stdout=log, stderr=log))

    def run(self, script, is_done):
        """Submits the script, and requeues what fails."""
        job = re.search(r"\d+", call("sbatch", script)).group()
        failures = 0
        while True:
            time.sleep(0.5)
            states = [line.split() for line in call("squeue", "-h", "-r", "-j", job, "-t", "all", "-o", "%i %T").splitlines()]
            for task, state in states:
                if state in ("FAILED", "NODE_FAIL", "CANCELLED", "OUT_OF_MEMORY", "TIMEOUT"):
                    call("scontrol", "requeue", task)
                    failures += 1
            if all(state == "COMPLETED" for _, state in states):
                return failures
            assert failures < ROUNDS * len(states), "requeued too often"

    def stop(self):
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait()
        del os.environ["SLURM_CONF"]


class Script:
    """An engine whose script waits for the shards. It is run until all is done."""

    def run(self, script, is_done):
        for rounds in range(ROUNDS):
            log = script.with_suffix(".log")
            with open(log, "a") as out:
                subprocess.run(["bash", str(script)], stdout=out, stderr=out)
            if is_done():
                return rounds
        raise RuntimeError(f"not done after {ROUNDS} rounds; see {log}")

    def stop(self):
        pass


class Parallel(Script):
    def __init__(self, args, folder):
        need("parallel")
        home = folder / "home"
        (home / ".parallel").mkdir(parents=True)
        # It asks to be cited, once.
        (home / ".parallel/will-cite").touch()
        os.environ["PARALLEL_HOME"] = str(home / ".parallel")


class HyperQueue(Script):
    def __init__(self, args, folder):
        if not args.hq_python:
            raise Unavailable("no --hq-python: a Python that can import hyperqueue")
        stand_in = ROOT / "tools/sweep_engines_hq.py"
        command = folder / "hq"
        command.write_text(f'#!/bin/bash\nexec {args.hq_python} {stand_in} "$@"\n')
        command.chmod(0o755)
        os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
        os.environ["HQ_SERVER_DIR"] = str(folder / "server")
        log = open(folder / "server.log", "w")
        cores = str(args.jobs * args.threads)
        self.server = subprocess.Popen([command, "serve", cores], stdin=subprocess.PIPE, stdout=log, stderr=log)
        wait_for("the server of HyperQueue", lambda: "ready" in (folder / "server.log").read_text())

    def stop(self):
        self.server.stdin.close()
        self.server.wait()


CLASSES = {"slurm": Slurm, "hq": HyperQueue, "parallel": Parallel}


def wait_for(name, is_there):
    for _ in range(300):
        if is_there():
            return
        time.sleep(0.1)
    raise Unavailable(f"{name} does not start")


def memory_mib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1 << 20)


def run_engine(name, args, plan, expected_seconds):
    """Runs the sweep by an engine, and returns its table and a summary."""
    folder = plan.folder.parent / f"{name}-engine"
    folder.mkdir()
    engine = CLASSES[name](args, folder)
    killer = Killer(folder, args.program, args.shards, args.kill, expected_seconds, f"{args.seed} {name}",
                    name == "slurm")
    try:
        sweep = plan.copy(plan.folder.parent / name)
        script = folder / "script"
        options = ["--shards", args.shards, "--threads", args.threads, "--program", killer.wrapper, "-o", script]
        options += ["--at-once", args.jobs] if name != "hq" else []
        options += ["--retry-after", 0] if name != "slurm" else []
        call(args.program, "sweep", "emit", name, sweep.folder, *options)
        start = time.monotonic()
        failures = engine.run(script, sweep.is_done)
        seconds = time.monotonic() - start
        assert sweep.is_done(), f"{name}: jobs ended, and cells are missing"
    finally:
        killer.finish()
        engine.stop()
    summary = (
        f"{args.shards} jobs, {killer.kills} kills, {killer.stops} stops ({killer.late} of both came too late), "
        f"{killer.starts - args.shards} more starts, {failures} times requeued or submitted again, {seconds:.0f} s"
    )
    return sweep.table(), summary


def run_two(args, plan):
    """Two processes on the whole sweep. Together they must have computed every cell once."""
    sweep = plan.copy(plan.folder.parent / "two-runners")
    start = time.monotonic()
    command = [str(args.program), "sweep", "run", str(sweep.folder), "--threads", str(args.threads)]
    runners = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    outputs = [runner.communicate()[0] for runner in runners]
    seconds = time.monotonic() - start
    for runner, output in zip(runners, outputs):
        assert runner.returncode == 0, output
    table = sweep.table()
    computed = [int(re.search(r"^(\d+) cells? computed", output, re.M).group(1)) for output in outputs]
    cells = (sweep.folder / "manifest.jsonl").read_text().count('"kind":"cell"')
    assert sum(computed) == cells, f"{computed} cells computed, of {cells}"
    return table, f"{computed[0]} and {computed[1]} cells computed, {seconds:.0f} s"


def install(args):
    call("apt-get", "install", "-y", "--no-install-recommends", *PACKAGES, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    venv = Path(args.install)
    if not (venv / "bin/python").exists():
        call(sys.executable, "-m", "venv", venv)
    call(venv / "bin/python", "-m", "pip", "install", "-q", "hyperqueue")
    args.hq_python = venv / "bin/python"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="folder with subfolders stepN")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/pythia-quant")
    parser.add_argument("--levels", default="Q8_0,Q4_0,Q4_K_M,Q2_K")
    parser.add_argument("--chunks", type=int, help="only the first chunks of the text")
    parser.add_argument("--engines", default=",".join(ENGINES), help="some of slurm,hq,parallel, or none of them: ''")
    parser.add_argument("--two-runners", action="store_true", help="also two processes at once")
    parser.add_argument("--shards", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="threads of a shard")
    parser.add_argument("--jobs", type=int, default=2, help="shards at once")
    parser.add_argument("--kill", type=float, default=1 / 3, help="share of the shards that is killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--install", metavar="VENV", help="install the engines first, HyperQueue into this environment")
    parser.add_argument("--hq-python", type=Path, help="a Python that can import hyperqueue")
    parser.add_argument("--keep", action="store_true", help="leave the folders")
    args = parser.parse_args()
    args.program = args.program.resolve()
    if args.install:
        install(args)

    work = Path(tempfile.mkdtemp(prefix="sweep-engines-"))
    work.chmod(0o755)
    code = 0
    try:
        plan = Sweep(args.program, work / "plan")
        chunks = ["--chunks", args.chunks] if args.chunks else []
        call(args.program, "sweep", "plan", args.models.resolve(), "-f", args.text.resolve(), "-t", args.levels, *chunks,
             "-o", plan.folder)
        groups = (plan.folder / "manifest.jsonl").read_text().count('"kind":"group"')
        args.shards = min(args.shards, groups)
        single = plan.copy(work / "single")
        start = time.monotonic()
        single.call("run", "--threads", args.threads)
        seconds = time.monotonic() - start
        expected = single.table()
        print(f"one process: {len(expected.splitlines()) - 1} rows, {seconds:.0f} s", flush=True)

        def compare(name, table, summary):
            nonlocal code
            same = "the same table" if table == expected else f"ANOTHER TABLE: see {work / name}"
            print(f"{name}: {summary}; {same}", flush=True)
            if table != expected:
                code, args.keep = 1, True

        for name in filter(None, args.engines.split(",")):
            try:
                compare(name, *run_engine(name, args, plan, seconds / args.shards))
            except Unavailable as why:
                print(f"{name}: SKIPPED: {why}", flush=True)
                code = code or 2
        if args.two_runners:
            compare("two-runners", *run_two(args, plan))
    except BaseException:
        args.keep = True
        print(f"see {work}", file=sys.stderr)
        raise
    finally:
        if not args.keep:
            shutil.rmtree(work, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
