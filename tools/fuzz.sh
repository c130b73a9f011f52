#!/usr/bin/env bash
# Fuzzes one target of fuzz/:  tools/fuzz.sh TARGET [RUNS [LIBFUZZER-OPTION...]]
#
# TARGET is gguf, safetensors, torch, config, imatrix or calibration; RUNS the executions, 10 million unless given, -1 for no end.
# Needs `cargo install cargo-fuzz` and a C++ compiler, for libFuzzer; stable Rust will do. New inputs go to
# target/fuzz/corpus/TARGET, where the next run finds them; inputs that fail go to fuzz/artifacts/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?usage: tools/fuzz.sh TARGET [RUNS [LIBFUZZER-OPTION...]]}
runs=${2:-10000000}
shift $(($# < 2 ? $# : 2))

# The readers forbid unsafe code, so there is little to find for a sanitizer, which would make it slower.
export CARGO_TARGET_DIR=$PWD/target/fuzz
cargo fuzz build --sanitizer none "$target"
binary=$CARGO_TARGET_DIR/$(rustc -vV | sed -n 's/^host: //p')/release/$target

# Readers of checkpoints open paths. In memory, or most of the time would go into files.
TMPDIR=$(mktemp -d -p "$([ -d /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")" pythia-fuzz.XXXXXX)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

found=target/fuzz/corpus/$target
mkdir -p "$found" "fuzz/artifacts/$target"
MALLOC_ARENA_MAX=1 "$binary" "$found" "fuzz/corpus/$target" -runs="$runs" -max_len=8192 -dict="fuzz/dict/$target.dict" \
    -timeout=5 -rss_limit_mb=256 -malloc_limit_mb=128 -artifact_prefix="fuzz/artifacts/$target/" \
    -print_final_stats=1 "$@"
