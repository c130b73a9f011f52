// New positions: queries and keys rotated in place, keys and values appended to the cache. A warp does a head of a row.

constexpr int APPEND_THREADS = 128;

struct AppendArgs {
    float* qkv;  // [n, 3 * heads * head_dim]
    const float2* rope;  // [positions][pairs] of (cos, sin)
    Rows rows;
    Cache cache;
    uint32_t n;
    uint32_t pairs;
};

// Dimension i turns with dimension i + pairs: multiplications and additions, none fused.
__device__ __forceinline__ float2 turned(float a, float b, float2 turn) {
    return make_float2(a * turn.x - b * turn.y, b * turn.x + a * turn.y);
}

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
    float* key = query + width;
    const float* value = key + width;
    typename E::Stored* keys = keys_of<E>(args.cache, sequence, head);
    typename E::Stored* values = values_of<E>(args.cache, sequence, head) + (uint64_t)position * head_dim;

    for (uint32_t i = lane; i < args.pairs; i += 32) {
        const uint32_t j = i + args.pairs;
        const float2 turn = args.rope[(uint64_t)position * args.pairs + i];
        const float2 q = turned(query[i], query[j], turn), k = turned(key[i], key[j], turn);
        query[i] = q.x, query[j] = q.y;
        key[i] = k.x, key[j] = k.y;
        keys[key_at<E>(args.cache, position, i)] = E::encode(k.x);
        keys[key_at<E>(args.cache, position, j)] = E::encode(k.y);
    }
    for (uint32_t i = 2 * args.pairs + lane; i < head_dim; i += 32) {
        keys[key_at<E>(args.cache, position, i)] = E::encode(key[i]);
    }
    for (uint32_t i = lane; i < head_dim; i += 32) values[i] = E::encode(value[i]);
}

KERNEL(append_f16, AppendArgs, APPEND_THREADS) { append<Halves>(args); }
KERNEL(append_f32, AppendArgs, APPEND_THREADS) { append<Floats>(args); }
