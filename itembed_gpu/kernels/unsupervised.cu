// Kernel of an unsupervised task: each item with one random other item of its itemset.

namespace itembed {

template <int THREADS, int CHUNKS, int WIDTH, int UPDATE, int NEGATIVES, bool SHARED>
__global__ void __launch_bounds__(128) unsupervised(const Work work) {
    train<THREADS, CHUNKS, WIDTH, UPDATE, NEGATIVES, SHARED, Unsupervised>(work);
}

}  // namespace itembed
