// Q6_K: nibbles and pairs of upper bits around 32, a signed scale per 16 elements.
//
//     byte  0                     128                    192               208     210
//           | low nibbles, 2 x 64 | upper bits, 2 x 32   | group scales i8 | d f16 |
//
// Units 0..4 are the first half: units 0 and 1 lie in the low nibbles of its 64 bytes, 2 and 3 in the high ones; its 32
// bytes of upper bits have a pair for each unit, from the lowest up.
struct Q6_K {
    static constexpr int ELEMS = 256, BYTES = 210, ALIGN = 2;
    static constexpr bool AFFINE = false, SPLIT = true;

    static __device__ __forceinline__ void unit(const uint8_t* block, int u, uint32_t codes[8], float d[2],
                                                float m[2]) {
        int half = u / 4, quarter = u % 4;
        uint32_t low[8], high[8];
        load_words<8>(block + 64 * half + 32 * (quarter % 2), low, quarter / 2 * 4);
        load_words<8>(block + 128 + 32 * half, high, 2 * quarter);
#pragma unroll
        for (int i = 0; i < 8; i++) codes[i] = centred<32>((low[i] & bytes(15)) + (high[i] & bytes(3)) * 16);
        uint32_t scales = load_u16(block + 192 + 2 * u);
        float super = half_to_float(load_u16(block + 208));
        d[0] = super * (float)(int8_t)scales; // exact: 11 bits times 8
        d[1] = super * (float)(int8_t)(scales >> 8);
        m[0] = m[1] = 0.0f;
    }
};
