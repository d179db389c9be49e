// SPDX-License-Identifier: Apache-2.0
// The CUDA row engine for terms on the student alone, bf16 logits. A loss of your own needs one such line in a .cu file
// of yours.
#include "kdlib/backend/cuda/rows.cuh"
#include "kdlib/loss/losses.hpp"

KDLIB_NAMESPACE_BEGIN

using LabelSmoothing = Sum<CrossEntropy, UniformCrossEntropy>;

KDLIB_INSTANTIATE_LOSS(NegativeEntropy, bf16);
KDLIB_INSTANTIATE_LOSS(UniformCrossEntropy, bf16);
KDLIB_INSTANTIATE_LOSS(ZLoss, bf16);
KDLIB_INSTANTIATE_LOSS(LabelSmoothing, bf16);

KDLIB_NAMESPACE_END
