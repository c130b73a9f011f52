// Decodes weights to f32, with the bits of `TensorType::decode`, for the embedding and the float products.

// Four signed bytes as f32. Each byte plus 128 becomes the low mantissa bits of 2^23, and one subtraction removes both
// again. This is exact, and cheaper than conversions, which run at a quarter of the speed.
__device__ __forceinline__ void codes_to_floats(uint32_t codes, float values[4]) {
    const uint32_t shifted = codes ^ 0x80808080u;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        values[i] = __uint_as_float(__byte_perm(shifted, 0x4B000000u, 0x7440 + i)) - 8388736.0f;
    }
}

// Unit `u` of a row: its elements 32 u .. 32 u + 32.
template <class F>
__device__ __forceinline__ void decode(const uint8_t* row, uint32_t u, float values[32]) {
    if constexpr (F::ELEMS == 1) {
        // A unit of floats begins at a multiple of 16, as rows do.
        const uint4* from = (const uint4*)(row + (uint64_t)u * (32 * F::BYTES));
        constexpr int PAIR = F::BYTES / 2; // in words
        uint32_t words[16 * PAIR];
#pragma unroll
        for (int i = 0; i < 4 * PAIR; i++) {
            const uint4 four = from[i];
            words[4 * i] = four.x, words[4 * i + 1] = four.y, words[4 * i + 2] = four.z, words[4 * i + 3] = four.w;
        }
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const float2 pair = F::pair(words + i * PAIR);
            values[2 * i] = pair.x, values[2 * i + 1] = pair.y;
        }
    } else {
        constexpr uint32_t UNITS = F::ELEMS / 32;
        uint32_t codes[8];
        float d[2], m[2];
        F::unit(row + (uint64_t)(u / UNITS) * F::BYTES, u % UNITS, codes, d, m);
#pragma unroll
        for (int i = 0; i < 8; i++) codes_to_floats(codes[i], values + 4 * i);
        // Scales of super-blocks are exact products, and adding a negative minimum equals subtracting the minimum. So
        // this is every format's own order. Without a minimum nothing is added, because adding 0 would turn -0 into 0.
#pragma unroll
        for (int i = 0; i < 32; i++) {
            values[i] = d[i / 16] * values[i];
            if (F::AFFINE) values[i] = values[i] + m[i / 16];
        }
    }
}

// Bytes of a row.
template <class F>
__device__ __forceinline__ uint64_t row_bytes(uint32_t cols) {
    return (uint64_t)(cols / F::ELEMS) * F::BYTES;
}
