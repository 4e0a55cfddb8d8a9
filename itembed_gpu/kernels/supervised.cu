// Kernel of a supervised task: every left item with every right item of an itemset.
// Pairs are spread over the tiles one by one, so that a long itemset is no longer than
// as many short ones.

namespace itembed {

template <int THREADS, int CHUNKS, int WIDTH, bool FULL, int UPDATE, int NEGATIVES, bool SHARED>
__global__ void __launch_bounds__(128, min_blocks(CHUNKS * WIDTH, NEGATIVES, SHARED))
    supervised(const Work work) {
    train<THREADS, CHUNKS, WIDTH, FULL, UPDATE, NEGATIVES, SHARED, Supervised>(work);
}

}  // namespace itembed
