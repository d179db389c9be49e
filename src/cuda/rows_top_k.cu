// SPDX-License-Identifier: Apache-2.0
// The CUDA row engine for losses on the teacher's top-k, bf16 logits. A loss of your own needs one such line in a .cu
// file of yours.
#include "kdlib/backend/cuda/rows.cuh"
#include "kdlib/loss/losses.hpp"

KDLIB_NAMESPACE_BEGIN

using TopKAndLabels = Sum<TopKForwardKl, CrossEntropy>;

KDLIB_INSTANTIATE_LOSS(TopKForwardKl, bf16);
KDLIB_INSTANTIATE_LOSS(TopKReverseKl<TopKMass::tail>, bf16);
KDLIB_INSTANTIATE_LOSS(TopKReverseKl<TopKMass::renormalised>, bf16);
KDLIB_INSTANTIATE_LOSS(TopKAndLabels, bf16);

KDLIB_NAMESPACE_END
