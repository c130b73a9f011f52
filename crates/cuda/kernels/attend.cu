// Causal attention over the cache: `one` for generation, where every row is the newest position of its sequence, `many`
// for prompts, where a tile of rows shares keys and values.
//
// Per query and head, this computes a score per key (one chain of fused multiply-adds over the dimensions), the largest
// score, the exponentials of the differences from it, their sum in 16 lanes, and per dimension one chain over the keys.
// The online form, which rescales at each larger score, rounds more often and in a different order. So the keys are
// read twice, first for the largest score.
//
// If a score is not finite, the largest score of its row is +infinity (which finite scores never give), and the row's
// results are NaN.

// Score of a key that a query does not see. Its exponential is 0, and unlike infinity it counts as finite.
constexpr float UNSEEN = -3.40282346638528859812e38f;

// The larger of `largest` and a score, +infinity for good once a score was not finite.
__device__ __forceinline__ float with_score(float largest, float score) {
    return is_finite(score) ? max_of(largest, score) : infinity();
}

// 1 / the sum of exponentials, whose lanes are `stride` apart from `lanes` on.
__device__ __forceinline__ float inverse_of_sum(const float* lanes, int stride, float largest) {
    float a[8];
#pragma unroll
    for (int l = 0; l < 8; l++) a[l] = lanes[l * stride] + lanes[(l + 8) * stride];
#pragma unroll
    for (int l = 0; l < 4; l++) a[l] = a[l] + a[l + 4];
    a[0] = (a[0] + a[2]) + (a[1] + a[3]);
    return largest == infinity() ? not_a_number() : __fdiv_rn(1.0f, a[0]);
}

// ---- one: rows that each are a sequence's newest position ----
//
// Each block of scores rotates the query itself. The block with the newest key appends it and the value. Scores are
// independent: one thread each computes them for all keys of the cache. Then there is a block per 32 dimensions. In it,
// one warp computes the chain over the keys (4 cycles per key, which bounds a single row), one sums the exponentials,
// and the others supply both: values by asynchronous copies some stages ahead, exponentials one stage ahead. The grids
// depend on the cache's size and not on the positions.

struct OneArgs {
    const float* qkv;  // [n, 3 * heads * head_dim], not yet rotated
    Rope rope;
    Rows rows;
    KvCacheArgs cache;
    float* scores;  // [n, heads, positions], times the scale
    float* out;     // [n, heads * head_dim]
    Quantized quantized;  // the same rows, unless its codes are null: only where head_dim is a multiple of 32
};

constexpr int SCORE_THREADS = 128, MOST_DIMS = 256;

template <class E>
__device__ __forceinline__ void one_scores(const OneArgs& args) {
    alignas(16) __shared__ float query[MOST_DIMS];
    const KvCacheArgs& cache = args.cache;
    const uint32_t head = blockIdx.y, row = blockIdx.z, position = args.rows.positions[row], seen = position + 1;
    const uint32_t first = blockIdx.x * SCORE_THREADS, key = first + threadIdx.x;
    if (first >= seen) return;
    const uint32_t sequence = args.rows.sequences[row];
    const uint64_t width = (uint64_t)cache.heads * cache.head_dim;
    const float* from = args.qkv + row * 3 * width + head * cache.head_dim;
    const float2* turns = turns_at(args.rope, position);
    for (uint32_t d = threadIdx.x; d < cache.head_dim; d += SCORE_THREADS) {
        query[d] = rotated(from, d, args.rope, turns);
    }
    if (position - first < SCORE_THREADS) {
        append_head<E>(cache, args.rope, sequence, head, position, from + width, from + 2 * width, threadIdx.x, SCORE_THREADS);
    }
    __syncthreads();
    if (key >= seen) return;

    const typename E::Stored* keys = keys_of<E>(cache, sequence, head);
    const uint4* pieces = (const uint4*)(keys + key_at<E>(cache, key, 0));
    float score = 0.0f;
#pragma unroll 8
    for (uint32_t piece = 0; piece < cache.head_dim / E::PIECE; piece++) {
        float x[E::PIECE];
        E::unpack(pieces[piece * TILE], x);
#pragma unroll
        for (int i = 0; i < E::PIECE; i++) score = fmaf(query[piece * E::PIECE + i], x[i], score);
    }
    const uint64_t before = ((uint64_t)row * cache.heads + head) * cache.tiles * TILE;
    args.scores[before + key] = score * cache.scale;
}

