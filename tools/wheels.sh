#!/usr/bin/env bash
# Builds wheels of the Python package for Linux on x86-64 and aarch64, and imports each:  tools/wheels.sh [FOLDER]
#
# Linked by zig (PyPI's ziglang) against glibc 2.17, so they are manylinux2014 wheels; maturin checks the symbols that
# they use. A wheel serves Python 3.10 and all later ones (abi3). The one for x86-64 is imported, and runs the tests,
# with every Python of `PYTHONS` (by default what pyenv or the path has). The one for aarch64 is built with Debian's
# rustc-web, as tools/neon.sh does. It converts a model and runs it under qemu, with Debian's Python for arm64 in a
# folder of its own. Needs Python with venv and a network; Debian 12 for aarch64, after tools/neon.sh.
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

# Converts a model and runs it. Digests of the logits must be the same on both machines.
use='
import hashlib, sys, tempfile
import pythia_quant as pq

print("imported", pq.__version__, "by Python", sys.version.split()[0])
for path in pq.convert(sys.argv[1], tempfile.mkdtemp(), ["Q8_0", "Q4_K_M"]):
    model = pq.Model(path)
    print(path.name, model.isa, hashlib.sha256(model.logits(list(range(60))).tobytes()).hexdigest())
'
checkpoint=$PWD/tests/data/pythia-docs-6m

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
        (cd "$scratch" && bin/python -c "$use" "$checkpoint")
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
    if [ ! -e "$root/site/numpy" ]; then
        mkdir -p "$root/debs" "$root/site"
        (cd "$root/debs" && apt-get download -qq "${arm64_packages[@]/%/:arm64}" 2>/dev/null)
        for package in "$root"/debs/*.deb; do dpkg-deb -x "$package" "$root"; done
        "$venv/bin/pip" download -q --platform manylinux2014_aarch64 --python-version 3.11 --only-binary=:all: --no-deps \
            -d "$root/debs" numpy
        python3 -m zipfile -e "$root"/debs/numpy-*.whl "$root/site"
    fi
    rm -rf "$root/wheel" && mkdir "$root/wheel"
    python3 -m zipfile -e "$wheel" "$root/wheel"
    PYTHONHOME=$root/usr PYTHONPATH=$root/wheel:$root/site QEMU_LD_PREFIX=$root qemu-aarch64-static -cpu max \
        -E LD_LIBRARY_PATH="$root/usr/lib/aarch64-linux-gnu:$root/lib/aarch64-linux-gnu" "$root/usr/bin/python3.11" -c "$use" \
        "$checkpoint"
}

# What Python and NumPy need for arm64. It is not installed, but unpacked into a folder.
arm64_packages=(python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 zlib1g libexpat1 libffi8 libgcc-s1
    libstdc++6 libbz2-1.0 liblzma5 libssl3 libcrypt1 libuuid1)

for each in $arch; do "$each"; done
ls -l "$out"/*.whl
