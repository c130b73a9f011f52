// Q5_K: nibbles with a fifth bit, a 6-bit scale and minimum per 32 elements.
//
//     byte  0                   16                              48                   176
//           | head: `six_bit`   | fifth bits: bit u of byte l   | nibbles as in Q4_K |
struct Q5_K {
    static constexpr int ELEMS = 256, BYTES = 176, ALIGN = 16;
    static constexpr bool AFFINE = true, SPLIT = false;

    static __device__ __forceinline__ void unit(const uint8_t* block, int u, uint32_t codes[8], float d[2],
                                                float m[2]) {
        uint32_t fifths[8];
        load_words_16<8>(block + 48 + u / 2 * 32, codes);
        load_words_16<8>(block + 16, fifths);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            codes[i] = (codes[i] >> u % 2 * 4 & bytes(15)) + (fifths[i] >> u & bytes(1)) * 16;
        }
        six_bit(block, u, d, m);
    }
};