// Without this limit, ptxas spills registers to fit more blocks than there is work for.
KERNEL(one_scores_f16, OneArgs, SCORE_THREADS, 8) { one_scores<Halves>(args); }
KERNEL(one_scores_f32, OneArgs, SCORE_THREADS, 8) { one_scores<Floats>(args); }

// Warp 0 has the chains, warp 1 the sum, the others supply.
constexpr int VALUE_THREADS = 192, SUPPLIERS = VALUE_THREADS - 64;
constexpr int STAGES = 5, STAGE_BYTES = 8192, DIMS = 32;

// Copies of one stage: the values of `count` keys from `key` on, of this block's dimensions.
template <class E>
__device__ __forceinline__ void supply_values(uint8_t* stage, const typename E::Stored* values, uint32_t key,
                                              uint32_t count, uint32_t head_dim, uint32_t dims, uint32_t supplier) {
    constexpr uint32_t PIECES = DIMS / E::PIECE;
    for (uint32_t i = supplier; i < count * PIECES; i += SUPPLIERS) {
        const uint32_t piece = i % PIECES;
        if (piece * E::PIECE >= dims) continue;
        cp_async_16(stage + i * 16, values + (uint64_t)(key + i / PIECES) * head_dim + piece * E::PIECE);
    }
}

// Adds four keys' values of a dimension.
template <class E>
__device__ __forceinline__ float four_keys(float acc, const float* weight, const typename E::Stored* value) {
    const float4 w = *(const float4*)weight;
    acc = fmaf(w.x, E::decode(value[0]), acc);
    acc = fmaf(w.y, E::decode(value[DIMS]), acc);
    acc = fmaf(w.z, E::decode(value[2 * DIMS]), acc);
    return fmaf(w.w, E::decode(value[3 * DIMS]), acc);
}

template <class E>
__device__ __forceinline__ void one_values(const OneArgs& args) {
    typedef typename E::Stored Stored;
    constexpr uint32_t KEYS = STAGE_BYTES / (DIMS * sizeof(Stored));
    alignas(16) __shared__ uint8_t stages[STAGES][STAGE_BYTES];
    alignas(16) __shared__ float weights[2][KEYS];
    __shared__ float largest_of_warps[VALUE_THREADS / 32];
    __shared__ float lanes[16];
    const KvCacheArgs& cache = args.cache;
    const uint32_t thread = threadIdx.x, warp = thread / 32, lane = thread % 32, supplier = thread - 64;
    const uint32_t head = blockIdx.y, row = blockIdx.z, seen = args.rows.positions[row] + 1;
    const uint32_t first_dim = blockIdx.x * DIMS;
    const uint32_t dims = cache.head_dim - first_dim < DIMS ? cache.head_dim - first_dim : DIMS;
    const Stored* values = values_of<E>(cache, args.rows.sequences[row], head) + first_dim;
    const float* scores = args.scores + ((uint64_t)row * cache.heads + head) * cache.tiles * TILE;
    const uint32_t count = (seen + KEYS - 1) / KEYS;
    const auto keys_in = [&](uint32_t c) { return seen - c * KEYS < KEYS ? seen - c * KEYS : KEYS; };

    if (warp >= 2) {
        for (uint32_t c = 0; c < STAGES - 1; c++) {
            if (c < count) {
                supply_values<E>(stages[c], values, c * KEYS, keys_in(c), cache.head_dim, dims, supplier);
            }
            cp_async_commit();
        }
    }
    // Eight scores at a time are loaded together. Missing ones get the smallest finite value.
    float largest = -infinity();
    for (uint32_t first = thread; first < seen; first += 8 * VALUE_THREADS) {
        float some[8];
#pragma unroll
        for (uint32_t i = 0; i < 8; i++) {
            const uint32_t key = first + i * VALUE_THREADS;
            some[i] = key < seen ? scores[key] : UNSEEN;
        }
#pragma unroll
        for (uint32_t i = 0; i < 8; i++) largest = with_score(largest, some[i]);
    }
    largest = max_of_warp(largest);
    if (lane == 0) largest_of_warps[warp] = largest;
    __syncthreads();
#pragma unroll
    for (uint32_t w = 0; w < VALUE_THREADS / 32; w++) largest = max_of(largest, largest_of_warps[w]);

    // Exponentials of a stage: one per supplier, 0 for keys that are not seen. The score is loaded a stage early.
    const auto score_of = [&](uint32_t c) {
        const uint32_t key = c * KEYS + supplier;
        return supplier < KEYS && key < seen ? scores[key] : UNSEEN;
    };
    float score = UNSEEN;
    if (warp >= 2) {
        if (supplier < KEYS) weights[0][supplier] = exponential(score_of(0) - largest);
        score = score_of(1);
    }

    float sum = 0.0f, acc = 0.0f;
    for (uint32_t c = 0; c < count; c++) {
        if (warp >= 2) cp_async_wait<STAGES - 2>();
        __syncthreads();
        const float* weight = weights[c % 2];
        if (warp == 0) {
            const Stored* value = (const Stored*)stages[c % STAGES] + lane;
            const uint32_t n = keys_in(c);
            // In a whole stage, loads run ahead of the chain.
            if (n == KEYS) {
#pragma unroll
                for (uint32_t k = 0; k < KEYS; k += 4) acc = four_keys<E>(acc, weight + k, value + k * DIMS);
            } else {
                uint32_t k = 0;
                for (; k + 4 <= n; k += 4) acc = four_keys<E>(acc, weight + k, value + k * DIMS);
                for (; k < n; k++) acc = fmaf(weight[k], E::decode(value[k * DIMS]), acc);
            }
        } else if (warp == 1) {
#pragma unroll 8
            for (uint32_t k = lane % 16; k < KEYS; k += 16) sum = sum + weight[k];
        } else {
            const uint32_t next = c + STAGES - 1;
            if (next < count) {
                supply_values<E>(stages[next % STAGES], values, next * KEYS, keys_in(next), cache.head_dim, dims, supplier);
            }
            cp_async_commit();
            if (supplier < KEYS) weights[(c + 1) % 2][supplier] = exponential(score - largest);
            score = score_of(c + 2);
        }
    }
    if (warp == 1 && lane < 16) lanes[lane] = sum;
    __syncthreads();
    if (warp == 0) {
        const uint64_t to = ((uint64_t)row * cache.heads + head) * cache.head_dim + first_dim;
        const float result = acc * inverse_of_sum(lanes, 1, largest);
        if (lane < dims) args.out[to + lane] = result;
        if (args.quantized.codes) quantize_unit(result, args.quantized, to / 32);
    }
}

