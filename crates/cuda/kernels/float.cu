// Weights as floats times f32 rows: float weights, or quantized ones with `--activations f32`.
//
// Every element of the result is a sum of 16 lanes, lane k mod 16 taking k by fma in ascending order, and then their
// tree: l + 8, l + 4, l + 2, l + 1 (docs/numerics.md). Two kernels keep that order:
//
//   few   for a few rows of x: 8 threads own a row of the weights, two lanes each, and read it straight from memory.
//         Quantized rows are decoded into shared memory first, a unit of 32 elements by each thread of a warp.
//   many  a half-warp owns 8 x 8 elements of the result, each thread one lane of all 64. The block puts 128 columns of
//         32 rows of the weights and of x into shared memory, a unit by each thread.
//
// What they should cost on an H100, counted and not measured. `few`, one row of x: a warp loads 4 KB of floats ahead;
// 2048 rows are 512 warps, 3.9 per multiprocessor, which so has 16 KB under way, about what 3.35 TB/s and 600 ns of
// latency ask for. `many`: for 32 k a warp issues 128 fma, 32 cycles of the multiprocessor, and
// 16 loads of pairs, which are 32 cycles of its shared memory, or 24 if it reads only once what both half-warps of a
// warp want of x. Two blocks fit, one of which can multiply while the other decodes.

struct FloatArgs {
    const uint8_t* weights; // [rows, cols]
    const float* x;         // [n, cols]
    OutputArgs output;
    uint32_t cols;
    uint32_t n;
};

constexpr uint32_t WARP = 0xFFFFFFFFu;

__device__ __forceinline__ uint32_t at_most(uint32_t i, uint32_t last) {
    return i < last ? i : last;
}

// One or two words, at a multiple of their size.
template <int WORDS>
__device__ __forceinline__ void load_neighbours(const uint8_t* p, uint32_t words[WORDS]) {
    if constexpr (WORDS == 1) {
        words[0] = *(const uint32_t*)p;
    } else {
        const uint2 two = *(const uint2*)p;
        words[0] = two.x, words[1] = two.y;
    }
}

constexpr uint32_t FEW_THREADS = 128;
// Groups of 8 threads in a warp.
constexpr uint32_t GROUPS = 4;
// Pairs of floats that a warp of `few` decodes at a time: 32 units of 16 pairs, spaced (see `SPACING`).
constexpr uint32_t DECODED = 32 * 18;

// N rows of x, R rows of the weights for each group.
template <class F, int N, int R>
struct Few {
    static constexpr bool PLAIN = F::ELEMS == 1;
    static constexpr int WORDS = PLAIN ? F::BYTES / 2 : 1; // of a pair of floats
    // Units of a row in a step: of floats what a warp loads ahead, 4 KB; else a unit by each thread.
    static constexpr int STEP = (F::BYTES == 2 ? 16 : 8) / R;
    // Pairs from unit to unit in shared memory: neighbouring groups then read different banks.
    static constexpr int SPACING = R == 1 ? 17 : 18;

    uint32_t lane, group, pair;
    const uint8_t* w[R]; // the rows of the thread's group
    const float* x[N];
    const uint8_t* decoding; // the row that the thread decodes units of
    float2* decoded;         // those of its warp
    float2 sums[N][R];       // lanes 2 pair and 2 pair + 1

    __device__ __forceinline__ Few(const FloatArgs& args, uint32_t first_row, uint32_t first_token, float2* decoded)
        : lane(threadIdx.x % 32), group(lane / 8), pair(lane % 8), decoded(decoded) {
        const uint64_t bytes = row_bytes<F>(args.cols);
        // Past the end, copies of the last rows, which are not used.
        const uint32_t last_row = args.output.rows - 1;
#pragma unroll
        for (int r = 0; r < R; r++) w[r] = args.weights + at_most(first_row + r * GROUPS + group, last_row) * bytes;
        decoding = args.weights + at_most(first_row + lane / STEP, last_row) * bytes;
#pragma unroll
        for (int t = 0; t < N; t++) {
            x[t] = args.x + (uint64_t)at_most(first_token + t, args.n - 1) * args.cols;
#pragma unroll
            for (int r = 0; r < R; r++) sums[t][r] = make_float2(0.0f, 0.0f);
        }
    }

    // The 16 columns from k on.
    __device__ __forceinline__ void multiply(uint32_t k, const float2 weights[R]) {
#pragma unroll
        for (int t = 0; t < N; t++) {
            const float2 a = *(const float2*)(x[t] + k + 2 * pair);
#pragma unroll
            for (int r = 0; r < R; r++) {
                sums[t][r].x = fmaf(weights[r].x, a.x, sums[t][r].x);
                sums[t][r].y = fmaf(weights[r].y, a.y, sums[t][r].y);
            }
        }
    }

