// Measures the limits of a device. Each kernel does a single thing and is timed. It stores a result in `sink` that
// depends on all of its work, so that the compiler cannot remove any.

struct LimitsArgs {
    const uint4* from; // [words]
    uint4* to;         // [words]
    uint32_t* sink;    // [threads of the grid]
    uint64_t words;    // of 16 bytes
    uint32_t rounds;
    uint32_t one; // 1, which the compiler does not know
};

// Loads of 16 bytes that a thread has in flight at once.
constexpr int AT_ONCE = 4;

// Reads and writes: a block has its own run of 256 x AT_ONCE words.
KERNEL(limits_copy, LimitsArgs, 256) {
    const uint64_t first = (uint64_t)blockIdx.x * (256 * AT_ONCE) + threadIdx.x;
    uint4 held[AT_ONCE];
#pragma unroll
    for (int i = 0; i < AT_ONCE; i++) {
        const uint64_t at = first + 256 * i;
        held[i] = at < args.words ? __ldg(args.from + at) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < AT_ONCE; i++) {
        const uint64_t at = first + 256 * i;
        if (at < args.words) {
            args.to[at] = held[i];
        }
    }
}

// Adds a warp's product of 16 x 8 x 32 elements, all 1 or all 0, to `acc`, by the instruction that prompts use.
__device__ __forceinline__ void multiply_ones(int32_t acc[4], uint32_t ones) {
#if __CUDA_ARCH__ >= 750
    const uint32_t a[4] = {ones, ones, ones, ones}, b[2] = {ones, ones};
    mma_k32(acc, a, b);
#else
#pragma unroll
    for (int i = 0; i < 32; i++) acc[i % 4] = dot_of_bytes((int)ones, (int)ones, acc[i % 4]);
#endif
}

// int8 products, in independent chains: 8 of 16 x 8 x 32 per round and warp.
KERNEL(limits_int8, LimitsArgs, 256) {
    constexpr int CHAINS = 8;
    int32_t acc[CHAINS][4] = {};
    const uint32_t ones = 0x01010101u * args.one;
    for (uint32_t round = 0; round < args.rounds; round++) {
#pragma unroll
        for (int chain = 0; chain < CHAINS; chain++) {
            multiply_ones(acc[chain], ones);
        }
    }
    uint32_t sum = 0;
#pragma unroll
    for (int chain = 0; chain < CHAINS; chain++) {
        sum += acc[chain][0] + acc[chain][1] + acc[chain][2] + acc[chain][3];
    }
    args.sink[blockIdx.x * 256 + threadIdx.x] = sum;
}

// Fused multiply-adds, in independent chains: 8 per round and thread.
KERNEL(limits_fma, LimitsArgs, 256) {
    constexpr int CHAINS = 8;
    float acc[CHAINS];
    const float half = 0.5f * (float)args.one;
#pragma unroll
    for (int chain = 0; chain < CHAINS; chain++) {
        acc[chain] = (float)(chain * args.one);
    }
    for (uint32_t round = 0; round < args.rounds; round++) {
#pragma unroll
        for (int chain = 0; chain < CHAINS; chain++) {
            acc[chain] = __fmaf_rn(acc[chain], half, half);
        }
    }
    float sum = 0.0f;
#pragma unroll
    for (int chain = 0; chain < CHAINS; chain++) {
        sum += acc[chain];
    }
    args.sink[blockIdx.x * 256 + threadIdx.x] = __float_as_uint(sum);
}
