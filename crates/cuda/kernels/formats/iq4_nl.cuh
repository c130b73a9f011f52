// IQ4_NL: nibbles that number sixteen levels.
//
//     byte  0      2                                      18
//           | d f16 | low nibble: element j, high: j + 16 |
struct IQ4_NL {
    static constexpr int ELEMS = 32, BYTES = 18, ALIGN = 2;
    static constexpr bool AFFINE = false, SPLIT = false;

    static __device__ __forceinline__ void unit(const uint8_t* block, int, uint32_t codes[8], float d[2],
                                                float m[2]) {
        uint32_t words[4];
        load_words<4>(block + 2, words);
#pragma unroll
        for (int i = 0; i < 4; i++) look_up(IQ4_LEVELS, words[i], codes[i], codes[4 + i]);
        d[0] = d[1] = half_to_float(load_u16(block));
        m[0] = m[1] = 0.0f;
    }
};
