// What a compiled kernel and the emulated driver know of each other. Kernels are linked against libcuda.so.1, where all
// of this is defined. No system headers: each kernel's source pays for what stands here.
#pragma once

namespace emulation {

struct Dim {
    unsigned x, y, z;
};

// Where the running thread is: what threadIdx and the others read.
struct Place {
    Dim thread, block, block_dim, grid_dim;
};

// A kernel, under its own name in the shared object's table of symbols.
struct Kernel {
    unsigned threads; // a block must have
    unsigned args_bytes;
    void (*run)(const void* args); // by one thread
    void* (*shared)(); // an address in this OS thread's shared memory: brings it into being
};

constexpr unsigned WARP = 32;

} // namespace emulation

#define EMULATION_TLS __attribute__((tls_model("initial-exec")))

extern "C" {

extern EMULATION_TLS __thread const emulation::Place* emulation_place;

// `__syncthreads` and `__syncwarp`. All operations carry the line they are called in: threads that meet must have come
// from the same.
void emulation_barrier(int line);
void emulation_sync_warp(unsigned mask, int line);

// The value of lane `source` of the warp.
unsigned long long emulation_shuffle(const char* op, unsigned mask, unsigned long long value, int source, int line);
// A bit per lane.
unsigned emulation_vote(const char* op, unsigned mask, bool predicate, int line);

// redux.sync over a whole warp.
unsigned emulation_reduce_max(unsigned x, int line);
int emulation_reduce_add(int x, int line);

// cp.async: 16 bytes, copied no earlier than they are waited for.
void emulation_copy_async(void* shared, const void* global);
void emulation_copy_commit();
void emulation_copy_wait(int pending);

// Instructions on matrices, with the layouts of the PTX ISA.
void emulation_ldmatrix_x4(unsigned out[4], const void* row, int line);
void emulation_mma_m8n8k16(int c[2], const unsigned a[1], const unsigned b[1], int line);
void emulation_mma_m16n8k16(int c[4], const unsigned a[2], const unsigned b[1], int line);
void emulation_mma_m16n8k32(int c[4], const unsigned a[4], const unsigned b[2], int line);

[[noreturn]] void emulation_trap(int line);
int printf(const char* format, ...);

} // extern "C"
