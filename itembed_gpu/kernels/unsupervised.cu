// Kernel of an unsupervised task: each item with one random other item of its itemset.

namespace itembed {

template <int THREADS, int CHUNKS, int WIDTH, bool FULL, int UPDATE, int NEGATIVES, bool SHARED,
          int OPTIONS>
__global__ void __launch_bounds__(128, min_blocks(CHUNKS * WIDTH, NEGATIVES, SHARED, OPTIONS))
    unsupervised(const Work work) {
    train<THREADS, CHUNKS, WIDTH, FULL, UPDATE, NEGATIVES, SHARED, OPTIONS, Unsupervised>(
        work);
}

}  // namespace itembed