KERNEL(one_values_f16, OneArgs, VALUE_THREADS) { one_values<Halves>(args); }
KERNEL(one_values_f32, OneArgs, VALUE_THREADS) { one_values<Floats>(args); }

// ---- many: tiles of consecutive rows of a sequence ----
//
// A block has 32 queries of a head, and goes through the keys 64 at a time, twice: for the largest scores, then for
// everything else. Scores are computed again in the second pass. Storing them would need rows x heads x positions
// floats, more than the rest of a prompt's memory, and reading them back costs half as much as computing the sums.
//
// A thread has 4 queries and 4 keys of the scores, then 4 queries and 4 of each 64 dimensions of the values: two loads
// of 16 bytes from shared memory for 16 multiply-adds. In a warp, 8 threads lie along the keys and 4 along the queries,
// so each of these loads takes one wavefront.

struct AttendTile {
    uint32_t first_row;
    uint32_t rows;  // 1 to 32
    uint32_t sequence;
    uint32_t first_position;  // of the first row; query i sees the keys up to first_position + i
};

struct ManyArgs {
    const AttendTile* tiles;
    const float* qkv;  // [n, 3 * heads * head_dim]
    float* out;        // [n, heads * head_dim]
    KvCacheArgs cache;
    uint64_t count;  // of tiles
};

constexpr int MANY_THREADS = 128, QUERIES = 32, KEYS = 64;
// Floats between the weights of neighbouring keys: 16 bytes more than the queries, for the banks.
constexpr int WEIGHT_STRIDE = QUERIES + 4;

// Position of a thread: its first query and its first key (or dimension) of 64.
struct Stand {
    uint32_t query, key;
};

__device__ __forceinline__ Stand stand() {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    return {4 * (lane / 8 + 4 * (warp / 2)), 4 * (lane % 8 + 8 * (warp % 2))};
}

// Adds the products of four rows, those from `first_row` on, with four columns.
__device__ __forceinline__ void outer(float acc[4][4], const float4& rows, const float4& cols, int first_row = 0) {
    const float r[4] = {rows.x, rows.y, rows.z, rows.w}, c[4] = {cols.x, cols.y, cols.z, cols.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (i < first_row) continue;
#pragma unroll
        for (int j = 0; j < 4; j++) acc[i][j] = fmaf(r[i], c[j], acc[i][j]);
    }
}

