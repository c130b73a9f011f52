// Shared by the block formats: words from unaligned bytes, arithmetic on the four bytes of a word, and parts of several
// formats.
//
// Alignment: matrices begin at multiples of 256 and their rows are contiguous, so a block begins at a multiple of the
// largest power of two that divides BYTES: `ALIGN`, at least 2. Copies in shared memory keep the address modulo ALIGN.
//
// `unit` of each format is the inner loop of decoding. At 3.35 TB/s an H100 reads about 15 bytes per cycle and
// multiprocessor (128 lanes). So a unit of Q4_K (18 bytes) may cost 150 instructions of a lane and one of IQ2_XXS (8.25
// bytes) 70, including the product. The counts at each `unit` are arithmetic instructions in SASS for sm_90.

// At an even address.
__device__ __forceinline__ uint32_t load_u16(const uint8_t* p) {
    return *(const uint16_t*)p;
}

// At a multiple of 4.
__device__ __forceinline__ uint32_t load_u32_aligned(const uint8_t* p) {
    return *(const uint32_t*)p;
}

// At an even address.
__device__ __forceinline__ uint32_t load_u32(const uint8_t* p) {
    return load_u16(p) | load_u16(p + 2) << 16;
}

// N words from an even address on, from N + 1 aligned loads, which touch at most the 2 bytes before and the 4 bytes
// after. The words are shifted right by `bits` in 0..16 at no cost. Bits move into the byte below, so the caller masks.
template <int N>
__device__ __forceinline__ void load_words(const uint8_t* p, uint32_t words[N], int bits = 0) {
    int odd = (int)((uint64_t)p & 2), shift = odd * 8 + bits;
    const uint32_t* aligned = (const uint32_t*)(p - odd); // not a mask, so that the compiler knows the address space
    uint32_t low = aligned[0];
#pragma unroll
    for (int i = 0; i < N; i++) {
        uint32_t high = aligned[i + 1];
        words[i] = __funnelshift_r(low, high, shift);
        low = high;
    }
}

// N words, a multiple of 4, from a multiple of 16 on.
template <int N>
__device__ __forceinline__ void load_words_16(const uint8_t* p, uint32_t words[N]) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
        uint4 four = *(const uint4*)(p + 4 * i);
        words[i] = four.x, words[i + 1] = four.y, words[i + 2] = four.z, words[i + 3] = four.w;
    }
}

// N words, a multiple of 2, from a multiple of 8 on.
template <int N>
__device__ __forceinline__ void load_words_8(const uint8_t* p, uint32_t words[N]) {
#pragma unroll
    for (int i = 0; i < N; i += 2) {
        uint2 two = *(const uint2*)(p + 4 * i);
        words[i] = two.x, words[i + 1] = two.y;
    }
}

// N words from a multiple of 4 on.
template <int N>
__device__ __forceinline__ void load_words_4(const uint8_t* p, uint32_t words[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) words[i] = load_u32_aligned(p + 4 * i);
}

// The same in all four bytes.
__device__ constexpr uint32_t bytes(uint32_t b) {
    return b * 0x01010101u;
}

// Subtracts an offset from codes below 128. Adding 128 minus the offset has no carry between bytes, and flipping the
// top bits removes the 128.
template <int OFFSET>
__device__ __forceinline__ uint32_t centred(uint32_t codes) {
    return (codes + bytes(128 - OFFSET)) ^ bytes(128);
}

// Moves bits 0..4 of `bits` to bit AT of bytes 0..4, AT in 0..5. The four copies do not overlap, so there is no carry.
template <int AT>
__device__ __forceinline__ uint32_t spread(uint32_t bits) {
    return (bits & 15) * (0x00204081u << AT) & bytes(1u << AT);
}

