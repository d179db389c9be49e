// SPDX-License-Identifier: Apache-2.0
// The CUDA row engine for losses of labels and of sampled tokens, bf16 logits. A loss of your own needs one such line
// in a .cu file of yours.
#include "kdlib/backend/cuda/rows.cuh"
#include "kdlib/loss/losses.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_INSTANTIATE_LOSS(CrossEntropy, bf16);
KDLIB_INSTANTIATE_LOSS(PolicyGradient, bf16);
KDLIB_INSTANTIATE_LOSS(BaselinePolicyGradient, bf16);
KDLIB_INSTANTIATE_LOSS(SampledKl<KlEstimator::k2>, bf16);
KDLIB_INSTANTIATE_LOSS(SampledKl<KlEstimator::k3>, bf16);

KDLIB_NAMESPACE_END
