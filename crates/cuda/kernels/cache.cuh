// Layout of keys and values on the device. `ops::append` has the sizes.
//
// Keys: [sequence][head][tile of 32 positions][pieces of dimensions][32 positions][dimensions of a piece]. A piece has
// 16 bytes. So a warp whose lanes are the positions of a tile reads 512 contiguous bytes, and a lane gets its key's
// dimensions in ascending order.
// Values: [sequence][head][position][dimension].

constexpr int TILE = 32;

struct KvCacheArgs {
    uint8_t* keys;
    uint8_t* values;
    uint32_t heads;
    uint32_t head_dim;  // a multiple of 8
    uint32_t tiles;     // of a sequence
    float scale;        // of scores: 1 / sqrt(head_dim)
};

// Positions of the rows of a batch. They are on the device, so that a graph can be replayed with others.
struct Rows {
    const uint32_t* sequences;
    const uint32_t* positions;
};

// Elements of the cache: how many make a piece, and what they are worth.
struct Halves {
    typedef uint16_t Stored;
    static constexpr int PIECE = 8;
    static __device__ __forceinline__ Stored encode(float x) { return float_to_half(x); }
    static __device__ __forceinline__ float decode(Stored x) { return half_to_float(x); }
    static __device__ __forceinline__ void unpack(const uint4& piece, float out[PIECE]) {
        const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
        for (int i = 0; i < PIECE; i++) out[i] = half_to_float((uint16_t)(words[i / 2] >> (16 * (i % 2))));
    }
};

struct Floats {
    typedef float Stored;
    static constexpr int PIECE = 4;
    static __device__ __forceinline__ Stored encode(float x) { return x; }
    static __device__ __forceinline__ float decode(Stored x) { return x; }
    static __device__ __forceinline__ void unpack(const uint4& piece, float out[PIECE]) {
        const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
        for (int i = 0; i < PIECE; i++) out[i] = __uint_as_float(words[i]);
    }
};

// Keys of a sequence's head.
template <class E>
__device__ __forceinline__ typename E::Stored* keys_of(const KvCacheArgs& cache, uint32_t sequence, uint32_t head) {
    uint64_t before = ((uint64_t)sequence * cache.heads + head) * cache.tiles;
    return (typename E::Stored*)cache.keys + before * TILE * cache.head_dim;
}

// Values of a sequence's head.
template <class E>
__device__ __forceinline__ typename E::Stored* values_of(const KvCacheArgs& cache, uint32_t sequence, uint32_t head) {
    uint64_t before = ((uint64_t)sequence * cache.heads + head) * cache.tiles;
    return (typename E::Stored*)cache.values + before * TILE * cache.head_dim;
}

// Where, among the keys of a head, element `dim` (the first of a piece, or any) of the key at `position` lies.
template <class E>
__device__ __forceinline__ uint64_t key_at(const KvCacheArgs& cache, uint32_t position, uint32_t dim) {
    uint32_t pieces = cache.head_dim / E::PIECE;
    uint64_t piece = (uint64_t)(position / TILE) * pieces + dim / E::PIECE;
    return (piece * TILE + position % TILE) * E::PIECE + dim % E::PIECE;
}

// Cosines and sines of every position.
struct Rope {
    const float2* turns;  // [positions][pairs]
    uint64_t pairs;       // of dimensions that turn: i with i + pairs
};

// The cosines and sines of a position.
__device__ __forceinline__ const float2* turns_at(const Rope& rope, uint32_t position) {
    return rope.turns + position * rope.pairs;
}

// Dimension `i` of a head's vector, rotated: multiplications and additions, none fused.
__device__ __forceinline__ float rotated(const float* x, uint32_t i, const Rope& rope, const float2* turns) {
    const uint32_t pairs = (uint32_t)rope.pairs;
    if (i < pairs) return x[i] * turns[i].x - x[i + pairs] * turns[i].y;
    if (i < 2 * pairs) return x[i] * turns[i - pairs].x + x[i - pairs] * turns[i - pairs].y;
    return x[i];
}

// Appends a head's key, rotated here, and value: a thread's share, among `threads`.
template <class E>
__device__ __forceinline__ void append_head(const KvCacheArgs& cache, const Rope& rope, uint32_t sequence, uint32_t head,
                                            uint32_t position, const float* key, const float* value, uint32_t thread,
                                            uint32_t threads) {
    typename E::Stored* keys = keys_of<E>(cache, sequence, head);
    typename E::Stored* values = values_of<E>(cache, sequence, head) + (uint64_t)position * cache.head_dim;
    const float2* turns = turns_at(rope, position);
    for (uint32_t i = thread; i < cache.head_dim; i += threads) {
        keys[key_at<E>(cache, position, i)] = E::encode(rotated(key, i, rope, turns));
        values[i] = E::encode(value[i]);
    }
}
