// The loop over an epoch's positions, and the kernel: tiles take the next positions
// together, and train their pairs one after the other.
//
// The twin of blocks.py. The threads of a tile find the next pairs together, one each: the
// dependent loads from slot to rows are then paid once for as many pairs as there are threads.

namespace itembed {

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

// One pair after the other, each with negatives of its own.
template <int NEGATIVES, int OPTIONS, class Source, class T>
__device__ __forceinline__ float train_pairs(const T& tile, const Work& work, const Share& share,
                                             Dropped& dropped) {
    constexpr int TARGETS = NEGATIVES >= 0 ? NEGATIVES + 1 : SPAN;
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
            if constexpr ((OPTIONS & GLOVE) != 0) {
                loss += update_cell(tile, work, active, pair, with_loss);
            } else {
                Left<T> left;
                read_left<OPTIONS>(tile, work, pair, left);
                loss += update_pair<OPTIONS>(tile, work, active, pair, pair.targets, pair.left_out,
                                             0, num_target < TARGETS ? num_target : TARGETS, left,
                                             with_loss);
                if constexpr (NEGATIVES < 0) {
                    for (int first = SPAN; first < num_target; first += SPAN) {
                        const int size = clamp_count(num_target - first, SPAN);
                        int rows[SPAN] = {};
                        draw_negatives<OPTIONS>(work, pair.slot, first, rows);
                        redraw_negatives<OPTIONS>(work, pair.slot, pair.rejects(), first, size,
                                                  rows);
                        const u32 left_out =
                            thin_negatives<OPTIONS>(work, pair.slot, pair.rate, first, rows);
                        loss += update_pair<OPTIONS>(tile, work, active, pair, rows, left_out,
                                                     first, size, left, with_loss);
                    }
                }
                add_to_left<OPTIONS>(tile, work, active, pair, left, true);
            }
        }
    }
    return loss;
}

// A group: its positions from the launch's first one on, and those of the longest group of
// the warp.
struct Group {
    int mine, size, longest;

    // First position of those of the epoch's order.
    __device__ __forceinline__ i64 start(const Work& work) const { return work.start + mine; }

    // Slot of what its pairs share.
    __device__ __forceinline__ u64 slot(const Work& work) const {
        return GROUP_SLOT + (static_cast<u64>(start(work)) >> work.group_bits);
    }
};

// Draw and read negatives first ... first + count - 1 of a group.
template <int OPTIONS, int MOST, bool WITH_POSITIVE, class T>
__device__ __forceinline__ void draw_negatives(const T& tile, const Work& work, const Group& group,
                                               int first, int count,
                                               Negatives<MOST, WITH_POSITIVE, T>& negatives) {
    negatives.count = count;
    draw_negatives<OPTIONS>(work, group.slot(work), first, negatives.rows);
    read_negatives<OPTIONS>(tile, work, negatives);
    // While the rows are on their way. All pairs of a group are of one batch, and have its rate.
    if (group.size == 0) return;
    const float rate = rate_at(work, group.start(work));
    negatives.left_out =
        thin_negatives<OPTIONS>(work, group.slot(work), rate, first, negatives.rows);
}

// Whether a pair, if it is one of the tile's, is trained.
template <int OPTIONS>
__device__ __forceinline__ bool is_active(const Pair<1>& pair, bool is_mine) {
    if constexpr ((OPTIONS & DROPS) != 0) return is_mine && pair.left != DROPPED;
    return is_mine;
}

// Negatives first ... first + count - 1 of a group, with all of its pairs.
template <int MOST, bool WITH_POSITIVE, int OPTIONS, class Source, class T>
__device__ __forceinline__ float update_group(const T& tile, const Work& work, const Group& group,
                                              int first, int count, Dropped& dropped) {
    Negatives<MOST, WITH_POSITIVE, T> negatives;
    draw_negatives<OPTIONS>(tile, work, group, first, count, negatives);
    float loss = 0.0f;
    for (int from = 0; from < group.longest; from += work.take) {
        Pair<1> found = {};
        if (tile.lane < work.take && from + tile.lane < group.size) {
            const int offset = group.mine + from + tile.lane;
            found = find_pair<OPTIONS, Source, 1>(work, work.start + offset);
            if constexpr (WITH_POSITIVE) dropped.count<OPTIONS>(work, found, offset);
        }
#pragma unroll 1
        for (int i = 0; i < work.take && from + i < group.longest; ++i) {
            const Pair<1> pair = T::template from_pair<OPTIONS>(found, i);
            const bool active = is_active<OPTIONS>(pair, from + i < group.size);
            const bool with_loss = is_sampled(work, group.mine + from + i);
            Left<T> left;
            read_left<OPTIONS>(tile, work, pair, left);
            loss += update_in_group<OPTIONS>(tile, work, active, pair, negatives, left, with_loss);
            // The decay of a row is that of a pair, not of each of its spans.
            add_to_left<OPTIONS>(tile, work, active, pair, left, WITH_POSITIVE);
        }
    }
    if (group.size > 0) add_negatives<OPTIONS>(tile, work, negatives);
    return loss;
}

// Pairs of a group whose means are kept, from the first of several spans to the last: each
// thread has found some of them, and holds its part of all the means.
template <class T>
struct Means {
    Pair<1> found[(MEANS + T::SIZE - 1) / T::SIZE] = {};
    Left<T> left[MEANS];

