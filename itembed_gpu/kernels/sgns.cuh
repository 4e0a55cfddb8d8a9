// The training step: a tile of threads trains one pair at a time, or a group of pairs.
//
// For a pair of rows u (left) and v_0 (right, the positive) and k negatives v_1 ... v_k,
// with y_0 = 1 and y_n = 0 for the others,
//
//     g_n  = y_n - sigmoid(u . v_n)
//     v_n += rate(v_n) * weight * g_n * u
//     u   += rate(u) * weight * sum over n of g_n * v_n
//
// as in sgns.py, the twin, which the tests compare this with, and which says what the
// options change. All the rows of a span are read before one of them is used: they do not
// depend on each other, and the memory answers them together. Where a group of pairs shares
// its negatives, their rows stay in registers from the group's first pair to its last, and
// are read and added once.
//
// Where a row has a cap below the learning rate, its update is left out, with its share of l2,
// with probability 1 - cap / rate, and made whole otherwise: the row is not touched. Of negatives
// that a group shares, so is the sum of what its pairs add.
//
// A tile that is not at work (`active`) goes along everywhere, as shuffles need the whole
// warp: it reads row 0, and changes nothing.

namespace itembed {

// Above this, a thread's share of the rows of a span does not fit the registers.
constexpr int MAX_HELD = 128;

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

// Learning rate of a row: with Adagrad, by what its accumulator holds.
template <int OPTIONS>
__device__ __forceinline__ float row_rate(float rate, float total) {
    return (OPTIONS & ADAGRAD) != 0 ? adaptive_rate(rate, total) : rate;
}

// How often the most frequent one of rows first ... stop - 1 is among them.
template <int OPTIONS, int COUNT>
__device__ __forceinline__ int most_hits(const int (&rows)[COUNT], int first, int stop) {
    int most = 1;
    if constexpr ((OPTIONS & MAX_STEP) != 0) {
#pragma unroll
        for (int n = 1; n < COUNT; ++n) {
            int hits = 1;
#pragma unroll
            for (int other = 0; other < n; ++other) {
                hits += other >= first && n < stop && rows[other] == rows[n];
            }
            most = hits > most ? hits : most;
        }
    }
    return most;
}

// Highest learning rate of the right rows of a pair, one of which is hit so many times.
template <int OPTIONS, class T>
__device__ __forceinline__ float step_bound(const Work& work, float weight,
                                            const typename T::Row& u, int most) {
    if constexpr ((OPTIONS & MAX_STEP) != 0) {
        float curvature = fabsf(weight) * static_cast<float>(most);
        if constexpr ((OPTIONS & POSITIVE_WEIGHT) != 0) {
            curvature *= fmaxf(1.0f, work.positive_weight);
        }
        return __fdividef(work.max_step, curvature * T::sum(T::dot(u, u)) + EPSILON);
    }
    return NO_CAP;
}

// A learning rate of a right row, within its bound.
template <int OPTIONS>
__device__ __forceinline__ float bounded(float rate, float bound) {
    if constexpr ((OPTIONS & MAX_STEP) != 0) return fminf(fmaxf(rate, -bound), bound);
    return rate;
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

// The left side of a pair: its row, or mean, as it was read; the gradient of it; and the
// mean square of it, which the gradients of targets are multiplied by for Adagrad.
template <class T>
struct Left {
    typename T::Row u, delta;
    float squares;
};

// Read the left row of a pair, or the mean of its bag.
template <int OPTIONS, int TARGETS, class T>
__device__ __forceinline__ void read_left(const T& tile, const Work& work,
                                          const Pair<TARGETS>& pair, Left<T>& left) {
    if constexpr ((OPTIONS & MEAN) != 0) {
        T::clear(left.u);
        if constexpr ((OPTIONS & OWN_ROW) != 0) {
            typename T::Row x;
            tile.read(work.own_syn + pair.own * work.own_stride, x);
            T::accumulate(left.u, 1.0f / pair.bag_weight, x);
        }
        for (int i = 0; i < pair.bag_length; ++i) {
            const int item = __ldg(work.left_items + pair.bag + i);
            const float weight = left_weight<OPTIONS>(work, pair.bag + i, item, pair.bag_skip);
            if (weight == 0.0f) continue;
            typename T::Row x;
            tile.read(work.left_syn + item * work.left_stride, x);
            T::accumulate(left.u, weight / pair.bag_weight, x);
        }
    } else {
        const int row = (OPTIONS & DROPS) != 0 && pair.left == DROPPED ? 0 : pair.left;
        tile.read(work.left_syn + row * work.left_stride, left.u);
    }
    T::clear(left.delta);
    left.squares = 0.0f;
    if constexpr ((OPTIONS & ADAGRAD) != 0) {
        left.squares = T::sum(T::dot(left.u, left.u)) / static_cast<float>(work.dim);
    }
}

// Add a gradient to the rows of a bag: to each its share of it.
template <int OPTIONS, int TARGETS, class T>
__device__ __forceinline__ void add_to_bag(const T& tile, const Work& work, bool active,
                                           const Pair<TARGETS>& pair,
                                           const typename T::Row& delta, float squares,
                                           float decay) {
    const int longest =
        (OPTIONS & ADAGRAD) != 0 ? warp_max<T>(pair.bag_length) : pair.bag_length;
    u32 draw = 1;  // of the last item that is in the mean
    for (int i = 0; i < longest; ++i) {
        bool has = active && i < pair.bag_length;
        const int item = has ? __ldg(work.left_items + pair.bag + i) : 0;
        const float weight =
            has ? left_weight<OPTIONS>(work, pair.bag + i, item, pair.bag_skip) : 0.0f;
        has = has && weight != 0.0f;
        const float share = has ? weight / pair.bag_weight : 0.0f;
        float total = 0.0f;
        if constexpr ((OPTIONS & ADAGRAD) != 0) {
            const float part = squares * share * share;
            total = T::from(add_squares(tile, has, work.left_state, item, part), 0);
        }
        if (!has) continue;
        if constexpr ((OPTIONS & NO_LEFT_CAPS) == 0) {
            draw = (draw + 1) & (MAX_DRAW - 1);
            if (is_row_left_out(work, work.left_caps, work.left_capped, item, pair.rate, pair.slot,
                                draw)) {
                continue;
            }
        }
        const float rate = row_rate<OPTIONS>(pair.rate, total);
        float* const row = work.left_syn + item * work.left_stride;
        typename T::Row old = {};
        if constexpr (T::STORES) tile.read(row, old);
        add_to_row<OPTIONS>(tile, row, old, rate * share * pair.weight, delta,
                            shrinkage(rate, decay));
    }
}

// Add its share of a gradient to an itemset's own row.
template <int OPTIONS, int TARGETS, class T>
__device__ __forceinline__ void add_to_own(const T& tile, const Work& work, bool active,
                                           const Pair<TARGETS>& pair,
                                           const typename T::Row& delta, float squares,
                                           float decay) {
    const float share = 1.0f / pair.bag_weight;
    float total = 0.0f;
    if constexpr ((OPTIONS & ADAGRAD) != 0) {
        const int number = static_cast<int>(pair.own);
        total = T::from(add_squares(tile, active, work.own_state, number, squares * share * share),
                        0);
    }
    if (!active) return;
    if constexpr ((OPTIONS & ADAGRAD) == 0) {
        if (is_row_left_out(work, work.own_caps, work.own_capped, static_cast<int>(pair.own),
                            pair.rate, pair.slot, 0)) {
            return;
        }
    }
    const float rate = row_rate<OPTIONS>(pair.rate, total);
    float* const row = work.own_syn + pair.own * work.own_stride;
    typename T::Row old = {};
    if constexpr (T::STORES) tile.read(row, old);
    add_to_row<OPTIONS>(tile, row, old, rate * share * pair.weight, delta, shrinkage(rate, decay));
}

// Add the gradient of the left side to its row, or to the rows of the bag.
template <int OPTIONS, int TARGETS, class T>
__device__ __forceinline__ void add_to_left(const T& tile, const Work& work, bool active,
                                            const Pair<TARGETS>& pair, const Left<T>& left,
                                            bool with_decay) {
    if constexpr ((OPTIONS & FREEZE_LEFT) != 0 && (OPTIONS & OWN_ROW) == 0) return;
    const float decay = with_decay ? fabsf(pair.weight) * work.l2 : 0.0f;
    float squares = 0.0f, total = 0.0f;
    if constexpr ((OPTIONS & ADAGRAD) != 0) {
        squares = T::sum(T::dot(left.delta, left.delta)) / static_cast<float>(work.dim);
        squares *= pair.weight * pair.weight;
    }
    if constexpr ((OPTIONS & OWN_ROW) != 0) {
        add_to_own<OPTIONS>(tile, work, active, pair, left.delta, squares, decay);
        if constexpr ((OPTIONS & FREEZE_LEFT) != 0) return;
    }
    if constexpr ((OPTIONS & MEAN) != 0) {
        add_to_bag<OPTIONS>(tile, work, active, pair, left.delta, squares, decay);
        return;
    }
    if constexpr ((OPTIONS & ADAGRAD) != 0) {
        total = T::from(add_squares(tile, active, work.left_state, pair.left, squares), 0);
    }
    if (!active || (pair.left_out & LEFT_ROW) != 0) return;
    const float rate = row_rate<OPTIONS>(pair.rate, total);
    float* const row = work.left_syn + pair.left * work.left_stride;
    if constexpr ((OPTIONS & L2) != 0) {
        // Less its own decay as it was read, as everything in a pair is.
        typename T::Row sum;
        T::clear(sum);
        T::accumulate(sum, rate * pair.weight, left.delta);
        T::accumulate(sum, -shrinkage(rate, decay), left.u);
        tile.add(row, left.u, 1.0f, sum);
    } else {
        tile.add(row, left.u, rate * pair.weight, left.delta);
    }
}

// Add the gradients of a span's targets to their rows, but for those that are left out; they are
// `held` as they were read if all of them could be.
template <int OPTIONS, int TARGETS, int NUM_HELD, class T>
__device__ __forceinline__ void update_right(const T& tile, const Work& work, bool active,
                                             const Pair<TARGETS>& pair, const int (&rows)[TARGETS],
                                             u32 left_out, int count,
                                             const float (&gradients)[TARGETS],
                                             typename T::Row (&held)[NUM_HELD],
                                             const Left<T>& left) {
    constexpr bool HELD = NUM_HELD == TARGETS;
    const float bound = step_bound<OPTIONS, T>(work, pair.weight, left.u,
                                               most_hits<OPTIONS>(rows, 0, count));
    float totals[TARGETS] = {};
    if constexpr ((OPTIONS & ADAGRAD) != 0) {
        // All of them first: they do not wait for each other.
#pragma unroll
        for (int n = 0; n < TARGETS; ++n) {
            if (n >= count) continue;
            const float scaled = pair.weight * gradients[n];
            totals[n] = add_squares(tile, active, work.right_state, rows[n],
                                    left.squares * scaled * scaled);
        }
#pragma unroll
        for (int n = 0; n < TARGETS; ++n) totals[n] = T::from(totals[n], 0);
    }
    if (!active) return;
#pragma unroll
    for (int n = 0; n < TARGETS; ++n) {
        if (n >= count || (left_out >> n & 1) != 0) continue;
        float* const row = work.right_syn + rows[n] * work.right_stride;
        const float rate = bounded<OPTIONS>(row_rate<OPTIONS>(pair.rate, totals[n]), bound);
        if constexpr (!HELD && T::STORES) tile.read(row, held[0]);
        add_to_row<OPTIONS>(tile, row, held[HELD ? n : 0], rate * pair.weight * gradients[n],
                            left.u, shrinkage(rate, fabsf(pair.weight) * work.l2));
    }
}

// Train one pair with targets first ... first + count - 1, which are rows of the right
// table; number 0 is the positive. Those with their bit in `left_out`, the first one's being bit
// 0, are not updated. Adds to the gradient of the left side, and returns the
// loss before the update.
template <int OPTIONS, int TARGETS, class T>
__device__ __forceinline__ float update_pair(const T& tile, const Work& work, bool active,
                                             const Pair<TARGETS>& pair, const int (&rows)[TARGETS],
                                             u32 left_out, int first, int count, Left<T>& left,
                                             bool with_loss) {
    using Row = typename T::Row;
    constexpr bool HELD = TARGETS * static_cast<int>(sizeof(Row) / sizeof(float)) <= MAX_HELD;
    Row held[HELD ? TARGETS : 1];
    float gradients[TARGETS] = {};
    float sum = 0.0f;
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
        const float logit = corrected<OPTIONS>(T::sum(T::dot(left.u, v)), rows[n], work);
        const float label = first + n == 0 ? 1.0f : 0.0f;
        if (with_loss) sum += loss<OPTIONS>(logit, label, work);
        gradients[n] = gradient<OPTIONS>(logit, label, work);
        if constexpr (HELD) T::accumulate(left.delta, gradients[n], v);
    }
    if constexpr (!HELD) {
        // Rows as they were: none of this span's has been changed yet.
#pragma unroll
        for (int n = 0; n < TARGETS; ++n) {
            if (n >= count) continue;
            tile.read(work.right_syn + rows[n] * work.right_stride, held[0]);
            T::accumulate(left.delta, gradients[n], held[0]);
        }
    }
    if constexpr ((OPTIONS & FREEZE_RIGHT) == 0) {
        update_right<OPTIONS>(tile, work, active, pair, rows, left_out, count, gradients, held,
                              left);
    }
    return active ? sum : 0.0f;
}

// Negatives of a group, from number `first` on: their rows as they are, in registers, and as
// they were read. With the positive, that has the place of number 0.
template <int MOST, bool WITH_POSITIVE, class T>
struct Negatives {
    static constexpr int SKIP = WITH_POSITIVE ? 1 : 0;
    static constexpr int ROOM = MOST > 0 ? MOST : 1;
    int rows[MOST + SKIP] = {};
    int count;
    u32 left_out = 0;  // bits of those in `rows` to which nothing is added
    int most_hits = 1;  // how often the most frequent one of them is among them
    typename T::Row local[ROOM], before[ROOM];
    float state[ROOM] = {}, old_state[ROOM] = {};

