// Q3_K: pairs of bits with a third bit around 4, a 6-bit scale around 32 per 16 elements.
//
//     byte  0                            32                    96                  108     110
//           | third bits: bit u of byte l | bit pairs as in Q2_K | 6-bit group scales | d f16 |
//
// Of the 12 bytes of scales, byte g of the first 8 holds the lower nibbles of g (low) and g + 8 (high); byte 8 + g % 4
// holds the upper pairs of g, g + 4, ..., lowest first. So both scales of a unit lie side by side.
struct Q3_K {
    static constexpr int ELEMS = 256, BYTES = 110, ALIGN = 2;
    static constexpr bool AFFINE = false, SPLIT = true;

    static __device__ __forceinline__ void unit(const uint8_t* block, int u, uint32_t codes[8], float d[2],
                                                float m[2]) {
        uint32_t low[8], third[8];
        load_words<8>(block + 32 + u / 4 * 32, low, u % 4 * 2);
        load_words<8>(block, third, u);
#pragma unroll
        for (int i = 0; i < 8; i++) codes[i] = centred<4>((low[i] & bytes(3)) + (third[i] & bytes(1)) * 4);
        uint32_t nibbles = load_u16(block + 96 + u % 4 * 2) >> u / 4 * 4 & 0x0F0F;
        uint32_t pairs = load_u16(block + 104 + u % 2 * 2) >> u / 2 * 2 & 0x0303;
        uint32_t scales = nibbles | pairs << 4;
        float super = half_to_float(load_u16(block + 108));
        d[0] = super * (float)((int)(scales & 63) - 32); // exact: 11 bits times 6
        d[1] = super * (float)((int)(scales >> 8) - 32);
        m[0] = m[1] = 0.0f;
    }
};
