// CUDA C++ for a C++ compiler: the names that kernels use, with the meaning that the CUDA programming guide gives them.
// Stands in for the upper half of kernels/prelude.cuh. No system headers, so that a kernel compiles fast.
#pragma once

#include "runtime.h"

typedef decltype(sizeof 0) size_t;

#define __device__
#define __host__
#define __global__
#define __constant__ __attribute__((unused))
// A block runs on one OS thread, so what its threads share is what that thread has to itself.
#define __shared__ static thread_local
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))

#define threadIdx (emulation_place->thread)
#define blockIdx (emulation_place->block)
#define blockDim (emulation_place->block_dim)
#define gridDim (emulation_place->grid_dim)
constexpr int warpSize = emulation::WARP;

// The body becomes a function that one thread runs; the driver finds it through the description that bears its name.
#define KERNEL(name, Args, launch_threads, ...)                                                                        \
    static void emulation_body_of_##name(const Args args);                                                             \
    extern "C" __attribute__((visibility("default"))) const emulation::Kernel name;                                    \
    const emulation::Kernel name = {                                                                                   \
        launch_threads, sizeof(Args),                                                                                  \
        [](const void* args) { emulation_body_of_##name(*(const Args*)args); }, emulation_shared};                     \
    static void emulation_body_of_##name(const Args args)

// Who compiled it, and for what.
extern "C" __attribute__((visibility("default"))) const unsigned emulation_stamp[2];
const unsigned emulation_stamp[2] = {PYTHIA_EMULATION_ABI, __CUDA_ARCH__ / 10};

static inline void* emulation_shared() {
    __shared__ char anywhere;
    return &anywhere;
}

// Vectors, aligned as on the device.

#define EMULATION_VECTOR(T, name)                                                                                      \
    struct alignas(2 * sizeof(T)) name##2 {                                                                            \
        T x, y;                                                                                                        \
    };                                                                                                                 \
    struct name##3 {                                                                                                   \
        T x, y, z;                                                                                                     \
    };                                                                                                                 \
    struct alignas(4 * sizeof(T)) name##4 {                                                                            \
        T x, y, z, w;                                                                                                  \
    };                                                                                                                 \
    static inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                                  \
    static inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                                          \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMULATION_VECTOR(signed char, char)
EMULATION_VECTOR(unsigned char, uchar)
EMULATION_VECTOR(short, short)
EMULATION_VECTOR(unsigned short, ushort)
EMULATION_VECTOR(int, int)
EMULATION_VECTOR(unsigned, uint)
EMULATION_VECTOR(float, float)
#undef EMULATION_VECTOR
struct alignas(16) ulonglong2 {
    unsigned long long x, y;
};
static inline ulonglong2 make_ulonglong2(unsigned long long x, unsigned long long y) { return {x, y}; }

// Bits.

template <typename To, typename From>
static __forceinline__ To emulation_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}
static __forceinline__ int __float_as_int(float x) { return emulation_bits<int>(x); }
static __forceinline__ unsigned __float_as_uint(float x) { return emulation_bits<unsigned>(x); }
static __forceinline__ float __int_as_float(int x) { return emulation_bits<float>(x); }
static __forceinline__ float __uint_as_float(unsigned x) { return emulation_bits<float>(x); }
static __forceinline__ long long __double_as_longlong(double x) { return emulation_bits<long long>(x); }
static __forceinline__ double __longlong_as_double(long long x) { return emulation_bits<double>(x); }
static __forceinline__ int __popc(unsigned x) { return __builtin_popcount(x); }
static __forceinline__ int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static __forceinline__ int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static __forceinline__ int __ffs(int x) { return __builtin_ffs(x); }
static __forceinline__ unsigned __brev(unsigned x) {
    unsigned reversed = 0;
    for (int bit = 0; bit < 32; bit++) reversed |= (x >> bit & 1) << (31 - bit);
    return reversed;
}
// The low three bits of each nibble of the selector choose a byte; the fourth would replicate its sign.
static __forceinline__ unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    unsigned long long bytes = (unsigned long long)b << 32 | a;
    unsigned result = 0;
    for (int i = 0; i < 4; i++) result |= (unsigned)(bytes >> (selector >> 4 * i & 7) * 8 & 0xFF) << 8 * i;
    return result;
}
static __forceinline__ unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return (unsigned)(((unsigned long long)high << 32 | low) >> (shift & 31));
}
static __forceinline__ unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return (unsigned)(((unsigned long long)high << 32 | low) << (shift & 31) >> 32);
}
static __forceinline__ int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
static __forceinline__ unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((unsigned long long)a * b >> 32);
}
static __forceinline__ int __dp4a(int a, int b, int c) {
    unsigned sum = (unsigned)c;
    for (int i = 0; i < 4; i++) sum += (unsigned)((int8_t)(a >> 8 * i) * (int8_t)(b >> 8 * i));
    return (int)sum;
}
static __forceinline__ int dot_of_bytes(int a, int b, int c) { return __dp4a(a, b, c); }
static __forceinline__ unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
    for (int i = 0; i < 4; i++) c += (a >> 8 * i & 0xFF) * (b >> 8 * i & 0xFF);
    return c;
}

