#!/usr/bin/env bash
# Builds wheels of the Python package for Linux on x86-64 and aarch64, and imports each:  tools/wheels.sh [FOLDER]
#
# Linked by zig (PyPI's ziglang) against glibc 2.17, so they are manylinux2014 wheels; maturin checks the symbols that they
# use. A wheel serves Python 3.10 and all later ones (abi3). The one for x86-64 is imported, and runs the tests, with every
# Python of `PYTHONS` (by default what pyenv or the path has). The one for aarch64 is built with Debian's rustc-web, as
# tools/neon.sh does, and imported under qemu with Debian's Python and NumPy for arm64, in a folder of their own: nothing of
# the system is changed. Needs Python with venv and a network; Debian or Ubuntu for aarch64.
# WHEELS_ARCH=x86_64 or aarch64 builds only one.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-target/wheels}
arch=${WHEELS_ARCH:-x86_64 aarch64}
venv=$PWD/target/wheels-venv
mkdir -p "$out"
out=$(realpath "$out")

[ -x "$venv/bin/maturin" ] || {
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q 'maturin>=1.9.4,<2' ziglang
}
export PATH=$venv/bin:$PATH

import='import pythia_quant as pq, sys; print("imported", pq.__version__, "by Python", sys.version.split()[0])'

pythons() { # every CPython from 3.10 on, the newest patch of each
    if [ -n "${PYTHONS:-}" ]; then
        tr ' ' '\n' <<<"$PYTHONS"
        return
    fi
    local minor found
    for minor in 10 11 12 13 14 15; do
        found=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python 2>/dev/null | sort -V | tail -n 1)
        [ -n "$found" ] || found=$(command -v "python3.$minor" || true)
        if [ -n "$found" ] && "$found" -c 'import venv' 2>/dev/null; then echo "$found"; fi
    done
}

x86_64() {
    local wheel python scratch
    maturin build --release --locked --zig --compatibility manylinux2014 -i python3 --out "$out"
    wheel=$(ls -t "$out"/pythia_quant-*-abi3-manylinux*x86_64.whl | head -n 1)
    for python in $(pythons); do
        scratch=$(mktemp -d)
        "$python" -m venv "$scratch"
        "$scratch/bin/pip" install -q "$wheel" pytest
        (cd "$scratch" && bin/python -c "$import")
        "$scratch/bin/python" -m pytest -q -p no:cacheprovider | tail -n 1
        rm -rf "$scratch"
    done
}

aarch64() {
    local target=aarch64-unknown-linux-gnu rustc=/usr/bin/rustc root=$PWD/target/wheels-arm64 wheel
    [ -x "$rustc" ] && [ -e "$("$rustc" --print target-libdir --target $target)" ] && command -v qemu-aarch64-static >/dev/null || {
        echo "wheels: run tools/neon.sh first: it installs Debian's rustc-web for arm64 and qemu" >&2
        exit 1
    }
    RUSTC=$rustc CARGO_TARGET_DIR=target/wheels-$target \
        maturin build --release --locked --zig --compatibility manylinux2014 --target $target -i python3.11 --out "$out"
    wheel=$(ls -t "$out"/pythia_quant-*-abi3-manylinux*aarch64.whl | head -n 1)
    if [ ! -e "$root/usr/bin/python3.11" ]; then
        mkdir -p "$root/debs"
        (cd "$root/debs" && apt-get download -qq $(arm64_packages))
        for package in "$root"/debs/*.deb; do dpkg-deb -x "$package" "$root"; done
    fi
    rm -rf "$root/wheel" && mkdir "$root/wheel"
    python3 -m zipfile -e "$wheel" "$root/wheel"
    PYTHONPATH=$root/wheel:$root/usr/lib/python3/dist-packages PYTHONHOME=$root/usr \
        QEMU_LD_PREFIX=$root qemu-aarch64-static -cpu max -E LD_LIBRARY_PATH="$root/usr/lib/aarch64-linux-gnu/blas:$root/usr/lib/aarch64-linux-gnu/lapack" \
        "$root/usr/bin/python3.11" -c "$import"'; print(pq.Model(sys.argv[1]).logits([1, 2, 3]).sum(), pq.Model(sys.argv[1]).isa)' "$(model)"
}

arm64_packages() { # Python and NumPy for arm64 with what they need, by their dependencies
    apt-get install --print-uris -qq --no-install-recommends python3.11-minimal:arm64 libpython3.11-stdlib:arm64 \
        python3-numpy:arm64 2>/dev/null | sed -n "s/^'[^']*' \([^_]*\)_.*_\(arm64\|all\)\.deb .*/\1:\2/p"
}

model() { # a small file to run
    local file=$PWD/target/wheels-model.gguf
    [ -e "$file" ] || "$venv/bin/python" -c "
import sys, subprocess
subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--force-reinstall', '--no-deps', sys.argv[1]], check=True)
subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', 'numpy'], check=True)
import pythia_quant as pq
pq.convert('tests/data/pythia-docs-6m', sys.argv[2])" "$(ls -t "$out"/*x86_64.whl | head -n 1)" "$file"
    echo "$file"
}

for each in $arch; do "$each"; done
ls -l "$out"/*.whl
