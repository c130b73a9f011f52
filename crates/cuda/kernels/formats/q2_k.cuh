// Q2_K: pairs of bits, a 4-bit scale and minimum per 16 elements.
//
//     byte  0                               16                                               80      82         84
//           | low nibble scale, high minimum | 2 runs of 32: bit pairs of l, l + 32, + 64, + 96 | d f16 | dmin f16 |
struct Q2_K {
    static constexpr int ELEMS = 256, BYTES = 84, ALIGN = 4;
    static constexpr bool AFFINE = true, SPLIT = true;

    static __device__ __forceinline__ void unit(const uint8_t* block, int u, uint32_t codes[8], float d[2],
                                                float m[2]) {
        load_words_4<8>(block + 16 + u / 4 * 32, codes);
#pragma unroll
        for (int i = 0; i < 8; i++) codes[i] = codes[i] >> u % 4 * 2 & bytes(3);
        uint32_t groups = load_u16(block + 2 * u), supers = load_u32_aligned(block + 80);
        float super = half_to_float((uint16_t)supers), super_min = -half_to_float((uint16_t)(supers >> 16));
        // Exact: 11 bits times 4.
        d[0] = super * (float)(groups & 15);
        m[0] = super_min * (float)(groups >> 4 & 15);
        d[1] = super * (float)(groups >> 8 & 15);
        m[1] = super_min * (float)(groups >> 12);
    }
};
