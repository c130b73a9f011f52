// Activations as int8 blocks of 32 with an f32 scale: crates/kernels/src/quantize.rs on a warp.

// Rows of activations, quantized: the layout of `ops::quantize::Quantized`.
struct Quantized {
    int8_t* codes;  // [rows, cols]
    float* scales;  // [rows, cols / 32]
    int32_t* sums;  // of the codes of each 16 elements: [rows, cols / 16]
};

// Blocks whose largest magnitude is below this are taken as zero: the inverse of their scale would overflow.
constexpr float SMALLEST_AMAX = 1e-30f;

// Quantizes the 32 values of a warp, one per lane, as block `unit` of `out`, counted through all rows. The whole warp
// takes part.
__device__ __forceinline__ void quantize_unit(float x, const Quantized& out, uint64_t unit) {
    const int lane = threadIdx.x % 32;
    // By bits, in which what is infinite or not a number is larger than every number.
    uint32_t bits = __float_as_uint(x) & 0x7FFFFFFFu;
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        const uint32_t other = __shfl_xor_sync(0xFFFFFFFFu, bits, step);
        bits = other > bits ? other : bits;
    }
    const bool broken = bits >= 0x7F800000u;
    const float amax = __uint_as_float(bits);
    float scale = 0.0f, inverse = 0.0f;
    if (broken) {
        // Products with such a block are then not numbers either.
        scale = __uint_as_float(0x7FC00000u);
    } else if (amax >= SMALLEST_AMAX) {
        scale = amax / 127.0f;
        inverse = 127.0f / amax;
    }
    const int code = __float2int_rn((broken ? 0.0f : x) * inverse);
    int sum = code;
#pragma unroll
    for (int step = 8; step > 0; step /= 2) {
        sum += __shfl_xor_sync(0xFFFFFFFFu, sum, step);
    }
    out.codes[32 * unit + lane] = (int8_t)code;
    if (lane % 16 == 0) {
        out.sums[2 * unit + lane / 16] = sum;
    }
    if (lane == 0) {
        out.scales[unit] = scale;
    }
}
