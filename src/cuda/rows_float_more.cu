// SPDX-License-Identifier: Apache-2.0
// The CUDA row engine for float logits: a sampled token, the teacher's top-k, sums. A loss of your own needs one such
// line in a .cu file of yours.
#include "kdlib/backend/cuda/rows.cuh"
#include "kdlib/loss/losses.hpp"

KDLIB_NAMESPACE_BEGIN

using ForwardKlAndLabels = Sum<ForwardKl, CrossEntropy>;
using ThreeTerms = Sum<ForwardKl, ReverseKl, CrossEntropy>;

KDLIB_INSTANTIATE_LOSS(PolicyGradient, float);
KDLIB_INSTANTIATE_LOSS(AdaptiveKl, float);
KDLIB_INSTANTIATE_LOSS(TopKForwardKl, float);
KDLIB_INSTANTIATE_LOSS(ForwardKlAndLabels, float);
KDLIB_INSTANTIATE_LOSS(ThreeTerms, float);

KDLIB_NAMESPACE_END
