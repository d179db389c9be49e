// SPDX-License-Identifier: Apache-2.0
// The CUDA row engine for float logits. A loss of your own needs one such line in a .cu file of yours.
#include "kdlib/backend/cuda/rows.cuh"
#include "kdlib/loss/losses.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_INSTANTIATE_LOSS(CrossEntropy, float);
KDLIB_INSTANTIATE_LOSS(ForwardKl, float);
KDLIB_INSTANTIATE_LOSS(ReverseKl, float);
KDLIB_INSTANTIATE_LOSS(JensenShannon, float);

KDLIB_NAMESPACE_END
