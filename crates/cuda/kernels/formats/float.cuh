// Plain floats, as they lie in a file: formats whose blocks are single elements. `pair` widens two neighbours, exactly.

struct F32 {
    static constexpr int ELEMS = 1, BYTES = 4;

    static __device__ __forceinline__ float2 pair(const uint32_t words[2]) {
        return make_float2(__uint_as_float(words[0]), __uint_as_float(words[1]));
    }
};

struct F16 {
    static constexpr int ELEMS = 1, BYTES = 2;

    static __device__ __forceinline__ float2 pair(const uint32_t words[1]) {
        return make_float2(half_to_float((uint16_t)words[0]), half_to_float((uint16_t)(words[0] >> 16)));
    }
};

// The upper half of a single.
struct BF16 {
    static constexpr int ELEMS = 1, BYTES = 2;

    static __device__ __forceinline__ float2 pair(const uint32_t words[1]) {
        return make_float2(__uint_as_float(words[0] << 16), __uint_as_float(words[0] & 0xFFFF0000u));
    }
};
