// Operations on logits: parts of what a row predicts, and the largest logits.

// ---- parts: what each 1024 logits of a row add to its log-sum-exp, and the first of their largest ----

constexpr int CHUNK = 1024, PART_THREADS = 128;

struct Part {
    float largest;
    float sum;       // NaN if a logit is not finite
    uint32_t first;  // where in the chunk the first of the largest is; 0 if a logit is not finite
};

struct PartsArgs {
    const float* logits;      // [n, vocab]
    const uint32_t* targets;  // [n]
    Part* parts;              // [n, chunks]
    float* target_logits;     // [n]
    uint32_t vocab;
    uint32_t chunks;
};

KERNEL(parts, PartsArgs, PART_THREADS) {
    constexpr int EACH = CHUNK / PART_THREADS;
    __shared__ float exponentials[CHUNK];
    __shared__ float largest_of_warps[PART_THREADS / 32];
    __shared__ uint32_t first_of_warps[PART_THREADS / 32];
    const uint32_t thread = threadIdx.x, chunk = blockIdx.x % args.chunks;
    const uint64_t row = blockIdx.x / args.chunks;
    const float* logits = args.logits + row * args.vocab;
    const uint32_t first = chunk * CHUNK;
    if (chunk == 0 && thread == 0) args.target_logits[row] = logits[args.targets[row]];

    // +infinity marks a chunk with a logit that is not finite. Missing logits count as -infinity: their exponential is
    // 0.
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
    uint32_t earliest = CHUNK;
#pragma unroll
    for (int i = EACH - 1; i >= 0; i--) earliest = x[i] == largest ? i * PART_THREADS + thread : earliest;
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        const uint32_t other = __shfl_xor_sync(0xFFFFFFFFu, earliest, distance);
        earliest = other < earliest ? other : earliest;
    }
    if (thread % 32 == 0) first_of_warps[thread / 32] = earliest;
    __syncthreads();
    if (thread < 32) {
        float sum = 0.0f;
#pragma unroll 16
        for (int k = thread % 16; k < CHUNK; k += 16) sum = sum + exponentials[k];
        sum = sum_of_lanes(sum);
#pragma unroll
        for (int w = 0; w < PART_THREADS / 32; w++) {
            earliest = first_of_warps[w] < earliest ? first_of_warps[w] : earliest;
        }
        const bool broken = largest == infinity();
        const Part part = broken ? Part{0.0f, not_a_number(), 0} : Part{largest, sum, earliest};
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
    // NaN is never larger. Eight logits at a time are loaded together.
    for (uint32_t first = thread; first < args.valid; first += 8 * ROW_THREADS) {
        float some[8];
#pragma unroll
        for (uint32_t i = 0; i < 8; i++) {
            const uint32_t k = first + i * ROW_THREADS;
            some[i] = k < args.valid ? logits[k] : -infinity();
        }
#pragma unroll
        for (uint32_t i = 0; i < 8; i++) {
            if (some[i] > best) best = some[i], id = first + i * ROW_THREADS;
        }
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
//
// Chunks of 1024 logits are sorted, and the k + 1 largest of each are kept. At most k of them can be among the k
// largest of the row, and one more shows whether others tie with the k-th. Then one block selects among the kept ones.

constexpr uint32_t SORTED = 1024;  // threads and elements of a block

struct TopKArgs {
    const float* logits;   // [n, vocab]
    uint2* kept;           // [n, chunks, k + 1] of (rank, id): largest first, of equals the lower id first
    uint32_t* ids;         // [n, k]: the same order
    float* values;         // [n, k]
    uint32_t* candidates;  // [n]: how many can be chosen that are as large as the k-th, all if fewer than k; above k it
                           // may be any number that is
    uint32_t vocab;
    uint32_t valid;
    uint32_t k;       // 1 to 1023
    uint32_t chunks;  // of 1024 among the valid
};

// The sampler's order: 0 for NaN and -infinity, which cannot be chosen; infinity equals the largest finite value; both
// zeros are equal.
__device__ __forceinline__ uint32_t rank(float x) {
    if (!(x > -infinity())) return 0;
    if (x == infinity()) x = 3.40282346638528859812e38f;
    const uint32_t bits = __float_as_uint(x == 0.0f ? 0.0f : x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Bitonic sort of a block's entries: greater rank first, then lower id. Begins and ends with a barrier.
__device__ __forceinline__ void sort(uint2* entries) {
    const uint32_t thread = threadIdx.x;
    __syncthreads();
    for (uint32_t size = 2; size <= SORTED; size *= 2) {
        for (uint32_t distance = size / 2; distance > 0; distance /= 2) {
            const uint32_t other = thread ^ distance;
            if (other > thread) {
                const uint2 a = entries[thread], b = entries[other];
                const bool first = a.x > b.x || (a.x == b.x && a.y < b.y);
                if (first != ((thread & size) == 0)) entries[thread] = b, entries[other] = a;
            }
            __syncthreads();
        }
    }
}

KERNEL(top_of_chunks, TopKArgs, SORTED) {
    alignas(8) __shared__ uint2 entries[SORTED];
    const uint32_t thread = threadIdx.x, chunk = blockIdx.x, keep = args.k + 1;
    const uint64_t row = blockIdx.y;
    const uint32_t id = chunk * SORTED + thread;
    entries[thread] = make_uint2(id < args.valid ? rank(args.logits[row * args.vocab + id]) : 0, id);
    sort(entries);
    if (thread < keep) args.kept[(row * args.chunks + chunk) * keep + thread] = entries[thread];
}

// Sums of `counts` over the block, to all threads.
template <int N>
__device__ __forceinline__ void sum_over_block(uint32_t counts[N]) {
    __shared__ uint32_t of_warps[N][WARPS];
#pragma unroll
    for (int i = 0; i < N; i++) counts[i] = (uint32_t)warp_sum((int32_t)counts[i]);
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
#pragma unroll
        for (int i = 0; i < N; i++) of_warps[i][threadIdx.x / 32] = counts[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < N; i++) counts[i] = (uint32_t)warp_sum((int32_t)of_warps[i][threadIdx.x % 32]);
}

KERNEL(top_k, TopKArgs, SORTED) {
    alignas(8) __shared__ uint2 entries[SORTED];
    __shared__ uint32_t greater_of_warps[WARPS], equal_of_warps[WARPS];
    const uint32_t thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const uint64_t row = blockIdx.x;
    const uint32_t count = args.chunks * (args.k + 1);
    const uint2* kept = args.kept + row * count;

    // The k-th rank, two bits at a time: the largest that k ranks reach; 0 if fewer than k can be chosen.
    uint32_t least = 0;
    for (int shift = 30; shift >= 0; shift -= 2) {
        uint32_t reach[3] = {0, 0, 0};
        for (uint32_t i = thread; i < count; i += SORTED) {
            const uint32_t r = kept[i].x;
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
    for (uint32_t i = thread; i < count; i += SORTED) {
        const uint32_t r = kept[i].x;
        greater += r > least, equal += r == least;
    }
    uint32_t counts[2] = {greater, equal};
    sum_over_block<2>(counts);
    const uint32_t candidates = counts[0] + counts[1];
    const uint32_t taken = candidates < args.k ? candidates : args.k;

    // Greater ones come first, then the first of the equal ones. In the order of chunks, equal ones have ascending ids.
    entries[thread] = make_uint2(0, NONE);
    uint32_t next_greater = 0, next_equal = counts[0];
    for (uint32_t first = 0; first < count; first += SORTED) {
        const uint32_t i = first + thread;
        const uint2 entry = i < count ? kept[i] : make_uint2(0, NONE);
        const bool is_greater = entry.x > least, is_equal = entry.x == least;
        const uint32_t above = __ballot_sync(0xFFFFFFFFu, is_greater), same = __ballot_sync(0xFFFFFFFFu, is_equal);
        __syncthreads();
        if (lane == 0) greater_of_warps[warp] = __popc(above), equal_of_warps[warp] = __popc(same);
        __syncthreads();
        uint32_t at_greater = next_greater, at_equal = next_equal;
        for (uint32_t w = 0; w < WARPS; w++) {
            if (w < warp) at_greater += greater_of_warps[w], at_equal += equal_of_warps[w];
            next_greater += greater_of_warps[w], next_equal += equal_of_warps[w];
        }
        const uint32_t before = (1u << lane) - 1;
        const uint32_t at = is_greater ? at_greater + __popc(above & before) : at_equal + __popc(same & before);
        if ((is_greater || is_equal) && at < taken) entries[at] = entry;
    }
    sort(entries);
    if (thread < args.k) {
        const uint32_t id = entries[thread].y;
        args.ids[row * args.k + thread] = id;
        args.values[row * args.k + thread] = id == NONE ? -infinity() : args.logits[row * args.vocab + id];
    }
    if (thread == 0) args.candidates[row] = candidates;
}
