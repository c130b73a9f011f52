#!/usr/bin/env python3
"""`hq` for sweep_engines.py, by the PyPI package hyperqueue: server, worker and scheduler without the command itself.

    hq serve CORES                      until stdin ends
    hq submit OPTIONS -- COMMAND

Takes the options that our script has, as in the documentation of HyperQueue, and no others. The worker of the package
knows no memory, and tasks of the package are not pinned, so both options are checked and then left out.
"""

import argparse
import datetime
import os
import re
import sys

from hyperqueue import Job
from hyperqueue.client import Client
from hyperqueue.ffi.cluster import Cluster
from hyperqueue.ffi.protocol import ResourceRequest


def matching(pattern):
    def parse(text):
        found = re.fullmatch(pattern, text)
        if not found:
            raise argparse.ArgumentTypeError(f"found {text}, wanted {pattern}")
        return found
    return parse


def serve(args):
    cluster = Cluster(os.environ["HQ_SERVER_DIR"])
    cluster.add_worker(args.cores)
    print("ready", flush=True)
    sys.stdin.read()
    cluster.stop()


def submit(args):
    first, last = map(int, args.array.groups())
    if first != 0:
        sys.exit("hq: ids of tasks begin at 0 in the package")
    minutes = datetime.timedelta(minutes=int(args.time_request.group(1)))
    job = Job(name=args.name, max_fails=None)
    for _ in range(last + 1):
        job.program(args.command, cwd=os.getcwd(), stdout=None, stderr=None, crash_limit=args.crash_limit,
                    resources=ResourceRequest(cpus=args.cpus, min_time=minutes))
    client = Client(os.environ["HQ_SERVER_DIR"])
    sys.exit(0 if client.wait_for_jobs([client.submit(job)], raise_on_error=False) else 1)


def main():
    parser = argparse.ArgumentParser(prog="hq", allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("serve")
    command.add_argument("cores", type=int)
    command.set_defaults(run=serve)
    command = commands.add_parser("submit", allow_abbrev=False)
    command.add_argument("--name")
    command.add_argument("--array", type=matching(r"(\d+)-(\d+)"), required=True)
    command.add_argument("--cpus", type=int, required=True)
    command.add_argument("--pin", choices=["taskset", "omp"])
    command.add_argument("--resource", type=matching(r"mem=\d+"))
    command.add_argument("--time-request", type=matching(r"(\d+)min"), required=True)
    command.add_argument("--crash-limit", type=int, default=5)
    command.add_argument("--stdout", choices=["none"], required=True)
    command.add_argument("--stderr", choices=["none"], required=True)
    command.add_argument("--wait", action="store_true", required=True)
    command.add_argument("command", nargs="+")
    command.set_defaults(run=submit)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
