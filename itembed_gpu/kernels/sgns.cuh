// The training step: tiles of threads, each of which trains one pair at a time.
//
// For a pair of rows u (left) and v_0 (right, the positive) and k negatives v_1 ... v_k,
// with y_0 = 1 and y_n = 0 for the others,
//
//     g_n  = y_n - sigmoid(u . v_n)
//     v_n += rate(v_n) * weight * g_n * u
//     u   += rate(u) * weight * sum over n of g_n * v_n
//
// as in steps.py, which the tests compare this with, and which says what the options
// change. Why it is built so:
//
// 1. One thread a pair (THREADS = 1) is the plain way, and the slowest: neighbouring
//    threads read rows that lie far apart, so that every load of a warp is 32
//    transactions, and a row of any length does not fit the registers.
// 2. A tile of THREADS threads holds a row in pieces of WIDTH floats, side by side: a
//    load is one transaction of consecutive bytes, and a dot product is a few shuffles.
// 3. All the rows of a chunk are read before one of them is used: they do not depend on
//    each other, and the memory answers them together.
// 4. What is added to a row is added by the memory itself (atomicAdd, of four floats
//    where the chip has it), and nothing waits for it. Storing u + delta instead would
//    undo what other tiles have added since u was read.
// 5. Rows are read past the first cache (__ldcg), which does not see what other
//    multiprocessors add.
// 6. The threads of a tile find the next pairs together, one each: the dependent loads
//    from slot to rows are then paid once for as many pairs as there are threads.
// 7. Where a group of pairs shares its negatives, their rows stay in registers from the
//    group's first pair to its last, and are read and added once.

namespace itembed {

// How a row is updated.
constexpr int ADD_VECTOR = 0;  // atomic, four floats at once: sm_90 and later
constexpr int ADD = 1;         // atomic
constexpr int STORE = 2;       // not atomic: updates of other tiles can be lost

// Above this, a thread's share of the rows of a chunk does not fit the registers.
constexpr int MAX_HELD = 128;
// Above this, a thread's share of one row does not: loops over it stay loops.
constexpr int MAX_UNROLLED = 16;

constexpr u32 WHOLE_WARP = 0xFFFFFFFFu;

// Keeps the first step of a row by Adagrad finite where its gradient is 0.
constexpr float EPSILON = 1e-10f;

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

// -log(sigmoid(x)), without overflow.
__device__ __forceinline__ float log_loss(float x) {
    return log1pf(__expf(-fabsf(x))) + fmaxf(-x, 0.0f);
}

template <int THREADS, int CHUNKS, int WIDTH, bool FULL, int UPDATE>
struct Tile {
    static_assert(WIDTH == 4 || (WIDTH == 1 && UPDATE != ADD_VECTOR), "no such width");
    static constexpr bool STORES = UPDATE == STORE;
    static constexpr bool ALONE = THREADS == 1;
    static constexpr int UNROLL = CHUNKS <= MAX_UNROLLED ? CHUNKS : 4;

    // A thread's part of a row: CHUNKS pieces of WIDTH floats, THREADS pieces apart.
    struct Row {
        float x[CHUNKS * WIDTH];
    };

    int lane;
    int dim;

    __device__ __forceinline__ int column(int chunk) const {
        return (chunk * THREADS + lane) * WIDTH;
    }

    __device__ __forceinline__ bool has(int chunk) const { return FULL || column(chunk) < dim; }

