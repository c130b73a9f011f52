// IQ2_XS: entries of eight magnitudes from a list of 512, a 4-bit scale per 16 elements.
//
//     byte  0       2                                      66                         74
//           | d f16 | 32 u16: 9 bits of entry, 7 of signs | scales, low nibble first |
struct IQ2_XS {
    static constexpr int ELEMS = 256, BYTES = 74, ALIGN = 2;
    static constexpr bool AFFINE = false, SPLIT = true;

    static __device__ __forceinline__ void unit(const uint8_t* block, int u, uint32_t codes[8], float d[2],
                                                float m[2]) {
        uint32_t words[2];
        load_words<2>(block + 2 + 8 * u, words);
        // The upper byte of each half word has the signs, above the entry's ninth bit.
        uint32_t signs = even_signs(__byte_perm(words[0], words[1], 0x7531) >> 1 & bytes(127));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            entry_of_8(IQ2_XS_GRID, words[i / 2] >> i % 2 * 16 & 511, signs >> 8 * i, codes + 2 * i);
        }
        uint32_t scales = block[66 + u];
        d[0] = odd_scale(block, scales & 15, 0.125f);
        d[1] = odd_scale(block, scales >> 4, 0.125f);
        m[0] = m[1] = 0.0f;
    }
};