    template <int OPTIONS>
    __device__ __forceinline__ Pair<1> pair(int i) const {
        return T::template from_pair<OPTIONS>(found[i / T::SIZE], i % T::SIZE);
    }
};

// Negatives first ... first + count - 1 of a group, with those of its pairs whose means are kept.
template <int MOST, bool WITH_POSITIVE, int OPTIONS, class T>
__device__ __forceinline__ float update_span(const T& tile, const Work& work, const Group& some,
                                             int first, int count, Means<T>& means) {
    Negatives<MOST, WITH_POSITIVE, T> negatives;
    draw_negatives<OPTIONS>(tile, work, some, first, count, negatives);
    float loss = 0.0f;
#pragma unroll 1
    for (int i = 0; i < some.longest; ++i) {
        const Pair<1> pair = means.template pair<OPTIONS>(i);
        const bool active = is_active<OPTIONS>(pair, i < some.size);
        const bool with_loss = is_sampled(work, some.mine + i);
        loss += update_in_group<OPTIONS>(tile, work, active, pair, negatives, means.left[i],
                                         with_loss);
    }
    if (some.size > 0) add_negatives<OPTIONS>(tile, work, negatives);
    return loss;
}

// Some pairs of a group, with all of its negatives: means are read before the first span, and
// their rows are moved after the last.
template <int OPTIONS, class Source, class T>
__device__ __forceinline__ float update_means(const T& tile, const Work& work, const Group& some,
                                              Dropped& dropped) {
    Means<T> means;
    for (int i = tile.lane; i < some.size; i += T::SIZE) {
        Pair<1>& found = means.found[i / T::SIZE];
        found = find_pair<OPTIONS, Source, 1>(work, work.start + some.mine + i);
        dropped.count<OPTIONS>(work, found, some.mine + i);
    }
#pragma unroll 1
    for (int i = 0; i < some.longest; ++i) {
        read_left<OPTIONS>(tile, work, means.template pair<OPTIONS>(i), means.left[i]);
    }
    float loss = update_span<SPAN - 1, true, OPTIONS>(
        tile, work, some, 0, clamp_count(work.num_negative, SPAN - 1), means);
    for (int first = SPAN; first <= work.num_negative; first += SPAN) {
        const int count = clamp_count(work.num_negative + 1 - first, SPAN);
        loss += update_span<SPAN, false, OPTIONS>(tile, work, some, first, count, means);
    }
#pragma unroll 1
    for (int i = 0; i < some.longest; ++i) {
        const Pair<1> pair = means.template pair<OPTIONS>(i);
        const bool active = is_active<OPTIONS>(pair, i < some.size);
        add_to_left<OPTIONS>(tile, work, active, pair, means.left[i], true);
    }
    return loss;
}

// One group of pairs after the other, each with one set of negatives.
template <int NEGATIVES, int OPTIONS, class Source, class T>
__device__ __forceinline__ float train_groups(const T& tile, const Work& work, const Share& share,
                                              Dropped& dropped) {
    constexpr int MOST = NEGATIVES >= 0 ? NEGATIVES : SPAN - 1;
    const int length = 1 << work.group_bits;
    const int count = NEGATIVES >= 0 ? MOST : clamp_count(work.num_negative, MOST);
    float loss = 0.0f;
    for (int base = share.first * length; base < work.num_pair; base += work.num_tile * length) {
        const int mine = base + (share.tile - share.first) * length;
        const Group group = {
            mine, share.tile < work.num_tile ? clamp_count(work.num_pair - mine, length) : 0,
            clamp_count(work.num_pair - base, length)};
        if constexpr (NEGATIVES < 0 && (OPTIONS & MEAN) != 0) {
            for (int from = 0; from < group.longest; from += MEANS) {
                const Group some = {mine + from, clamp_count(group.size - from, MEANS),
                                    clamp_count(group.longest - from, MEANS)};
                loss += update_means<OPTIONS, Source>(tile, work, some, dropped);
            }
        } else {
            loss += update_group<MOST, true, OPTIONS, Source>(tile, work, group, 0, count, dropped);
            if constexpr (NEGATIVES < 0) {
                for (int first = SPAN; first <= work.num_negative; first += SPAN) {
                    const int size = clamp_count(work.num_negative + 1 - first, SPAN);
                    loss += update_group<SPAN, false, OPTIONS, Source>(tile, work, group, first,
                                                                       size, dropped);
                }
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

// Source: where the pairs come from. THREADS, PIECES, WIDTH, FULL, UPDATE: as of a tile.
// NEGATIVES: how many a pair, or -1: as the work says. SHARED: whether groups of pairs
// share them. OPTIONS: those of the objective.
template <class Source, int THREADS, int PIECES, int WIDTH, bool FULL, int UPDATE, int NEGATIVES,
          bool SHARED, int OPTIONS>
__global__ void __launch_bounds__(128, min_blocks(PIECES * WIDTH, NEGATIVES, SHARED, OPTIONS))
    train_positions(const Work work) {
    static_assert(32 % THREADS == 0 && NEGATIVES < SPAN, "no such tile");
    using T = Tile<THREADS, PIECES, WIDTH, FULL, UPDATE>;
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
