// What a warp does together, and copies that take their time.

#include "execute.h"
#include "result.h"
#include "worker.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

using namespace emulation;

namespace {

constexpr unsigned ALL = 0xFFFFFFFF;

template <typename T>
T& operand(Thread& lane) {
    return *(T*)lane.operand;
}

struct Shuffle {
    unsigned long long value;
    int source;
    unsigned long long result;
};

struct Vote {
    bool predicate;
    unsigned result;
};

// Every lane gets what `join` makes of all.
template <typename T, T (*join)(T, T)>
struct Reduction {
    T value;

    static void all(Thread* lanes) {
        T result = operand<Reduction>(lanes[0]).value;
        for (unsigned i = 1; i < WARP; i++) result = join(result, operand<Reduction>(lanes[i]).value);
        for (unsigned i = 0; i < WARP; i++) operand<Reduction>(lanes[i]).value = result;
    }
};

unsigned larger(unsigned a, unsigned b) { return a > b ? a : b; }
unsigned sum(unsigned a, unsigned b) { return a + b; } // wraps

struct Rows {
    const void* row;
    unsigned* out;
};

// c [M, 8] += a [M, K] b [K, 8]. As the PTX ISA spreads matrices of int8 over a warp: with g = lane / 4 and t = lane % 4,
// word i of a is row g + 8 (i % (M / 8)), bytes 4t of the 16 bytes of k number i / (M / 8); word i of b is column g of the 16 of k
// number i; element i of c is row g + 8 (i / 2), column 2t + i % 2.
template <int M, int K>
struct Product {
    int* c;
    const unsigned *a, *b;

    static void all(Thread* lanes) {
        int8_t left[M][K], right[8][K];
        for (int lane = 0; lane < 32; lane++) {
            auto& mine = operand<Product>(lanes[lane]);
            int g = lane / 4, t = lane % 4;
            for (int i = 0; i < M / 8 * (K / 16); i++)
                std::memcpy(&left[g + 8 * (i % (M / 8))][4 * t + 16 * (i / (M / 8))], &mine.a[i], 4);
            for (int i = 0; i < K / 16; i++) std::memcpy(&right[g][4 * t + 16 * i], &mine.b[i], 4);
        }
        for (int lane = 0; lane < 32; lane++) {
            auto& mine = operand<Product>(lanes[lane]);
            for (int i = 0; i < M / 4; i++) {
                int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
                int sum = 0;
                for (int k = 0; k < K; k++) sum += left[row][k] * right[column][k];
                mine.c[i] = (int)((unsigned)mine.c[i] + (unsigned)sum); // wraps, without .satfinite
            }
        }
    }
};

bool in_shared(const void* address, std::size_t bytes) {
    std::size_t offset = (std::uintptr_t)address - (std::uintptr_t)worker->shared;
    return offset < worker->shared_size && bytes <= worker->shared_size - offset;
}

} // namespace

extern "C" {

void emulation_barrier(int line) { worker->barrier(line); }

void emulation_sync_warp(unsigned mask, int line) { worker->meet("__syncwarp", mask, line, nullptr, nullptr); }

unsigned long long emulation_shuffle(const char* op, unsigned mask, unsigned long long value, int source, int line) {
    Shuffle mine = {value, source, 0};
    worker->meet(op, mask, line, &mine, [](Thread* lanes) {
        for (unsigned i = 0; i < WARP; i++) {
            auto& lane = operand<Shuffle>(lanes[i]);
            lane.result = operand<Shuffle>(lanes[lane.source]).value;
        }
    });
    return mine.result;
}

unsigned emulation_vote(const char* op, unsigned mask, bool predicate, int line) {
    Vote mine = {predicate, 0};
    worker->meet(op, mask, line, &mine, [](Thread* lanes) {
        unsigned bits = 0;
        for (unsigned i = 0; i < WARP; i++) bits |= (unsigned)operand<Vote>(lanes[i]).predicate << i;
        for (unsigned i = 0; i < WARP; i++) operand<Vote>(lanes[i]).result = bits;
    });
    return mine.result;
}

unsigned emulation_reduce_max(unsigned x, int line) {
    Reduction<unsigned, larger> mine = {x};
    worker->meet("redux.sync.max", ALL, line, &mine, Reduction<unsigned, larger>::all);
    return mine.value;
}

int emulation_reduce_add(int x, int line) {
    Reduction<unsigned, sum> mine = {(unsigned)x};
    worker->meet("redux.sync.add", ALL, line, &mine, Reduction<unsigned, sum>::all);
    return (int)mine.value;
}

void emulation_copy_async(void* shared, const void* global) {
    if ((std::uintptr_t)shared % 16) fail(MISALIGNED_ADDRESS, "cp.async to shared memory at %p, not a multiple of 16", shared);
    if ((std::uintptr_t)global % 16) fail(MISALIGNED_ADDRESS, "cp.async from %p, not a multiple of 16", global);
    if (!in_shared(shared, 16)) fail(INVALID_ADDRESS_SPACE, "cp.async to %p, which is not shared memory", shared);
    if (in_shared(global, 1)) fail(INVALID_ADDRESS_SPACE, "cp.async from shared memory");
    worker->running->copies.push_back({shared, global, worker->running->group});
}

void emulation_copy_commit() { worker->running->group++; }

void emulation_copy_wait(int pending) {
    Thread& me = *worker->running;
    auto due = [&](const Copy& copy) { return copy.group + pending < me.group; };
    for (const Copy& copy : me.copies)
        if (due(copy)) std::memcpy(copy.to, copy.from, 16);
    me.copies.erase(std::remove_if(me.copies.begin(), me.copies.end(), due), me.copies.end());
}

void emulation_ldmatrix_x4(unsigned out[4], const void* row, int line) {
    if ((std::uintptr_t)row % 16) fail(MISALIGNED_ADDRESS, "ldmatrix of a row at %p, not a multiple of 16", row);
    if (!in_shared(row, 16)) fail(INVALID_ADDRESS_SPACE, "ldmatrix of a row at %p, which is not shared memory", row);
    Rows mine = {row, out};
    worker->meet("ldmatrix", ALL, line, &mine, [](Thread* lanes) {
        for (unsigned lane = 0; lane < WARP; lane++)
            for (unsigned matrix = 0; matrix < 4; matrix++)
                std::memcpy(&operand<Rows>(lanes[lane]).out[matrix],
                            (const char*)operand<Rows>(lanes[8 * matrix + lane / 4]).row + 4 * (lane % 4), 4);
    });
}

void emulation_mma_m8n8k16(int c[2], const unsigned a[1], const unsigned b[1], int line) {
    Product<8, 16> mine = {c, a, b};
    worker->meet("mma.m8n8k16", ALL, line, &mine, Product<8, 16>::all);
}

void emulation_mma_m16n8k16(int c[4], const unsigned a[2], const unsigned b[1], int line) {
    Product<16, 16> mine = {c, a, b};
    worker->meet("mma.m16n8k16", ALL, line, &mine, Product<16, 16>::all);
}

void emulation_mma_m16n8k32(int c[4], const unsigned a[4], const unsigned b[2], int line) {
    Product<16, 32> mine = {c, a, b};
    worker->meet("mma.m16n8k32", ALL, line, &mine, Product<16, 32>::all);
}

void emulation_trap(int line) {
    Quote text = quote(line);
    fail(LAUNCH_FAILED, "__trap, line %d: %.*s", line, text.length, text.text);
}

} // extern "C"