// Numbers. The compiler neither contracts nor reorders (-ffp-contract=off), so the plain operators round once each.

static __forceinline__ float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static __forceinline__ double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
static __forceinline__ float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static __forceinline__ float __fadd_rn(float a, float b) { return a + b; }
static __forceinline__ float __fsub_rn(float a, float b) { return a - b; }
static __forceinline__ float __fmul_rn(float a, float b) { return a * b; }
static __forceinline__ float __fdiv_rn(float a, float b) { return a / b; }
static __forceinline__ float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
static __forceinline__ float __frcp_rn(float a) { return 1.0f / a; }
static __forceinline__ float sqrtf(float a) { return __builtin_sqrtf(a); }
static __forceinline__ float rintf(float a) { return __builtin_rintf(a); }
static __forceinline__ float floorf(float a) { return __builtin_floorf(a); }
static __forceinline__ float ceilf(float a) { return __builtin_ceilf(a); }
static __forceinline__ float truncf(float a) { return __builtin_truncf(a); }
static __forceinline__ float fabsf(float a) { return __builtin_fabsf(a); }
static __forceinline__ float copysignf(float a, float b) { return __builtin_copysignf(a, b); }
// Of a number and a NaN the number; of two zeros the positive one is the larger.
static __forceinline__ float fmaxf(float a, float b) {
    if (a != a) return b;
    if (b != b) return a;
    if (a == b) return __builtin_signbit(a) ? b : a;
    return a > b ? a : b;
}
static __forceinline__ float fminf(float a, float b) {
    if (a != a) return b;
    if (b != b) return a;
    if (a == b) return __builtin_signbit(a) ? a : b;
    return a < b ? a : b;
}
static __forceinline__ bool isnan(float a) { return a != a; }
static __forceinline__ bool isinf(float a) { return __builtin_isinf(a); }
static __forceinline__ bool isfinite(float a) { return __builtin_isfinite(a); }
static __forceinline__ float __int2float_rn(int a) { return (float)a; }
static __forceinline__ float __uint2float_rn(unsigned a) { return (float)a; }
// cvt saturates, and NaN becomes 0. The casts of C++ are not defined there, and the sanitizer stops them.
static __forceinline__ int emulation_to_int(float a) {
    if (a != a) return 0;
    return a >= 2147483648.0f ? 2147483647 : a < -2147483648.0f ? -2147483647 - 1 : (int)a;
}
static __forceinline__ int __float2int_rn(float a) { return emulation_to_int(__builtin_rintf(a)); }
static __forceinline__ int __float2int_rz(float a) { return emulation_to_int(__builtin_truncf(a)); }

#define EMULATION_ORDERED(T)                                                                                           \
    static __forceinline__ T min(T a, T b) { return b < a ? b : a; }                                                   \
    static __forceinline__ T max(T a, T b) { return a < b ? b : a; }
EMULATION_ORDERED(int)
EMULATION_ORDERED(unsigned)
EMULATION_ORDERED(long)
EMULATION_ORDERED(unsigned long)
EMULATION_ORDERED(long long)
EMULATION_ORDERED(unsigned long long)
#undef EMULATION_ORDERED
static __forceinline__ float min(float a, float b) { return fminf(a, b); }
static __forceinline__ float max(float a, float b) { return fmaxf(a, b); }
static __forceinline__ int abs(int a) { return a < 0 ? -a : a; }

static __forceinline__ float half_to_float(uint16_t h) {
    unsigned sign = (unsigned)(h & 0x8000) << 16, magnitude = h & 0x7FFF;
    // Moved into place, its exponent is 112 too small: the product corrects that exactly, subnormal numbers included.
    float value = __uint_as_float(magnitude << 13) * 0x1p112f;
    return __uint_as_float((magnitude >= 0x7C00 ? magnitude << 13 | 0x7F800000 : __float_as_uint(value)) | sign);
}
static __forceinline__ uint16_t float_to_half(float f) {
    unsigned bits = __float_as_uint(f), sign = bits >> 16 & 0x8000;
    float magnitude = __uint_as_float(bits & 0x7FFFFFFF);
    if (magnitude != magnitude) return (uint16_t)(sign | 0x7FFF);
    if (magnitude >= 65520.0f) return (uint16_t)(sign | 0x7C00);
    // Adding this power of two leaves in the last place what a half keeps: one rounding, to nearest even.
    unsigned exponent = __float_as_uint(magnitude) >> 23;
    if (exponent < 113) return (uint16_t)(sign | (__float_as_uint(magnitude + 0.5f) - 0x3F000000));
    unsigned rounded = __float_as_uint(magnitude) + 0xFFF + (__float_as_uint(magnitude) >> 13 & 1);
    return (uint16_t)(sign | ((rounded >> 13) - (112 << 10)));
}

// Memory.

