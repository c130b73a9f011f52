// Quantized weights times 1 to 8 rows of x: the product of generation, which is bound by reading every weight once.
//
// A warp owns 1 or 4 rows of the weights. Warps are independent; there is no block barrier. A warp goes through its
// rows in chunks of 32 units (1024 elements), a unit per lane:
//
//   stage   cp.async copies the bytes of a chunk of each row to shared memory, 16 at a time, two or three chunks ahead;
//   terms   a lane decodes its unit of each row, multiplies it with the codes of x (in registers for all rows), and
//           stores the integer sum (as f32, exact) and the product of the two scales;
//   chain   a lane per element of the result adds the terms in the order that docs/numerics.md fixes: one fma after the
//           other, from the first group of the row to the last.
//
// The expected cost, counted and not measured: one H100 multiprocessor gets 3.35 TB/s / 132 / 1.75 GHz = 14.5 bytes a
// cycle, and needs some 25 KB in flight for it (1 us of latency at full load). Per row and chunk, for one row of x:
//
//                                            Q8_0     Q4_0     Q4_K
//     bytes                                  1088      576      576
//     cycles of memory                         75       40       40
//     issue slots in that time                300      160      160
//     instructions (SASS for sm_90)           130      145      160
//
// So Q8_0 is bound by memory, and 4-bit formats about equally by instructions and memory.
//
// 4096 rows are 1024 warps, 7.8 per multiprocessor, each with at least 8.7 KB (Q8_0) or 6.9 KB (4 bits) in flight: 54
// to 68 KB. All blocks of such a matrix are resident at once and share the bandwidth evenly, so there is no last wave;
// taller matrices have many small blocks. A matrix of few rows has a warp per row instead: all of 512 x 2048 is in
// flight at once. After the last byte, only the chain of the last chunk remains: 32 fma of 4 cycles, twice that with
// minima.

// Units of a chunk: one per lane.
constexpr uint32_t LANES = 32;
// Groups of a chunk, each with its own scale.
constexpr int GROUPS = Format::SPLIT ? 2 * LANES : LANES;
constexpr int UNITS_PER_BLOCK = Format::ELEMS / 32;
constexpr uint32_t CHUNK_BYTES = LANES / UNITS_PER_BLOCK * Format::BYTES;
// In shared memory a chunk keeps its address modulo 16, so it needs this many sixteens. `unit` may read a few bytes
// after a block: those of the next row or of the following table.
constexpr uint32_t PIECES = (CHUNK_BYTES + (Format::BYTES % 16 == 0 ? 0 : 14) + 15) / 16;
constexpr uint32_t SLOT_BYTES = 16 * PIECES;

// A warp's shared memory. The rows of each table are padded by 16 bytes, so that lanes which read 16 bytes of different
// rows use different banks.
template <int ROWS, int TOKENS>
struct alignas(16) Workplace {
    static constexpr int CHAINS = ROWS * TOKENS;
    static constexpr int STAGES = ROWS * SLOT_BYTES > 3072 ? 3 : 4;

    uint8_t staged[STAGES][ROWS][SLOT_BYTES];
    // Per group: the integer sum, and the scale of the weights times that of x.
    float2 products[CHAINS][GROUPS + 2];
    // The minimum, and the sum of x (with its scale) that it multiplies.
    float minima[Format::AFFINE ? ROWS : 1][GROUPS + 4];
    float sums[Format::AFFINE ? TOKENS : 1][GROUPS + 4];
};

// Rows of the weights as a warp reads them, chunk by chunk.
template <int ROWS>
struct Strip {
    // Per row: the start of the next chunk to stage, for this lane.
    const uint8_t* next[ROWS];
    // Per row: its address modulo 16.
    uint32_t remainders[ROWS];
    // Bytes of a row that are not yet staged.
    uint32_t left;

    __device__ __forceinline__ Strip(const ProductArgs& args, uint32_t first_row) : left((uint32_t)args.row_bytes) {
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            // Past the end, a copy of the last row, which is not used.
            const uint32_t index = first_row + row < args.output.rows ? first_row + row : args.output.rows - 1;
            next[row] = args.weights + index * args.row_bytes;
            remainders[row] = (uint32_t)(uint64_t)next[row] % 16;
            next[row] += threadIdx.x % LANES * 16;
        }
    }

    // Bytes between the multiple of 16 at or below a chunk of a row and its first byte.
    __device__ __forceinline__ uint32_t skew(int row, uint32_t chunk) const {
        if constexpr (Format::BYTES % 16 == 0) {
            return 0; // and so is the length of every row
        } else {
            return (remainders[row] + chunk * (CHUNK_BYTES % 16)) % 16;
        }
    }

    // Starts copying the next chunk of each row, in whole sixteens, so up to 30 bytes past the end of the last row.
    __device__ __forceinline__ void stage(uint8_t* slots) {
        constexpr int STEPS = (PIECES + LANES - 1) / LANES;
        const uint32_t at = threadIdx.x % LANES * 16;
        const uint32_t end = left < CHUNK_BYTES ? left + 15 : SLOT_BYTES;
        uint8_t* to = slots + at;
        const uint8_t* from[ROWS];
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            from[row] = Format::BYTES % 16 == 0 ? next[row] : next[row] - (uint64_t)next[row] % 16;
            next[row] += CHUNK_BYTES;
        }
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            const uint32_t offset = step * 16 * LANES;
            if (at + offset < end) {
#pragma unroll
                for (int row = 0; row < ROWS; row++) {
                    cp_async_16(to + row * SLOT_BYTES + offset, from[row] + offset);
                }
            }
        }
        left -= CHUNK_BYTES; // below zero after the last
    }
};

