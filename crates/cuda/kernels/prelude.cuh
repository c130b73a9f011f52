// What every kernel starts from: names of types, the one way to declare a kernel, exact arithmetic, and the few
// instructions that have no C++ spelling. The file stands in front of each kernel's source; nothing is included, so
// that NVRTC needs no headers of a CUDA toolkit.
//
// Numbers: the order of float operations is that of docs/numerics.md. The compiler is told not to contract
// (--fmad=false), so `a * b + c` is two roundings and `fma` is one, as in the CPU's kernels.

typedef unsigned char uint8_t;
typedef signed char int8_t;
typedef unsigned short uint16_t;
typedef short int16_t;
typedef unsigned int uint32_t;
typedef int int32_t;
typedef unsigned long long uint64_t;
typedef long long int64_t;

#ifdef PYTHIA_EMULATED
#include "emulation.h" // the same names for a C++ compiler: see tools/cuda-emulator
#else

// A kernel takes one struct by value, whose layout its wrapper in `src/ops` repeats. What follows the struct are the
// threads of a block and, where the compiler should not use fewer registers than that takes, the blocks to a
// multiprocessor.
#define KERNEL(name, Args, ...) extern "C" __global__ void __launch_bounds__(__VA_ARGS__) name(const Args args)

__device__ __forceinline__ float half_to_float(uint16_t h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}

// To nearest, ties to even.
__device__ __forceinline__ uint16_t float_to_half(float f) {
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}

// c plus the products of the four signed bytes of a and b. By its instruction: NVRTC before 12.4 does not know the
// intrinsic without a header.
__device__ __forceinline__ int dot_of_bytes(int a, int b, int c) {
    int sum;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
}

// Instructions, each from the architecture on that has it.

#if __CUDA_ARCH__ >= 800
__device__ __forceinline__ void ptx_cp_async_16(void* shared, const void* global) {
    uint32_t to = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}
__device__ __forceinline__ void ptx_cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int PENDING>
__device__ __forceinline__ void ptx_cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
__device__ __forceinline__ void ptx_mma_m16n8k16(int32_t c[4], const uint32_t a[2], uint32_t b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b));
}
__device__ __forceinline__ void ptx_mma_m16n8k32(int32_t c[4], const uint32_t a[4], const uint32_t b[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ uint32_t ptx_redux_max(uint32_t x) {
    uint32_t result;
    asm volatile("redux.sync.max.u32 %0, %1, 0xFFFFFFFF;" : "=r"(result) : "r"(x));
    return result;
}
__device__ __forceinline__ int32_t ptx_redux_add(int32_t x) {
    int32_t result;
    asm volatile("redux.sync.add.s32 %0, %1, 0xFFFFFFFF;" : "=r"(result) : "r"(x));
    return result;
}
#endif

#if __CUDA_ARCH__ >= 750
__device__ __forceinline__ void ptx_ldmatrix_x4(uint32_t out[4], const void* row) {
    uint32_t from = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(from)
                 : "memory");
}
__device__ __forceinline__ void ptx_mma_m8n8k16(int32_t c[2], uint32_t a, uint32_t b) {
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+r"(c[0]), "+r"(c[1])
                 : "r"(a), "r"(b));
}
#endif

#endif // PYTHIA_EMULATED

// 16 bytes from global to shared memory, both aligned to 16, without passing through registers. They are there after
// `cp_async_wait` of their group and a barrier.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global) {
#if __CUDA_ARCH__ >= 800
    ptx_cp_async_16(shared, global);
#else
    *(uint4*)shared = *(const uint4*)global;
#endif
}

// Ends a group of copies.
__device__ __forceinline__ void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
    ptx_cp_async_commit();
#endif
}

// Waits until at most `PENDING` groups of this thread are under way.
template <int PENDING>
__device__ __forceinline__ void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
    ptx_cp_async_wait<PENDING>();
#endif
}

// The largest of a warp's 32 numbers, to all of its lanes.
__device__ __forceinline__ uint32_t warp_max(uint32_t x) {
#if __CUDA_ARCH__ >= 800
    return ptx_redux_max(x);
#else
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        const uint32_t other = __shfl_xor_sync(0xFFFFFFFFu, x, distance);
        x = other > x ? other : x;
    }
    return x;
#endif
}

// The sum of a warp's 32 numbers, to all of its lanes.
__device__ __forceinline__ int32_t warp_sum(int32_t x) {
#if __CUDA_ARCH__ >= 800
    return ptx_redux_add(x);
#else
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, distance);
    return x;
#endif
}

// What follows are the int8 tensor cores, which GPUs before sm_75 do not have: products with many rows are not compiled
// for those.
#if __CUDA_ARCH__ >= 750

// Four 8 x 16 byte matrices out of shared memory: lane l names row l % 8 of matrix l / 8 (16 bytes, aligned to 16) and
// receives bytes 4 (l % 4) .. + 4 of row l / 4 of each.
__device__ __forceinline__ void ldmatrix_x4(uint32_t out[4], const void* row) {
    ptx_ldmatrix_x4(out, row);
}

// c += a b in int32, a [16, 16] and b [16, 8] of int8: as `mma_k32`, for the first 16 of k.
__device__ __forceinline__ void mma_k16(int32_t c[4], const uint32_t a[2], uint32_t b) {
#if __CUDA_ARCH__ >= 800
    ptx_mma_m16n8k16(c, a, b);
#else
    ptx_mma_m8n8k16(c, a[0], b);
    ptx_mma_m8n8k16(c + 2, a[1], b);
#endif
}

// c += a b in int32, a [16, 32] and b [32, 8] of int8, spread over a warp as PTX's mma.m16n8k32 has it. With
// g = lane / 4 and t = lane % 4: a[0] is row g, k 4t .. 4t + 3; a[1] row g + 8; a[2], a[3] the same 16 k on; b[0] is
// column g, k 4t .. 4t + 3, b[1] 16 k on; c[0], c[1] are row g, columns 2t and 2t + 1; c[2], c[3] row g + 8.
__device__ __forceinline__ void mma_k32(int32_t c[4], const uint32_t a[4], const uint32_t b[2]) {
#if __CUDA_ARCH__ >= 800
    ptx_mma_m16n8k32(c, a, b);
#else
    mma_k16(c, a, b[0]);
    mma_k16(c, a + 2, b[1]);
#endif
}

#endif // tensor cores