// The head of Q4_K and Q5_K: 16 bytes at a multiple of 16.
//
//     byte  0       2          4                      8                      12                                   16
//           | d f16 | dmin f16 | scale g, low 6 bits  | min g, low 6 bits    | low nibble: scale g + 4, high: min |
//                              | upper 2: scale g + 4 | upper 2: min g + 4   |   (their lower four bits)          |
//
// with g in 0..4. Both products are exact: 11 bits times 6.
__device__ __forceinline__ void six_bit(const uint8_t* block, int u, float d[2], float m[2]) {
    uint32_t head[4];
    load_words_16<4>(block, head);
    int shift = u % 4 * 8;
    uint32_t a = head[1] >> shift, b = head[2] >> shift, c = head[3] >> shift;
    uint32_t scale = u < 4 ? a & 63 : (c & 15) | (a >> 2 & 0x30);
    uint32_t min = u < 4 ? b & 63 : (c >> 4 & 15) | (b >> 2 & 0x30);
    d[0] = d[1] = half_to_float((uint16_t)head[0]) * (float)scale;
    m[0] = m[1] = -half_to_float((uint16_t)(head[0] >> 16)) * (float)min;
}

// The levels for eight nibbles: for the low nibbles, then for the high ones. PRMT looks up four of eight bytes. So each
// nibble looks up a lower and an upper level by its three lower bits, and its fourth bit selects one.
__device__ __forceinline__ void look_up(const int8_t levels[16], uint32_t nibbles, uint32_t& low, uint32_t& high) {
    uint32_t table[4]; // constants, once `levels` is known
#pragma unroll
    for (int i = 0; i < 4; i++) {
        table[i] = 0;
#pragma unroll
        for (int j = 0; j < 4; j++) table[i] |= (uint32_t)(uint8_t)levels[4 * i + j] << 8 * j;
    }
    uint32_t lower = nibbles & 0x77777777, upper = (nibbles >> 1 & 0x44444444) | 0x32103210;
    // Four nibbles at a time, in memory order: low, high, low, high.
    uint32_t four[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t below = __byte_perm(table[0], table[1], lower >> 16 * i);
        uint32_t above = __byte_perm(table[2], table[3], lower >> 16 * i);
        four[i] = __byte_perm(below, above, upper >> 16 * i);
    }
    low = __byte_perm(four[0], four[1], 0x6420);
    high = __byte_perm(four[0], four[1], 0x7531);
}

// For the grid formats: d * (2 * scale + 1) * factor, where d is first in the block. Exact: 11 bits times 5, times a
// power of two.
__device__ __forceinline__ float odd_scale(const uint8_t* block, uint32_t scale, float factor) {
    return half_to_float(load_u16(block)) * ((float)(2 * scale + 1) * factor);
}

// Moves the four runs of 7 bits in the lower 28 bits of a word to a byte each.
__device__ __forceinline__ uint32_t four_sevens(uint32_t word) {
    uint32_t halves = (word & 0x3FFF) | (word << 2 & 0x3FFF0000);
    return (halves & 0x007F007F) | (halves << 1 & 0x7F007F00);
}

// Seven of eight signs are stored; the last makes the number of minuses even. In four bytes, sets the top bit to the
// parity of the others. The top bits must be clear.
__device__ __forceinline__ uint32_t even_signs(uint32_t sevens) {
    uint32_t parity = sevens ^ sevens >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return sevens | (parity & bytes(1)) << 7;
}

// Negates the bytes whose bit is set among the lowest four. No byte may be 0, so that the complement plus 1 has no
// carry.
__device__ __forceinline__ uint32_t with_signs(uint32_t magnitudes, uint32_t signs) {
    uint32_t minus = spread<0>(signs);
    return (magnitudes ^ minus * 255) + minus;
}

// Eight codes: an entry of a list, with eight signs.
__device__ __forceinline__ void entry_of_8(const uint64_t* grid, uint32_t entry, uint32_t signs, uint32_t codes[2]) {
    uint64_t magnitudes = grid[entry];
    codes[0] = with_signs((uint32_t)magnitudes, signs);
    codes[1] = with_signs((uint32_t)(magnitudes >> 32), signs >> 4);
}
