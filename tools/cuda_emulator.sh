#!/usr/bin/env bash
# Builds the emulated CUDA driver and NVRTC of tools/cuda-emulator:  tools/cuda_emulator.sh [--test] DIR
#
# Then a program that finds its libraries in DIR has a GPU, as far as it can tell:
#     LD_LIBRARY_PATH=DIR PYTHIA_REQUIRE=cuda cargo test -p pythia-cuda
# With --test, the emulator's own tests run as well. Needs g++ (or $CXX) on Linux.
set -euo pipefail
test=
[ "${1:-}" = --test ] && { test=1; shift; }
mkdir -p "${1:?usage: tools/cuda_emulator.sh [--test] DIR}"
to=$(realpath "$1")
cd "$(dirname "$0")/cuda-emulator"
from=$PWD
cxx=${CXX:-g++}

# What was built from other sources is refused at run time, so the number of these sources goes into everything.
abi=$(cat ./*.h ./*.cpp | cksum | cut -d' ' -f1)u
flags=(-std=c++17 -O2 -g1 -fPIC -Wall -Wextra -U_FORTIFY_SOURCE -DPYTHIA_EMULATION_ABI="$abi"
    -DPYTHIA_EMULATION_SOURCES="\"$from\"" -DPYTHIA_EMULATION_LIBRARIES="\"$to\"")

stamp="$cxx ${flags[*]}"
if [ "$(cat "$to/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -f "$to/stamp"
    objects=()
    build() { # in twos, as many as small machines have cores
        "$cxx" "${flags[@]}" -c -o "$to/$1.o" "$1.cpp"
    }
    for source in result fiber memory execute operations sanitizer driver stream module nvrtc; do
        build "$source" &
        objects+=("$to/$source.o")
        (($(jobs -rp | wc -l) < 2)) || wait -n
    done
    for _ in $(jobs -p); do wait -n; done
    "$cxx" -shared -Wl,-soname,libcuda.so.1 -o "$to/libcuda.so.1" "${objects[@]:0:9}" -ldl -pthread
    "$cxx" -shared -Wl,-soname,libnvrtc.so.12 -o "$to/libnvrtc.so.12" "$to/nvrtc.o"
    ln -sf libcuda.so.1 "$to/libcuda.so"
    ln -sf libnvrtc.so.12 "$to/libnvrtc.so"
    rm -f "${objects[@]}"
    echo "$stamp" >"$to/stamp"
fi

if [ -n "$test" ]; then
    "$cxx" -std=c++17 -O1 -g1 -Wall -Wextra -o "$to/selftest" selftest/selftest.cpp -L"$to" -l:libcuda.so.1 -l:libnvrtc.so.12
    LD_LIBRARY_PATH=$to "$to/selftest" selftest ../../crates/cuda/kernels
fi