    // Without a branch: a thread that has nothing to read reads the row's beginning, and
    // takes zeros instead. So it does for what stands behind the last column.
    __device__ __forceinline__ void read(const float* row, Row& to) const {
#pragma unroll UNROLL
        for (int c = 0; c < CHUNKS; ++c) {
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
        for (int c = 0; c < CHUNKS; ++c) {
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

    // This thread's part of a dot product.
    static __device__ __forceinline__ float dot(const Row& a, const Row& b) {
        float sum = 0.0f;
#pragma unroll (UNROLL * WIDTH)
        for (int i = 0; i < CHUNKS * WIDTH; ++i) sum += a.x[i] * b.x[i];
        return sum;
    }

    static __device__ __forceinline__ void accumulate(Row& to, float scale, const Row& change) {
#pragma unroll (UNROLL * WIDTH)
        for (int i = 0; i < CHUNKS * WIDTH; ++i) to.x[i] += scale * change.x[i];
    }

    static __device__ __forceinline__ void clear(Row& row) {
#pragma unroll (UNROLL * WIDTH)
        for (int i = 0; i < CHUNKS * WIDTH; ++i) row.x[i] = 0.0f;
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
        result.slot = from(pair.slot, source);
        result.rate = from(pair.rate, source);
        result.weight = from(pair.weight, source);
        result.left = from(pair.left, source);
#pragma unroll
        for (int n = 0; n < TARGETS; ++n) result.targets[n] = from(pair.targets[n], source);
        if constexpr ((OPTIONS & REJECT_ITEMSET) != 0) {
            result.right_begin = from(pair.right_begin, source);
            result.right_end = from(pair.right_end, source);
        }
        if constexpr ((OPTIONS & MEAN) != 0) {
            result.bag = from(pair.bag, source);
            result.bag_skip = from(pair.bag_skip, source);
            result.bag_length = from(pair.bag_length, source);
            result.bag_weight = from(pair.bag_weight, source);
        }
        return result;
    }
};

// Which part of a launch is this tile's.
struct Share {
    int tile;   // number of this one
    int first;  // and of the first one in its warp: loops are as long for both
};

template <int THREADS>
__device__ __forceinline__ Share find_share() {
    const int thread = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    return {thread / THREADS, thread / 32 * (32 / THREADS)};
}

__device__ __forceinline__ int clamp_count(int count, int most) {
    return count < 0 ? 0 : count < most ? count : most;
}

// What the threads of a tile have left out, each for the pairs that it found.
struct Dropped {
    int pairs = 0;
    int sampled = 0;

    template <int OPTIONS, int TARGETS>
    __device__ __forceinline__ void count(const Work& work, const Pair<TARGETS>& pair,
                                          int offset) {
        if constexpr ((OPTIONS & DROPS) != 0) {
            if (pair.left != DROPPED) return;
            ++pairs;
            sampled += is_sampled(work, offset);
        }
    }
};

// Learning rate of a row by Adagrad: such rows hold themselves back, and have no caps. 0
// where no gradient has been more than 0 yet: there is nothing for l2 to hold back.
__device__ __forceinline__ float adaptive_rate(float rate, float total) {
    return total == 0.0f ? 0.0f : rate * rsqrtf(total + EPSILON);
}

// Share of a row that l2 takes away, where its gradient is multiplied by a rate: never all of it.
__device__ __forceinline__ float shrinkage(float rate, float decay) {
    const float size = fabsf(rate) * decay;
    return __fdividef(size, 1.0f + size);
}

// Add to a row's accumulator, if this thread is the tile's first; what it then holds.
template <class T>
__device__ __forceinline__ float add_squares(const T& tile, bool active, float* state, int row,
                                             float squares) {
    if (!active || tile.lane != 0) return 0.0f;
    return atomicAdd(state + row, squares) + squares;
}

// Add step * change to a row that held `old` when it was read; with L2, take that share of
// itself away, as it is now.
template <int OPTIONS, class T>
__device__ __forceinline__ void add_to_row(const T& tile, float* row, const typename T::Row& old,
                                           float step, const typename T::Row& change,
                                           float decay) {
    if constexpr ((OPTIONS & L2) != 0) {
        typename T::Row now, sum;
        tile.read(row, now);
        T::clear(sum);
        T::accumulate(sum, step, change);
        T::accumulate(sum, -decay, now);
        tile.add(row, now, 1.0f, sum);
    } else {
        tile.add(row, old, step, change);
    }
}

// Read the left row of a pair, or the mean of its bag.
template <int OPTIONS, int TARGETS, class T>
__device__ __forceinline__ void read_left(const T& tile, const Work& work,
                                          const Pair<TARGETS>& pair, typename T::Row& u) {
    if constexpr ((OPTIONS & MEAN) != 0) {
        T::clear(u);
        for (int i = 0; i < pair.bag_length; ++i) {
            const int item = __ldg(work.left_items + pair.bag + i);
            const float weight = left_weight<OPTIONS>(work, pair.bag + i, item, pair.bag_skip);
            if (weight == 0.0f) continue;
            typename T::Row x;
            tile.read(work.left_syn + item * work.left_stride, x);
            T::accumulate(u, weight / pair.bag_weight, x);
        }
    } else {
        const int row = (OPTIONS & DROPS) != 0 && pair.left == DROPPED ? 0 : pair.left;
        tile.read(work.left_syn + row * work.left_stride, u);
    }
}

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

// Add delta to the left row, which held u when it was read, or to the rows of the bag. A
// tile that is not at work goes along.
template <int OPTIONS, int TARGETS, class T>
__device__ __forceinline__ void add_to_left(const T& tile, const Work& work, bool active,
                                            const Pair<TARGETS>& pair, const typename T::Row& u,
                                            const typename T::Row& delta, bool with_decay) {
    if constexpr ((OPTIONS & FREEZE_LEFT) != 0) return;
    const float decay = with_decay ? fabsf(pair.weight) * work.l2 : 0.0f;
    float squares = 0.0f;
    if constexpr ((OPTIONS & ADAGRAD) != 0) {
        squares = T::sum(T::dot(delta, delta)) / static_cast<float>(work.dim);
        squares *= pair.weight * pair.weight;
    }
    if constexpr ((OPTIONS & MEAN) != 0) {
        const int longest = (OPTIONS & ADAGRAD) != 0 ? warp_max<T>(pair.bag_length)
                                                     : pair.bag_length;
        for (int i = 0; i < longest; ++i) {
            bool has = active && i < pair.bag_length;
            const int item = has ? __ldg(work.left_items + pair.bag + i) : 0;
            const float weight =
                has ? left_weight<OPTIONS>(work, pair.bag + i, item, pair.bag_skip) : 0.0f;
            has = has && weight != 0.0f;
            const float share = has ? weight / pair.bag_weight : 0.0f;
            float rate;
            if constexpr ((OPTIONS & ADAGRAD) != 0) {
                const float part = squares * share * share;
                const float total = add_squares(tile, has, work.left_state, item, part);
                rate = adaptive_rate(pair.rate, T::from(total, 0));
            } else {
                rate = limit(pair.rate, find_cap(work.left_caps, work.left_capped, item));
            }
            if (!has) continue;
            float* const row = work.left_syn + item * work.left_stride;
            typename T::Row old = {};
            if constexpr (T::STORES) tile.read(row, old);
            add_to_row<OPTIONS>(tile, row, old, rate * share * pair.weight, delta,
                                shrinkage(rate, decay));
        }
    } else {
        float rate;
        if constexpr ((OPTIONS & ADAGRAD) != 0) {
            const float part = add_squares(tile, active, work.left_state, pair.left, squares);
            const float total = T::from(part, 0);
            if (!active) return;
            rate = adaptive_rate(pair.rate, total);
        } else {
            if (!active) return;
            rate = limit(pair.rate, find_cap(work.left_caps, work.left_capped, pair.left));
        }
        float* const row = work.left_syn + pair.left * work.left_stride;
        if constexpr ((OPTIONS & L2) != 0) {
            // Less its own decay as it was read, as everything in a pair is.
            typename T::Row sum;
            T::clear(sum);
            T::accumulate(sum, rate * pair.weight, delta);
            T::accumulate(sum, -shrinkage(rate, decay), u);
            tile.add(row, u, 1.0f, sum);
        } else {
            tile.add(row, u, rate * pair.weight, delta);
        }
    }
}

// Train one pair with targets first ... first + count - 1, which are rows of the right
// table; number 0 is the positive. Adds to delta, and returns the loss before the update.
//
// A tile that is not at work (`active`) goes along, as shuffles need the whole warp: it
// reads row 0, and changes nothing.
template <int OPTIONS, int TARGETS, class T>
__device__ __forceinline__ float train_chunk(const T& tile, const Work& work, bool active,
                                             const Pair<TARGETS>& pair, const int (&rows)[TARGETS],
                                             int first, int count, const typename T::Row& u,
                                             typename T::Row& delta, float squares,
                                             bool with_loss) {
    using Row = typename T::Row;
    constexpr bool HELD = TARGETS * static_cast<int>(sizeof(Row) / sizeof(float)) <= MAX_HELD;
    Row held[HELD ? TARGETS : 1];
    float gradients[TARGETS] = {};
    float loss = 0.0f;
    if constexpr (HELD) {
#pragma unroll
        for (int n = 0; n < TARGETS; ++n) {
            if (n < count) tile.read(work.right_syn + rows[n] * work.right_stride, held[n]);
        }
    }
#pragma unroll
    for (int n = 0; n < TARGETS; ++n) {
        if (n >= count) continue;
        Row& v = held[HELD ? n : 0];
        if constexpr (!HELD) tile.read(work.right_syn + rows[n] * work.right_stride, v);
        float logit = T::sum(T::dot(u, v));
        if constexpr ((OPTIONS & NCE) != 0) logit -= __ldg(work.corrections + rows[n]);
        const bool positive = first + n == 0;
        if (with_loss) loss += log_loss(positive ? logit : -logit);
        gradients[n] = (positive ? 1.0f : 0.0f) - sigmoid(logit);
        if constexpr (HELD) T::accumulate(delta, gradients[n], v);
    }
    if constexpr (!HELD) {
        // Rows as they were: none of this chunk's has been changed yet.
#pragma unroll
        for (int n = 0; n < TARGETS; ++n) {
            if (n >= count) continue;
            tile.read(work.right_syn + rows[n] * work.right_stride, held[0]);
            T::accumulate(delta, gradients[n], held[0]);
        }
    }
    if constexpr ((OPTIONS & FREEZE_RIGHT) != 0) return active ? loss : 0.0f;
    float totals[TARGETS] = {};
    if constexpr ((OPTIONS & ADAGRAD) != 0) {
        // All of them first: they do not wait for each other.
#pragma unroll
        for (int n = 0; n < TARGETS; ++n) {
            if (n >= count) continue;
            const float gradient = pair.weight * gradients[n];
            totals[n] = add_squares(tile, active, work.right_state, rows[n],
                                    squares * gradient * gradient);
        }
#pragma unroll
        for (int n = 0; n < TARGETS; ++n) totals[n] = T::from(totals[n], 0);
    }
    if (!active) return 0.0f;
#pragma unroll
    for (int n = 0; n < TARGETS; ++n) {
        if (n >= count) continue;
        float* const row = work.right_syn + rows[n] * work.right_stride;
        float rate;
        if constexpr ((OPTIONS & ADAGRAD) != 0) {
            rate = adaptive_rate(pair.rate, totals[n]);
        } else {
            rate = limit(pair.rate, find_cap(work.right_caps, work.right_capped, rows[n]));
        }
        if constexpr (!HELD && T::STORES) tile.read(row, held[0]);
        add_to_row<OPTIONS>(tile, row, held[HELD ? n : 0], rate * pair.weight * gradients[n], u,
                            shrinkage(rate, fabsf(pair.weight) * work.l2));
    }
    return loss;
}

// Mean square of the left row: what a target's gradient is multiplied by.
template <int OPTIONS, class T>
__device__ __forceinline__ float left_squares(const Work& work, const typename T::Row& u) {
    if constexpr ((OPTIONS & ADAGRAD) == 0) return 0.0f;
    return T::sum(T::dot(u, u)) / static_cast<float>(work.dim);
}

// One pair after the other, each with negatives of its own.
template <int NEGATIVES, int OPTIONS, class Source, class T>
__device__ __forceinline__ float train_pairs(const T& tile, const Work& work, const Share& share,
                                             Dropped& dropped) {
    constexpr int TARGETS = NEGATIVES >= 0 ? NEGATIVES + 1 : CHUNK;
    using Row = typename T::Row;
    const int num_target = NEGATIVES >= 0 ? TARGETS : work.num_negative + 1;
    float loss = 0.0f;
    // Offsets from the launch's first position; no launch has as many as 1 << 30.
    for (int base = share.first * work.take; base < work.num_pair;
         base += work.num_tile * work.take) {
        const int mine = base + (share.tile - share.first) * work.take;
        const int count =
            share.tile < work.num_tile ? clamp_count(work.num_pair - mine, work.take) : 0;
        Pair<TARGETS> found = {};
        if (tile.lane < count) {
            found = find_pair<OPTIONS, Source, TARGETS>(work, work.start + mine + tile.lane);
            dropped.count<OPTIONS>(work, found, mine + tile.lane);
        }
        const int longest = clamp_count(work.num_pair - base, work.take);
#pragma unroll 1
        for (int i = 0; i < longest; ++i) {
            const Pair<TARGETS> pair = T::template from_pair<OPTIONS>(found, i);
            bool active = i < count;
            if constexpr ((OPTIONS & DROPS) != 0) active = active && pair.left != DROPPED;
            const bool with_loss = is_sampled(work, mine + i);
            Row u, delta;
            read_left<OPTIONS>(tile, work, pair, u);
            T::clear(delta);
            const float squares = left_squares<OPTIONS, T>(work, u);
            loss += train_chunk<OPTIONS>(tile, work, active, pair, pair.targets, 0,
                                         num_target < TARGETS ? num_target : TARGETS, u, delta,
                                         squares, with_loss);
            if constexpr (NEGATIVES < 0) {
                for (int first = CHUNK; first < num_target; first += CHUNK) {
                    const int size = clamp_count(num_target - first, CHUNK);
                    int rows[CHUNK] = {};
                    draw_negatives<OPTIONS>(work, pair.slot, first, rows);
                    redraw_negatives<OPTIONS>(work, pair.slot, pair.rejects(), first, size, rows);
                    loss += train_chunk<OPTIONS>(tile, work, active, pair, rows, first, size, u,
                                                 delta, squares, with_loss);
                }
            }
            add_to_left<OPTIONS>(tile, work, active, pair, u, delta, true);
        }
    }
    return loss;
}

// Negatives first ... first + count - 1 of a group, with all of its pairs. Their rows are
// read once, change in registers, and what has changed is added at the end.
template <int MOST, bool WITH_POSITIVE, int OPTIONS, class Source, class T>
__device__ __forceinline__ float train_group_chunk(const T& tile, const Work& work, int mine,
                                                   int size, int longest, int first, int count,
                                                   Dropped& dropped) {
    using Row = typename T::Row;
    constexpr int SKIP = WITH_POSITIVE ? 1 : 0;
    constexpr bool ADAPTS = (OPTIONS & ADAGRAD) != 0;
    constexpr bool TRAINS = (OPTIONS & FREEZE_RIGHT) == 0;
    int rows[MOST + SKIP] = {};
    const u64 group = static_cast<u64>(work.start + mine) >> work.group_bits;
    draw_negatives<OPTIONS>(work, GROUP_SLOT + group, first, rows);
    Row local[MOST > 0 ? MOST : 1], origin[MOST > 0 ? MOST : 1];
    float state[MOST > 0 ? MOST : 1] = {}, old_state[MOST > 0 ? MOST : 1] = {};
    float caps[MOST > 0 ? MOST : 1] = {};
#pragma unroll
    for (int n = 0; n < MOST; ++n) {
        if (n >= count) continue;
        tile.read(work.right_syn + rows[n + SKIP] * work.right_stride, origin[n]);
        local[n] = origin[n];
        if constexpr (ADAPTS) {
            old_state[n] = state[n] = __ldcg(work.right_state + rows[n + SKIP]);
        } else {
            caps[n] = find_cap(work.right_caps, work.right_capped, rows[n + SKIP]);
        }
    }
    float loss = 0.0f;
    for (int from = 0; from < longest; from += work.take) {
        Pair<1> found = {};
        if (tile.lane < work.take && from + tile.lane < size) {
            const int offset = mine + from + tile.lane;
            found = find_pair<OPTIONS, Source, 1>(work, work.start + offset);
            if constexpr (WITH_POSITIVE) dropped.count<OPTIONS>(work, found, offset);
        }
#pragma unroll 1
        for (int i = 0; i < work.take && from + i < longest; ++i) {
            const Pair<1> pair = T::template from_pair<OPTIONS>(found, i);
            bool active = from + i < size;
            if constexpr ((OPTIONS & DROPS) != 0) active = active && pair.left != DROPPED;
            const bool with_loss = is_sampled(work, mine + from + i);
            float* const right = work.right_syn + pair.targets[0] * work.right_stride;
            Row u, v, delta;
            float gradient = 0.0f, pair_loss = 0.0f;
            float gradients[MOST > 0 ? MOST : 1] = {};
            bool rejected[MOST > 0 ? MOST : 1] = {};
            read_left<OPTIONS>(tile, work, pair, u);
            T::clear(delta);
            const float squares = left_squares<OPTIONS, T>(work, u);
            if constexpr (WITH_POSITIVE) {
                tile.read(right, v);
                float logit = T::sum(T::dot(u, v));
                if constexpr ((OPTIONS & NCE) != 0) {
                    logit -= __ldg(work.corrections + pair.targets[0]);
                }
                gradient = 1.0f - sigmoid(logit);
                if (with_loss) pair_loss += log_loss(logit);
                T::accumulate(delta, gradient, v);
            }
#pragma unroll
            for (int n = 0; n < MOST; ++n) {
                if (n >= count) continue;
                float logit = T::sum(T::dot(u, local[n]));
                if constexpr ((OPTIONS & NCE) != 0) {
                    logit -= __ldg(work.corrections + rows[n + SKIP]);
                }
                if constexpr ((OPTIONS & REJECT_POSITIVE) != 0) {
                    rejected[n] = is_rejected<OPTIONS>(work, pair.rejects(), rows[n + SKIP]);
                    if (rejected[n]) continue;
                }
                gradients[n] = -sigmoid(logit);
                if (with_loss) pair_loss += log_loss(-logit);
                T::accumulate(delta, gradients[n], local[n]);
            }
            if (active) loss += pair_loss;
            if constexpr (TRAINS) {
                float total = 0.0f;
                if constexpr (ADAPTS && WITH_POSITIVE) {
                    const float scaled = pair.weight * gradient;
                    total = T::from(add_squares(tile, active, work.right_state, pair.targets[0],
                                                squares * scaled * scaled), 0);
                }
#pragma unroll
                for (int n = 0; n < MOST; ++n) {
                    if (n >= count || !active) continue;
                    if (rejected[n]) continue;
                    const float scaled = pair.weight * gradients[n];
                    float rate;
                    if constexpr (ADAPTS) {
                        state[n] += squares * scaled * scaled;
                        rate = adaptive_rate(pair.rate, state[n]);
                    } else {
                        rate = limit(pair.rate, caps[n]);
                    }
                    if constexpr ((OPTIONS & L2) != 0) {
                        const Row now = local[n];
                        T::accumulate(local[n], -shrinkage(rate, fabsf(pair.weight) * work.l2), now);
                    }
                    T::accumulate(local[n], rate * scaled, u);
                }
                if (WITH_POSITIVE && active) {
                    const float rate =
                        ADAPTS ? adaptive_rate(pair.rate, total)
                               : limit(pair.rate, find_cap(work.right_caps, work.right_capped,
                                                           pair.targets[0]));
                    add_to_row<OPTIONS>(tile, right, v, rate * pair.weight * gradient, u,
                                        shrinkage(rate, fabsf(pair.weight) * work.l2));
                }
            }
            add_to_left<OPTIONS>(tile, work, active, pair, u, delta, WITH_POSITIVE);
        }
    }
    if (size == 0 || !TRAINS) return loss;
#pragma unroll
    for (int n = 0; n < MOST; ++n) {
        if (n >= count) continue;
        T::accumulate(local[n], -1.0f, origin[n]);
        tile.add(work.right_syn + rows[n + SKIP] * work.right_stride, origin[n], 1.0f, local[n]);
        if constexpr (ADAPTS) {
            add_squares(tile, true, work.right_state, rows[n + SKIP], state[n] - old_state[n]);
        }
    }
    return loss;
}

// One group of pairs after the other, each with one set of negatives.
template <int NEGATIVES, int OPTIONS, class Source, class T>
__device__ __forceinline__ float train_groups(const T& tile, const Work& work, const Share& share,
                                              Dropped& dropped) {
    constexpr int MOST = NEGATIVES >= 0 ? NEGATIVES : CHUNK - 1;
    const int group = 1 << work.group_bits;
    float loss = 0.0f;
    for (int base = share.first * group; base < work.num_pair; base += work.num_tile * group) {
        const int mine = base + (share.tile - share.first) * group;
        const int size = share.tile < work.num_tile ? clamp_count(work.num_pair - mine, group) : 0;
        const int longest = clamp_count(work.num_pair - base, group);
        const int count = NEGATIVES >= 0 ? MOST : clamp_count(work.num_negative, MOST);
        loss += train_group_chunk<MOST, true, OPTIONS, Source>(tile, work, mine, size, longest, 0,
                                                               count, dropped);
        if constexpr (NEGATIVES < 0) {
            for (int first = CHUNK; first <= work.num_negative; first += CHUNK) {
                loss += train_group_chunk<CHUNK, false, OPTIONS, Source>(
                    tile, work, mine, size, longest, first,
                    clamp_count(work.num_negative + 1 - first, CHUNK), dropped);
            }
        }
    }
    return loss;
}

// Blocks of 128 threads that a multiprocessor is to hold at once, at least: with rows of
// up to 8 floats a thread and as many rows as by default, that takes 128 registers a
// thread, and nothing is spilled. With shared negatives it takes 168, and a few are: a
// tile that keeps them waits for two rows at a time, and it takes many tiles to keep the
// memory busy. Options take registers of their own.
__device__ constexpr int min_blocks(int floats, int negatives, bool shared, int options) {
    if (floats > 8 || negatives < 0 || negatives > 5) return 1;
    return shared || options != 0 ? 3 : 4;
}

template <bool POOLED, class Plain, bool OTHERS>
struct SourceOf {
    using Type = Plain;
};
template <class Plain, bool OTHERS>
struct SourceOf<true, Plain, OTHERS> {
    using Type = Pooled<OTHERS>;
};

// THREADS: threads a pair. CHUNKS: pieces of a row a thread holds. WIDTH: floats of a
// piece. FULL: whether the tile's pieces are exactly a row. UPDATE: how rows are updated.
// NEGATIVES: how many a pair, or -1: as the work says. SHARED: whether groups of pairs
// share them. OPTIONS: those of the objective.
template <int THREADS, int CHUNKS, int WIDTH, bool FULL, int UPDATE, int NEGATIVES, bool SHARED,
          int OPTIONS, class Source>
__device__ __forceinline__ void train(const Work& work) {
    static_assert(32 % THREADS == 0 && NEGATIVES < CHUNK, "no such tile");
    using T = Tile<THREADS, CHUNKS, WIDTH, FULL, UPDATE>;
    const Share share = find_share<THREADS>();
    if (share.first >= work.num_tile) return;
    const T tile = {static_cast<int>(threadIdx.x) % THREADS, work.dim};
    Dropped dropped;
    float loss;
    if constexpr (SHARED) {
        loss = train_groups<NEGATIVES, OPTIONS, Source>(tile, work, share, dropped);
    } else {
        loss = train_pairs<NEGATIVES, OPTIONS, Source>(tile, work, share, dropped);
    }
    if (tile.lane == 0 && loss != 0.0f) atomicAdd(work.tally, static_cast<double>(loss));
    if constexpr ((OPTIONS & DROPS) != 0) {
        if (dropped.pairs != 0) {
            atomicAdd(work.tally + 1, static_cast<double>(dropped.pairs));
            atomicAdd(work.tally + 2, static_cast<double>(dropped.sampled));
        }
    }
}

}  // namespace itembed
