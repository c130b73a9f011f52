// LayerNorm of rows, which also quantizes the results.
//
// By the numeric contract, a sum is 16 chains of additions, however many threads there are. So a row takes at least two
// chains of cols / 16 steps. The whole block copies the row to shared memory, and one half-warp computes the sums. If
// there are few rows, each has several blocks, which all compute the sums and then finish a part of the row.

constexpr int NORM_THREADS = 256;
// Floats of a row that fit in shared memory: the whole row in every Pythia. Longer rows pass through it in pieces, once
// per sum.
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
    uint32_t cols;   // a multiple of 16, or of 32 where results are quantized
    float inverse_count;
    float eps;
};

// Adds `count` floats, every 16th from `x` on, to `sum`, in order. The next ones are loaded meanwhile.
template <class Step>
__device__ __forceinline__ float walk(float sum, const float* x, uint32_t count, const Step& step) {
    constexpr uint32_t AHEAD = 16;
    uint32_t i = 0;
    if (count >= AHEAD) {
        float held[AHEAD];
#pragma unroll
        for (uint32_t j = 0; j < AHEAD; j++) held[j] = x[16 * j];
        for (; i + 2 * AHEAD <= count; i += AHEAD) {
            float next[AHEAD];
#pragma unroll
            for (uint32_t j = 0; j < AHEAD; j++) next[j] = x[16 * (i + AHEAD + j)];
#pragma unroll
            for (uint32_t j = 0; j < AHEAD; j++) sum = step(sum, held[j]);
#pragma unroll
            for (uint32_t j = 0; j < AHEAD; j++) held[j] = next[j];
        }
#pragma unroll
        for (uint32_t j = 0; j < AHEAD; j++) sum = step(sum, held[j]);
        i += AHEAD;
    }
    for (; i < count; i++) sum = step(sum, x[16 * i]);
    return sum;
}

KERNEL(layer_norm, NormArgs, NORM_THREADS) {
    alignas(16) __shared__ float stage[STAGE];
    __shared__ float moments[2];  // mean, then 1 / standard deviation
    const uint32_t thread = threadIdx.x, cols = args.cols, fours = cols / 4;
    const uint64_t row = blockIdx.x;
    const float* x = args.x + row * cols;

    // The first gamma and beta of this thread are loaded while the sums are computed.
    const uint32_t first_base = blockIdx.y * NORM_THREADS;
    float4 gamma[2], beta[2];
    const auto load_parameters = [&](uint32_t four) {
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            const bool is_wanted = i < args.count && four < fours;
            const float4 none = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            gamma[i] = is_wanted ? ((const float4*)args.targets[i].gamma)[four] : none;
            beta[i] = is_wanted ? ((const float4*)args.targets[i].beta)[four] : none;
        }
    };
    load_parameters(first_base + thread);

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
            // Both halves of the warp compute the chain, so that both can take part in the tree.
            if (thread < 32 && pass == 0) {
                sum = walk(sum, stage + thread % 16, len / 16, [](float sum, float x) { return sum + x; });
            } else if (thread < 32) {
                sum = walk(sum, stage + thread % 16, len / 16, [=](float sum, float x) {
                    const float d = x - mean;
                    return fmaf(d, d, sum);
                });
            }
        }
        if (thread < 32) {
            const float average = sum_of_lanes(sum) * args.inverse_count;
            if (thread == 0) moments[pass] = pass == 0 ? average : __fdiv_rn(1.0f, __fsqrt_rn(average + args.eps));
        }
        __syncthreads();
    }

    const float mean = moments[0], scale = moments[1];
    for (uint32_t base = first_base; base < fours; base += gridDim.y * NORM_THREADS) {
        const uint32_t four = base + thread;
        const bool stores = four < fours;
        if (base != first_base) load_parameters(four);
        float4 value = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (cols > STAGE) {
            if (stores) value = ((const float4*)x)[four];
        } else if (stores) {
            value = ((const float4*)stage)[four];
        }
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            if (i >= args.count) break;
            const NormTarget& target = args.targets[i];
            const float4 g = gamma[i], b = beta[i];
            const float y[4] = {
                fmaf((value.x - mean) * scale, g.x, b.x), fmaf((value.y - mean) * scale, g.y, b.y),
                fmaf((value.z - mean) * scale, g.z, b.z), fmaf((value.w - mean) * scale, g.w, b.w)};
            const uint64_t at = row * fours + four;
            if (stores) ((float4*)target.out)[at] = make_float4(y[0], y[1], y[2], y[3]);
            if (target.quantized.codes) quantize_four(y, target.quantized, at, stores);
        }
    }
}