template <typename T>
static __forceinline__ T __ldg(const T* p) {
    return *p;
}
template <typename T>
static __forceinline__ T __ldcs(const T* p) {
    return *p;
}
template <typename T>
static __forceinline__ T __ldcg(const T* p) {
    return *p;
}
template <typename T>
static __forceinline__ void __stcs(T* p, T value) {
    *p = value;
}
// Blocks run at the same time on several OS threads, so these are real.
static __forceinline__ void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static __forceinline__ int atomicAdd(int* p, int value) { return __atomic_fetch_add(p, value, __ATOMIC_RELAXED); }
static __forceinline__ unsigned atomicAdd(unsigned* p, unsigned value) {
    return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}
template <typename T>
static __forceinline__ T emulation_atomic_max(T* p, T value) {
    T old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (old < value && !__atomic_compare_exchange_n(p, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}
static __forceinline__ int atomicMax(int* p, int value) { return emulation_atomic_max(p, value); }
static __forceinline__ unsigned atomicMax(unsigned* p, unsigned value) { return emulation_atomic_max(p, value); }

// Threads together.

#define EMULATION_LINE int line = __builtin_LINE()

static __forceinline__ void __syncthreads(EMULATION_LINE) { emulation_barrier(line); }
static __forceinline__ void __syncwarp(unsigned mask = 0xFFFFFFFF, EMULATION_LINE) { emulation_sync_warp(mask, line); }

template <typename T>
static __forceinline__ T emulation_shuffle_of(const char* op, unsigned mask, T value, int source, int line) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    unsigned long long bits = 0;
    __builtin_memcpy(&bits, &value, sizeof value);
    bits = emulation_shuffle(op, mask, bits, source, line);
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}
static __forceinline__ int emulation_lane() { return (int)(threadIdx.x % emulation::WARP); }
template <typename T>
static __forceinline__ T __shfl_sync(unsigned mask, T value, int from, int width = 32, EMULATION_LINE) {
    int start = emulation_lane() & -width;
    return emulation_shuffle_of("__shfl_sync", mask, value, start + (from & (width - 1)), line);
}
template <typename T>
static __forceinline__ T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMULATION_LINE) {
    int lane = emulation_lane(), from = lane ^ bits;
    return emulation_shuffle_of("__shfl_xor_sync", mask, value, from >= (lane & -width) + width ? lane : from, line);
}
template <typename T>
static __forceinline__ T __shfl_down_sync(unsigned mask, T value, int delta, int width = 32, EMULATION_LINE) {
    int lane = emulation_lane(), from = lane + delta;
    return emulation_shuffle_of("__shfl_down_sync", mask, value, from >= (lane & -width) + width ? lane : from, line);
}
template <typename T>
static __forceinline__ T __shfl_up_sync(unsigned mask, T value, int delta, int width = 32, EMULATION_LINE) {
    int lane = emulation_lane(), from = lane - delta;
    return emulation_shuffle_of("__shfl_up_sync", mask, value, from < (lane & -width) ? lane : from, line);
}
static __forceinline__ unsigned __ballot_sync(unsigned mask, bool predicate, EMULATION_LINE) {
    return emulation_vote("__ballot_sync", mask, predicate, line);
}
static __forceinline__ bool __any_sync(unsigned mask, bool predicate, EMULATION_LINE) {
    return emulation_vote("__any_sync", mask, predicate, line) != 0;
}
static __forceinline__ bool __all_sync(unsigned mask, bool predicate, EMULATION_LINE) {
    return emulation_vote("__all_sync", mask, predicate, line) == 0xFFFFFFFF;
}
[[noreturn]] static __forceinline__ void __trap(EMULATION_LINE) { emulation_trap(line); }

// Instructions, each from the architecture on that has it: the choice between them is prelude.cuh's.

#if __CUDA_ARCH__ >= 800
static __forceinline__ void ptx_cp_async_16(void* shared, const void* global) { emulation_copy_async(shared, global); }
static __forceinline__ void ptx_cp_async_commit() { emulation_copy_commit(); }
template <int PENDING>
static __forceinline__ void ptx_cp_async_wait() {
    emulation_copy_wait(PENDING);
}
static __forceinline__ void ptx_mma_m16n8k16(int32_t c[4], const uint32_t a[2], uint32_t b, EMULATION_LINE) {
    emulation_mma_m16n8k16(c, a, &b, line);
}
static __forceinline__ void ptx_mma_m16n8k32(int32_t c[4], const uint32_t a[4], const uint32_t b[2], EMULATION_LINE) {
    emulation_mma_m16n8k32(c, a, b, line);
}
static __forceinline__ uint32_t ptx_redux_max(uint32_t x, EMULATION_LINE) { return emulation_reduce_max(x, line); }
static __forceinline__ int32_t ptx_redux_add(int32_t x, EMULATION_LINE) { return emulation_reduce_add(x, line); }
#endif
#if __CUDA_ARCH__ >= 750
static __forceinline__ void ptx_ldmatrix_x4(uint32_t out[4], const void* row, EMULATION_LINE) {
    emulation_ldmatrix_x4(out, row, line);
}
static __forceinline__ void ptx_mma_m8n8k16(int32_t c[2], uint32_t a, uint32_t b, EMULATION_LINE) {
    emulation_mma_m8n8k16(c, &a, &b, line);
}
#endif
