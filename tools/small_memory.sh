#!/usr/bin/env bash
# Runs a model that is larger than the memory it gets:  tools/small_memory.sh [FILE [BYTES [TOKENS]]]
#
# Without FILE it makes one of the 1.4b shape in F16 (2.8 GB, random weights) in target/small-memory. BYTES are 1500000000
# unless given. Generates once with all memory and once in a control group of that limit, by systemd-run where it works,
# else in a group made by hand, of either version; that needs root. The texts must be the same. Prints speeds, and the
# group's peak where the system tells it. PYTHIA_RUN names the program, by default that of the release build. Exits with 3
# where no control group for memory can be made.
set -euo pipefail
cd "$(dirname "$0")/.."

bytes=${2:-1500000000}
tokens=${3:-8}
program=${PYTHIA_RUN:-target/release/pythia-run}

model=${1:-target/small-memory/1.4b-F16.gguf}
if [ ! -e "$model" ]; then
    [ $# = 0 ] || { echo "small_memory: there is no file $model" >&2; exit 1; }
    cargo build --locked --release --bins --example synth
    mkdir -p target/small-memory
    target/release/examples/synth 1.4b target/small-memory/1.4b --force
    target/release/pythia-quant convert target/small-memory/1.4b -t F16 -o "$model"
    rm -r target/small-memory/1.4b
fi
[ -x "$program" ] || cargo build --locked --release --bins

group= # the folder of a group made by hand
peak=  # its file
make_group() {
    local root
    for root in $(awk '$3 == "cgroup2" { print $2 }' /proc/mounts); do
        grep -qw memory "$root/cgroup.controllers" 2>/dev/null || continue
        group=$root/pythia-small-memory-$$ peak=memory.peak
        echo +memory >"$root/cgroup.subtree_control" && mkdir "$group" && echo "$bytes" >"$group/memory.max" && return
        [ ! -d "$group" ] || rmdir "$group"
    done
    for root in $(awk '$3 == "cgroup" && $4 ~ /(^|,)memory(,|$)/ { print $2 }' /proc/mounts); do
        group=$root/pythia-small-memory-$$ peak=memory.max_usage_in_bytes
        mkdir "$group" && echo "$bytes" >"$group/memory.limit_in_bytes" && return
        [ ! -d "$group" ] || rmdir "$group"
    done
    echo "small_memory: no control group for memory can be made here" >&2
    exit 3
}

scope=(systemd-run --user --scope --quiet -p MemoryMax="$bytes" -p MemorySwapMax=0)
scope_limits() { # systemd-run takes limits that it has no right to set, too
    local found
    # shellcheck disable=SC2016 # for the shell inside
    found=$("${scope[@]}" bash -c 'cat "/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/memory.max"' 2>/dev/null) &&
        [ "$found" != max ]
}

limited() {
    if scope_limits; then
        "${scope[@]}" "$@"
    else
        make_group
        trap 'rmdir "$group"' EXIT
        (echo "$BASHPID" >"$group/cgroup.procs" && exec "$@")
        echo "small_memory: at most $(cat "$group/$peak" 2>/dev/null || echo "unknown") bytes were in use of $bytes" >&2
    fi
}

run=("$program" generate -m "$model" -p "The borrow checker" -n "$tokens")
# A page that is in memory already is charged to nobody: the file must come from the disk.
forget() { dd if="$model" iflag=nocache count=0 status=none; }
echo "small_memory: $(stat -c %s "$model") bytes, with all memory:"
forget
wanted=$("${run[@]}")
echo "small_memory: in $bytes bytes:"
forget
found=$(limited "${run[@]}")
[ "$found" = "$wanted" ] || { echo "small_memory: another text: '$found', wanted '$wanted'" >&2; exit 1; }
echo "small_memory: the same text"
