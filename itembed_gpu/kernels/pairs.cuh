// Which pairs are trained: from a position of the epoch's order to a slot, to the rows
// of its left and right items and its negatives, and to its learning rate.

namespace itembed {

// Targets that are read before one of them is changed; the same in steps.py.
constexpr int CHUNK = 8;

// A launch. The host writes it as kernels.WORK, field by field.
struct Work {
    Order order;
    Stream stream;
    const int* left_items;
    const i64* left_offsets;
    const float* left_weights;  // null: all 1
    const int* right_items;
    const i64* right_offsets;
    const float* right_weights;
    const i64* slot_offsets;  // first slot of each itemset
    const void* guide;        // itemset of slot b << guide_shift, int or i64
    const float* rates;       // learning rate of batches first_batch, first_batch + 1, ...
    const float* left_caps;   // highest learning rate of each row; null: no limit
    const float* right_caps;
    float* left_syn;
    float* right_syn;
    double* loss;      // receives the sum of the losses of the sampled pairs
    i64 left_stride;   // floats from one row to the next
    i64 right_stride;
    u64 first_slot;    // number of slot 0 in the random stream
    i64 start;         // first position of the order, a multiple of the group
    i64 num_batch;     // batches of an epoch
    i64 first_batch;
    i64 num_group;     // groups of an epoch
    u32 num_right;     // rows that negatives are drawn from
    int dim;
    int num_negative;
    int group_bits;    // a group is 1 << group_bits pairs that share their negatives
    int guide_shift;
    int wide_guide;    // whether the guide is of i64
    int num_pair;      // positions from start on
    u32 loss_mask;     // positions with none of these bits are sampled for the loss
    int num_tile;      // tiles at work, of those that were launched
    int take;          // consecutive positions a tile takes at once, up to its threads
};

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

// Positions in the packed arrays.
struct Place {
    i64 left, right;
};

// Each item, with one random other item of its itemset.
struct Unsupervised {
    static __device__ __forceinline__ Place find(const Work& work, i64 slot, u32 word) {
        const i64 itemset = find_itemset(work, slot);
        const i64 first = __ldg(work.right_offsets + itemset);
        const i64 length = __ldg(work.right_offsets + itemset + 1) - first;
        i64 other = first + below(word, static_cast<u32>(length - 1));
        if (other >= slot) ++other;
        return {slot, other};
    }
};

// Every left item with every right item of the same itemset.
struct Supervised {
    static __device__ __forceinline__ Place find(const Work& work, i64 slot, u32) {
        const i64 itemset = find_itemset(work, slot);
        const i64 first = __ldg(work.right_offsets + itemset);
        const u64 length = __ldg(work.right_offsets + itemset + 1) - first;
        const u64 rank = slot - __ldg(work.slot_offsets + itemset);
        return {__ldg(work.left_offsets + itemset) + static_cast<i64>(rank / length),
                first + static_cast<i64>(rank % length)};
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

// Learning rate of a row: at most its cap, in size.
__device__ __forceinline__ float cap_rate(float rate, const float* caps, int row) {
    if (caps == nullptr) return rate;
    const float cap = __ldg(caps + row);
    return fminf(fmaxf(rate, -cap), cap);
}

// Negatives first ... first + COUNT - 1 of a slot, where first is a multiple of 4; what
// stands for number 0 is left alone.
template <int COUNT>
__device__ __forceinline__ void draw_negatives(const Work& work, u64 slot, int first,
                                               int (&targets)[COUNT]) {
#pragma unroll
    for (int n = 0; n < COUNT; n += 4) {
        const Words words = slot_block(work.stream, slot, static_cast<u32>((first + n) >> 2));
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (n + i < COUNT && first + n + i > 0) {
                targets[n + i] = static_cast<int>(below(words.word[i], work.num_right));
            }
        }
    }
}

// A pair: its rows, and how to weigh it. Targets are the right item, then negatives.
template <int TARGETS>
struct Pair {
    u64 slot;
    float rate;
    float weight;
    int left;
    int targets[TARGETS];
};

template <class Source, int TARGETS>
__device__ __forceinline__ Pair<TARGETS> find_pair(const Work& work, i64 position) {
    Pair<TARGETS> pair;
    const i64 slot = static_cast<i64>(slot_at(work.order, static_cast<u64>(position)));
    pair.slot = static_cast<u64>(slot) + work.first_slot;
    const Words words = slot_block(work.stream, pair.slot, 0);
    const Place place = Source::find(work, slot, words.word[0]);
    pair.left = __ldg(work.left_items + place.left);
    pair.rate = rate_at(work, position);
    pair.weight = 1.0f;
    if (work.left_weights != nullptr) pair.weight *= __ldg(work.left_weights + place.left);
    if (work.right_weights != nullptr) pair.weight *= __ldg(work.right_weights + place.right);
    draw_negatives(work, pair.slot, 0, pair.targets);
    pair.targets[0] = __ldg(work.right_items + place.right);
    return pair;
}

}  // namespace itembed
