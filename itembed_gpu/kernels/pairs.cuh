// Which pairs are trained: from a position of the epoch's order to a slot, to the rows
// of its left and right items and its negatives, and to its learning rate.
//
// The twin of pairs.py. The kinds of sources are those of objective/pairs.py.

namespace itembed {

// With these, a pair can be left out.
constexpr int DROPS = MEAN | SUBSAMPLE;

constexpr float NO_CAP = 3.4e38f;

__device__ __forceinline__ i64 guide_entry(const Work& work, i64 entry) {
    if (work.wide_guide) return __ldg(static_cast<const i64*>(work.guide) + entry);
    return __ldg(static_cast<const int*>(work.guide) + entry);
}

// Itemset of a slot, by binary search between two entries of the guide.
__device__ __forceinline__ i64 find_itemset(const Work& work, i64 slot) {
    const i64 entry = slot >> work.guide_shift;
    i64 low = guide_entry(work, entry);
    if (work.guide_shift == 0) return low;
    i64 high = guide_entry(work, entry + 1);
    while (low < high) {
        const i64 middle = (low + high + 1) >> 1;
        if (__ldg(work.slot_offsets + middle) <= slot) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

// Positions in the packed arrays: with MEAN, left ... left_end - 1 are those of the bag.
struct Place {
    i64 left, right;
    i64 begin, end;  // of the right items of the itemset
    i64 left_end;
};

// Place of a slot that is the mean of all left items of an itemset, and a right item.
__device__ __forceinline__ Place whole_bag(const Work& work, i64 itemset, i64 right, i64 begin,
                                           i64 end) {
    return {__ldg(work.left_offsets + itemset), right, begin, end,
            __ldg(work.left_offsets + itemset + 1)};
}

// Each item with one random other item of its itemset or, with MEAN, with the mean of all
// the others.
struct Neighbour {
    static constexpr bool SKIPS = true;
    // On both sides there are the same occurrences.
    static constexpr u64 KEEP = KEEP_SLOT;

    template <int OPTIONS>
    static __device__ __forceinline__ Place find(const Work& work, i64 slot, u32 word) {
        const i64 itemset = find_itemset(work, slot);
        const i64 first = __ldg(work.right_offsets + itemset);
        const i64 end = __ldg(work.right_offsets + itemset + 1);
        if constexpr ((OPTIONS & MEAN) != 0) return whole_bag(work, itemset, slot, first, end);
        i64 other = first + below(word, static_cast<u32>(end - first - 1));
        if (other >= slot) ++other;
        return {slot, other, first, end, 0};
    }
};

// Every left item with every right item of the same itemset or, with MEAN, every right item
// with the mean of the left items. Pairs are spread over the tiles one by one, so that a
// long itemset is no longer than as many short ones.
struct Product {
    static constexpr bool SKIPS = false;
    static constexpr u64 KEEP = KEEP_RIGHT_SLOT;

    template <int OPTIONS>
    static __device__ __forceinline__ Place find(const Work& work, i64 slot, u32) {
        const i64 itemset = find_itemset(work, slot);
        const i64 first = __ldg(work.right_offsets + itemset);
        const i64 end = __ldg(work.right_offsets + itemset + 1);
        const u64 rank = slot - __ldg(work.slot_offsets + itemset);
        if constexpr ((OPTIONS & MEAN) != 0) {
            return whole_bag(work, itemset, first + static_cast<i64>(rank), first, end);
        }
        const u64 length = end - first;
        return {__ldg(work.left_offsets + itemset) + static_cast<i64>(rank / length),
                first + static_cast<i64>(rank % length), first, end, 0};
    }
};

// --- windows: the twin of objective/windows.py

// Units of an itemset in one direction, up to a distance.
__device__ __forceinline__ u64 units_within(u64 length, u64 window, u64 distance) {
    const u64 steps = distance * (distance + 1);
    const u64 squares = steps * (2 * distance + 1) / 6;
    return distance * length * (window + 1) - (length + window + 1) * (steps / 2) + squares;
}

// The unit that a slot draws: floor((rank + word / 2**32) * num_unit / num_slot).
__device__ __forceinline__ u64 unit_of(u64 rank, u64 num_slot, u64 num_unit, u32 word) {
    const u64 each = num_unit / num_slot, rest = num_unit % num_slot;
    const u64 product = word * each;
    // What is left over of the slots before, and of this one's draw, in parts of a slot.
    const u64 own = (static_cast<u32>(product) * num_slot + word * rest) >> 32;
    const u64 parts = (rank * rest) % num_slot + own;
    return rank * each + rank * rest / num_slot + (product >> 32) + parts / num_slot;
}

// Each item with those near it, nearer ones more often or, with MEAN, with the mean of those
// within a distance that is drawn.
struct Window {
    static constexpr bool SKIPS = true;
    static constexpr u64 KEEP = KEEP_SLOT;

    template <int OPTIONS>
    static __device__ __forceinline__ Place find(const Work& work, i64 slot, u32 word) {
        const i64 itemset = find_itemset(work, slot);
        const i64 first = __ldg(work.right_offsets + itemset);
        const i64 end = __ldg(work.right_offsets + itemset + 1);
        if constexpr ((OPTIONS & MEAN) != 0) {
            const i64 reach = 1 + static_cast<i64>(static_cast<u64>(word) * work.window >> 32);
            const i64 left = slot - reach, left_end = slot + reach + 1;
            return {left < first ? first : left, slot, first, end, left_end < end ? left_end : end};
        }
        const i64 start = __ldg(work.slot_offsets + itemset);
        const u64 num_slot = __ldg(work.slot_offsets + itemset + 1) - start;
        const u64 length = end - first, window = work.window;
        const u64 farthest = window < length - 1 ? window : length - 1;
        const u64 half = units_within(length, window, farthest);
        u64 unit = unit_of(slot - start, num_slot, 2 * half, word);
        const bool backward = unit >= half;
        if (backward) unit -= half;
        // The least distance up to which there are more units than this one's number.
        u64 low = 1, high = farthest;
        while (low < high) {
            const u64 middle = (low + high) / 2;
            if (units_within(length, window, middle) <= unit) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        const u64 place = (unit - units_within(length, window, low - 1)) / (window - low + 1);
        const i64 near = first + static_cast<i64>(place), far = near + static_cast<i64>(low);
        return {backward ? far : near, backward ? near : far, first, end, 0};
    }
};

// Pairs that are given one by one: slot s is item s on both sides.
struct Listed {
    static constexpr bool SKIPS = false;
    static constexpr u64 KEEP = KEEP_RIGHT_SLOT;

    template <int OPTIONS>
    static __device__ __forceinline__ Place find(const Work&, i64 slot, u32) {
        return {slot, slot, slot, slot + 1, 0};
    }
};

__device__ __forceinline__ float rate_at(const Work& work, i64 position) {
    const u64 group = static_cast<u64>(position) >> work.group_bits;
    const u64 batch = ((group + 1) * work.num_batch - 1) / static_cast<u64>(work.num_group);
    return __ldg(work.rates + (static_cast<i64>(batch) - work.first_batch));
}

// Whether the loss of a pair is sampled: this many after the launch's first one.
__device__ __forceinline__ bool is_sampled(const Work& work, int offset) {
    return ((static_cast<u32>(work.start) + static_cast<u32>(offset)) & work.loss_mask) == 0;
}

// --- rows with a cap: their updates are left out as often as they are too many

// Whether a row has a cap that matters. Few have: the bits that say which stay in the caches,
// where all the caps would not.
__device__ __forceinline__ bool has_cap(const u32* capped, int row) {
    return (__ldg(capped + (row >> 5)) >> (row & 31) & 1) != 0;
}

// Cap of a row: a learning rate.
__device__ __forceinline__ float find_cap(const float* caps, const u32* capped, int row) {
    return caps != nullptr && has_cap(capped, row) ? __ldg(caps + row) : NO_CAP;
}

// Whether the update of a row is left out: with probability 1 - cap / rate, if it has such a cap.
// Both sides are one product, which is rounded alike on all devices.
__device__ __forceinline__ bool is_left_out(u32 word, float rate, float cap) {
    const float size = fabsf(rate);
    return size > cap && static_cast<float>(word) * size >= cap * 4294967296.0f;
}

// With these, rows of a side have no caps: they hold themselves back, or are not trained.
constexpr int NO_LEFT_CAPS = ADAGRAD | FREEZE_LEFT;
constexpr int NO_RIGHT_CAPS = ADAGRAD | FREEZE_RIGHT;

// Negatives first ... first + COUNT - 1 of a pair, or of a group, whose updates are left out: a
// bit each. first is a multiple of 4, and number 0 is none of them.
template <int OPTIONS, int COUNT>
__device__ __forceinline__ u32 thin_negatives(const Work& work, u64 slot, float rate, int first,
                                              const int (&rows)[COUNT]) {
    if constexpr ((OPTIONS & NO_RIGHT_CAPS) != 0) return 0;
    if (work.right_caps == nullptr) return 0;
    u32 with_cap = 0, left_out = 0;
#pragma unroll
    for (int n = 0; n < COUNT; ++n) {
        if (first + n > 0 && has_cap(work.right_capped, rows[n])) with_cap |= 1u << n;
    }
    if (with_cap == 0) return 0;
#pragma unroll
    for (int n = 0; n < COUNT; n += 4) {
        const Words words =
            slot_block(work.stream, THINNED_SLOT + slot, static_cast<u32>((first + n) >> 2));
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (n + i >= COUNT || (with_cap >> (n + i) & 1) == 0) continue;
            const float cap = __ldg(work.right_caps + rows[n + i]);
            if (is_left_out(words.word[i], rate, cap)) left_out |= 1u << (n + i);
        }
    }
    return left_out;
}

// Bits of the left row and of the positive of a pair among those of rows that are left out.
constexpr u32 LEFT_ROW = 1u << 31, POSITIVE_ROW = 1;

// Which of both are. Where the left side is a mean, its rows have draws of their own.
template <int OPTIONS>
__device__ __forceinline__ u32 thin_rows(const Work& work, u64 slot, float rate, int left,
                                         int positive) {
    float left_cap = NO_CAP, cap = NO_CAP;
    if constexpr ((OPTIONS & (NO_LEFT_CAPS | MEAN)) == 0) {
        left_cap = find_cap(work.left_caps, work.left_capped, left);
    }
    if constexpr ((OPTIONS & NO_RIGHT_CAPS) == 0) {
        cap = find_cap(work.right_caps, work.right_capped, positive);
    }
    if (fabsf(rate) <= fminf(left_cap, cap)) return 0;
    const Words words = slot_block(work.stream, THINNED_PAIR_SLOT + slot, 0);
    return (is_left_out(words.word[0], rate, left_cap) ? LEFT_ROW : 0) |
           (is_left_out(words.word[1], rate, cap) ? POSITIVE_ROW : 0);
}

// Whether the update of a row of a mean is left out, by its draw.
__device__ __forceinline__ bool is_row_left_out(const Work& work, const float* caps,
                                                const u32* capped, int row, float rate, u64 slot,
                                                u32 draw) {
    const float cap = find_cap(caps, capped, row);
    if (fabsf(rate) <= cap) return false;
    return is_left_out(slot_word(work.stream, THINNED_PAIR_SLOT + slot, draw), rate, cap);
}

// A 32-bit word as a row of the noise distribution.
template <int OPTIONS>
__device__ __forceinline__ int draw_noise(const Work& work, u32 word) {
    const u64 product = static_cast<u64>(word) * work.num_right;
    const int row = static_cast<int>(product >> 32);
    if constexpr ((OPTIONS & NOISE) == 0) return row;
    if (static_cast<u32>(product) < __ldg(work.thresholds + row)) return row;
    return __ldg(work.aliases + row);
}

// Negatives first ... first + COUNT - 1 of a slot, where first is a multiple of 4; what
// stands for number 0 is left alone.
template <int OPTIONS, int COUNT>
__device__ __forceinline__ void draw_negatives(const Work& work, u64 slot, int first,
                                               int (&targets)[COUNT]) {
#pragma unroll
    for (int n = 0; n < COUNT; n += 4) {
        const Words words = slot_block(work.stream, slot, static_cast<u32>((first + n) >> 2));
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (n + i < COUNT && first + n + i > 0) {
                targets[n + i] = draw_noise<OPTIONS>(work, words.word[i]);
            }
        }
    }
}

// What a pair does not have as a negative: its positive, and a stretch of right items.
struct Rejects {
    int positive;
    i64 begin, end;
};

template <int OPTIONS>
__device__ __forceinline__ bool is_rejected(const Work& work, const Rejects& rejects,
                                            int negative) {
    if (negative == rejects.positive) return true;
    if constexpr ((OPTIONS & REJECT_ITEMSET) != 0) {
        for (i64 position = rejects.begin; position < rejects.end; ++position) {
            if (__ldg(work.right_items + position) == negative) return true;
        }
    }
    return false;
}

// Draw negatives first ... first + count - 1 of a slot again that it rejects, as
// redraw_negatives of pairs.py does.
template <int OPTIONS, int COUNT>
__device__ __forceinline__ void redraw_negatives(const Work& work, u64 slot,
                                                 const Rejects& rejects, int first, int count,
                                                 int (&targets)[COUNT]) {
    if constexpr ((OPTIONS & REJECT_POSITIVE) == 0) return;
    const int positive = rejects.positive;
    const int num_draw = (work.num_negative + 4) / 4 * 4;
#pragma unroll
    for (int n = 0; n < COUNT; ++n) {
        if (n >= count || first + n == 0) continue;
        u32 word = 0;
        for (int turn = 1;
             turn <= MAX_REDRAW && is_rejected<OPTIONS>(work, rejects, targets[n]); ++turn) {
            const int draw = first + n + turn * num_draw;
            word = slot_word(work.stream, slot, static_cast<u32>(draw));
            targets[n] = draw_noise<OPTIONS>(work, word);
        }
        if (targets[n] == positive && work.num_right > 1) {
            const int other = static_cast<int>(below(word, work.num_right - 1));
            targets[n] = other + (other >= positive);
        }
    }
}

// Whether an occurrence of an item is kept in this epoch.
template <int OPTIONS>
__device__ __forceinline__ bool is_kept(const Work& work, const u32* keep, u64 slot, int item) {
    if constexpr ((OPTIONS & SUBSAMPLE) == 0) return true;
    const u32 threshold = __ldg(keep + item);
    return threshold == ALWAYS || slot_block(work.stream, slot, 0).word[0] < threshold;
}

// Weight of a left item in the mean of its itemset, before it is divided by their sum; 0
// where it is not kept, or is to be left out.
template <int OPTIONS>
__device__ __forceinline__ float left_weight(const Work& work, i64 position, int item, i64 skip) {
    if (position == skip) return 0.0f;
    const u64 slot = KEEP_SLOT + static_cast<u64>(position);
    if (!is_kept<OPTIONS>(work, work.left_keep, slot, item)) return 0.0f;
    return work.left_weights == nullptr ? 1.0f : __ldg(work.left_weights + position);
}

// A pair: its rows, and how to weigh it. Targets are the right item, then negatives.
template <int TARGETS>
struct Pair {
    u64 slot;
    float rate;
    float weight;
    int left;  // or DROPPED
    int targets[TARGETS];
    u32 left_out;  // bits of rows that are not updated: of targets by number, and LEFT_ROW
    // With REJECT_ITEMSET: the right items of the itemset.
    i64 right_begin, right_end;
    // Where the left side is a mean: its items, and the sum of the sizes of their weights.
    i64 bag, bag_skip;
    int bag_length;
    float bag_weight;
    i64 own;  // with OWN_ROW: the itemset's own row, which is in the mean with a weight of 1
    // With GLOVE: logarithm of the count of the cell.
    float log_count;

    __device__ __forceinline__ Rejects rejects() const {
        return {targets[0], right_begin, right_end};
    }
};

// The left items of a place, without the one to skip; their shares are their weights
// divided by the sum of the weights' sizes.
template <int OPTIONS, int TARGETS>
__device__ __forceinline__ void find_bag(const Work& work, const Place& place, i64 skip,
                                         Pair<TARGETS>& pair) {
    pair.bag = place.left;
    pair.bag_length = static_cast<int>(place.left_end - place.left);
    pair.bag_skip = skip;
    pair.bag_weight = (OPTIONS & OWN_ROW) != 0 ? 1.0f : 0.0f;
    for (int i = 0; i < pair.bag_length; ++i) {
        const int item = __ldg(work.left_items + pair.bag + i);
        pair.bag_weight += fabsf(left_weight<OPTIONS>(work, pair.bag + i, item, pair.bag_skip));
    }
    pair.left = pair.bag_weight == 0.0f ? DROPPED : 0;
    if (pair.left == DROPPED) pair.bag_length = 0;
}

template <int OPTIONS, class Source, int TARGETS>
__device__ __forceinline__ Pair<TARGETS> find_pair(const Work& work, i64 position) {
    Pair<TARGETS> pair = {};
    const i64 slot = static_cast<i64>(slot_at(work.order, static_cast<u64>(position)));
    pair.slot = static_cast<u64>(slot) + work.first_slot;
    const Words words = slot_block(work.stream, pair.slot, 0);
    const Place place = Source::template find<OPTIONS>(work, slot, words.word[0]);
    pair.rate = rate_at(work, position);
    pair.weight = 1.0f;
    if constexpr ((OPTIONS & MEAN) != 0) {
        find_bag<OPTIONS>(work, place, Source::SKIPS ? place.right : -1, pair);
        if constexpr ((OPTIONS & OWN_ROW) != 0) {
            pair.own = work.first_itemset + find_itemset(work, slot);
        }
    } else {
        pair.left = __ldg(work.left_items + place.left);
        if (work.left_weights != nullptr) pair.weight *= __ldg(work.left_weights + place.left);
        const u64 left_slot = KEEP_SLOT + static_cast<u64>(place.left);
        if (!is_kept<OPTIONS>(work, work.left_keep, left_slot, pair.left)) pair.left = DROPPED;
    }
    if constexpr ((OPTIONS & GLOVE) != 0) {
        pair.log_count = __ldg(work.right_weights + place.right);
    } else {
        if (work.right_weights != nullptr) pair.weight *= __ldg(work.right_weights + place.right);
    }
    draw_negatives<OPTIONS>(work, pair.slot, 0, pair.targets);
    pair.targets[0] = __ldg(work.right_items + place.right);
    if constexpr ((OPTIONS & REJECT_ITEMSET) != 0) {
        pair.right_begin = place.begin;
        pair.right_end = place.end;
    }
    redraw_negatives<OPTIONS>(work, pair.slot, pair.rejects(), 0, TARGETS, pair.targets);
    pair.left_out = thin_negatives<OPTIONS>(work, pair.slot, pair.rate, 0, pair.targets);
    if constexpr ((OPTIONS & ADAGRAD) == 0) {
        if (pair.left != DROPPED) {
            pair.left_out |= thin_rows<OPTIONS>(work, pair.slot, pair.rate, pair.left,
                                                pair.targets[0]);
        }
    }
    const u64 right_slot = Source::KEEP + static_cast<u64>(place.right);
    if (!is_kept<OPTIONS>(work, work.right_keep, right_slot, pair.targets[0])) {
        pair.left = DROPPED;
    }
    return pair;
}

}  // namespace itembed
