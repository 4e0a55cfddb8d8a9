// The pairs of an epoch as a list, visit to a block of the catalog by visit: what `_visit` of
// listing.py does.
//
// A warp takes a range of slots, 32 at a time, and has a row of places: where the next of its
// pairs of each visit is to be written. Those of its threads whose pairs are of one visit find
// each other, and write theirs one after the other, so that pairs stay in the order of their
// slots. Launched first without WRITES, which counts the pairs of each range and visit.

namespace itembed {

// Where a row is: in part rank % num_part, whose number rank / num_part it is.
struct Visits {
    const int* left_ranks;
    const int* right_ranks;
    u32 num_part;
    u32 num_sweep;

    // One more than there are: of pairs that are left out.
    __device__ __forceinline__ u32 count() const { return num_sweep * num_part * num_part; }
};

struct Lists {
    int* left;
    int* right;
    float* left_weights;  // null: not asked for
    float* right_weights;
};

template <int OPTIONS>
__device__ __forceinline__ void write_pair(const Lists& lists, u64 place, int left, int right,
                                           const Pair<1>& pair) {
    lists.left[place] = left;
    lists.right[place] = right;
    if constexpr ((OPTIONS & GLOVE) != 0) {
        lists.left_weights[place] = pair.weight;
        lists.right_weights[place] = pair.log_count;
    } else if (lists.right_weights != nullptr) {
        lists.right_weights[place] = pair.weight;
    }
}

// work: positions of its order are slots. start ... stop - 1: slots, of which each warp has
// `range`, a multiple of 32. places: of each visit, and at last of what is left out, one a warp.
template <class Source, int OPTIONS, bool WRITES>
__global__ void __launch_bounds__(128)
    list_pairs(const Work work, const Visits visits, const Lists lists, i64 start, i64 stop,
               i64 range, i64 num_range, u64* places) {
    const i64 thread = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
    const i64 warp_number = thread / 32;
    const u32 lane = threadIdx.x % 32;
    if (warp_number >= num_range) return;
    const i64 first = start + warp_number * range;
    const i64 end = first + range < stop ? first + range : stop;
    for (i64 next = first; next < end; next += 32) {
        const i64 slot = next + lane;
        Pair<1> pair = {};
        int left = 0, right = 0;
        u32 visit = visits.count() + 1;  // nobody's
        if (slot < end) {
            pair = find_pair<OPTIONS, Source, 1>(work, slot);
            visit = visits.count();
        }
        if (slot < end && pair.left != DROPPED) {
            // Draw number 1, which is no negative here, says in which sweep it is.
            const u32 word = slot_block(work.stream, static_cast<u64>(slot), 0).word[1];
            const u32 left_rank = __ldg(visits.left_ranks + pair.left);
            const u32 right_rank = __ldg(visits.right_ranks + pair.targets[0]);
            const u32 num_part = visits.num_part;
            left = static_cast<int>(left_rank / num_part);
            right = static_cast<int>(right_rank / num_part);
            visit = (below(word, visits.num_sweep) * num_part + left_rank % num_part) * num_part +
                    right_rank % num_part;
        }
        const u32 alike = __match_any_sync(WHOLE_WARP, visit);
        const int leader = __ffs(static_cast<int>(alike)) - 1;
        u64 place = 0;
        if (static_cast<int>(lane) == leader && visit <= visits.count()) {
            // Nobody else's, but another thread's of this warp a moment ago.
            place = atomicAdd(places + visit * num_range + warp_number,
                              static_cast<u64>(__popc(alike)));
        }
        if constexpr (WRITES) {
            place = __shfl_sync(WHOLE_WARP, place, leader, 32);
            place += __popc(alike & ((1u << lane) - 1));
            if (visit < visits.count()) write_pair<OPTIONS>(lists, place, left, right, pair);
        }
        __syncwarp();
    }
}

}  // namespace itembed
