// IQ2_S: entries of eight magnitudes from a list of 1024, a 4-bit scale per 16 elements.
//
//     byte  0       2                     34      66                                74                         82
//           | d f16 | entries, low 8 bits | signs | upper 2 bits of 4 entries each | scales, low nibble first |
struct IQ2_S {
    static constexpr int ELEMS = 256, BYTES = 82, ALIGN = 2;
    static constexpr bool AFFINE = false, SPLIT = true;

    static __device__ __forceinline__ void unit(const uint8_t* block, int u, uint32_t codes[8], float d[2],
                                                float m[2]) {
        uint32_t low = load_u32(block + 2 + 4 * u), signs = load_u32(block + 34 + 4 * u);
        uint32_t high = block[66 + u], scales = block[74 + u];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t entry = (low >> 8 * i & 255) | (high << (8 - 2 * i) & 768);
            entry_of_8(IQ2_S_GRID, entry, signs >> 8 * i, codes + 2 * i);
        }
        d[0] = odd_scale(block, scales & 15, 0.125f);
        d[1] = odd_scale(block, scales >> 4, 0.125f);
        m[0] = m[1] = 0.0f;
    }
};
