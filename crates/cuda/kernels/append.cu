// Writes the cache. For new positions of a prompt, queries are rotated, and keys and values appended. A warp handles a
// head of a row.

constexpr int APPEND_THREADS = 128;

struct AppendArgs {
    float* qkv;  // [n, 3 * heads * head_dim]: queries are rotated in place
    Rope rope;
    Rows rows;
    KvCacheArgs cache;
    uint64_t n;
};

template <class E>
__device__ __forceinline__ void append(const AppendArgs& args) {
    const uint32_t lane = threadIdx.x % 32, heads = args.cache.heads, head_dim = args.cache.head_dim;
    const uint64_t index = (uint64_t)blockIdx.x * (APPEND_THREADS / 32) + threadIdx.x / 32;
    const uint64_t row = index / heads;
    const uint32_t head = index % heads;
    if (row >= args.n) return;
    const uint32_t sequence = args.rows.sequences[row], position = args.rows.positions[row];
    const uint64_t width = (uint64_t)heads * head_dim;
    float* query = args.qkv + row * 3 * width + head * head_dim;
    append_head<E>(args.cache, args.rope, sequence, head, position, query + width, query + 2 * width, lane, 32);
    const float2* turns = turns_at(args.rope, position);
    const uint32_t pairs = (uint32_t)args.rope.pairs;
    for (uint32_t i = lane; i < pairs; i += 32) {
        const float a = rotated(query, i, args.rope, turns), b = rotated(query, i + pairs, args.rope, turns);
        query[i] = a, query[i + pairs] = b;
    }
}

KERNEL(append_f16, AppendArgs, APPEND_THREADS) { append<Halves>(args); }
KERNEL(append_f32, AppendArgs, APPEND_THREADS) { append<Floats>(args); }

// The first positions of a sequence, for another: blocks along y have a head, threads a piece of its keys and one of
// its values. Keys come in whole tiles.
struct CopyArgs {
    KvCacheArgs cache;
    uint32_t from, to;  // sequences
    uint64_t positions;
};

template <class E>
__device__ __forceinline__ void copy_prefix(const CopyArgs& args) {
    const uint64_t i = (uint64_t)blockIdx.x * APPEND_THREADS + threadIdx.x, pieces = args.cache.head_dim / E::PIECE;
    if (i < (args.positions + TILE - 1) / TILE * TILE * pieces)
        ((uint4*)keys_of<E>(args.cache, args.to, blockIdx.y))[i] =
            ((const uint4*)keys_of<E>(args.cache, args.from, blockIdx.y))[i];
    if (i < args.positions * pieces)
        ((uint4*)values_of<E>(args.cache, args.to, blockIdx.y))[i] =
            ((const uint4*)values_of<E>(args.cache, args.from, blockIdx.y))[i];
}

KERNEL(copy_f16, CopyArgs, APPEND_THREADS) { copy_prefix<Halves>(args); }
KERNEL(copy_f32, CopyArgs, APPEND_THREADS) { copy_prefix<Floats>(args); }