    // Loads units u .. u + COUNT of floats.
    template <int COUNT>
    __device__ __forceinline__ void load(uint32_t u, uint32_t (&words)[2 * COUNT][R][WORDS]) {
#pragma unroll
        for (int i = 0; i < 2 * COUNT; i++) {
#pragma unroll
            for (int r = 0; r < R; r++) {
                const uint64_t k = 32 * u + 16 * i + 2 * pair;
                load_neighbours<WORDS>(w[r] + k * F::BYTES, words[i][r]);
            }
        }
    }

    template <int COUNT>
    __device__ __forceinline__ void multiply_loaded(uint32_t u, const uint32_t (&words)[2 * COUNT][R][WORDS]) {
        float2 weights[R];
#pragma unroll
        for (int i = 0; i < 2 * COUNT; i++) {
#pragma unroll
            for (int r = 0; r < R; r++) weights[r] = F::pair(words[i][r]);
            multiply(32 * u + 16 * i, weights);
        }
    }

    // Units u .. u + COUNT of what is decoded first.
    template <int COUNT>
    __device__ __forceinline__ void multiply_decoded(uint32_t u) {
        __syncwarp(); // nobody still reads what was decoded before
        if (lane % STEP < COUNT) {
            float values[32];
            decode<F>(decoding, u + lane % STEP, values);
#pragma unroll
            for (int i = 0; i < 16; i++) decoded[lane * SPACING + i] = make_float2(values[2 * i], values[2 * i + 1]);
        }
        __syncwarp();
        float2 weights[R];
#pragma unroll
        for (int i = 0; i < 2 * COUNT; i++) {
#pragma unroll
            for (int r = 0; r < R; r++) {
                weights[r] = decoded[((r * GROUPS + group) * STEP + i / 2) * SPACING + i % 2 * 8 + pair];
            }
            multiply(32 * u + 16 * i, weights);
        }
    }

    // As many times COUNT units as there are from u on, which moves past them.
    template <int COUNT>
    __device__ __forceinline__ void steps(uint32_t& u, uint32_t units) {
        if constexpr (PLAIN) {
            if (u + COUNT > units) return;
            uint32_t next[2 * COUNT][R][WORDS], words[2 * COUNT][R][WORDS];
            load<COUNT>(u, next);
            for (; u + COUNT <= units; u += COUNT) {
#pragma unroll
                for (int i = 0; i < 2 * COUNT; i++) {
#pragma unroll
                    for (int r = 0; r < R; r++) {
#pragma unroll
                        for (int j = 0; j < WORDS; j++) words[i][r][j] = next[i][r][j];
                    }
                }
                if (u + 2 * COUNT <= units) load<COUNT>(u + COUNT, next);
                __syncwarp(); // or the compiler would delay loads until just before their use
                multiply_loaded<COUNT>(u, words);
            }
        } else {
            for (; u + COUNT <= units; u += COUNT) multiply_decoded<COUNT>(u);
        }
    }

    // Adds the lanes up, and leaves each thread of a group with an eighth of the results.
    __device__ __forceinline__ void finish_all(const FloatArgs& args, uint32_t first_row, uint32_t first_token) {
        float results[(N * R + 7) / 8];
#pragma unroll
        for (int i = 0; i < N * R; i++) {
            float2 sum = sums[i / R][i % R];
#pragma unroll
            for (int step = 4; step > 0; step /= 2) {
                sum.x = sum.x + __shfl_xor_sync(WARP, sum.x, step);
                sum.y = sum.y + __shfl_xor_sync(WARP, sum.y, step);
            }
            if (i % 8 == pair) results[i / 8] = sum.x + sum.y;
        }
#pragma unroll
        for (int j = 0; j < (N * R + 7) / 8; j++) {
            const uint32_t i = 8 * j + pair;
            const uint32_t row = first_row + i % R * GROUPS + group, token = first_token + i / R;
            if (i < N * R && row < args.output.rows && token < args.n) finish(args.output, row, token, results[j]);
        }
    }
};

template <class F, int N, int R>
__device__ __forceinline__ void few(const FloatArgs& args, float2* decoded) {
    const uint32_t warp = threadIdx.x / 32;
    const uint32_t first_row = (blockIdx.x * (FEW_THREADS / 32) + warp) * (GROUPS * R), first_token = blockIdx.y * N;
    if (first_row >= args.output.rows) return; // the whole warp
    typedef Few<F, N, R> Work;
    Work work(args, first_row, first_token, decoded + warp * DECODED);
    const uint32_t units = args.cols / 32;
    uint32_t u = 0;
    work.template steps<Work::STEP>(u, units);
    if constexpr (Work::STEP > 4) work.template steps<Work::STEP / 4>(u, units);
    work.template steps<1>(u, units);
    work.finish_all(args, first_row, first_token);
}

