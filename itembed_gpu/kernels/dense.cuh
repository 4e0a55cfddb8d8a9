// Objectives that see all items: what is done to rows and to logits beside products of matrices.
//
// The twin of backends/cpu/dense.py. A row of a result is one warp's, so that nothing is added
// up by atomics, and the result is the same each time. WIDTH: floats that are read at once, 4
// where all rows are aligned to 16 bytes and have a multiple of 4 columns, or 1.

namespace itembed {

constexpr int WARP_SIZE = 32;

// Number of this warp among all of the launch, and of this thread in it.
__device__ __forceinline__ i64 warp_number() {
    return (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) / WARP_SIZE;
}
__device__ __forceinline__ int lane_number() { return threadIdx.x % WARP_SIZE; }

__device__ __forceinline__ float warp_sum(float part) {
#pragma unroll
    for (int offset = WARP_SIZE / 2; offset > 0; offset /= 2) {
        part += __shfl_xor_sync(WHOLE_WARP, part, offset);
    }
    return part;
}

__device__ __forceinline__ float warp_largest(float part) {
#pragma unroll
    for (int offset = WARP_SIZE / 2; offset > 0; offset /= 2) {
        part = fmaxf(part, __shfl_xor_sync(WHOLE_WARP, part, offset));
    }
    return part;
}

// Consecutive floats of a row.
template <int WIDTH>
struct Piece {
    float x[WIDTH];
};

template <int WIDTH>
__device__ __forceinline__ Piece<WIDTH> read(const float* from) {
    Piece<WIDTH> piece;
    if constexpr (WIDTH == 4) {
        const float4 four = *reinterpret_cast<const float4*>(from);
        piece.x[0] = four.x;
        piece.x[1] = four.y;
        piece.x[2] = four.z;
        piece.x[3] = four.w;
    } else {
        piece.x[0] = *from;
    }
    return piece;
}

template <int WIDTH>
__device__ __forceinline__ void write(float* to, const Piece<WIDTH>& piece) {
    if constexpr (WIDTH == 4) {
        *reinterpret_cast<float4*>(to) =
            make_float4(piece.x[0], piece.x[1], piece.x[2], piece.x[3]);
    } else {
        *to = piece.x[0];
    }
}

// Weighted sums of rows: sum n is of entries offsets[n] ... offsets[n + 1] - 1.
template <int WIDTH>
__global__ void pool(const i64* __restrict__ offsets, const int* __restrict__ indices,
                     const float* __restrict__ weights, const float* __restrict__ rows, i64 stride,
                     float* out, i64 out_stride, i64 num_sum, int dim, int add) {
    const i64 n = warp_number();
    if (n >= num_sum) return;
    const i64 start = offsets[n], stop = offsets[n + 1];
    for (int column = lane_number() * WIDTH; column < dim; column += WARP_SIZE * WIDTH) {
        float* const to = out + n * out_stride + column;
        Piece<WIDTH> sum = {};
        if (add) sum = read<WIDTH>(to);
#pragma unroll 8
        for (i64 entry = start; entry < stop; ++entry) {
            const float weight = weights[entry];
            const Piece<WIDTH> piece = read<WIDTH>(rows + indices[entry] * stride + column);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) sum.x[i] += weight * piece.x[i];
        }
        write<WIDTH>(to, sum);
    }
}

// Dot products of row a_rows[n] of the one and row b_rows[n] of the other; null: of row n.
template <int WIDTH>
__global__ void dots(const float* __restrict__ a, i64 a_stride, const int* __restrict__ a_rows,
                     const float* __restrict__ b, i64 b_stride, const int* __restrict__ b_rows,
                     float* __restrict__ out, i64 num_dot, int dim) {
    const i64 n = warp_number();
    if (n >= num_dot) return;
    const float* const left = a + (a_rows ? a_rows[n] : n) * a_stride;
    const float* const right = b + (b_rows ? b_rows[n] : n) * b_stride;
    float sum = 0.0f;
    for (int column = lane_number() * WIDTH; column < dim; column += WARP_SIZE * WIDTH) {
        const Piece<WIDTH> x = read<WIDTH>(left + column), y = read<WIDTH>(right + column);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) sum += x.x[i] * y.x[i];
    }
    sum = warp_sum(sum);
    if (lane_number() == 0) out[n] = sum;
}

