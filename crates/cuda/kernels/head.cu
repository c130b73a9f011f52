// What follows the output matrix: parts of a log-sum-exp, and the largest logits.

// ---- parts: what each 1024 logits of a row add to its log-sum-exp ----

constexpr int CHUNK = 1024, PART_THREADS = 128;

struct PartsArgs {
    const float* logits;      // [n, vocab]
    const uint32_t* targets;  // [n]
    float2* parts;            // [n, chunks] of (largest, sum); the sum is NaN if a logit is not finite
    float* target_logits;     // [n]
    uint32_t vocab;
    uint32_t chunks;
};

KERNEL(parts, PartsArgs, PART_THREADS) {
    constexpr int EACH = CHUNK / PART_THREADS;
    __shared__ float exponentials[CHUNK];
    __shared__ float largest_of_warps[PART_THREADS / 32];
    const uint32_t thread = threadIdx.x, chunk = blockIdx.x % args.chunks;
    const uint64_t row = blockIdx.x / args.chunks;
    const float* logits = args.logits + row * args.vocab;
    const uint32_t first = chunk * CHUNK;
    if (chunk == 0 && thread == 0) args.target_logits[row] = logits[args.targets[row]];

    // +infinity stands for a chunk with a logit that is not finite. Missing ones are as -infinity: their exponential is 0.
    float x[EACH], largest = -infinity();
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const uint32_t k = first + i * PART_THREADS + thread;
        x[i] = -infinity();
        if (k < args.vocab) {
            x[i] = logits[k];
            largest = is_finite(x[i]) ? max_of(largest, x[i]) : infinity();
        }
    }
    largest = max_of_warp(largest);
    if (thread % 32 == 0) largest_of_warps[thread / 32] = largest;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < PART_THREADS / 32; w++) largest = max_of(largest, largest_of_warps[w]);
#pragma unroll
    for (int i = 0; i < EACH; i++) exponentials[i * PART_THREADS + thread] = exponential(x[i] - largest);
    __syncthreads();
    if (thread < 32) {
        float sum = 0.0f;
#pragma unroll 16
        for (int k = thread % 16; k < CHUNK; k += 16) sum = sum + exponentials[k];
        sum = sum_of_lanes(sum);
        const bool broken = largest == infinity();
        const float2 part = broken ? make_float2(0.0f, not_a_number()) : make_float2(largest, sum);
        if (thread == 0) args.parts[row * args.chunks + chunk] = part;
    }
}

// ---- the largest: a block per row ----

constexpr int ROW_THREADS = 1024, WARPS = ROW_THREADS / 32;
constexpr uint32_t NONE = 0xFFFFFFFFu;

struct ArgmaxArgs {
    const float* logits;  // [n, vocab]
    uint2* out;           // [n] of (the first of the largest, its bits); NONE if all are -infinity or NaN
    uint32_t vocab;
    uint32_t valid;       // ids that may be chosen: those below
};

KERNEL(argmax, ArgmaxArgs, ROW_THREADS) {
    __shared__ float bests[WARPS];
    __shared__ uint32_t ids[WARPS];
    const uint32_t thread = threadIdx.x;
    const float* logits = args.logits + (uint64_t)blockIdx.x * args.vocab;
    float best = -infinity();
    uint32_t id = NONE;
    // What is NaN is not larger than anything.
#pragma unroll 8
    for (uint32_t k = thread; k < args.valid; k += ROW_THREADS) {
        const float x = logits[k];
        if (x > best) best = x, id = k;
    }
    const auto take_largest = [&]() {
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) {
            const float other = __shfl_xor_sync(0xFFFFFFFFu, best, distance);
            const uint32_t other_id = __shfl_xor_sync(0xFFFFFFFFu, id, distance);
            if (other > best || (other == best && other_id < id)) best = other, id = other_id;
        }
    };
    take_largest();
    if (thread % 32 == 0) bests[thread / 32] = best, ids[thread / 32] = id;
    __syncthreads();
    if (thread < 32) {
        best = bests[thread], id = ids[thread];
        take_largest();
        if (thread == 0) args.out[blockIdx.x] = make_uint2(id, __float_as_uint(best));
    }
}

// ---- top-k: the k largest of a row, in order ----

constexpr int MOST_K = 1024;

struct TopKArgs {
    const float* logits;   // [n, vocab]
    uint32_t* ids;         // [n, k]: largest first, of equals the lower id first
    float* values;         // [n, k]
    uint32_t* candidates;  // [n]: logits as large as the k-th or larger, or all that can be chosen if fewer than k
    uint32_t vocab;
    uint32_t valid;
    uint32_t k;            // 1 to 1024
    uint32_t padding;
};

