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

// A number of 128 bits.
struct Wide {
    u64 high, low;
};

__device__ __forceinline__ Wide operator+(Wide a, Wide b) {
    const u64 low = a.low + b.low;
    return {a.high + b.high + (low < a.low), low};
}

__device__ __forceinline__ Wide operator*(Wide a, Wide b) {
    return {__umul64hi(a.low, b.low) + a.high * b.low + a.low * b.high, a.low * b.low};
}

// Steps of a generator whose state x becomes times * x + plus.
struct Steps {
    Wide times, plus;
};

// So many of them as one (Brown, "Random number generation with arbitrary strides", 1994).
__device__ __forceinline__ Steps repeated(Steps step, u64 count) {
    Steps all = {{0, 1}, {0, 0}};
    for (; count > 0; count >>= 1) {
        if (count & 1) all = {all.times * step.times, all.plus * step.times + step.plus};
        step = {step.times * step.times, step.plus * step.times + step.plus};
    }
    return all;
}

// Fill a table with values of -0.5 / dim ... 0.5 / dim: those that NumPy's generator draws as
// float32, row by row, from a state of PCG64 (O'Neill, "PCG: a family of simple fast
// space-efficient statistically good algorithms for random number generation", 2014; XSL-RR 128/64).
// A step of it gives two values.
__global__ void fill_uniform(float* table, i64 stride, i64 num_row, int dim, u64 state_high,
                             u64 state_low, u64 increment_high, u64 increment_low) {
    Wide state = {state_high, state_low};
    const Steps step = {{PCG64_HIGH, PCG64_LOW}, {increment_high, increment_low}};
    const u64 count = num_row * dim, num_thread = static_cast<u64>(gridDim.x) * blockDim.x;
    const u64 first = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
    const Steps begin = repeated(step, first + 1), stride_steps = repeated(step, num_thread);
    state = state * begin.times + begin.plus;
    for (u64 i = 2 * first; i < count; i += 2 * num_thread) {
        const u64 mixed = state.high ^ state.low, turn = state.high >> 58;
        const u64 word = mixed >> turn | mixed << (-turn & 63);
        for (int half = 0; half < 2 && i + half < count; ++half) {
            const u32 bits = static_cast<u32>(word >> 32 * half) >> 8;
            const float value = static_cast<float>(bits) * (1.0f / (1 << 24)) - 0.5f;
            table[(i + half) / dim * stride + (i + half) % dim] = value / static_cast<float>(dim);
        }
        state = state * stride_steps.times + stride_steps.plus;
    }
}

}  // namespace itembed