// A lane's unit of each row of x.
template <int TOKENS>
struct Column {
    uint32_t codes[TOKENS][8];
    float scales[TOKENS];
    float sums[TOKENS][2]; // of the first and the last half where SPLIT, else of the unit; with the scale

    __device__ __forceinline__ void load(const ProductArgs& args, uint32_t unit) {
#pragma unroll
        for (int token = 0; token < TOKENS; token++) {
            // Past the end, copies of the last row.
            const uint32_t at = ((uint32_t)token < args.n ? token : args.n - 1) * args.units + unit;
            const uint4* from = (const uint4*)(args.x.codes + (uint64_t)32 * at);
            const uint4 low = __ldg(from), high = __ldg(from + 1);
            codes[token][0] = low.x, codes[token][1] = low.y, codes[token][2] = low.z, codes[token][3] = low.w;
            codes[token][4] = high.x, codes[token][5] = high.y, codes[token][6] = high.z, codes[token][7] = high.w;
            scales[token] = __ldg(args.x.scales + at);
            if constexpr (Format::AFFINE) {
                const int2 halves = __ldg((const int2*)(args.x.sums + (uint64_t)2 * at));
                const int first = Format::SPLIT ? halves.x : halves.x + halves.y;
                sums[token][0] = scales[token] * (float)first;
                sums[token][1] = scales[token] * (float)halves.y;
            }
        }
    }
};

// Codes of half a unit times those of x.
__device__ __forceinline__ int dot_16(const uint32_t* w, const uint32_t* x, int sum) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        sum = dot_of_bytes((int)w[i], (int)x[i], sum);
    }
    return sum;
}

// The terms of a lane's unit, from the staged bytes of each row.
template <int ROWS, int TOKENS>
__device__ __forceinline__ void make_terms(
    Workplace<ROWS, TOKENS>& my, const Strip<ROWS>& strip, uint32_t chunk, const Column<TOKENS>& x) {
    const int lane = threadIdx.x % LANES;
    const uint8_t* block = my.staged[chunk % my.STAGES][0] + lane / UNITS_PER_BLOCK * Format::BYTES;
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        uint32_t codes[8];
        float d[2], m[2];
        Format::unit(block + row * SLOT_BYTES + strip.skew(row, chunk), lane % UNITS_PER_BLOCK, codes, d, m);
#pragma unroll
        for (int token = 0; token < TOKENS; token++) {
            float2* products = my.products[row * TOKENS + token];
            const int first = dot_16(codes, x.codes[token], 0);
            const float scale = d[0] * x.scales[token];
            if constexpr (Format::SPLIT) {
                const int last = dot_16(codes + 4, x.codes[token] + 4, 0);
                *(float4*)(products + 2 * lane) =
                    make_float4((float)first, scale, (float)last, d[1] * x.scales[token]);
            } else {
                const int sum = dot_16(codes + 4, x.codes[token] + 4, first);
                products[lane] = make_float2((float)sum, scale);
            }
        }
        if constexpr (Format::AFFINE && Format::SPLIT) {
            *(float2*)(my.minima[row] + 2 * lane) = make_float2(m[0], m[1]);
        } else if constexpr (Format::AFFINE) {
            my.minima[row][lane] = m[0];
        }
    }
    if constexpr (Format::AFFINE) {
#pragma unroll
        for (int token = 0; token < TOKENS; token++) {
            if constexpr (Format::SPLIT) {
                *(float2*)(my.sums[token] + 2 * lane) = make_float2(x.sums[token][0], x.sums[token][1]);
            } else {
                my.sums[token][lane] = x.sums[token][0];
            }
        }
    }
}

