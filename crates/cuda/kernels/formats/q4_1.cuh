// Q4_1: nibbles, scale and minimum.
//
//     byte  0      2       4                                      20
//           | d f16 | m f16 | low nibble: element j, high: j + 16 |
struct Q4_1 {
    static constexpr int ELEMS = 32, BYTES = 20, ALIGN = 4;
    static constexpr bool AFFINE = true, SPLIT = false;

    static __device__ __forceinline__ void unit(const uint8_t* block, int, uint32_t codes[8], float d[2],
                                                float m[2]) {
        uint32_t words[5];
        load_words_4<5>(block, words);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            codes[i] = words[1 + i] & bytes(15);
            codes[4 + i] = words[1 + i] >> 4 & bytes(15);
        }
        d[0] = d[1] = half_to_float((uint16_t)words[0]);
        m[0] = m[1] = half_to_float((uint16_t)(words[0] >> 16));
    }
};
