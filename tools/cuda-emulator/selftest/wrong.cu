// Kernels with the faults that the emulator is there to find.

struct Args {
    const void* in;
    void* out;
    int n, unused;
};

// Right but for its barrier: what it gives depends on the order of threads.
KERNEL(no_barrier, Args, 256) {
    __shared__ int numbers[256];
    numbers[threadIdx.x] = ((const int*)args.in)[threadIdx.x];
    ((int*)args.out)[threadIdx.x] = numbers[255 - threadIdx.x];
}

KERNEL(no_wait, Args, 32) {
    __shared__ uint4 tile[32];
    cp_async_16(&tile[threadIdx.x], (const uint4*)args.in + threadIdx.x);
    cp_async_commit();
    __syncthreads();
    ((uint4*)args.out)[threadIdx.x] = tile[threadIdx.x];
}

KERNEL(barrier_for_some, Args, 64) {
    if (threadIdx.x < 40) __syncthreads();
}

KERNEL(two_barriers, Args, 64) {
    if (threadIdx.x < 40)
        __syncthreads();
    else
        __syncthreads();
}

KERNEL(lanes_part, Args, 32) {
    int value = threadIdx.x;
    if (threadIdx.x < 16)
        value = __shfl_xor_sync(0xFFFFFFFF, value, 1);
    else
        value = __shfl_xor_sync(0xFFFFFFFF, value, 2);
    ((int*)args.out)[threadIdx.x] = value;
}

KERNEL(lanes_missing, Args, 32) {
    if (threadIdx.x < 31) ((int*)args.out)[threadIdx.x] = __shfl_down_sync(0xFFFFFFFF, (int)threadIdx.x, 1);
}

KERNEL(some_lanes, Args, 32) {
    if (threadIdx.x < 16) ((int*)args.out)[threadIdx.x] = __shfl_xor_sync(0x0000FFFF, (int)threadIdx.x, 1);
}

KERNEL(misaligned_16, Args, 32) { ((uint4*)args.out)[threadIdx.x] = *(const uint4*)((const char*)args.in + 8); }

KERNEL(misaligned_4, Args, 32) { ((int*)args.out)[threadIdx.x] = *(const int*)((const char*)args.in + 2); }

KERNEL(misaligned_store, Args, 32) { *(uint2*)((char*)args.out + 4) = make_uint2(1, 2); }

KERNEL(misaligned_copy, Args, 32) {
    __shared__ uint4 tile[32];
    cp_async_16(&tile[threadIdx.x], (const char*)args.in + 4);
}

// `n` ints on from `in`.
KERNEL(read, Args, 32) { ((int*)args.out)[threadIdx.x] = ((const int*)args.in)[args.n]; }

KERNEL(write, Args, 32) { ((int*)args.out)[args.n] = 1; }

KERNEL(index, Args, 32) {
    __shared__ int numbers[32];
    numbers[threadIdx.x + args.n] = 1;
    ((int*)args.out)[threadIdx.x] = numbers[threadIdx.x];
}

KERNEL(shift, Args, 32) { ((int*)args.out)[threadIdx.x] = 1 << args.n; }

KERNEL(overflow, Args, 32) { ((int*)args.out)[threadIdx.x] = 0x7FFFFFFF + args.n; }

KERNEL(divide, Args, 32) { ((int*)args.out)[threadIdx.x] = 7 / args.n; }

KERNEL(cast, Args, 32) { ((int*)args.out)[threadIdx.x] = (int)*(const float*)args.in; }

KERNEL(trap, Args, 32) {
    if (threadIdx.x == 17) __trap();
}

__device__ __noinline__ int deep(volatile int* p, int n) {
    volatile int local[256];
    local[0] = *p;
    return n ? deep(local, n - 1) + local[0] : *p;
}
KERNEL(recursion, Args, 32) { ((int*)args.out)[threadIdx.x] = deep((volatile int*)args.out, args.n); }
