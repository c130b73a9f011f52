#!/usr/bin/env bash
# Builds static programs for x86-64 and aarch64 without Hub and server, and runs both:  tools/static.sh [FOLDER]
#
# They need no library and no dynamic linker, so one file runs on any Linux of its architecture. Linked against musl by
# the linker that comes with Rust: no C compiler takes part. If rustup cannot get musl's standard library, they are
# linked against glibc instead, statically too; aarch64 then needs what tools/neon.sh installs.
#
# Fails if pythia-run has more than 10 MB, needs a library, or writes another text under qemu than here. Where there is
# Python 3, it also prints how long the one for this machine takes to its first token, and the most memory that it had.
# STATIC_ARCH=x86_64 or aarch64 builds only one. STATIC_FEATURES="parquet" adds features, STATIC_PROGRAMS="pythia-run
# pythia-quant" the other program, which has no limit of size.
set -euo pipefail
cd "$(dirname "$0")/.."

out=$(realpath -m "${1:-target/static}")
most_bytes=10000000
read -ra programs <<<"${STATIC_PROGRAMS:-pythia-run}"
mkdir -p "$out"

libc_of() { # ARCH: musl if its standard library is there or can be had
    local target=$1-unknown-linux-musl
    if [ -e "$(rustc --print target-libdir --target "$target")/self-contained" ] ||
        rustup target add "$target" >/dev/null 2>&1; then
        echo musl
    else
        echo gnu
    fi
}

# Of functions with the same instructions, one is kept: kernels without dot products are the same on several levels.
# Addresses that the program itself puts right when it starts are packed, and nothing unwinds.
smaller='-C link-arg=--icf=all -C link-arg=--pack-dyn-relocs=relr -C force-unwind-tables=no'

edge_build() { # TARGET...
    local target arguments=()
    for target; do arguments+=(--target "$target"); done
    # A server must outlive a request that panics.
    if [[ " ${STATIC_FEATURES:-} " == *server* ]]; then arguments+=(--config 'profile.edge.panic="unwind"'); fi
    cargo build --locked --profile edge --no-default-features --features "${STATIC_FEATURES:-}" "${programs[@]/#/--bin=}" "${arguments[@]}"
}

build() { # ARCH...: programs in $out/ARCH
    local arch target name together=()
    for arch; do
        target=$arch-unknown-linux-$(libc_of "$arch")
        name=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")
        if [[ $target == *-musl ]]; then
            export "${name}_LINKER=rust-lld" "${name}_RUSTFLAGS=$smaller"
            together+=("$target")
            continue
        fi
        echo "static: no standard library for musl here: $arch is linked against glibc" >&2
        (
            export "${name}_RUSTFLAGS=-C target-feature=+crt-static"
            [ "$arch" = "$(uname -m)" ] || export RUSTC=/usr/bin/rustc "${name}_LINKER=$arch-linux-gnu-gcc"
            edge_build "$target"
        )
    done
    # At once, since the last step of each runs on one core.
    [ ${#together[@]} = 0 ] || edge_build "${together[@]}"
    for arch; do
        mkdir -p "$out/$arch"
        (cd "${CARGO_TARGET_DIR:-target}/$arch-unknown-linux-$(libc_of "$arch")/edge" && cp "${programs[@]}" "$out/$arch")
    done
}

check() { # ARCH: sizes, and that no library is needed
    local arch=$1 program
    for program in "${programs[@]}"; do
        printf 'static: %-7s %-12s %5.2f MB\n' "$arch" "$program" "$(stat -c %s "$out/$arch/$program")e-6"
        if LC_ALL=C readelf -d "$out/$arch/$program" 2>/dev/null | grep -q NEEDED; then
            echo "static: $out/$arch/$program needs a library" >&2
            exit 1
        fi
    done
    if [ "$(stat -c %s "$out/$arch/pythia-run")" -gt $most_bytes ]; then
        echo "static: $out/$arch/pythia-run has more than $most_bytes bytes" >&2
        exit 1
    fi
}

runner() { # ARCH: what runs its programs here
    [ "$1" = "$(uname -m)" ] || echo "qemu-$1-static -cpu max"
}

text() { # ARCH: what its program makes of the shipped model
    local arch=$1
    # shellcheck disable=SC2046 # two words or none
    $(runner "$arch") "$out/$arch/pythia-run" generate "$model" -p "The borrow checker" -n 16 -q
}

figures() { # ARCH: of its program, with the shipped model
    python3 - "$out/$1/pythia-run" "$model" <<'PYTHON'
import os, statistics, subprocess, sys, time

times, peaks = [], []
for _ in range(9):
    start = time.monotonic()
    command = [sys.argv[1], "generate", "-m", sys.argv[2], "-p", "The", "-n", "128", "--ignore-eos", "-q"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout.read(1), "a token"
    times.append(1e3 * (time.monotonic() - start))
    # Until it ends. What wait4 tells would count Python itself, before it became this program.
    while process.poll() is None:
        with open(f"/proc/{process.pid}/status") as status:
            peak = [int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmHWM:")]
        peaks += peak
    process.stdout.read()
    assert process.returncode == 0, process.returncode
print(f"static: first token after {statistics.median(times):.0f} ms (median of {len(times)}, "
      f"{min(times):.0f} to {max(times):.0f}), at most {max(peaks):.1f} MB in memory, with a file of "
      f"{os.path.getsize(sys.argv[2]) / 1e6:.1f} MB")
PYTHON
}

read -ra all <<<"${STATIC_ARCH:-x86_64 aarch64}"
build "${all[@]}"
model=$out/model.gguf
cargo run --locked --release --bin pythia-quant -- convert tests/data/pythia-docs-6m -t Q4_0 -o "$model" --force >/dev/null
first=
for arch in "${all[@]}"; do
    check "$arch"
    if [ -n "$(runner "$arch")" ] && ! command -v "qemu-$arch-static" >/dev/null; then
        echo "static: no qemu-$arch-static here: $arch was built and not run" >&2
        continue
    fi
    found=$(text "$arch")
    if [ -n "$first" ] && [ "$found" != "$first" ]; then
        printf 'static: %s writes\n%s\nand the one before\n%s\n' "$arch" "$found" "$first" >&2
        exit 1
    fi
    first=$found
done
[[ " ${all[*]} " != *" $(uname -m) "* ]] || ! command -v python3 >/dev/null || figures "$(uname -m)"
printf 'static: each of them writes "%s"\n' "$(head -n 1 <<<"$first")"
