// Quantizes activations to int8 blocks of 32 with an f32 scale, like crates/kernels/src/quantize.rs, with a warp.

// Rows of activations, quantized: the layout of `ops::quantize::Quantized`.
struct Quantized {
    int8_t* codes;  // [rows, cols]
    float* scales;  // [rows, cols / 32]
    int32_t* sums;  // of the codes of each 16 elements: [rows, cols / 16]
};

// Blocks whose largest magnitude is below this become zeros, because the inverse of their scale would overflow.
constexpr float SMALLEST_AMAX = 1e-30f;

// The scale of a block, from the bits of its largest magnitude. As integers, infinity and NaN are larger than every
// number.
struct BlockScale {
    float scale, inverse;
    bool broken;

    __device__ __forceinline__ BlockScale(uint32_t bits) : scale(0.0f), inverse(0.0f), broken(bits >= 0x7F800000u) {
        const float amax = __uint_as_float(bits);
        if (broken) {
            // Products with such a block are then NaN.
            scale = __uint_as_float(0x7FC00000u);
        } else if (amax >= SMALLEST_AMAX) {
            scale = __fdiv_rn(amax, 127.0f);
            inverse = __fdiv_rn(127.0f, amax);
        }
    }

    __device__ __forceinline__ int code(float x) const { return __float2int_rn((broken ? 0.0f : x) * inverse); }
};

__device__ __forceinline__ uint32_t magnitude_bits(float x) { return __float_as_uint(x) & 0x7FFFFFFFu; }

// Quantizes the 32 values of a warp, one per lane, as block `unit` of `out`, counted over all rows. The whole warp must
// take part.
__device__ __forceinline__ void quantize_unit(float x, const Quantized& out, uint64_t unit) {
    const int lane = threadIdx.x % 32;
    const BlockScale block(warp_max(magnitude_bits(x)));
    const int code = block.code(x);
    // Both halves at once. Each is at most 16 * 127 in magnitude, so it fits in 16 bits.
    const int sums = warp_sum(lane < 16 ? code : code * 65536);
    out.codes[32 * unit + lane] = (int8_t)code;
    if (lane == 0) {
        const int first = (int16_t)sums;
        *(int2*)(out.sums + 2 * unit) = make_int2(first, (sums - first) / 65536);
        out.scales[unit] = block.scale;
    }
}

// Quantizes four neighbouring values per lane. `four` counts groups of four over all rows, consecutive in a warp. The
// whole warp must take part. A lane stores its values if `stores` is set, for all eight lanes of a block or none.
__device__ __forceinline__ void quantize_four(const float x[4], const Quantized& out, uint64_t four, bool stores) {
    uint32_t bits = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint32_t own = magnitude_bits(x[i]);
        bits = own > bits ? own : bits;
    }
#pragma unroll
    for (int distance = 4; distance > 0; distance /= 2) {
        const uint32_t other = __shfl_xor_sync(0xFFFFFFFFu, bits, distance);
        bits = other > bits ? other : bits;
    }
    const BlockScale block(bits);
    uint32_t codes = 0;
    int sum = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int code = block.code(x[i]);
        codes |= (uint32_t)(uint8_t)code << 8 * i;
        sum += code;
    }
#pragma unroll
    for (int distance = 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, distance);
    if (!stores) return;
    *(uint32_t*)(out.codes + 4 * four) = codes;
    if (four % 4 == 0) out.sums[four / 4] = sum;
    if (four % 8 == 0) out.scales[four / 8] = block.scale;
}
