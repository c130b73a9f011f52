// Rows of the embedding table, decoded: a thread per unit of 32 elements.

struct EmbedArgs {
    const uint8_t* table;   // [.., cols]
    const uint32_t* tokens; // [n]
    float* out;             // [n, cols]
    uint32_t cols;
    uint32_t n;
};

KERNEL(embed, EmbedArgs, 128) {
    const uint32_t units = args.cols / 32;
    const uint64_t unit = (uint64_t)blockIdx.x * 128 + threadIdx.x;
    if (unit >= (uint64_t)args.n * units) return;
    const uint32_t u = (uint32_t)(unit % units);
    const uint64_t token = args.tokens[unit / units];
    float values[32];
    decode<Format>(args.table + token * row_bytes<Format>(args.cols), u, values);
    float4* out = (float4*)(args.out + unit * 32);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        out[i] = make_float4(values[4 * i], values[4 * i + 1], values[4 * i + 2], values[4 * i + 3]);
    }
}
