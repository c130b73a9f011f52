// IQ3_XXS: entries of four magnitudes from a list of 256, a 4-bit scale per 32 elements.
//
//     byte  0       2            66                                                  98
//           | d f16 | 64 entries | 8 units: as bits 4 x 7 of signs and 4 of scale |
struct IQ3_XXS {
    static constexpr int ELEMS = 256, BYTES = 98, ALIGN = 2;
    static constexpr bool AFFINE = false, SPLIT = false;

    static __device__ __forceinline__ void unit(const uint8_t* block, int u, uint32_t codes[8], float d[2],
                                                float m[2]) {
        uint32_t entries[2], rest = load_u32(block + 66 + 4 * u);
        load_words<2>(block + 2 + 8 * u, entries);
        uint32_t signs = even_signs(four_sevens(rest));
#pragma unroll
        for (int i = 0; i < 8; i++) {
            codes[i] = with_signs(IQ3_XXS_GRID[entries[i / 4] >> i % 4 * 8 & 255], signs >> 4 * i);
        }
        d[0] = d[1] = odd_scale(block, rest >> 28, 0.25f);
        m[0] = m[1] = 0.0f;
    }
};
