// Rows held by tiles of threads.
//
// 1. One thread a pair (THREADS = 1) is the plain way, and the slowest: neighbouring
//    threads read rows that lie far apart, so that every load of a warp is 32
//    transactions, and a row of any length does not fit the registers.
// 2. A tile of THREADS threads holds a row in pieces of WIDTH floats, side by side: a
//    load is one transaction of consecutive bytes, and a dot product is a few shuffles.
// 3. What is added to a row is added by the memory itself (atomicAdd, of four floats
//    where the chip has it), and nothing waits for it. Storing u + delta instead would
//    undo what other tiles have added since u was read.
// 4. Rows are read past the first cache (__ldcg), which does not see what other
//    multiprocessors add.

namespace itembed {

// Above this, a thread's share of one row does not fit the registers: loops over it stay loops.
constexpr int MAX_UNROLLED = 16;

constexpr u32 WHOLE_WARP = 0xFFFFFFFFu;

// THREADS: threads a pair. PIECES: pieces of a row a thread holds. WIDTH: floats of a
// piece. FULL: whether the tile's pieces are exactly a row. UPDATE: how rows are updated,
// by atomic additions of four floats (ADD_VECTOR, sm_90 and later) or of one (ADD), or by
// a store (STORE), in which updates of other tiles can be lost.
template <int THREADS, int PIECES, int WIDTH, bool FULL, int UPDATE>
struct Tile {
    static_assert(WIDTH == 4 || (WIDTH == 1 && UPDATE != ADD_VECTOR), "no such width");
    static constexpr int SIZE = THREADS;
    static constexpr bool STORES = UPDATE == STORE;
    static constexpr bool ALONE = THREADS == 1;
    static constexpr int UNROLL = PIECES <= MAX_UNROLLED ? PIECES : 4;

    // A thread's part of a row: PIECES pieces of WIDTH floats, THREADS pieces apart.
    struct Row {
        float x[PIECES * WIDTH];
    };

    int lane;
    int dim;

    __device__ __forceinline__ int column(int piece) const {
        return (piece * THREADS + lane) * WIDTH;
    }

    __device__ __forceinline__ bool has(int piece) const { return FULL || column(piece) < dim; }

    // Without a branch: a thread that has nothing to read reads the row's beginning, and
    // takes zeros instead. So it does for what stands behind the last column.
    __device__ __forceinline__ void read(const float* row, Row& to) const {
#pragma unroll UNROLL
        for (int c = 0; c < PIECES; ++c) {
            const float* const from = row + (has(c) ? column(c) : 0);
            if constexpr (WIDTH == 4) {
                const float4 piece = __ldcg(reinterpret_cast<const float4*>(from));
                const int rest = FULL ? WIDTH : dim - column(c);
                to.x[4 * c] = rest > 0 ? piece.x : 0.0f;
                to.x[4 * c + 1] = rest > 1 ? piece.y : 0.0f;
                to.x[4 * c + 2] = rest > 2 ? piece.z : 0.0f;
                to.x[4 * c + 3] = rest > 3 ? piece.w : 0.0f;
            } else {
                const float piece = __ldcg(from);
                to.x[c] = has(c) ? piece : 0.0f;
            }
        }
    }

    // Add scale * change to a row that held `old` when it was read.
    __device__ __forceinline__ void add(float* row, const Row& old, float scale,
                                        const Row& change) const {
#pragma unroll UNROLL
        for (int c = 0; c < PIECES; ++c) {
            if (!has(c)) continue;
            float* const to = row + column(c);
            const float* const x = change.x + WIDTH * c;
            const float* const y = old.x + WIDTH * c;
            if constexpr (UPDATE == ADD_VECTOR) {
#if __CUDA_ARCH__ >= 900
                atomicAdd(reinterpret_cast<float4*>(to),
                          make_float4(scale * x[0], scale * x[1], scale * x[2], scale * x[3]));
#else
                __trap();  // the host asks for this on sm_90 and later only
#endif
            } else if constexpr (UPDATE == ADD) {
#pragma unroll
                for (int i = 0; i < WIDTH; ++i) atomicAdd(to + i, scale * x[i]);
            } else if constexpr (WIDTH == 4) {
                *reinterpret_cast<float4*>(to) =
                    make_float4(y[0] + scale * x[0], y[1] + scale * x[1], y[2] + scale * x[2],
                                y[3] + scale * x[3]);
            } else {
                *to = y[0] + scale * x[0];
            }
        }
    }

