// Kernel of an unsupervised task: each item with one random other item of its itemset or,
// with MEAN, with the mean of all the others.

namespace itembed {

template <int THREADS, int CHUNKS, int WIDTH, bool FULL, int UPDATE, int NEGATIVES, bool SHARED,
          int OPTIONS>
__global__ void __launch_bounds__(128, min_blocks(CHUNKS * WIDTH, NEGATIVES, SHARED, OPTIONS))
    unsupervised(const Work work) {
    using Source = typename SourceOf<(OPTIONS & MEAN) != 0, Unsupervised, true>::Type;
    train<THREADS, CHUNKS, WIDTH, FULL, UPDATE, NEGATIVES, SHARED, OPTIONS, Source>(work);
}

}  // namespace itembed
