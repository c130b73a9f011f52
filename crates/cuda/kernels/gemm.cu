// Quantized weights times many rows of x, on the int8 tensor cores.
//
// By the numeric contract, the integer sum of every group is scaled and added in order. So results are taken out of the
// tensor cores after each 32 (SPLIT: 16) elements. An mma starts from 12582912 = 1.5 * 2^23, read as an integer. Sums
// below 2^22 in magnitude, added to it, become the low bits of a float's mantissa, and one subtraction makes them
// floats. (A sum is at most 32 * 128 * 127.)

constexpr int32_t MAGIC = 0x4B400000;
constexpr float MAGIC_FLOAT = 12582912.0f;

// N floats: 2, aligned to 8 bytes, or a multiple of 4, aligned to 16.
template <int N>
__device__ __forceinline__ void load_floats(const float* from, float to[N]) {
    if constexpr (N == 2) {
        const float2 two = *(const float2*)from;
        to[0] = two.x, to[1] = two.y;
    } else {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            const float4 four = *(const float4*)(from + i);
            to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
        }
    }
}

// A thread's part in loading x. Two threads load a token: each copies 16 codes of every unit and fetches the scales of
// every other unit. The scales stay in registers while a step is multiplied.
template <typename T, bool AFFINE, bool SPLIT>
struct TokensOfX {
    static constexpr int PLACES = T::TOKENS * 2;
    // Additional threads load the following units; additional tokens take another turn.
    static constexpr int UNITS_AT_ONCE = T::THREADS > PLACES ? T::THREADS / PLACES : 1;
    static constexpr int TURNS = PLACES > T::THREADS ? PLACES / T::THREADS : 1;
    static_assert(T::UNITS == 2 * UNITS_AT_ONCE, "two threads have the scales of all units");
    uint32_t from[TURNS]; // first units of tokens
    float d[TURNS];
    int2 sums[TURNS];

    static __device__ __forceinline__ int slot(int turn) {
        return turn * (T::THREADS / 2) + threadIdx.x / 2 % T::TOKENS;
    }

    // The first unit of a step that this thread copies, and the one whose scales it fetches.
    static __device__ __forceinline__ int unit_of_codes() {
        return UNITS_AT_ONCE == 1 ? 0 : threadIdx.x / PLACES;
    }

    static __device__ __forceinline__ int unit_of_scales() {
        return unit_of_codes() * 2 + threadIdx.x % 2;
    }

    __device__ __forceinline__ TokensOfX(const ProductArgs& args, uint32_t first_token) {
#pragma unroll
        for (int i = 0; i < TURNS; i++) {
            from[i] = T::clamp(first_token + T::token_of_slot(slot(i)), args.n) * args.units;
        }
    }

    // Starts copying the codes of a step. Units past the end of a row are copies of its last unit and are not
    // multiplied.
    __device__ __forceinline__ void copy(const ProductArgs& args, typename T::Stage& stage, uint32_t first_unit) const {
        const int8_t* codes = args.x.codes + threadIdx.x % 2 * 16;
        const int place = T::place(slot(0), threadIdx.x % 2);
#pragma unroll
        for (int next = 0; next < T::UNITS; next += UNITS_AT_ONCE) {
            const int unit = next + unit_of_codes();
            const uint32_t in_row = T::clamp(first_unit + unit, args.units);
            uint8_t* to = stage.x + T::template place_in_unit<T::TOKENS>(place, unit);
#pragma unroll
            for (int i = 0; i < TURNS; i++) {
                // Turns are a multiple of eight slots apart, which leaves the order of halves alone.
                cp_async_16(to + i * (T::THREADS / 2) * 32, codes + (uint64_t)(from[i] + in_row) * 32);
            }
        }
    }

    __device__ __forceinline__ void load_scales(const ProductArgs& args, uint32_t first_unit) {
        const uint32_t in_row = T::clamp(first_unit + unit_of_scales(), args.units);
#pragma unroll
        for (int i = 0; i < TURNS; i++) {
            const uint64_t at = from[i] + in_row;
            d[i] = args.x.scales[at];
            if constexpr (AFFINE) {
                sums[i] = *(const int2*)(args.x.sums + 2 * at);
            }
        }
    }