    // Add the squares of a gradient to what Adagrad adds up for each number, and say what that
    // then holds.
    __device__ __forceinline__ void add_squares(float* totals, const Row& gradient,
                                                Row& total) const {
        Row squares;
#pragma unroll (UNROLL * WIDTH)
        for (int i = 0; i < PIECES * WIDTH; ++i) squares.x[i] = gradient.x[i] * gradient.x[i];
        if constexpr (STORES) {
            read(totals, total);
            add(totals, total, 1.0f, squares);
        } else {
            clear(total);
#pragma unroll UNROLL
            for (int c = 0; c < PIECES; ++c) {
                const float* const x = squares.x + WIDTH * c;
                float* const old = total.x + WIDTH * c;
                if (has(c)) add_piece(totals + column(c), x, old);
            }
        }
        accumulate(total, 1.0f, squares);
    }

    // Add a piece, of whose columns those behind the last one are 0; what was there before.
    static __device__ __forceinline__ void add_piece(float* to, const float* x, float* old) {
        if constexpr (UPDATE == ADD_VECTOR) {
#if __CUDA_ARCH__ >= 900
            const float4 before = atomicAdd(reinterpret_cast<float4*>(to),
                                            make_float4(x[0], x[1], x[2], x[3]));
            old[0] = before.x, old[1] = before.y, old[2] = before.z, old[3] = before.w;
#else
            __trap();
#endif
        } else {
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) old[i] = atomicAdd(to + i, x[i]);
        }
    }

    // This thread's part of a dot product.
    static __device__ __forceinline__ float dot(const Row& a, const Row& b) {
        float sum = 0.0f;
#pragma unroll (UNROLL * WIDTH)
        for (int i = 0; i < PIECES * WIDTH; ++i) sum += a.x[i] * b.x[i];
        return sum;
    }

    static __device__ __forceinline__ void accumulate(Row& to, float scale, const Row& change) {
#pragma unroll (UNROLL * WIDTH)
        for (int i = 0; i < PIECES * WIDTH; ++i) to.x[i] += scale * change.x[i];
    }

    // The same, each number over the root of what Adagrad has added up for it.
    static __device__ __forceinline__ void accumulate_by_root(Row& to, float scale,
                                                              const Row& change,
                                                              const Row& total) {
#pragma unroll (UNROLL * WIDTH)
        for (int i = 0; i < PIECES * WIDTH; ++i) {
            to.x[i] += scale * change.x[i] * rsqrtf(total.x[i] + EPSILON);
        }
    }

    static __device__ __forceinline__ void clear(Row& row) {
#pragma unroll (UNROLL * WIDTH)
        for (int i = 0; i < PIECES * WIDTH; ++i) row.x[i] = 0.0f;
    }

    // Every thread of the warp takes part in both, at work or not.
    static __device__ __forceinline__ float sum(float part) {
#pragma unroll
        for (int offset = THREADS / 2; offset > 0; offset /= 2) {
            part += __shfl_xor_sync(WHOLE_WARP, part, offset);
        }
        return part;
    }

    template <class T>
    static __device__ __forceinline__ T from(T value, int source) {
        if constexpr (THREADS == 1) return value;
        return __shfl_sync(WHOLE_WARP, value, source, THREADS);
    }

    template <int OPTIONS, int TARGETS>
    static __device__ __forceinline__ Pair<TARGETS> from_pair(const Pair<TARGETS>& pair, int source) {
        Pair<TARGETS> result;
        // What is drawn later: negatives of further spans, and rows of a mean.
        result.slot = TARGETS == SPAN || (OPTIONS & MEAN) != 0 ? from(pair.slot, source) : 0;
        result.rate = from(pair.rate, source);
        result.weight = from(pair.weight, source);
        result.left = from(pair.left, source);
#pragma unroll
        for (int n = 0; n < TARGETS; ++n) result.targets[n] = from(pair.targets[n], source);
        result.left_out = (OPTIONS & ADAGRAD) != 0 ? 0 : from(pair.left_out, source);
        if constexpr ((OPTIONS & REJECT_ITEMSET) != 0) {
            result.right_begin = from(pair.right_begin, source);
            result.right_end = from(pair.right_end, source);
        }
        if constexpr ((OPTIONS & GLOVE) != 0) result.log_count = from(pair.log_count, source);
        if constexpr ((OPTIONS & MEAN) != 0) {
            result.bag = from(pair.bag, source);
            result.bag_skip = from(pair.bag_skip, source);
            result.bag_length = from(pair.bag_length, source);
            result.bag_weight = from(pair.bag_weight, source);
            if constexpr ((OPTIONS & OWN_ROW) != 0) result.own = from(pair.own, source);
        }
        return result;
    }
};

// The most of a number over the threads of a warp.
template <class T>
__device__ __forceinline__ int warp_max(int number) {
    if constexpr (T::ALONE) return number;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        const int other = __shfl_xor_sync(WHOLE_WARP, number, offset);
        number = other > number ? other : number;
    }
    return number;
}

}  // namespace itembed
