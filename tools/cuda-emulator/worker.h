// An OS thread that runs blocks, one after another, each thread of a block as a fiber.
#pragma once

#include "fiber.h"
#include "runtime.h"

#include <cstdint>
#include <string>
#include <vector>

namespace emulation {

struct Run;

// 16 bytes under way to shared memory.
struct Copy {
    void* to;
    const void* from;
    unsigned group;
};

// A thread of a block.
struct Thread {
    enum State : unsigned char { READY, BARRIER, MEETING, DONE };

    Place place;
    Context context;
    State state;
    int line;         // of the operation it waits at
    const char* op;   // that its warp meets at
    void* operand;    // its part in it
    std::vector<Copy> copies;
    unsigned group; // that the next copy belongs to
};

struct Warp {
    unsigned ready = 0; // lanes that could go on
    unsigned met = 0;   // lanes that wait for the others
};

struct Worker {
    Run* run = nullptr;
    Thread* running = nullptr; // null while no thread of a kernel is
    Context scheduler = nullptr;
    Stacks stacks;
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    char* shared = nullptr;
    std::size_t shared_size = 0;

    void run_block(std::uint64_t number);
    void run_warp(unsigned index, std::uint64_t& random);

    // Back from the running thread to the scheduler.
    void leave();
    void barrier(int line);
    // Waits for all lanes of the running thread's warp; the last to come does `all` for everyone.
    void meet(const char* op, unsigned mask, int line, void* operand, void (*all)(Thread* lanes));

    void report(int result, const char* message);
    std::string describe(unsigned from, unsigned to);
};

// Of the calling OS thread, null unless it is one of the pool's.
extern EMULATION_TLS __thread Worker* worker;

} // namespace emulation