// Scores, before their scaling, of the thread's queries with its keys of the 64 from `first_key` on. `queries` is
// [dimension][32], `stage` becomes [DEPTH dimensions][64 keys]. Begins with a barrier.
template <class E, int DEPTH>
__device__ __forceinline__ void score_tile(float acc[4][4], const KvCacheArgs& cache, const typename E::Stored* keys,
                                           uint32_t first_key, const float* queries, float* stage, const Stand& at) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) acc[i][j] = 0.0f;
    }
    for (uint32_t first = 0; first < cache.head_dim; first += DEPTH) {
        const uint32_t dims = cache.head_dim - first < DEPTH ? cache.head_dim - first : DEPTH;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < dims / E::PIECE * KEYS; i += MANY_THREADS) {
            const uint32_t key = i % KEYS, dim = i / KEYS * E::PIECE;
            uint4 piece = make_uint4(0, 0, 0, 0);
            // The second half may lie beyond the cache.
            if ((first_key + key) / TILE < cache.tiles) {
                piece = *(const uint4*)(keys + key_at<E>(cache, first_key + key, first + dim));
            }
            float x[E::PIECE];
            E::unpack(piece, x);
#pragma unroll
            for (int e = 0; e < E::PIECE; e++) stage[(dim + e) * KEYS + key] = x[e];
        }
        __syncthreads();
#pragma unroll 8
        for (uint32_t d = 0; d < dims; d++) {
            outer(acc, *(const float4*)(queries + (first + d) * QUERIES + at.query),
                  *(const float4*)(stage + d * KEYS + at.key));
        }
    }
}

// GROUPS: 64 dimensions each, enough for the head.
template <class E, int GROUPS>
__device__ __forceinline__ void many(const ManyArgs& args) {
    typedef typename E::Stored Stored;
    // Rows of 64 that pass through shared memory at once: fewer where the queries leave less room.
    constexpr int DEPTH = GROUPS == 4 ? 16 : 32;
    alignas(16) __shared__ float queries[GROUPS * 64 * QUERIES];       // [dimension][query]
    alignas(16) __shared__ float stage[DEPTH * 64];                    // keys or values
    alignas(16) __shared__ float weights[KEYS * WEIGHT_STRIDE];        // [key][query]
    __shared__ float largest_of[2][QUERIES];
    __shared__ float inverse_of[QUERIES];
    const KvCacheArgs& cache = args.cache;
    const uint32_t thread = threadIdx.x, head = blockIdx.x % cache.heads, head_dim = cache.head_dim;
    // Later tiles of a prompt see more keys; they go first, so that the last blocks to start are short.
    const AttendTile tile = args.tiles[args.count - 1 - blockIdx.x / cache.heads];
    const uint64_t width = (uint64_t)cache.heads * head_dim;
    const Stored* keys = keys_of<E>(cache, tile.sequence, head);
    const Stored* values = values_of<E>(cache, tile.sequence, head);
    const Stand at = stand();
    const uint32_t end = tile.first_position + tile.rows;  // of the keys that the last row sees
    const uint32_t seen = tile.first_position + at.query;  // the last key that the thread's first query sees

    // A lane per query, so that its column takes the bank of its own.
    for (uint32_t i = thread; i < head_dim / 4 * QUERIES; i += MANY_THREADS) {
        const uint32_t query = i % QUERIES, dim = i / QUERIES * 4;
        float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (query < tile.rows) {
            x = *(const float4*)(args.qkv + (tile.first_row + query) * 3 * width + head * head_dim + dim);
        }
        queries[dim * QUERIES + query] = x.x, queries[(dim + 1) * QUERIES + query] = x.y;
        queries[(dim + 2) * QUERIES + query] = x.z, queries[(dim + 3) * QUERIES + query] = x.w;
    }

    float largest[4] = {-infinity(), -infinity(), -infinity(), -infinity()};
    for (uint32_t first = 0; first < end; first += KEYS) {
        float score[4][4];
        score_tile<E, DEPTH>(score, cache, keys, first, queries, stage, at);
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                if (first + at.key + j <= seen + i) largest[i] = with_score(largest[i], score[i][j] * cache.scale);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int distance = 4; distance > 0; distance /= 2) {
            largest[i] = max_of(largest[i], __shfl_xor_sync(0xFFFFFFFFu, largest[i], distance));
        }
        if (thread % 8 == 0) largest_of[thread / 32 % 2][at.query + i] = largest[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++) largest[i] = max_of(largest_of[0][at.query + i], largest_of[1][at.query + i]);

    // Lanes 4 (thread / 32) .. + 3 of the sum of query thread % 32.
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    float acc[GROUPS][4][4];
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) acc[g][i][j] = 0.0f;
        }
    }
    for (uint32_t first = 0; first < end; first += KEYS) {
        float score[4][4];
        score_tile<E, DEPTH>(score, cache, keys, first, queries, stage, at);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float e[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const bool sees = first + at.key + j <= seen + i;
                e[i] = sees ? exponential(score[i][j] * cache.scale - largest[i]) : 0.0f;
            }
            *(float4*)(weights + (at.key + j) * WEIGHT_STRIDE + at.query) = make_float4(e[0], e[1], e[2], e[3]);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < KEYS; k += 16) {
#pragma unroll
            for (int l = 0; l < 4; l++) {
                sums[l] = sums[l] + weights[(k + thread / 32 * 4 + l) * WEIGHT_STRIDE + thread % 32];
            }
        }
        // Whether some query of the tile does not see some of these keys. A weight of 0 is not enough then, because the
        // value may be anything, and adding 0 can change the sign of a zero.
        const bool ragged = first + KEYS - 1 > tile.first_position;
        for (uint32_t part = first; part < first + KEYS && part < end; part += DEPTH) {
            const uint32_t count = end - part < DEPTH ? end - part : DEPTH;
            const float* weight = weights + (part - first) * WEIGHT_STRIDE + at.query;
#pragma unroll
            for (int g = 0; g < GROUPS; g++) {
                __syncthreads();
                constexpr uint32_t PIECES = 64 / E::PIECE;
                for (uint32_t i = thread; i < count * PIECES; i += MANY_THREADS) {
                    const uint32_t dim = i % PIECES * E::PIECE;
                    uint4 piece = make_uint4(0, 0, 0, 0);
                    if (64 * g + dim < head_dim) {
                        piece = *(const uint4*)(values + (uint64_t)(part + i / PIECES) * head_dim + 64 * g + dim);
                    }
                    float x[E::PIECE];
                    E::unpack(piece, x);
#pragma unroll
                    for (int e = 0; e < E::PIECE; e += 4) {
                        *(float4*)(stage + i * E::PIECE + e) = make_float4(x[e], x[e + 1], x[e + 2], x[e + 3]);
                    }
                }
                __syncthreads();
                const float* value = stage + at.key;
                if (64 * g + at.key >= head_dim) continue;
                if (!ragged) {
#pragma unroll 8
                    for (uint32_t k = 0; k < count; k++) {
                        outer(acc[g], *(const float4*)(weight + k * WEIGHT_STRIDE), *(const float4*)(value + k * 64));
                    }
                } else {
                    for (uint32_t k = 0; k < count; k++) {
                        outer(acc[g], *(const float4*)(weight + k * WEIGHT_STRIDE), *(const float4*)(value + k * 64),
                              (int)(part + k - seen));
                    }
                }
            }
        }
    }

    // The lanes of the sums are stored in place of the weights: [lane][query].
    __syncthreads();
