// The random stream, and the order of an epoch: the twin of rng.py and schedule.py.
//
// A draw is named, not consumed: it depends on (seed, stream, epoch, slot, draw) and
// on nothing else. The generator is Philox4x32-10 (Salmon et al., "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011); the counter and the key are laid out as
//
//     counter = (slot low, slot high, epoch, stream << 16 | block)
//     key     = (seed low, seed high)
//
// and draw d is word d % 4 of block d / 4.

namespace itembed {

struct Words {
    u32 word[4];
};

__device__ __forceinline__ Words philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
    // As if unknown: else the keys of all rounds, 20 registers, are kept from one call to the next.
    asm volatile("" : "+r"(k0), "+r"(k1));
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const u32 high0 = __umulhi(PHILOX_M0, c0), low0 = PHILOX_M0 * c0;
        const u32 high1 = __umulhi(PHILOX_M1, c2), low1 = PHILOX_M1 * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += PHILOX_W0;
        k1 += PHILOX_W1;
    }
    return {{c0, c1, c2, c3}};
}

// Where the draws of an epoch are.
struct Stream {
    u64 seed;
    u32 stream;
    u32 epoch;
};

// Draws 4 * block ... 4 * block + 3 of a slot.
__device__ __forceinline__ Words slot_block(const Stream& stream, u64 slot, u32 block) {
    return philox(static_cast<u32>(slot), static_cast<u32>(slot >> 32), stream.epoch,
                  stream.stream << 16 | block, static_cast<u32>(stream.seed),
                  static_cast<u32>(stream.seed >> 32));
}

// One draw of a slot. Chosen by hand: registers cannot be indexed.
__device__ __forceinline__ u32 slot_word(const Stream& stream, u64 slot, u32 draw) {
    const Words words = slot_block(stream, slot, draw >> 2);
    const u32 even = (draw & 2) != 0 ? words.word[2] : words.word[0];
    const u32 odd = (draw & 2) != 0 ? words.word[3] : words.word[1];
    return (draw & 1) != 0 ? odd : even;
}

// A 32-bit word as one of 0 ... bound - 1, by multiplication (Lemire, 2019).
__device__ __forceinline__ u32 below(u32 word, u32 bound) { return __umulhi(word, bound); }

// The keyed bijection that orders the slots of an epoch (see schedule.epoch_order).
struct Order {
    u64 num_slot, mask, shift;
    u64 a0, c0, a1, c1, a2, c2;
};

// Slot at a position of the order.
__device__ __forceinline__ u64 slot_at(const Order& order, u64 position) {
    u64 x = position;
    do {
        x = (x * order.a0 + order.c0) & order.mask;
        x ^= x >> order.shift;
        x = (x * order.a1 + order.c1) & order.mask;
        x ^= x >> order.shift;
        x = (x * order.a2 + order.c2) & order.mask;
        x ^= x >> order.shift;
    } while (x >= order.num_slot);
    return x;
}

}  // namespace itembed
