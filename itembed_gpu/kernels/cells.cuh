// The training step of GloVe: a tile of threads trains one cell of counts at a time.
//
// For a cell of rows u (left) and v (right) with biases b and c, a weight f and the logarithm of
// a count,
//
//     s = f * (u . v + b + c - log_count)
//     G += h * h;  number -= rate / sqrt(G) * h
//
// with the gradients h: s * v of u, s * u of v, and s of both biases. So it is in cells.py, the
// twin, which says where it comes from. What Adagrad has added up for a number comes back from
// the atomic addition itself: then rows that many tiles train at once hold themselves back.

namespace itembed {

// Take a step with a row, whose gradient is the scaled error times the other row.
template <class T>
__device__ __forceinline__ void step_row(const T& tile, float* row, float* totals,
                                         const typename T::Row& old, const typename T::Row& other,
                                         float scaled, float rate) {
    typename T::Row gradient, total, step;
    T::clear(gradient);
    T::accumulate(gradient, scaled, other);
    tile.add_squares(totals, gradient, total);
    T::clear(step);
    T::accumulate_by_root(step, rate, gradient, total);
    tile.add(row, old, -1.0f, step);
}

// Take a step with a bias.
__device__ __forceinline__ void step_bias(float* bias, float* totals, int row, float gradient,
                                          float rate) {
    const float square = gradient * gradient;
    const float total = atomicAdd(totals + row, square) + square;
    atomicAdd(bias + row, -rate * gradient * rsqrtf(total + EPSILON));
}

// Train one cell, and return its loss before the update.
template <class T>
__device__ __forceinline__ float update_cell(const T& tile, const Work& work, bool active,
                                             const Pair<1>& cell, bool with_loss) {
    const int left = cell.left, right = cell.targets[0];
    float* const left_row = work.left_syn + left * work.left_stride;
    float* const right_row = work.right_syn + right * work.right_stride;
    typename T::Row u, v;
    tile.read(left_row, u);
    tile.read(right_row, v);
    const float biases = __ldcg(work.left_bias + left) + __ldcg(work.right_bias + right);
    const float error = T::sum(T::dot(u, v)) + biases - cell.log_count;
    const float scaled = cell.weight * error;
    if (!active) return 0.0f;
    step_row(tile, left_row, work.left_state + left * work.left_state_stride, u, v, scaled,
             cell.rate);
    step_row(tile, right_row, work.right_state + right * work.right_state_stride, v, u, scaled,
             cell.rate);
    if (tile.lane == 0) {
        step_bias(work.left_bias, work.left_bias_state, left, scaled, cell.rate);
        step_bias(work.right_bias, work.right_bias_state, right, scaled, cell.rate);
    }
    return with_loss ? scaled * error : 0.0f;
}

}  // namespace itembed