// Numbers of 16 bits, which tensor cores multiply: of float16 and of bf16, rounded to the nearest.
struct Float16 {
    unsigned short bits;
};
struct BFloat16 {
    unsigned short bits;
};
// What the exponents of float32 and float16 are apart.
constexpr float FLOAT16_SCALE = 5.192296858534828e33f;  // 2**112

__device__ __forceinline__ float widened(Float16 number) {
    const u32 size = number.bits & 0x7FFFu, sign = number.bits & 0x8000u;
    const float value = size < 0x7C00u ? __uint_as_float(size << 13) * FLOAT16_SCALE
                                       : __uint_as_float(size << 13 | 0x7F800000u);
    return sign ? -value : value;
}
__device__ __forceinline__ float widened(BFloat16 number) {
    return __uint_as_float(static_cast<u32>(number.bits) << 16);
}

template <class NUMBER>
__device__ __forceinline__ NUMBER narrowed(float value);
template <>
__device__ __forceinline__ Float16 narrowed<Float16>(float value) {
    const u32 bits = __float_as_uint(fabsf(value) / FLOAT16_SCALE);
    u32 size = (bits + 0xFFFu + (bits >> 13 & 1u)) >> 13;
    if (size > 0x7C00u) size = 0x7C00u;
    if (value != value) size = 0x7E00u;
    return {static_cast<unsigned short>(size | (value < 0.0f ? 0x8000u : 0u))};
}
template <>
__device__ __forceinline__ BFloat16 narrowed<BFloat16>(float value) {
    const u32 bits = __float_as_uint(value);
    // Rounding might make something else of what is no number.
    const u32 upper = value != value ? 0x7FC0u : (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    return {static_cast<unsigned short>(upper)};
}

template <class NUMBER>
struct alignas(4 * sizeof(NUMBER)) Four {
    NUMBER x[4];
};

template <int WIDTH, class NUMBER>
__device__ __forceinline__ Piece<WIDTH> read(const NUMBER* from) {
    static_assert(WIDTH == 4, "there is always room for that");
    const Four<NUMBER> four = *reinterpret_cast<const Four<NUMBER>*>(from);
    Piece<WIDTH> piece;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) piece.x[i] = widened(four.x[i]);
    return piece;
}

template <int WIDTH, class NUMBER>
__device__ __forceinline__ void write(NUMBER* to, const Piece<WIDTH>& piece) {
    if constexpr (WIDTH == 4) {
        Four<NUMBER> four;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) four.x[i] = narrowed<NUMBER>(piece.x[i]);
        *reinterpret_cast<Four<NUMBER>*>(to) = four;
    } else {
        *to = narrowed<NUMBER>(piece.x[0]);
    }
}

// Rows as numbers of 16 bits.
template <class NUMBER, int WIDTH>
__global__ void narrow(const float* __restrict__ rows, i64 stride, NUMBER* __restrict__ out,
                       i64 out_stride, i64 num_row, int dim) {
    const i64 n = warp_number();
    if (n >= num_row) return;
    for (int column = lane_number() * WIDTH; column < dim; column += WARP_SIZE * WIDTH) {
        write<WIDTH>(out + n * out_stride + column, read<WIDTH>(rows + n * stride + column));
    }
}

// Exponentials are of differences up to this, which float32 and bf16 have room for.
constexpr float SPREAD = 60.0f;