#pragma unroll
    for (int l = 0; l < 4; l++) weights[(thread / 32 * 4 + l) * WEIGHT_STRIDE + thread % 32] = sums[l];
    __syncthreads();
    if (thread < QUERIES) {
        const float most = max_of(largest_of[0][thread], largest_of[1][thread]);
        inverse_of[thread] = inverse_of_sum(weights + thread, WEIGHT_STRIDE, most);
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (at.query + i >= tile.rows) continue;
        const float inverse = inverse_of[at.query + i];
        float* out = args.out + (tile.first_row + at.query + i) * width + head * head_dim;
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            const uint32_t dim = 64 * g + at.key;
            if (dim >= head_dim) continue;
            *(float4*)(out + dim) = make_float4(acc[g][i][0] * inverse, acc[g][i][1] * inverse, acc[g][i][2] * inverse,
                                                acc[g][i][3] * inverse);
        }
    }
}

KERNEL(many_f16_64, ManyArgs, MANY_THREADS) { many<Halves, 1>(args); }
KERNEL(many_f16_128, ManyArgs, MANY_THREADS) { many<Halves, 2>(args); }
KERNEL(many_f16_256, ManyArgs, MANY_THREADS) { many<Halves, 4>(args); }
KERNEL(many_f32_64, ManyArgs, MANY_THREADS) { many<Floats, 1>(args); }
KERNEL(many_f32_128, ManyArgs, MANY_THREADS) { many<Floats, 2>(args); }
KERNEL(many_f32_256, ManyArgs, MANY_THREADS) { many<Floats, 4>(args); }
