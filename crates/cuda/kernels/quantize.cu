// Quantizes rows of activations to int8. A thread has four neighbours, so a block of 32 has 8 threads.

constexpr int QUANTIZE_THREADS = 256;

struct QuantizeArgs {
    const float* x; // [fours, 4]
    Quantized out;
    uint64_t fours;
};

KERNEL(quantize, QuantizeArgs, QUANTIZE_THREADS) {
    const uint64_t four = (uint64_t)blockIdx.x * QUANTIZE_THREADS + threadIdx.x;
    const bool stores = four < args.fours;
    const float4 values = ((const float4*)args.x)[stores ? four : 0];
    const float x[4] = {values.x, values.y, values.z, values.w};
    quantize_four(x, args.out, four, stores);
}