// Take a tile of logits into each query's sum, total * exp(largest); they become exponentials.
// They are read once, and so `largest` is not quite that: it is raised where a logit is above it
// by more than SPREAD. IN is what is read, and OUT what is written in its place: float and float,
// or Float16 and BFloat16, whose exponents have room for exponentials. With WIDTH 4, rows have
// room for a multiple of 4 columns.
template <class IN, class OUT, int WIDTH>
__global__ void exponentials(IN* logits, i64 stride, i64 num_query, int num_column,
                             float* __restrict__ largest, float* __restrict__ total) {
    static_assert(sizeof(IN) == sizeof(OUT), "they would not fit");
    constexpr int STEP = WARP_SIZE * WIDTH, PIECES = 16 / WIDTH;
    const i64 query = warp_number();
    if (query >= num_query) return;
    const IN* const row = logits + query * stride + lane_number() * WIDTH;
    OUT* const out = reinterpret_cast<OUT*>(logits) + query * stride + lane_number() * WIDTH;
    const float before = largest[query], total_before = total[query];
    const int end = num_column - lane_number() * WIDTH;
    // Where all is left out so far, any number will do.
    // Of a sum of nothing, `largest` says nothing: the largest exponentials are best near 1.
    float base = total_before > 0.0f ? fmaxf(before, -1e30f) : -1e30f, added = 0.0f;
    for (int start = 0; start < num_column; start += PIECES * STEP) {
        Piece<WIDTH> pieces[PIECES];
        float most = base;
#pragma unroll
        for (int p = 0; p < PIECES; ++p) {
            const int column = start + p * STEP;
            if (column < end) pieces[p] = read<WIDTH>(row + column);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                if (column + i >= end) pieces[p].x[i] = -1e38f;
                most = fmaxf(most, pieces[p].x[i]);
            }
        }
        most = warp_largest(most);
        if (start == 0) {
            base = most;
        } else if (most > base + SPREAD) {
            const float less = __expf(base - most);
            for (int column = 0; column < start; column += STEP) {
                Piece<WIDTH> piece = read<WIDTH>(out + column);
#pragma unroll
                for (int i = 0; i < WIDTH; ++i) piece.x[i] *= less;
                write<WIDTH>(out + column, piece);
            }
            added *= less;
            base = most;
        }
#pragma unroll
        for (int p = 0; p < PIECES; ++p) {
            const int column = start + p * STEP;
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                pieces[p].x[i] = __expf(pieces[p].x[i] - base);
                if (column + i < end) added += pieces[p].x[i];
            }
            if (column < end) write<WIDTH>(out + column, pieces[p]);
        }
    }
    added = warp_sum(added);
    if (lane_number() == 0) {
        total[query] = (total_before > 0.0f ? total_before * __expf(before - base) : 0.0f) + added;
        largest[query] = base;
    }
}

// Logarithm of a sum with one more term.
__device__ __forceinline__ float joined(float log_sum, float logit) {
    const float most = fmaxf(log_sum, logit);
    return most + logf(expf(log_sum - most) + expf(logit - most));
}

// Each query's loss, and its derivatives by the logarithm of its sum and by its targets' logits.
// MASKS: what the sum lacks of the targets (NOTHING, OWN, ITEMSET). Penalties are factors on the
// square of the logarithm of the whole sum; null: all are 0.
template <int MASKS>
__global__ void weigh(const i64* __restrict__ offsets, const float* __restrict__ weights,
                      const float* __restrict__ penalties, const float* __restrict__ log_sums,
                      const float* __restrict__ logits, float* __restrict__ losses,
                      float* __restrict__ shares, float* __restrict__ slopes, i64 num_query,
                      float scale) {
    const i64 query = warp_number();
    if (query >= num_query) return;
    const i64 first = offsets[query] + lane_number(), stop = offsets[query + 1];
    const float log_sum = log_sums[query];
    float joint = log_sum, total = 0.0f;
    if constexpr (MASKS == OWN) {
        // The sum of the query, and all of its targets.
        for (i64 n = first; n < stop; n += WARP_SIZE) joint = fmaxf(joint, logits[n]);
        joint = warp_largest(joint);
        float sum = 0.0f;
        for (i64 n = first; n < stop; n += WARP_SIZE) {
            sum += expf(logits[n] - joint);
            total += weights[n];
        }
        total = warp_sum(total);
        joint += logf(warp_sum(sum) + expf(log_sum - joint));
    }
    // Of the penalty, its value and its derivative by the logarithm of the whole sum.
    const float penalty = penalties ? penalties[query] : 0.0f;
    const float fine = penalty > 0.0f ? penalty * joint * joint : 0.0f;
    const float pull = penalty > 0.0f ? 2.0f * penalty * joint : 0.0f;
    float loss = 0.0f, share = 0.0f;
    for (i64 n = first; n < stop; n += WARP_SIZE) {
        const float weight = weights[n], logit = logits[n];
        const float whole = MASKS == ITEMSET ? joined(joint, logit) : joint;
        loss += weight * (scale * whole - logit);
        share += scale * weight * expf(log_sum - whole);
        float slope = -weight;
        if constexpr (MASKS == OWN) slope += (scale * total + pull) * expf(logit - whole);
        if constexpr (MASKS == ITEMSET) slope += scale * weight * expf(logit - whole);
        slopes[n] = slope;
    }
    loss = warp_sum(loss);
    share = warp_sum(share);
    if (lane_number() == 0) {
        losses[query] = loss + fine;
        shares[query] = share + (pull != 0.0f ? pull * expf(log_sum - joint) : 0.0f);
    }
}

