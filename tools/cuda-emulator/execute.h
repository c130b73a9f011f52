// Runs kernels: every thread of every block, on the CPU.
#pragma once

#include "runtime.h"

#include <cstddef>
#include <vector>

namespace emulation {

// One launch, ready to run any number of times.
struct Launch {
    const Kernel* kernel;
    const char* name;
    const char* source; // text that the kernel was compiled from, or null
    Dim grid, block;
    std::vector<unsigned char> args;
};

// Runs all blocks. 0, or the CUresult of what went wrong, which stderr has been told.
int execute(const Launch& launch);

// Bytes of shared memory of the object that a kernel is in.
std::size_t shared_bytes(const Kernel& kernel);

// Ends the launch that the calling thread of a kernel belongs to, after a line on stderr.
[[noreturn, gnu::format(printf, 2, 3)]] void fail(int result, const char* format, ...);

// Line `line` of the running kernel's source, without the white space around it; empty if it is not known.
struct Quote {
    const char* text;
    int length;
};
Quote quote(int line);

} // namespace emulation
