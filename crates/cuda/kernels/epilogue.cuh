// What becomes of an element of a product once its sum is complete: `Output::finish` of crates/kernels/src/matmul.rs.

// The layout of `ops::EpilogueArgs`.
struct Epilogue {
    const float* bias; // [rows], or null
    float* out;        // [n, rows]
    uint32_t rows;
    uint32_t then; // 0 store, 1 add to what is there, 2 GELU by erf, 3 GELU by tanh
};

// What an element becomes: of the sum of its groups, and of what was in its place.
__device__ __forceinline__ float finished(const Epilogue& epilogue, uint32_t row, float before, float acc) {
    float y = acc;
    if (epilogue.bias != nullptr) {
        y = y + epilogue.bias[row];
    }
    switch (epilogue.then) {
        case 1: return before + y;
        case 2: return gelu_erf(y);
        case 3: return gelu_tanh(y);
        default: return y;
    }
}

// Finishes the elements of row `row` of the weights and the first `count` of N rows of x, `token`, `token + apart` and
// so on. What they are added to is read before anything is written, so that the reads wait for memory together.
template <int N>
__device__ __forceinline__ void finish_run(const Epilogue& epilogue, uint32_t row, uint32_t token, uint32_t apart,
                                           int count, const float acc[N]) {
    float* out = epilogue.out + (uint64_t)token * epilogue.rows + row;
    const uint64_t stride = (uint64_t)apart * epilogue.rows;
    float before[N];
#pragma unroll
    for (int i = 0; i < N; i++) {
        before[i] = epilogue.then == 1 && i < count ? out[i * stride] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < N; i++) {
        if (i < count) {
            out[i * stride] = finished(epilogue, row, before[i], acc[i]);
        }
    }
}

// Finishes the element of row `row` of the weights and row `token` of x, whose groups sum to `acc`.
__device__ __forceinline__ void finish(const Epilogue& epilogue, uint32_t row, uint32_t token, float acc) {
    finish_run<1>(epilogue, row, token, 0, 1, &acc);
}
