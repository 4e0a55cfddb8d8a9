// What is done to whole tables.

namespace itembed {

// Set *found where a number is not finite.
__global__ void find_not_finite(const float* table, long long stride, long long num_row, int dim,
                                int* found) {
    const long long step = static_cast<long long>(gridDim.x) * blockDim.x;
    const long long count = num_row * dim;
    bool any = false;
    for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
         i += step) {
        any |= !isfinite(__ldcg(table + i / dim * stride + i % dim));
    }
    if (any) *found = 1;
}

}  // namespace itembed