// `name` takes N rows of x at a time, R rows of the weights per group.
#define FEW(name, N, R)                                                                                                \
    KERNEL(name, FloatArgs, FEW_THREADS) {                                                                             \
        __shared__ float2 decoded[Format::ELEMS == 1 ? 1 : FEW_THREADS / 32 * DECODED];                                \
        few<Format, N, R>(args, decoded);                                                                              \
    }
FEW(few_1, 1, 1)
FEW(few_2, 2, 1)
FEW(few_4, 4, 2)
FEW(few_8, 8, 2)

constexpr uint32_t MANY_THREADS = 256;
// Rows of the weights, and of x, that a block multiplies; units of each that it has in shared memory at a time.
constexpr uint32_t TILE = 32, SLAB = 4;
// Pairs (of elements l and l + 16) from unit to unit, and from row to row: what a half-warp writes, a pair into each of
// its units, goes to different banks; so does what it reads, the 16 pairs of one unit.
constexpr uint32_t UNIT_PAIRS = 17, ROW_PAIRS = SLAB * UNIT_PAIRS;

// Of 2 KEPT sums of a thread, KEPT with those of the thread KEPT / 4 lanes further; that one has the others.
template <int KEPT>
__device__ __forceinline__ void share(float sums[2 * KEPT]) {
    const bool upper = threadIdx.x & (KEPT / 4);
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        const float given = upper ? sums[i] : sums[i + KEPT], own = upper ? sums[i + KEPT] : sums[i];
        sums[i] = own + __shfl_xor_sync(WARP, given, KEPT / 4);
    }
}

KERNEL(many, FloatArgs, MANY_THREADS) {
    __shared__ float2 slab[2 * TILE * ROW_PAIRS]; // the weights', then those of x
    const uint32_t units = args.cols / 32, first_token = blockIdx.x * TILE, first_row = blockIdx.y * TILE;
    // What this thread puts there. Past the end are the last rows once more, for nobody.
    const uint32_t brought = threadIdx.x % SLAB, i = threadIdx.x / SLAB;
    const uint8_t* from;
    if (i < TILE) {
        from = args.weights + at_most(first_row + i, args.output.rows - 1) * row_bytes<Format>(args.cols);
    } else {
        from = (const uint8_t*)(args.x + (uint64_t)at_most(first_token + i - TILE, args.n - 1) * args.cols);
    }
    // What it multiplies: half-warps 0 and 1, 2 and 3, ... share rows of x.
    const uint32_t lane = threadIdx.x % 16, half_warp = threadIdx.x / 16;
    const uint32_t row = half_warp % 4 * 8, token = half_warp / 4 * 8;
    const float2* w = slab + row * ROW_PAIRS + lane;
    const float2* x = slab + (TILE + token) * ROW_PAIRS + lane;
    float sums[64]; // [token][row]
#pragma unroll
    for (int s = 0; s < 64; s++) sums[s] = 0.0f;

    for (uint32_t u = 0; u < units; u += SLAB) {
        if (u + brought < units) {
            float values[32];
            if (i < TILE) {
                decode<Format>(from, u + brought, values);
            } else {
                const float4* fours = (const float4*)from + 8 * (u + brought);
#pragma unroll
                for (int q = 0; q < 8; q++) {
                    const float4 four = fours[q];
                    values[4 * q] = four.x, values[4 * q + 1] = four.y;
                    values[4 * q + 2] = four.z, values[4 * q + 3] = four.w;
                }
            }
#pragma unroll
            for (int l = 0; l < 16; l++) {
                slab[threadIdx.x * UNIT_PAIRS + l] = make_float2(values[l], values[l + 16]);
            }
        }
        __syncthreads();
        const uint32_t count = at_most(SLAB, units - u);
        for (uint32_t v = 0; v < count; v++) {
            float2 weights[8];
#pragma unroll
            for (int r = 0; r < 8; r++) weights[r] = w[r * ROW_PAIRS + v * UNIT_PAIRS];
#pragma unroll
            for (int t = 0; t < 8; t++) {
                const float2 a = x[t * ROW_PAIRS + v * UNIT_PAIRS];
#pragma unroll
                for (int r = 0; r < 8; r++) sums[8 * t + r] = fmaf(weights[r].x, a.x, sums[8 * t + r]);
#pragma unroll
                for (int r = 0; r < 8; r++) sums[8 * t + r] = fmaf(weights[r].y, a.y, sums[8 * t + r]);
            }
        }
        __syncthreads();
    }

    // The tree of all 64: every step halves what a thread has, and lane l ends with elements 4 l .. 4 l + 4.
    share<32>(sums);
    share<16>(sums);
    share<8>(sums);
    share<4>(sums);
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const uint32_t out_row = first_row + row + lane % 2 * 4 + j, out_token = first_token + token + lane / 2;
        if (out_row < args.output.rows && out_token < args.n) finish(args.output, out_row, out_token, sums[j]);
    }
}