    __device__ __forceinline__ int row(int n) const { return rows[n + SKIP]; }
};

template <int OPTIONS, int MOST, bool WITH_POSITIVE, class T>
__device__ __forceinline__ void read_negatives(const T& tile, const Work& work,
                                               Negatives<MOST, WITH_POSITIVE, T>& negatives) {
    constexpr int SKIP = Negatives<MOST, WITH_POSITIVE, T>::SKIP;
    negatives.most_hits = most_hits<OPTIONS>(negatives.rows, SKIP, negatives.count + SKIP);
#pragma unroll
    for (int n = 0; n < MOST; ++n) {
        if (n >= negatives.count) continue;
        const int row = negatives.row(n);
        tile.read(work.right_syn + row * work.right_stride, negatives.before[n]);
        negatives.local[n] = negatives.before[n];
        if constexpr ((OPTIONS & ADAGRAD) != 0) {
            negatives.old_state[n] = negatives.state[n] = __ldcg(work.right_state + row);
        }
    }
}

// Add what has changed of these rows since they were read, but for those that are left out.
template <int OPTIONS, int MOST, bool WITH_POSITIVE, class T>
__device__ __forceinline__ void add_negatives(const T& tile, const Work& work,
                                              Negatives<MOST, WITH_POSITIVE, T>& negatives) {
    if constexpr ((OPTIONS & FREEZE_RIGHT) != 0) return;
    constexpr int SKIP = Negatives<MOST, WITH_POSITIVE, T>::SKIP;
#pragma unroll
    for (int n = 0; n < MOST; ++n) {
        if (n >= negatives.count || (negatives.left_out >> (n + SKIP) & 1) != 0) continue;
        const int row = negatives.row(n);
        T::accumulate(negatives.local[n], -1.0f, negatives.before[n]);
        tile.add(work.right_syn + row * work.right_stride, negatives.before[n], 1.0f,
                 negatives.local[n]);
        if constexpr ((OPTIONS & ADAGRAD) != 0) {
            add_squares(tile, true, work.right_state, row,
                        negatives.state[n] - negatives.old_state[n]);
        }
    }
}

// Move negative n of a group, in registers, by a pair's gradient.
template <int OPTIONS, int MOST, bool WITH_POSITIVE, class T>
__device__ __forceinline__ void move_negative(const Work& work, const Pair<1>& pair, int n,
                                              float scaled, float bound, const Left<T>& left,
                                              Negatives<MOST, WITH_POSITIVE, T>& negatives) {
    float rate;
    if constexpr ((OPTIONS & ADAGRAD) != 0) {
        negatives.state[n] += left.squares * scaled * scaled;
        rate = adaptive_rate(pair.rate, negatives.state[n]);
    } else {
        rate = pair.rate;
    }
    rate = bounded<OPTIONS>(rate, bound);
    if constexpr ((OPTIONS & L2) != 0) {
        const typename T::Row now = negatives.local[n];
        const float decay = shrinkage(rate, fabsf(pair.weight) * work.l2);
        T::accumulate(negatives.local[n], -decay, now);
    }
    T::accumulate(negatives.local[n], rate * scaled, left.u);
}

// Train one pair of a group, whose left side is read, with these negatives and, if so, its
// positive. Adds to the gradient of the left side, and returns the loss before the update.
template <int OPTIONS, int MOST, bool WITH_POSITIVE, class T>
__device__ __forceinline__ float update_in_group(const T& tile, const Work& work, bool active,
                                                 const Pair<1>& pair,
                                                 Negatives<MOST, WITH_POSITIVE, T>& negatives,
                                                 Left<T>& left, bool with_loss) {
    float* const right = work.right_syn + pair.targets[0] * work.right_stride;
    typename T::Row v;
    float positive = 0.0f, sum = 0.0f;
    constexpr int ROOM = Negatives<MOST, WITH_POSITIVE, T>::ROOM;
    float gradients[ROOM] = {};
    bool rejected[ROOM] = {};
    if constexpr (WITH_POSITIVE) {
        tile.read(right, v);
        const float logit =
            corrected<OPTIONS>(T::sum(T::dot(left.u, v)), pair.targets[0], work);
        positive = gradient<OPTIONS>(logit, 1.0f, work);
        if (with_loss) sum += loss<OPTIONS>(logit, 1.0f, work);
        T::accumulate(left.delta, positive, v);
    }
#pragma unroll
    for (int n = 0; n < MOST; ++n) {
        if (n >= negatives.count) continue;
        const int row = negatives.row(n);
        const float dot = T::sum(T::dot(left.u, negatives.local[n]));
        const float logit = corrected<OPTIONS>(dot, row, work);
        if constexpr ((OPTIONS & REJECT_POSITIVE) != 0) {
            rejected[n] = is_rejected<OPTIONS>(work, pair.rejects(), row);
            if (rejected[n]) continue;
        }
        gradients[n] = gradient<OPTIONS>(logit, 0.0f, work);
        if (with_loss) sum += loss<OPTIONS>(logit, 0.0f, work);
        T::accumulate(left.delta, gradients[n], negatives.local[n]);
    }
    if constexpr ((OPTIONS & FREEZE_RIGHT) == 0) {
        float total = 0.0f;
        const float scaled = pair.weight * positive;
        const float bound = step_bound<OPTIONS, T>(work, pair.weight, left.u, negatives.most_hits);
        if constexpr ((OPTIONS & ADAGRAD) != 0 && WITH_POSITIVE) {
            total = T::from(add_squares(tile, active, work.right_state, pair.targets[0],
                                        left.squares * scaled * scaled), 0);
        }
#pragma unroll
        for (int n = 0; n < MOST; ++n) {
            if (n >= negatives.count || !active || rejected[n]) continue;
            move_negative<OPTIONS>(work, pair, n, pair.weight * gradients[n], bound, left,
                                   negatives);
        }
        if (WITH_POSITIVE && active && (pair.left_out & POSITIVE_ROW) == 0) {
            const float rate = bounded<OPTIONS>(row_rate<OPTIONS>(pair.rate, total), bound);
            add_to_row<OPTIONS>(tile, right, v, rate * scaled, left.u,
                                shrinkage(rate, fabsf(pair.weight) * work.l2));
        }
    }
    return active ? sum : 0.0f;
}

}  // namespace itembed
