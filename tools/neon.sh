#!/usr/bin/env bash
# Builds the tests of the crates with vector code for aarch64 and runs them under qemu:  tools/neon.sh [CARGO TEST ARGUMENTS]
#
# The contract is that NEON gives the same bits as every other instruction set, so the whole suites run, not a sample.
# The cross standard library comes from Debian's rustc-web (rustup toolchains may lack it), compiler and library from
# the same package version. Linked statically: dynamic binaries with threads hung under qemu 7.2.
# Needs Debian or Ubuntu; installs what is missing if it may (root or sudo).
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
packages=(pythia-tensor pythia-gguf pythia-kernels pythia-model)
rustc=/usr/bin/rustc

ready() {
    [ -x "$rustc" ] && command -v aarch64-linux-gnu-gcc qemu-aarch64-static >/dev/null &&
        [ -e "$("$rustc" --print target-libdir --target "$target" 2>/dev/null)" ]
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

if ! ready; then
    export DEBIAN_FRONTEND=noninteractive
    as_root dpkg --add-architecture arm64
    as_root apt-get update -qq
    as_root apt-get install -y -qq --no-install-recommends rustc-web libstd-rust-web-dev:arm64 \
        gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static >/dev/null
    ready || { echo "neon: $rustc has no standard library for $target after the installation" >&2; exit 1; }
fi
echo "neon: $("$rustc" --version), $(qemu-aarch64-static --version | head -n 1)"

export RUSTC=$rustc
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/neon
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS='-C target-feature=+crt-static'
# `-cpu max` has the dot product instructions (SDOT), and those for matrices (SMMLA), so all NEON levels are there.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='qemu-aarch64-static -cpu max'

arguments=()
for package in "${packages[@]}"; do arguments+=(-p "$package"); done
# Documentation tests are left out: they show the API, and cargo runs them on the host elsewhere.
cargo test --target "$target" "${arguments[@]}" --lib --tests "$@"
