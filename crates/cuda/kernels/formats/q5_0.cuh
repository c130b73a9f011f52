// Q5_0: nibbles with a fifth bit around 16.
//
//     byte  0      2                6                                      22
//           | d f16 | fifth bits u32 | low nibble: element j, high: j + 16 |
//
// Bit j of the word is the fifth bit of element j.
struct Q5_0 {
    static constexpr int ELEMS = 32, BYTES = 22, ALIGN = 2;
    static constexpr bool AFFINE = false, SPLIT = false;

    static __device__ __forceinline__ void unit(const uint8_t* block, int, uint32_t codes[8], float d[2],
                                                float m[2]) {
        uint32_t words[5];
        load_words<5>(block + 2, words);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            codes[i] = centred<16>((words[1 + i] & bytes(15)) + spread<4>(words[0] >> 4 * i));
            codes[4 + i] = centred<16>((words[1 + i] >> 4 & bytes(15)) + spread<4>(words[0] >> (16 + 4 * i)));
        }
        d[0] = d[1] = half_to_float(load_u16(block));
        m[0] = m[1] = 0.0f;
    }
};
