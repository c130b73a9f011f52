// IQ2_XXS: entries of eight magnitudes from a list of 256, a 4-bit scale per 32 elements.
//
//     byte  0       2                                                                          66
//           | d f16 | 8 units: 4 bytes of entries, then as bits 4 x 7 of signs and 4 of scale |
struct IQ2_XXS {
    static constexpr int ELEMS = 256, BYTES = 66, ALIGN = 2;
    static constexpr bool AFFINE = false, SPLIT = false;

    static __device__ __forceinline__ void unit(const uint8_t* block, int u, uint32_t codes[8], float d[2],
                                                float m[2]) {
        uint32_t words[2];
        load_words<2>(block + 2 + 8 * u, words);
        uint32_t signs = even_signs(four_sevens(words[1]));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            entry_of_8(IQ2_XXS_GRID, words[0] >> 8 * i & 255, signs >> 8 * i, codes + 2 * i);
        }
        d[0] = d[1] = odd_scale(block, words[1] >> 28, 0.125f);
        m[0] = m[1] = 0.0f;
    }
};
