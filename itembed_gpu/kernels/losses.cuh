// Losses: what the logits of a pair's targets are worth, and where they should go.
//
// The twin of losses.py. A loss is two functions of (logit, label, settings): its value, and
// minus its derivative by the logit. Every loop over targets calls them. The label is 1 of
// the positive, and 0 of negatives; settings are those fields of the work that are options.

namespace itembed {

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

// -log(sigmoid(x)), without overflow.
__device__ __forceinline__ float log_loss(float x) {
    return log1pf(__expf(-fabsf(x))) + fmaxf(-x, 0.0f);
}

// What the loss of a target is multiplied by.
template <int OPTIONS>
__device__ __forceinline__ float target_weight(float label, const Work& settings) {
    if constexpr ((OPTIONS & POSITIVE_WEIGHT) != 0) {
        if (label == 1.0f) return settings.positive_weight;
    }
    return 1.0f;
}

template <int OPTIONS>
__device__ __forceinline__ float loss(float logit, float label, const Work& settings) {
    return target_weight<OPTIONS>(label, settings) * log_loss(label == 1.0f ? logit : -logit);
}

template <int OPTIONS>
__device__ __forceinline__ float gradient(float logit, float label, const Work& settings) {
    return target_weight<OPTIONS>(label, settings) * (label - sigmoid(logit));
}

// The logit of a target: the dot product, less the correction of its row if any.
template <int OPTIONS>
__device__ __forceinline__ float corrected(float dot, int row, const Work& work) {
    if constexpr ((OPTIONS & NCE) != 0) dot -= __ldg(work.corrections + row);
    return dot;
}

}  // namespace itembed
