// Rows of activations to int8: a warp per block of 32.

struct QuantizeArgs {
    const float* x; // [units, 32]
    Quantized out;
    uint64_t units;
};

KERNEL(quantize, QuantizeArgs, 256) {
    const uint64_t unit = (uint64_t)blockIdx.x * 8 + threadIdx.x / 32;
    // A whole warp at a time: its lanes meet in shuffles.
    if (unit < args.units) {
        quantize_unit(args.x[32 * unit + threadIdx.x % 32], args.out, unit);
    }
}
