// Q5_1: nibbles with a fifth bit, scale and minimum.
//
//     byte  0      2       4                8                                      24
//           | d f16 | m f16 | fifth bits u32 | low nibble: element j, high: j + 16 |
//
// Bit j of the word is the fifth bit of element j.
struct Q5_1 {
    static constexpr int ELEMS = 32, BYTES = 24, ALIGN = 8;
    static constexpr bool AFFINE = true, SPLIT = false;

    static __device__ __forceinline__ void unit(const uint8_t* block, int, uint32_t codes[8], float d[2],
                                                float m[2]) {
        uint32_t words[6];
        load_words_8<6>(block, words);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            codes[i] = (words[2 + i] & bytes(15)) + spread<4>(words[1] >> 4 * i);
            codes[4 + i] = (words[2 + i] >> 4 & bytes(15)) + spread<4>(words[1] >> (16 + 4 * i));
        }
        d[0] = d[1] = half_to_float((uint16_t)words[0]);
        m[0] = m[1] = half_to_float((uint16_t)(words[0] >> 16));
    }
};
