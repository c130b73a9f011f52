// IQ3_S: entries of four magnitudes from a list of 512, a 4-bit scale per 32 elements.
//
//     byte  0       2                        66                               74      106                        110
//           | d f16 | 64 entries, low 8 bits | ninth bits of 8 entries each | signs | scales, low nibble first |
struct IQ3_S {
    static constexpr int ELEMS = 256, BYTES = 110, ALIGN = 2;
    static constexpr bool AFFINE = false, SPLIT = false;

    static __device__ __forceinline__ void unit(const uint8_t* block, int u, uint32_t codes[8], float d[2],
                                                float m[2]) {
        uint32_t entries[2], ninths = block[66 + u], signs = load_u32(block + 74 + 4 * u);
        load_words<2>(block + 2 + 8 * u, entries);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            uint32_t entry = (entries[i / 4] >> i % 4 * 8 & 255) | (ninths << (8 - i) & 256);
            codes[i] = with_signs(IQ3_S_GRID[entry], signs >> 4 * i);
        }
        d[0] = d[1] = odd_scale(block, block[106 + u / 2] >> u % 2 * 4 & 15, 1.0f);
        m[0] = m[1] = 0.0f;
    }
};