    __device__ __forceinline__ void store_scales(typename T::Stage& stage) const {
#pragma unroll
        for (int i = 0; i < TURNS; i++) {
            const int token = T::token_of_slot(slot(i)), unit = unit_of_scales();
            stage.d_a[unit * T::TOKEN_STRIDE + token] = d[i];
            if constexpr (AFFINE) {
                float* s_a = stage.s_a + unit * T::SCALES * T::TOKEN_STRIDE + token;
                if constexpr (SPLIT) {
                    s_a[0] = d[i] * (float)sums[i].x;
                    s_a[T::TOKEN_STRIDE] = d[i] * (float)sums[i].y;
                } else {
                    s_a[0] = d[i] * (float)(sums[i].x + sums[i].y);
                }
            }
        }
    }
};

// A thread's part in decoding the weights: one unit of a row per step. The threads of a row are neighbours in a warp
// and also load its bytes, so no other warp has to wait for them.
template <typename T, typename Format>
struct Decoder {
    const uint8_t* weights; // the row
    int unit, slot, row;    // row: of the block

    __device__ __forceinline__ Decoder(const ProductArgs& args, uint32_t first_row) {
        unit = threadIdx.x % T::UNITS, slot = threadIdx.x / T::UNITS, row = T::row_of_slot(slot);
        weights = args.weights + (uint64_t)T::clamp(first_row + row, args.output.rows) * args.row_bytes;
    }

    __device__ __forceinline__ uint8_t* raw(typename T::Shared& shared, uint32_t window) const {
        return shared.work.raw + ((int)(window % T::WINDOWS) * T::ROWS + slot) * T::RAW_STRIDE;
    }

    // Starts copying a window, in whole chunks of 16 bytes. Adjacent bytes are copied too, and alignment is kept.
    __device__ __forceinline__ void copy(const ProductArgs& args, typename T::Shared& shared, uint32_t window) const {
        const uint64_t passed = (uint64_t)window * T::WINDOW_BYTES, left = args.row_bytes - passed;
        const uint8_t* from = weights + passed;
        const int before = (int)((uint64_t)from % 16);
        const int end = before + (left < T::WINDOW_BYTES ? (int)left : T::WINDOW_BYTES);
        from += unit * 16 - before;
        uint8_t* to = raw(shared, window) + unit * 16;
#pragma unroll
        for (int at = 0; at < T::CHUNKS * 16; at += T::UNITS * 16) {
            if (at + unit * 16 < end) {
                cp_async_16(to + at, from + at);
            }
        }
    }

    // Decodes this thread's unit of a step. Its window has been loaded for the warp.
    __device__ __forceinline__ void decode(const ProductArgs& args, typename T::Shared& shared, uint32_t step) const {
        if (step * T::UNITS + unit >= args.units) {
            return;
        }
        typename T::Stage& stage = shared.work.stages[step % 2];
        const uint32_t window = step / T::STEPS_PER_WINDOW;
        const int in_window = (int)(step % T::STEPS_PER_WINDOW) * T::UNITS + unit;
        const int before = (int)(((uint32_t)(uint64_t)weights + window * T::WINDOW_BYTES) % 16);
        constexpr int UNITS_OF_BLOCK = Format::ELEMS / 32;
        const uint8_t* block = raw(shared, window) + before + in_window / UNITS_OF_BLOCK * Format::BYTES;
        uint32_t codes[8];
        float d[2], m[2];
        Format::unit(block, in_window % UNITS_OF_BLOCK, codes, d, m);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            *(uint4*)(stage.weights + T::template place_in_unit<T::ROWS>(T::place(slot, half), unit)) =
                make_uint4(codes[4 * half], codes[4 * half + 1], codes[4 * half + 2], codes[4 * half + 3]);
        }
#pragma unroll
        for (int i = 0; i < T::SCALES; i++) {
            stage.d_w[(unit * T::SCALES + i) * T::ROW_STRIDE + row] = d[i];
            if constexpr (Format::AFFINE) {
                stage.m_w[(unit * T::SCALES + i) * T::ROW_STRIDE + row] = m[i];
            }
        }
    }
};

