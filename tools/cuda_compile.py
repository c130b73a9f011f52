#!/usr/bin/env python3
"""Compiles every kernel for every supported GPU with NVIDIA's compiler; no GPU is needed.

    tools/cuda_compile.py --install DIR     # once: a virtual environment with the compilers (NVRTC 12 and 13, from PyPI)
    tools/cuda_compile.py DIR

Each unit of kernels is compiled by NVRTC to machine code, as it is where it runs. Fails on an error or a warning, where
more registers spill than a few of the largest kernels', and where an array did not become registers.
"""

import argparse
import ctypes
import glob
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time

PACKAGES = ["nvidia-cuda-nvrtc-cu12==12.9.86", "nvidia-cuda-nvrtc==13.5.37"]

# Compute capabilities: all for some units, those that differ most for the others. The second compiler sees fewer, since
# what could differ is what it accepts.
ALL = {12: [61, 70, 75, 80, 86, 89, 90, 100, 120], 13: [75, 90, 120]}
FEW = {12: [75, 90], 13: []}
# Formats for which everything is compiled: with blocks of 32, with super-blocks and minima, with a scale per 16.
ALL_OF = ["Q8_0", "Q4_K", "Q6_K"]

# Bytes that may spill, and so lie in memory of a thread's own, by kernel. The compiler gives up a few registers of
# these so that a third block fits on a multiprocessor, which hides more than the spills cost.
SPILLS = {"gemm_64x64": 32, "gemm_64x128": 32}

FUNCTION = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
# Other lines that a log may contain: figures, and the notice that support for old GPUs will end.
EXPECTED = re.compile(r"\s*$|ptxas info|.*Function properties for|.*Architectures prior to .* are deprecated")


def libraries(folder):
    """Of each major version, the library."""
    found = glob.glob(os.path.join(folder, "lib/python3*/site-packages/nvidia/*/lib/libnvrtc.so.1[0-9]"))
    if len(found) != len(PACKAGES):
        sys.exit(f"{len(found)} of {len(PACKAGES)} versions of NVRTC in {folder}: run with --install first")
    return {int(path.rpartition(".")[2]): path for path in sorted(found)}


def install(folder):
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([os.path.join(folder, "bin/pip"), "install", "--quiet", *PACKAGES], check=True)


def compile_unit(job):
    """The kernels' figures, what else the compiler says, whether it compiled."""
    nvrtc_path, path, options, sm = job
    nvrtc = ctypes.CDLL(nvrtc_path)
    with open(path, "rb") as file:
        text = file.read()
    options = [f"--gpu-architecture=sm_{sm}", "--ptxas-options=-v", *options]
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    if nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"kernels.cu", 0, None, None):
        return [], "nvrtcCreateProgram failed", False
    array = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    code = nvrtc.nvrtcCompileProgram(program, len(options), array)
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    figures, said = parse(log.value.decode(errors="replace"))
    return figures, said, code == 0


def parse(log):
    """Figures of the kernels out of a log, and what else it says."""
    figures, rest = [], []
    for line in log.splitlines():
        if match := FUNCTION.search(line):
            figures.append({"kernel": match[1], "registers": 0, "shared": 0, "stack": 0, "spills": 0})
        elif match := STACK.search(line):
            if figures:
                figures[-1]["stack"] = int(match[1])
                figures[-1]["spills"] = int(match[2]) + int(match[3])
        elif match := USED.search(line):
            figures[-1]["registers"] = int(match[1])
            shared = SHARED.search(line)
            figures[-1]["shared"] = int(shared[1]) if shared else 0
        elif not EXPECTED.match(line):
            rest.append(line)
    return figures, "\n".join(rest)


def problems(unit, version, sm, figures, said, compiled):
    where = f"{unit} for sm_{sm} by NVRTC {version}"
    if not compiled:
        yield f"{where} does not compile:\n{said}"
    elif said:
        yield f"{where}: warnings:\n{said}"
    if compiled and not figures:
        yield f"{where}: no kernels"
    for kernel in figures:
        allowed = SPILLS.get(kernel["kernel"], 0)
        if kernel["spills"] > allowed:
            yield f"{where}: {kernel['kernel']} spills {kernel['spills']} bytes"
        if kernel["stack"] > allowed:
            yield f"{where}: {kernel['kernel']} has {kernel['stack']} bytes of local memory"


def architectures(unit, version, everything):
    source, _, format_ = unit.partition(" ")
    chosen = (ALL if everything or not format_ or format_ in ALL_OF else FEW)[version]
    # Products with many rows need int8 tensor cores.
    return [sm for sm in chosen if sm >= 75 or source != "gemm"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="the virtual environment with the compilers")
    parser.add_argument("--install", action="store_true", help="make it, and stop")
    parser.add_argument("--all", action="store_true", help="every unit for every GPU: some 20 minutes on two cores")
    parser.add_argument("--only", default="", help="only units whose name begins so")
    parser.add_argument("--sm", type=int, nargs="*", help="these compute capabilities, as 90")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if arguments.install:
        return install(arguments.folder)
    nvrtcs = libraries(arguments.folder)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        cargo = ["cargo", "run", "--quiet", "-p", "pythia-cuda", "--example", "sources", "--", folder]
        subprocess.run(cargo, check=True, cwd=os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
        with open(os.path.join(folder, "options")) as file:
            options = file.read().split()
        units = sorted(os.path.splitext(name)[0] for name in os.listdir(folder) if name.endswith(".cu"))
        units = [unit for unit in units if unit.startswith(arguments.only)]
        jobs = [
            (unit, version, sm)
            for unit in units
            for version in nvrtcs
            for sm in arguments.sm or architectures(unit, version, arguments.all)
        ]
        if not jobs:
            sys.exit("there is nothing to compile")
        paths = [(nvrtcs[version], os.path.join(folder, f"{unit}.cu"), options, sm) for unit, version, sm in jobs]
        found = []
        print(f"{'unit':16} {'kernel':28} {'nvrtc':>5} {'sm':>4} {'registers':>9} {'shared':>7} {'spills':>6} {'local':>6}")
        with multiprocessing.Pool(arguments.jobs) as pool:
            for (unit, version, sm), (figures, said, compiled) in zip(jobs, pool.imap(compile_unit, paths)):
                for kernel in figures:
                    print(
                        f"{unit:16} {kernel['kernel']:28} {version:5} {sm:4} {kernel['registers']:9} {kernel['shared']:7} "
                        f"{kernel['spills']:6} {kernel['stack']:6}",
                        flush=True,
                    )
                found.extend(problems(unit, version, sm, figures, said, compiled))
    for problem in found:
        print(f"\n{problem}", file=sys.stderr)
    print(f"\n{len(jobs)} compilations in {time.monotonic() - start:.0f} s, {len(found)} problems")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
