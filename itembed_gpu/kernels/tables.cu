// What is done to whole tables.

namespace itembed {

// Set *found where a number is not less than a bound, or is no number.
__global__ void find_beyond(const float* table, long long stride, long long num_row, int dim,
                            float bound, int* found) {
    const long long step = static_cast<long long>(gridDim.x) * blockDim.x;
    const long long count = num_row * dim;
    bool any = false;
    for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
         i += step) {
        any |= !(fabsf(__ldcg(table + i / dim * stride + i % dim)) < bound);
    }
    if (any) *found = 1;
}

}  // namespace itembed
