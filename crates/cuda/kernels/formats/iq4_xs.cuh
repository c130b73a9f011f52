// IQ4_XS: the levels of IQ4_NL, a 6-bit scale around 32 per 32 elements.
//
//     byte  0       2                           4                           8                        136
//           | d f16 | upper pairs of scales u16 | lower nibbles, 2 per byte | 8 runs of 16 as in IQ4_NL |
struct IQ4_XS {
    static constexpr int ELEMS = 256, BYTES = 136, ALIGN = 8;
    static constexpr bool AFFINE = false, SPLIT = false;

    static __device__ __forceinline__ void unit(const uint8_t* block, int u, uint32_t codes[8], float d[2],
                                                float m[2]) {
        uint32_t head[2], words[4];
        load_words_8<2>(block, head);
        load_words_8<4>(block + 8 + 16 * u, words);
#pragma unroll
        for (int i = 0; i < 4; i++) look_up(IQ4_LEVELS, words[i], codes[i], codes[4 + i]);
        uint32_t scale = (head[1] >> 4 * u & 15) | (head[0] >> (16 + 2 * u) & 3) << 4;
        d[0] = d[1] = half_to_float((uint16_t)head[0]) * (float)((int)scale - 32); // exact: 11 bits times 6
        m[0] = m[1] = 0.0f;
    }
};
