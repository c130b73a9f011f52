// Q8_0: signed bytes.
//
//     byte  0      2                                34
//           | d f16 | codes i8 x 32                  |
struct Q8_0 {
    static constexpr int ELEMS = 32, BYTES = 34, ALIGN = 2;
    static constexpr bool AFFINE = false, SPLIT = false;

    static __device__ __forceinline__ void unit(const uint8_t* block, int, uint32_t codes[8], float d[2],
                                                float m[2]) {
        load_words<8>(block + 2, codes);
        d[0] = d[1] = half_to_float(load_u16(block));
        m[0] = m[1] = 0.0f;
    }
};
