// Kernel of a supervised task: every left item with every right item of an itemset.
// Pairs are spread over the tiles one by one, so that a long itemset is no longer than
// as many short ones. With MEAN, every right item with the mean of the left items.

namespace itembed {

template <int THREADS, int CHUNKS, int WIDTH, bool FULL, int UPDATE, int NEGATIVES, bool SHARED,
          int OPTIONS>
__global__ void __launch_bounds__(128, min_blocks(CHUNKS * WIDTH, NEGATIVES, SHARED, OPTIONS))
    supervised(const Work work) {
    using Source = typename SourceOf<(OPTIONS & MEAN) != 0, Supervised, false>::Type;
    train<THREADS, CHUNKS, WIDTH, FULL, UPDATE, NEGATIVES, SHARED, OPTIONS, Source>(work);
}

}  // namespace itembed
