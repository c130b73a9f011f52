// Kernels that must work, whatever the order of threads.

struct Args {
    const void* in;
    void* out;
    int n, unused;
};

// A block's numbers in reverse, by way of shared memory.
KERNEL(reverse, Args, 256) {
    __shared__ int numbers[256];
    const int* in = (const int*)args.in + blockIdx.x * 256;
    numbers[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    ((int*)args.out)[blockIdx.x * 256 + threadIdx.x] = numbers[255 - threadIdx.x];
}

// Where each thread is.
KERNEL(places, Args, 64) {
    uint64_t block = blockIdx.x + (uint64_t)gridDim.x * (blockIdx.y + (uint64_t)gridDim.y * blockIdx.z);
    ((uint32_t*)args.out)[block * blockDim.x + threadIdx.x] =
        blockIdx.x << 24 | blockIdx.y << 16 | blockIdx.z << 8 | threadIdx.x;
}

// Eleven results of each lane.
KERNEL(operations, Args, 64) {
    uint32_t lane = threadIdx.x % 32;
    uint32_t value = ((const uint32_t*)args.in)[threadIdx.x];
    uint32_t* out = (uint32_t*)args.out + threadIdx.x * 11;
    out[0] = __shfl_sync(0xFFFFFFFF, value, lane + 5);
    out[1] = __shfl_xor_sync(0xFFFFFFFF, value, 12);
    out[2] = __shfl_down_sync(0xFFFFFFFF, value, 3);
    out[3] = __shfl_up_sync(0xFFFFFFFF, value, 3);
    out[4] = __shfl_sync(0xFFFFFFFF, value, 1, 8);
    out[5] = __ballot_sync(0xFFFFFFFF, value & 1);
    out[6] = __any_sync(0xFFFFFFFF, value == 0xFFFFFFFF) | __all_sync(0xFFFFFFFF, value != 0xFFFFFFFF) << 1;
    out[7] = (uint32_t)(__shfl_sync(0xFFFFFFFF, (uint64_t)value << 20, 7) >> 20);
    out[8] = __float_as_uint(__shfl_xor_sync(0xFFFFFFFF, __uint_as_float(value), 1));
    out[9] = warp_max(value);
    out[10] = (uint32_t)warp_sum((int32_t)(value - 20000));
    __syncwarp();
}

#if __CUDA_ARCH__ >= 750
// c [16, 8] = a [16, 32] b [32, 8], b by columns, through ldmatrix; then the first 16 of k once more.
KERNEL(product, Args, 32) {
    __shared__ __align__(16) int8_t left[16][32];
    __shared__ __align__(16) int8_t right[8][32];
    int lane = threadIdx.x;
    ((uint4*)left)[lane] = ((const uint4*)args.in)[lane];
    if (lane < 16) ((uint4*)right)[lane] = ((const uint4*)args.in)[32 + lane];
    __syncthreads();
    uint32_t a[4];
    ldmatrix_x4(a, &left[lane % 16][lane / 16 * 16]);
    uint32_t b[2];
    for (int i = 0; i < 2; i++) b[i] = ((const uint32_t*)right[lane / 4])[lane % 4 + 4 * i];
    int32_t c[4] = {1000, 1000, 1000, 1000};
    mma_k32(c, a, b);
    mma_k16(c, a, b[0]);
    for (int i = 0; i < 4; i++) ((int32_t*)args.out)[(lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2] = c[i];
}

#endif

// `n` tiles of 512 bytes go through shared memory, two under way.
KERNEL(pipeline, Args, 32) {
    __shared__ uint4 tiles[3][32];
    const uint4* in = (const uint4*)args.in + threadIdx.x;
    for (int i = 0; i < 2; i++) {
        if (i < args.n) cp_async_16(&tiles[i][threadIdx.x], in + i * 32);
        cp_async_commit();
    }
    for (int i = 0; i < args.n; i++) {
        cp_async_wait<1>();
        __syncthreads();
        if (i + 2 < args.n) cp_async_16(&tiles[(i + 2) % 3][threadIdx.x], in + (i + 2) * 32);
        cp_async_commit();
        uint4 other = tiles[i % 3][31 - threadIdx.x];
        ((uint4*)args.out)[i * 32 + 31 - threadIdx.x] = other;
    }
}

// All halves to floats and back; then `n` floats to halves.
KERNEL(halves, Args, 256) {
    uint32_t i = blockIdx.x * 256 + threadIdx.x;
    uint32_t* out = (uint32_t*)args.out;
    out[i] = __float_as_uint(half_to_float((uint16_t)i));
    out[65536 + i] = float_to_half(half_to_float((uint16_t)i));
    if (i < (uint32_t)args.n) out[131072 + i] = float_to_half(((const float*)args.in)[i]);
}

// What has one right answer, 16 words.
KERNEL(numbers, Args, 32) {
    if (threadIdx.x) return;
    const float* x = (const float*)args.in;
    uint32_t* out = (uint32_t*)args.out;
    out[0] = __float_as_uint(__fmaf_rn(x[0], x[0], -1.0f)); // (1 + e)^2 - 1 with one rounding
    out[1] = __float_as_uint(x[0] * x[0] - 1.0f);           // with two
    out[2] = __float_as_uint(1.0f / x[1]);
    out[3] = __float_as_uint(__fsqrt_rn(x[1]));
    out[4] = (uint32_t)__float2int_rn(2.5f);
    out[5] = (uint32_t)__float2int_rn(x[2]); // NaN
    out[6] = (uint32_t)__float2int_rn(x[3]); // 1e20
    out[7] = (uint32_t)__dp4a((int)0x80FF017F, (int)0x7F02FF80, 10);
    out[8] = __byte_perm(0x33221100, 0x77665544, 0x7531);
    out[9] = __funnelshift_r(0x89ABCDEF, 0x01234567, 12);
    out[10] = __float_as_uint(fmaxf(x[2], 3.0f));
    out[11] = __float_as_uint(fmaxf(-x[4], x[4])); // -0, 0
    out[12] = __float_as_uint(x[5] * 0.5f);        // subnormal
    out[13] = (uint32_t)__clz(0x00010000) << 8 | (uint32_t)__popc(0xF0F) << 4 | (uint32_t)__ffs(8);
    out[14] = __float_as_uint(rintf(-2.5f));
    out[15] = sizeof(uint4) << 16 | alignof(uint4) << 8 | alignof(float2);
}

KERNEL(add_one, Args, 32) { ((int*)args.out)[threadIdx.x] += 1; }

KERNEL(count, Args, 128) { atomicAdd((int*)args.out, 1); }