// A thread's part of its warp's fragments.
template <typename T, bool AFFINE, bool SPLIT>
struct Fragments {
    int rows, tokens;              // this thread's first ones
    int weights_place, x_place;    // what it names to ldmatrix
    float sums[T::MI][T::NI][4];

    __device__ __forceinline__ Fragments() : sums{} {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        const int down = warp / T::ACROSS * T::WARP_ROWS, across = warp % T::ACROSS * T::WARP_TOKENS;
        rows = down + lane / 4 * (2 * T::MI), tokens = across + lane % 4 * (2 * T::NI);
        // Matrices 0 and 1 of an ldmatrix are rows 0..8 and 8..16, lower half; 2 and 3 the same, upper half.
        weights_place = T::place(down + lane / 8 % 2 * 8 + lane % 8, lane / 16);
        // Here 0 and 1 are the halves of tokens 0..8, and 2 and 3 those of tokens 8..16.
        x_place = T::place(across + lane / 16 * 8 + lane % 8, lane / 8 % 2);
    }

    // Adds one unit of a step.
    __device__ __forceinline__ void multiply(const typename T::Stage& stage, int unit) {
        const uint8_t* x = stage.x + T::template place_in_unit<T::TOKENS>(x_place, unit);
        const uint8_t* weights = stage.weights + T::template place_in_unit<T::ROWS>(weights_place, unit);
        uint32_t b[T::NI][2];
#pragma unroll
        for (int j = 0; j < T::NI; j += 2) {
            ldmatrix_x4(b[j], x + j * 8 * 32);
        }
        float d_a[2 * T::NI];
        [[maybe_unused]] float s_a[T::SCALES][2 * T::NI];
        load_floats<2 * T::NI>(stage.d_a + unit * T::TOKEN_STRIDE + tokens, d_a);
        if constexpr (AFFINE) {
#pragma unroll
            for (int s = 0; s < T::SCALES; s++) {
                load_floats<2 * T::NI>(stage.s_a + (unit * T::SCALES + s) * T::TOKEN_STRIDE + tokens, s_a[s]);
            }
        }
#pragma unroll
        for (int i = 0; i < T::MI; i++) {
            uint32_t a[4];
            ldmatrix_x4(a, weights + i * 16 * 32);
#pragma unroll
            for (int s = 0; s < T::SCALES; s++) {
                const int at = (unit * T::SCALES + s) * T::ROW_STRIDE + rows + 2 * i;
                float d_w[2];
                [[maybe_unused]] float m_w[2];
                load_floats<2>(stage.d_w + at, d_w);
                if constexpr (AFFINE) {
                    load_floats<2>(stage.m_w + at, m_w);
                }
#pragma unroll
                for (int j = 0; j < T::NI; j++) {
                    int32_t c[4] = {MAGIC, MAGIC, MAGIC, MAGIC};
                    if constexpr (SPLIT) {
                        mma_k16(c, a + 2 * s, b[j][s]);
                    } else {
                        mma_k32(c, a, b[j]);
                    }
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        const int of_rows = k / 2, of_tokens = 2 * j + k % 2;
                        float& sum = sums[i][j][k];
                        sum = fmaf(__int_as_float(c[k]) - MAGIC_FLOAT, d_w[of_rows] * d_a[of_tokens], sum);
                        if constexpr (AFFINE) {
                            sum = fmaf(m_w[of_rows], s_a[s][of_tokens], sum);
                        }
                    }
                }
            }
        }
    }

    // Adds the first `units` of a step. One unit keeps a warp busy if it has many fragments; otherwise it takes
    // several.
    __device__ __forceinline__ void multiply_step(const typename T::Stage& stage, int units) {
        constexpr int AT_ONCE = T::MI * T::NI >= 16 ? 1 : T::UNITS;
#pragma unroll AT_ONCE
        for (int unit = 0; unit < units; unit++) {
            multiply(stage, unit);
        }
    }

    // Stores the sums in shared memory, in the order of the output's lines.
    __device__ __forceinline__ void store(typename T::Shared& shared) const {
#pragma unroll
        for (int j = 0; j < T::NI; j++) {
#pragma unroll
            for (int i = 0; i < T::MI; i++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float* to = &shared.sums[tokens + 2 * j + e][rows + 2 * i];
                    *(float2*)to = make_float2(sums[i][j][e], sums[i][j][2 + e]);
                }
            }
        }
    }
};

