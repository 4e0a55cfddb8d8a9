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
    const float right = label == 1.0f ? logit : -logit;
    const bool hinge = (OPTIONS & HINGE) != 0;
    const float value = hinge ? fmaxf(1.0f - right, 0.0f) : log_loss(right);
    return target_weight<OPTIONS>(label, settings) * value;
}

template <int OPTIONS>
__device__ __forceinline__ float gradient(float logit, float label, const Work& settings) {
    float slope;
    if constexpr ((OPTIONS & HINGE) != 0) {
        const float sign = 2.0f * label - 1.0f;
        slope = sign * logit < 1.0f ? sign : 0.0f;
    } else {
        slope = label - sigmoid(logit);
    }
    return target_weight<OPTIONS>(label, settings) * slope;
}

// The logit of a target: the dot product, less the correction of its row if any.
template <int OPTIONS>
__device__ __forceinline__ float corrected(float dot, int row, const Work& work) {
    if constexpr ((OPTIONS & NCE) != 0) dot -= __ldg(work.corrections + row);
    return dot;
}

}  // namespace itembed