// Adds four groups to the sum of a row.
__device__ __forceinline__ float add_four(float acc, const float2* products, const float* minima, const float* sums) {
    const float4 a = ((const float4*)products)[0], b = ((const float4*)products)[1];
    if constexpr (Format::AFFINE) {
        const float4 m = *(const float4*)minima, s = *(const float4*)sums;
        acc = __fmaf_rn(m.x, s.x, __fmaf_rn(a.x, a.y, acc));
        acc = __fmaf_rn(m.y, s.y, __fmaf_rn(a.z, a.w, acc));
        acc = __fmaf_rn(m.z, s.z, __fmaf_rn(b.x, b.y, acc));
        return __fmaf_rn(m.w, s.w, __fmaf_rn(b.z, b.w, acc));
    } else {
        acc = __fmaf_rn(a.z, a.w, __fmaf_rn(a.x, a.y, acc));
        return __fmaf_rn(b.z, b.w, __fmaf_rn(b.x, b.y, acc));
    }
}

// Adds the first `groups` of a chunk to the sum of element `chain`.
template <int ROWS, int TOKENS>
__device__ __forceinline__ float add_chunk(
    const Workplace<ROWS, TOKENS>& my, int chain, int groups, float acc) {
    const float2* products = my.products[chain];
    const float* minima = my.minima[Format::AFFINE ? chain / TOKENS : 0];
    const float* sums = my.sums[Format::AFFINE ? chain % TOKENS : 0];
    int group = 0;
    if (groups == GROUPS) {
#pragma unroll
        for (; group < GROUPS; group += 4) {
            acc = add_four(acc, products + group, minima + group, sums + group);
        }
        return acc;
    }
    // The last chunk of a row.
    for (; group + 4 <= groups; group += 4) {
        acc = add_four(acc, products + group, minima + group, sums + group);
    }
    for (; group < groups; group++) {
        const float2 product = products[group];
        acc = __fmaf_rn(product.x, product.y, acc);
        if constexpr (Format::AFFINE) {
            acc = __fmaf_rn(minima[group], sums[group], acc);
        }
    }
    return acc;
}

template <int ROWS, int TOKENS, int WARPS>
__device__ __forceinline__ void gemv(const ProductArgs& args) {
    __shared__ Workplace<ROWS, TOKENS> workplaces[WARPS];
    Workplace<ROWS, TOKENS>& my = workplaces[threadIdx.x / LANES];
    const int lane = threadIdx.x % LANES;
    const uint32_t first_row = (blockIdx.x * WARPS + threadIdx.x / LANES) * ROWS;
    if (first_row >= args.output.rows) {
        return; // the whole warp
    }
    Strip<ROWS> strip(args, first_row);
    const uint32_t chunks = (args.units + LANES - 1) / LANES;
#pragma unroll
    for (int chunk = 0; chunk < my.STAGES - 1; chunk++) {
        if (chunk < chunks) {
            strip.stage(my.staged[chunk][0]);
        }
        cp_async_commit();
    }
    float acc = 0.0f;
    for (uint32_t chunk = 0; chunk < chunks; chunk++) {
        // Lanes past the end of the row compute terms from other bytes; they are not added.
        const uint32_t unit = chunk * LANES + lane;
        Column<TOKENS> x;
        x.load(args, unit < args.units ? unit : args.units - 1);
        cp_async_wait<Workplace<ROWS, TOKENS>::STAGES - 2>();
        // Now this chunk is visible to all lanes, and the terms and bytes of the previous one are no longer read.
        __syncwarp();
        const uint32_t ahead = chunk + my.STAGES - 1;
        if (ahead < chunks) {
            strip.stage(my.staged[ahead % my.STAGES][0]);
        }
        cp_async_commit();
        make_terms(my, strip, chunk, x);
        __syncwarp();
        if (lane < my.CHAINS) {
            const uint32_t left = args.units - chunk * LANES;
            acc = add_chunk(my, lane, left < LANES ? GROUPS / LANES * left : GROUPS, acc);
        }
    }
    const uint32_t row = first_row + lane / TOKENS, token = lane % TOKENS;
    if (lane < my.CHAINS && row < args.output.rows && token < args.n) {
        finish(args.output, row, token, acc);
    }
}

// gemv_<rows of x>_<rows of the weights to a warp>: `ops::gemv` chooses.
KERNEL(gemv_1_1, ProductArgs, 64) { gemv<1, 1, 2>(args); }
KERNEL(gemv_1_4, ProductArgs, 64) { gemv<4, 1, 2>(args); }
KERNEL(gemv_2_1, ProductArgs, 64) { gemv<1, 2, 2>(args); }
KERNEL(gemv_2_4, ProductArgs, 64) { gemv<4, 2, 2>(args); }
KERNEL(gemv_4_1, ProductArgs, 64) { gemv<1, 4, 2>(args); }
KERNEL(gemv_4_4, ProductArgs, 64) { gemv<4, 4, 2>(args); }
KERNEL(gemv_8_1, ProductArgs, 32) { gemv<1, 8, 1>(args); }
KERNEL(gemv_8_4, ProductArgs, 32) { gemv<4, 8, 1>(args); }
