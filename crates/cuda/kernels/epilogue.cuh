// Finishes an element of a product after its sum is complete, like `Output::finish` of crates/kernels/src/matmul.rs.

struct OutputArgs {
    const float* bias; // [rows], or null
    float* out;        // [n, rows]
    uint32_t rows;
    uint32_t epilogue; // 0 store, 1 add to what is there, 2 GELU by erf, 3 GELU by tanh
};

// The bias of a row of the weights, if there is one. Otherwise nothing is added, because adding 0 would turn -0 into 0.
struct Bias {
    bool is_there;
    float value;

    __device__ __forceinline__ Bias(const OutputArgs& output, uint32_t row)
        : is_there(output.bias != nullptr), value(is_there ? output.bias[row] : 0.0f) {}
};

// Finishes the elements of row `row` of the weights and the first `count` of N rows of x, `token`, `token + apart` and
// so on. What they are added to is read before anything is written, so that the reads wait for memory together.
template <int N>
__device__ __forceinline__ void finish_run(const OutputArgs& output, const Bias& bias, uint32_t row, uint32_t token,
                                           uint32_t apart, int count, const float acc[N]) {
    float* out = output.out + (uint64_t)token * output.rows + row;
    const uint64_t stride = (uint64_t)apart * output.rows;
    float y[N];
#pragma unroll
    for (int i = 0; i < N; i++) y[i] = bias.is_there ? acc[i] + bias.value : acc[i];
    switch (output.epilogue) {
        case 1: {
            float before[N];
#pragma unroll
            for (int i = 0; i < N; i++) before[i] = i < count ? out[i * stride] : 0.0f;
#pragma unroll
            for (int i = 0; i < N; i++) y[i] = before[i] + y[i];
            break;
        }
        case 2:
#pragma unroll
            for (int i = 0; i < N; i++) y[i] = gelu_erf(y[i]);
            break;
        case 3:
#pragma unroll
            for (int i = 0; i < N; i++) y[i] = gelu_tanh(y[i]);
            break;
        default: break;
    }
#pragma unroll
    for (int i = 0; i < N; i++) {
        if (i < count) out[i * stride] = y[i];
    }
}

// Finishes the element of row `row` of the weights and row `token` of x, whose groups sum to `acc`.
__device__ __forceinline__ void finish(const OutputArgs& output, uint32_t row, uint32_t token, float acc) {
    finish_run<1>(output, Bias(output, row), row, token, 0, 1, &acc);
}
