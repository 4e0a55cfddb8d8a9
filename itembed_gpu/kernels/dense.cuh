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

// A float32 as bf16, rounded to the nearest, and back.
__device__ __forceinline__ u32 narrowed(float value) {
    const u32 bits = __float_as_uint(value);
    // Rounding might make something else of what is no number.
    return value != value ? 0x7FC0u : (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
}
__device__ __forceinline__ float widened(u32 half) { return __uint_as_float(half << 16); }

using Half = unsigned short;

template <int WIDTH>
__device__ __forceinline__ void write(Half* to, const Piece<WIDTH>& piece) {
    if constexpr (WIDTH == 4) {
        *reinterpret_cast<uint2*>(to) = make_uint2(narrowed(piece.x[0]) | narrowed(piece.x[1]) << 16,
                                                   narrowed(piece.x[2]) | narrowed(piece.x[3]) << 16);
    } else {
        *to = static_cast<Half>(narrowed(piece.x[0]));
    }
}

template <int WIDTH>
__device__ __forceinline__ Piece<WIDTH> read(const Half* from) {
    Piece<WIDTH> piece;
    if constexpr (WIDTH == 4) {
        const uint2 four = *reinterpret_cast<const uint2*>(from);
        piece.x[0] = widened(four.x & 0xFFFFu);
        piece.x[1] = widened(four.x >> 16);
        piece.x[2] = widened(four.y & 0xFFFFu);
        piece.x[3] = widened(four.y >> 16);
    } else {
        piece.x[0] = widened(*from);
    }
    return piece;
}

// Rows as bf16, which tensor cores multiply.
template <int WIDTH>
__global__ void narrow(const float* __restrict__ rows, i64 stride, Half* __restrict__ out,
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
// by more than SPREAD. OUT is what is written, float or Half, at the beginning of each row: where
// what has been read was. With WIDTH 4, rows have room for a multiple of 4 columns.
template <class OUT, int WIDTH>
__global__ void exponentials(float* logits, i64 stride, i64 num_query, int num_column,
                             float* __restrict__ largest, float* __restrict__ total) {
    constexpr int STEP = WARP_SIZE * WIDTH, PIECES = 16 / WIDTH;
    const i64 query = warp_number();
    if (query >= num_query) return;
    const float* const row = logits + query * stride + lane_number() * WIDTH;
    OUT* const out = reinterpret_cast<OUT*>(logits + query * stride) + lane_number() * WIDTH;
    const float before = largest[query], total_before = total[query];
    const int end = num_column - lane_number() * WIDTH;
    // Where all is left out so far, any number will do.
    float base = fmaxf(before, -1e30f), added = 0.0f;
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
        // Behind this, all threads of the warp have read, and one may write where others have.
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
        total[query] = total_before * __expf(before - base) + added;
        largest[query] = base;
    }
}

// Logarithm of a sum with one more term.
__device__ __forceinline__ float joined(float log_sum, float logit) {
    const float most = fmaxf(log_sum, logit);
    return most + logf(expf(log_sum - most) + expf(logit - most));
}

// Each query's loss, and its derivatives by the logarithm of its sum and by its targets' logits.
// MASKS: what the sum lacks of the targets (NOTHING, OWN, ITEMSET).
template <int MASKS>
__global__ void weigh(const i64* __restrict__ offsets, const float* __restrict__ weights,
                      const float* __restrict__ log_sums, const float* __restrict__ logits,
                      float* __restrict__ losses, float* __restrict__ shares,
                      float* __restrict__ slopes, i64 num_query, float scale) {
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
    float loss = 0.0f, share = 0.0f;
    for (i64 n = first; n < stop; n += WARP_SIZE) {
        const float weight = weights[n], logit = logits[n];
        const float whole = MASKS == ITEMSET ? joined(joint, logit) : joint;
        loss += weight * (scale * whole - logit);
        share += scale * weight * expf(log_sum - whole);
        float slope = -weight;
        if constexpr (MASKS == OWN) slope += scale * total * expf(logit - whole);
        if constexpr (MASKS == ITEMSET) slope += scale * weight * expf(logit - whole);
        slopes[n] = slope;
    }
    loss = warp_sum(loss);
    share = warp_sum(share);
    if (lane_number() == 0) {
        losses[query] = loss;
        shares[query] = share;
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
