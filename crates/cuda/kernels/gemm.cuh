// The tile of a matrix-matrix product: the work of each warp and lane, and the layout of shared memory.
//
// A block computes ROWS outputs (rows of the weights) for TOKENS rows of x. It advances in steps of STEP elements, and
// through the file bytes of the weights in windows of 256 elements, a whole number of blocks in every format:
//
//     file bytes of a window --cp.async--> `raw` --Format::unit--> `weights`: codes, scales, minima of a step --+
//     codes of a step of x ----------------------------cp.async--> `x`: codes, scales, sums                  --+--> mma
//
// Order of rows. A thread of an mma holds rows g and g + 8 and columns 2t and 2t + 1 of each fragment. The assignment
// of matrix rows to fragment rows is free. It is chosen so that the 2 MI rows of a thread, over all fragments of its
// warp, are adjacent, and so are its 2 NI tokens. Scales can then be loaded 16 bytes at a time. A `slot` is a position
// in fragment order; `row_of_slot` and `token_of_slot` map it to a row or token.

template <typename Format, int ROWS_, int TOKENS_, int WARPS_DOWN, int WARPS_ACROSS, int STEP_, int WINDOWS_>
struct Tile {
    static constexpr int ROWS = ROWS_, TOKENS = TOKENS_, STEP = STEP_;
    static constexpr int THREADS = 32 * WARPS_DOWN * WARPS_ACROSS;
    static constexpr int ACROSS = WARPS_ACROSS;
    // Of a warp, and the 16 x 8 fragments in it.
    static constexpr int WARP_ROWS = ROWS / WARPS_DOWN, WARP_TOKENS = TOKENS / WARPS_ACROSS;
    static constexpr int MI = WARP_ROWS / 16, NI = WARP_TOKENS / 8;
    // Runs of 32 elements in a step. Each thread decodes one of one row.
    static constexpr int UNITS = STEP / 32;
    static_assert(ROWS * UNITS == THREADS, "a unit of weights per thread");

    // Windows of file bytes held at once. With one, the next is loaded during the last step of this window. With two,
    // it is loaded during all of it.
    static constexpr int WINDOWS = WINDOWS_;
    static constexpr int WINDOW = 256, STEPS_PER_WINDOW = WINDOW / STEP;
    static_assert(STEPS_PER_WINDOW >= 2, "the wait for a window is one turn behind its copy");
    static constexpr int WINDOW_BYTES = WINDOW / Format::ELEMS * Format::BYTES;
    // 16-byte chunks that a row's part of a window can touch.
    static constexpr int CHUNKS = (WINDOW_BYTES + 16 - Format::ALIGN + 15) / 16;
    // An odd number of chunks, so that eight rows use eight banks.
    static constexpr int RAW_STRIDE = 16 * (CHUNKS | 1);

    // Scales in a unit, and the stride to those of the next. Lanes that write two units of 16 rows or tokens, in the
    // order of slots, have no bank conflicts.
    static constexpr int SCALES = Format::SPLIT ? 2 : 1;
    static constexpr int ROW_STRIDE = ROWS + 4, TOKEN_STRIDE = TOKENS + 4;

    // Rows and tokens past the end are copies of the last one; their results are not stored.
    static __device__ __forceinline__ uint32_t clamp(uint32_t index, uint32_t count) {
        return index < count ? index : count - 1;
    }

    static __device__ __forceinline__ int row_of_slot(int slot) {
        const int in = slot % WARP_ROWS;
        return slot - in + in % 8 * (2 * MI) + in / 8;
    }

    static __device__ __forceinline__ int token_of_slot(int slot) {
        const int in = slot % WARP_TOKENS;
        return slot - in + in % 8 / 2 * (2 * NI) + in / 8 * 2 + in % 2;
    }

    // Position of half `half` (16 codes) of a slot in a unit. A slot has 32 bytes. The halves are swapped every four
    // slots, so that ldmatrix, which reads the same half of eight slots, uses eight different banks.
    static __device__ __forceinline__ int place(int slot, int half) {
        return slot * 32 + (half ^ (slot >> 2 & 1)) * 16;
    }

    // The same in unit `unit` of a step. The halves are also swapped with every unit, for threads that write two units
    // of four slots.
    template <int SLOTS>
    static __device__ __forceinline__ int place_in_unit(int place, int unit) {
        return unit * SLOTS * 32 + (place ^ (unit & 1) * 16);
    }

    // The data of a step.
    struct Stage {
        alignas(16) uint8_t weights[UNITS * ROWS * 32];
        alignas(16) uint8_t x[UNITS * TOKENS * 32];
        alignas(16) float d_w[UNITS * SCALES * ROW_STRIDE];
        alignas(16) float m_w[Format::AFFINE ? UNITS * SCALES * ROW_STRIDE : 4];
        alignas(16) float d_a[UNITS * TOKEN_STRIDE];
        alignas(16) float s_a[Format::AFFINE ? UNITS * SCALES * TOKEN_STRIDE : 4]; // scale times sum
    };

    union Shared {
        struct {
            Stage stages[2];
            // By slot. `Format::unit` may read a word past a block.
            alignas(16) uint8_t raw[WINDOWS * ROWS * RAW_STRIDE + 16];
        } work; // named, because NVRTC before 12.8 refuses an anonymous struct
        // The finished sums, on their way to whole lines of the output.
        float sums[TOKENS][ROWS + 4];
    };
    static_assert(sizeof(Shared) <= 48 * 1024, "static shared memory");
};