// Change row rows[n] of a table by gradient n; null: row first + n. `state` has a number for each
// row: what Adagrad adds up, or the steps of Adam.
template <int OPTIMIZER, int WIDTH>
__global__ void update(float* __restrict__ table, i64 stride, float* __restrict__ state,
                       float* __restrict__ moment, i64 moment_stride,
                       float* __restrict__ variance, i64 variance_stride,
                       const int* __restrict__ rows, i64 first, const float* __restrict__ gradient,
                       i64 gradient_stride, i64 num_row, int dim, float rate, float l2) {
    const i64 n = warp_number();
    if (n >= num_row) return;
    const i64 row = rows ? rows[n] : first + n;
    const float* const change = gradient + n * gradient_stride;
    float factor = rate, unbias = 1.0f, unbias_squares = 1.0f;
    if constexpr (OPTIMIZER == BY_ADAGRAD) {
        const float before = state[row];  // of all threads, before one writes
        float squares = 0.0f;
        for (int column = lane_number() * WIDTH; column < dim; column += WARP_SIZE * WIDTH) {
            const Piece<WIDTH> g = read<WIDTH>(change + column);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) squares += g.x[i] * g.x[i];
        }
        const float sum = before + warp_sum(squares) / dim;
        if (lane_number() == 0) state[row] = sum;
        factor = adaptive_rate(rate, sum);
    }
    if constexpr (OPTIMIZER == BY_ADAM) {
        // All have read it before one writes.
        const float steps = __shfl_sync(WHOLE_WARP, state[row] + 1.0f, 0, WARP_SIZE);
        if (lane_number() == 0) state[row] = steps;
        unbias = 1.0f / (1.0f - powf(ADAM_DECAY, steps));
        unbias_squares = 1.0f / (1.0f - powf(ADAM_DECAY_SQUARES, steps));
    }
    const float kept = 1.0f / (1.0f + fabsf(factor) * l2);
    for (int column = lane_number() * WIDTH; column < dim; column += WARP_SIZE * WIDTH) {
        const Piece<WIDTH> g = read<WIDTH>(change + column);
        Piece<WIDTH> x = read<WIDTH>(table + row * stride + column);
        if constexpr (OPTIMIZER == BY_ADAM) {
            float* const m_row = moment + row * moment_stride + column;
            float* const v_row = variance + row * variance_stride + column;
            Piece<WIDTH> m = read<WIDTH>(m_row), v = read<WIDTH>(v_row);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                m.x[i] = ADAM_DECAY * m.x[i] + (1.0f - ADAM_DECAY) * g.x[i];
                v.x[i] = ADAM_DECAY_SQUARES * v.x[i] + (1.0f - ADAM_DECAY_SQUARES) * g.x[i] * g.x[i];
                const float size = sqrtf(v.x[i] * unbias_squares) + ADAM_EPSILON;
                x.x[i] = (x.x[i] - rate * unbias * m.x[i] / size) * kept;
            }
            write<WIDTH>(m_row, m);
            write<WIDTH>(v_row, v);
        } else {
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) x.x[i] = (x.x[i] - factor * g.x[i]) * kept;
        }
        write<WIDTH>(table + row * stride + column, x);
    }
}

}  // namespace itembed
