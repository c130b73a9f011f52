// exp, erf and GELU with the bits of `crates/kernels/src/math.rs` (change the coefficients in both places), and
// operations of its instruction sets that C++ lacks or defines differently for NaN.
//
// The names differ from those of the math library, so that no overload of it can be used by mistake.

// If either is NaN, returns `b`. (`fmaxf` returns the other one.)
__device__ __forceinline__ float max_of(float a, float b) { return a > b ? a : b; }
__device__ __forceinline__ float min_of(float a, float b) { return a < b ? a : b; }

__device__ __forceinline__ bool is_finite(float x) { return (__float_as_uint(x) & 0x7F800000u) != 0x7F800000u; }

__device__ __forceinline__ float infinity() { return __uint_as_float(0x7F800000u); }

__device__ __forceinline__ float not_a_number() { return __uint_as_float(0x7FC00000u); }

// 2^n for -126 <= n <= 127.
__device__ __forceinline__ float power_of_two(int n) { return __int_as_float((n + 127) << 23); }

// Horner's rule, highest power first.
template <int N>
__device__ __forceinline__ float polynomial(float x, const float (&coefficients)[N]) {
    float p = coefficients[0];
#pragma unroll
    for (int i = 1; i < N; i++) p = fmaf(p, x, coefficients[i]);
    return p;
}

// e^x; 0 below -87.3, clamped above 88.3.
__device__ __forceinline__ float exponential(float x) {
    const float LEAST = -87.3f, MOST = 88.3f, LOG2_E = 1.44269504088896340736f;
    const float P[] = {0.0013933636f, 0.008363177f, 0.041666467f, 0.16666576f, 0.5f};
    float clamped = min_of(max_of(x, LEAST), MOST);
    int n = __float2int_rn(clamped * LOG2_E);
    float nf = __int2float_rn(n);
    float r = fmaf(nf, -0.6933594f, clamped);
    r = fmaf(nf, 2.1219444e-4f, r);
    float e = fmaf(r * r, polynomial(r, P), r) + 1.0f;
    return x < LEAST ? 0.0f : e * power_of_two(n);
}

__device__ __forceinline__ float error_function(float x) {
    const float SMALL[] = {7.9334124e-5f, -8.034819e-4f, 5.191215e-3f,           -2.6855398e-2f,
                           0.11283626f,   -0.3761263f,   1.12837916709551257390f};
    const float LARGE[] = {1.5767187e-6f, -4.4932334e-5f, 5.8792526e-4f, -4.720914e-3f, 2.631949e-2f,
                           -0.10991514f,  -0.6319876f,    -1.130146f,    3.000924e-4f};
    // |x| < 1: x P(x^2). Else 1 - exp(Q(|x|)), with |x| cut at 4, where erf is 1 to the last bit.
    float z = min_of(fabsf(x), 4.0f);
    float magnitude = z < 1.0f ? z * polynomial(z * z, SMALL) : 1.0f - exponential(polynomial(z, LARGE));
    return __uint_as_float((__float_as_uint(magnitude) & 0x7FFFFFFFu) | (__float_as_uint(x) & 0x80000000u));
}

// x / 2 (1 + erf(x / sqrt 2))
__device__ __forceinline__ float gelu_erf(float x) {
    float e = error_function(x * 0.707106781186547524400f);
    return (x * 0.5f) * (1.0f + e);
}

// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), where (1 + tanh u) / 2 = 1 / (1 + e^(-2u)).
__device__ __forceinline__ float gelu_tanh(float x) {
    float inner = 0.044715f * (x * x);
    float u = (0.7978846f * x) * (1.0f + inner);
    return __fdiv_rn(x, 1.0f + exponential(u * -2.0f));
}

// Sum of 16 neighbouring lanes of a warp by the contract's tree, returned to each of them. Both halves of the warp must
// take part.
__device__ __forceinline__ float sum_of_lanes(float x) {
#pragma unroll
    for (int distance = 8; distance > 0; distance /= 2) x = x + __shfl_xor_sync(0xFFFFFFFFu, x, distance);
    return x;
}

// Largest of a warp's 32 lanes. None of them may be NaN.
__device__ __forceinline__ float max_of_warp(float x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x = max_of(x, __shfl_xor_sync(0xFFFFFFFFu, x, distance));
    return x;
}