// Writes a block's sums. Neighbouring threads write a line of the output.
template <typename T>
__device__ __forceinline__ void finish_tile(const ProductArgs& args, const typename T::Shared& shared, uint32_t first_row,
                                            uint32_t first_token) {
    constexpr int APART = T::THREADS / T::ROWS, AT_ONCE = 8;
    const int row = threadIdx.x % T::ROWS;
    if (first_row + row >= args.output.rows) {
        return;
    }
    const Bias bias(args.output, first_row + row);
#pragma unroll 1
    for (int token = threadIdx.x / T::ROWS; token < T::TOKENS; token += AT_ONCE * APART) {
        float sums[AT_ONCE];
        int count = 0;
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            sums[i] = shared.sums[token + i * APART][row];
            count += first_token + token + i * APART < args.n;
        }
        finish_run<AT_ONCE>(args.output, bias, first_row + row, first_token + token, APART, count, sums);
    }
}

template <typename T>
__device__ __forceinline__ void gemm(const ProductArgs& args) {
    __shared__ typename T::Shared shared;
    // Adjacent blocks share rows of the weights, so they find them in the L2 cache.
    const uint32_t first_token = blockIdx.x * T::TOKENS;
    const uint32_t first_row = (blockIdx.z * gridDim.y + blockIdx.y) * T::ROWS;
    if (first_row >= args.output.rows) {
        return;
    }
    const uint32_t steps = (args.units + T::UNITS - 1) / T::UNITS;
    TokensOfX<T, Format::AFFINE, Format::SPLIT> tokens(args, first_token);
    const Decoder<T, Format> decoder(args, first_row);
    Fragments<T, Format::AFFINE, Format::SPLIT> fragments;

    decoder.copy(args, shared, 0);
    tokens.copy(args, shared.work.stages[0], 0);
    cp_async_commit();
    tokens.load_scales(args, 0);
    tokens.store_scales(shared.work.stages[0]);
    cp_async_wait<0>();
    __syncwarp();
    decoder.decode(args, shared, 0);
    // Each turn multiplies one step and loads the next.
#pragma unroll 1
    for (uint32_t step = 0; step < steps; step++) {
        const uint32_t next = step + 1;
        // The step is visible to all threads. The stage of the previous step, and the window before it, are free.
        __syncthreads();
        if (next < steps) {
            tokens.copy(args, shared.work.stages[next % 2], next * T::UNITS);
            tokens.load_scales(args, next * T::UNITS);
        }
        cp_async_commit();
        // The step of this window in whose turn the next window is requested.
        constexpr uint32_t ASKS = T::WINDOWS == 1 ? T::STEPS_PER_WINDOW - 1 : 0;
        const uint32_t window = step / T::STEPS_PER_WINDOW + 1;
        if (step % T::STEPS_PER_WINDOW == ASKS && window * T::STEPS_PER_WINDOW < steps) {
            decoder.copy(args, shared, window);
        }
        cp_async_commit();
        const uint32_t left = args.units - step * T::UNITS;
        fragments.multiply_step(shared.work.stages[step % 2], left < T::UNITS ? (int)left : T::UNITS);
        if (next < steps) {
            tokens.store_scales(shared.work.stages[next % 2]);
            // With two windows, the one requested in this turn may still be in flight.
            cp_async_wait<T::WINDOWS - 1>();
            __syncwarp();
            decoder.decode(args, shared, next);
        }
    }
    __syncthreads();
    fragments.store(shared);
    __syncthreads();
    finish_tile<T>(args, shared, first_row, first_token);
}

// `SHAPES` in src/ops/gemm.rs.
KERNEL(gemm_64x128, ProductArgs, 128) {
    gemm<Tile<Format, 64, 128, 1, 4, 64, 1>>(args);
}

// Without this limit, ptxas uses 128 registers here to fit a fourth block, and spills more.
KERNEL(gemm_64x64, ProductArgs, 128, 3) {
    gemm<Tile<Format, 64, 64, 2, 2, 64, 1>>(args);
}

KERNEL(gemm_32x32, ProductArgs, 128) {
    gemm<Tile<Format, 32, 32, 2, 2, 128, 2>>(args);
}
