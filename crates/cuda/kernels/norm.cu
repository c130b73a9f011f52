// LayerNorm of rows, a block each, with the quantization of its results in passing.
//
// The contract's sums are 16 chains of additions however many threads there are, so the time of a row alone is that of
// two chains of cols / 16 steps. One half-warp walks them through shared memory, where the whole block has put the row;
// the other warps use the time to bring gamma and beta near.

constexpr int NORM_THREADS = 256;
// Floats of a row that shared memory holds: all of it in every Pythia. Longer rows pass through it in pieces, once per sum.
constexpr int STAGE = 5120;

struct NormTarget {
    const float* gamma;
    const float* beta;
    float* out;           // [n, cols]
    Quantized quantized;  // the same rows, unless its codes are null
};

struct NormArgs {
    const float* x;  // [n, cols]
    NormTarget targets[2];
    uint32_t count;  // of targets: norms that read the same rows share mean and variance
    uint32_t cols;
    float inverse_count;
    float eps;
};

// A float of each 128 bytes, for the sake of the cache lines: `volatile`, or the load would be dropped.
__device__ __forceinline__ void touch(const float* x, uint32_t count, uint32_t thread, uint32_t threads) {
    for (uint32_t i = thread * 32; i < count; i += threads * 32) (void)*(const volatile float*)(x + i);
}

KERNEL(layer_norm, NormArgs, NORM_THREADS) {
    alignas(16) __shared__ float stage[STAGE];
    __shared__ float moments[2];  // mean, then 1 / standard deviation
    const uint32_t thread = threadIdx.x, cols = args.cols;
    const uint64_t row = blockIdx.x;
    const float* x = args.x + row * cols;

    for (int pass = 0; pass < 2; pass++) {
        const float mean = pass == 0 ? 0.0f : moments[0];
        float sum = 0.0f;
        for (uint32_t first = 0; first < cols; first += STAGE) {
            const uint32_t len = cols - first < STAGE ? cols - first : STAGE;
            if (pass == 0 || cols > STAGE) {
                __syncthreads();
                for (uint32_t k = thread; k < len / 4; k += NORM_THREADS) {
                    ((float4*)stage)[k] = ((const float4*)(x + first))[k];
                }
                __syncthreads();
            }
            // Both halves of the warp walk, so that both can take part in the tree.
            if (thread < 32 && pass == 0) {
#pragma unroll 8
                for (uint32_t k = thread % 16; k < len; k += 16) sum = sum + stage[k];
            } else if (thread < 32) {
#pragma unroll 8
                for (uint32_t k = thread % 16; k < len; k += 16) {
                    const float d = stage[k] - mean;
                    sum = fmaf(d, d, sum);
                }
            } else if (pass == 0 && first == 0) {
#pragma unroll
                for (uint32_t i = 0; i < 2; i++) {
                    if (i >= args.count) break;
                    touch(args.targets[i].gamma, cols, thread - 32, NORM_THREADS - 32);
                    touch(args.targets[i].beta, cols, thread - 32, NORM_THREADS - 32);
                }
            }
        }
        if (thread < 32) {
            const float average = sum_of_lanes(sum) * args.inverse_count;
            if (thread == 0) moments[pass] = pass == 0 ? average : __fdiv_rn(1.0f, __fsqrt_rn(average + args.eps));
        }
        __syncthreads();
    }

    const float mean = moments[0], scale = moments[1];
    const float* from = cols > STAGE ? x : stage;
#pragma unroll
    for (uint32_t i = 0; i < 2; i++) {
        if (i >= args.count) break;
        const NormTarget& target = args.targets[i];
        // Where results are quantized, cols is a multiple of 32 and a warp is wholly inside or outside.
#pragma unroll 4
        for (uint32_t k = thread; k < cols; k += NORM_THREADS) {
            const float y = fmaf((from[k] - mean) * scale, target.gamma[k], target.beta[k]);
            target.out[row * cols + k] = y;
            if (target.quantized.codes) quantize_unit(y, target.quantized, (row * cols + k) / 32);
        }
    }
}
