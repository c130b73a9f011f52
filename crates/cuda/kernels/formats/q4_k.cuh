// Q4_K: nibbles, a 6-bit scale and minimum per 32 elements.
//
//     byte  0                   16                                                            144
//           | head: `six_bit`   | 4 runs of 32: low nibble element l of 64, high: l + 32 |
struct Q4_K {
    static constexpr int ELEMS = 256, BYTES = 144, ALIGN = 16;
    static constexpr bool AFFINE = true, SPLIT = false;

    static __device__ __forceinline__ void unit(const uint8_t* block, int u, uint32_t codes[8], float d[2],
                                                float m[2]) {
        load_words_16<8>(block + 16 + u / 2 * 32, codes);
#pragma unroll
        for (int i = 0; i < 8; i++) codes[i] = codes[i] >> u % 2 * 4 & bytes(15);
        six_bit(block, u, d, m);
    }
};