// Orders as the sampler does: 0 for what cannot be chosen, NaN and -infinity; infinity as the largest finite value; the
// zeros alike.
__device__ __forceinline__ uint32_t rank(float x) {
    if (!(x > -infinity())) return 0;
    if (x == infinity()) x = 3.40282346638528859812e38f;
    const uint32_t bits = __float_as_uint(x == 0.0f ? 0.0f : x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Sums of `counts` over the block, to all threads.
template <int N>
__device__ __forceinline__ void sum_over_block(uint32_t counts[N]) {
    __shared__ uint32_t of_warps[N][WARPS];
#pragma unroll
    for (int i = 0; i < N; i++) {
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) {
            counts[i] += __shfl_xor_sync(0xFFFFFFFFu, counts[i], distance);
        }
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
#pragma unroll
        for (int i = 0; i < N; i++) of_warps[i][threadIdx.x / 32] = counts[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < N; i++) {
        counts[i] = of_warps[i][threadIdx.x % 32];
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) {
            counts[i] += __shfl_xor_sync(0xFFFFFFFFu, counts[i], distance);
        }
    }
}

KERNEL(top_k, TopKArgs, ROW_THREADS) {
    __shared__ uint32_t ranks[MOST_K], ids[MOST_K];
    __shared__ uint32_t greater_of_warps[WARPS], equal_of_warps[WARPS];
    const uint32_t thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const uint64_t row = blockIdx.x;
    const float* logits = args.logits + row * args.vocab;

    // The k-th rank, two bits at a time: the largest that k ranks reach; 0 if fewer than k can be chosen.
    uint32_t least = 0;
    for (int shift = 30; shift >= 0; shift -= 2) {
        uint32_t reach[3] = {0, 0, 0};
#pragma unroll 8
        for (uint32_t i = thread; i < args.valid; i += ROW_THREADS) {
            const uint32_t r = rank(logits[i]);
#pragma unroll
            for (uint32_t step = 1; step <= 3; step++) reach[step - 1] += r >= least + (step << shift);
        }
        sum_over_block<3>(reach);
        uint32_t steps = 0;
#pragma unroll
        for (uint32_t step = 1; step <= 3; step++) steps += reach[step - 1] >= args.k;
        least += steps << shift;
    }
    uint32_t greater = 0, equal = 0;
    if (least == 0) least = 1;  // fewer than k: all that can be chosen
#pragma unroll 8
    for (uint32_t i = thread; i < args.valid; i += ROW_THREADS) {
        const uint32_t r = rank(logits[i]);
        greater += r > least, equal += r == least;
    }
    uint32_t counts[2] = {greater, equal};
    sum_over_block<2>(counts);
    const uint32_t candidates = counts[0] + counts[1];
    const uint32_t kept = candidates < args.k ? candidates : args.k;

    // What is greater comes first, then the first of what is equal.
    ranks[thread] = 0, ids[thread] = NONE;
    uint32_t next_greater = 0, next_equal = counts[0];
    for (uint32_t first = 0; first < args.valid; first += ROW_THREADS) {
        const uint32_t i = first + thread, r = i < args.valid ? rank(logits[i]) : 0;
        const uint32_t above = __ballot_sync(0xFFFFFFFFu, r > least), same = __ballot_sync(0xFFFFFFFFu, r == least);
        __syncthreads();
        if (lane == 0) greater_of_warps[warp] = __popc(above), equal_of_warps[warp] = __popc(same);
        __syncthreads();
        uint32_t at_greater = next_greater, at_equal = next_equal;
        for (uint32_t w = 0; w < WARPS; w++) {
            if (w < warp) at_greater += greater_of_warps[w], at_equal += equal_of_warps[w];
            next_greater += greater_of_warps[w], next_equal += equal_of_warps[w];
        }
        const uint32_t before = (1u << lane) - 1;
        const uint32_t at = r > least ? at_greater + __popc(above & before) : at_equal + __popc(same & before);
        if (r >= least && at < kept) ranks[at] = r, ids[at] = i;
    }
    __syncthreads();

    // Bitonic sort of what was kept and of empty places, which have rank 0: the greater rank first, then the lower id.
    for (uint32_t size = 2; size <= MOST_K; size *= 2) {
        for (uint32_t distance = size / 2; distance > 0; distance /= 2) {
            const uint32_t other = thread ^ distance;
            if (other > thread) {
                const uint32_t a = ranks[thread], b = ranks[other], p = ids[thread], q = ids[other];
                const bool first = a > b || (a == b && p < q);
                if (first != ((thread & size) == 0)) {
                    ranks[thread] = b, ranks[other] = a;
                    ids[thread] = q, ids[other] = p;
                }
            }
            __syncthreads();
        }
    }
    if (thread < args.k) {
        const uint32_t id = ids[thread];
        args.ids[row * args.k + thread] = id;
        args.values[row * args.k + thread] = id == NONE ? -infinity() : logits[id];
    }
    if (thread == 0) args.candidates[row] = candidates;
}
