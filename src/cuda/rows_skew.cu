// SPDX-License-Identifier: Apache-2.0
// The CUDA row engine for skew divergences, bf16 logits. A loss of your own needs one such line in a .cu file of yours.
#include "kdlib/backend/cuda/rows.cuh"
#include "kdlib/loss/losses.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_INSTANTIATE_LOSS(SkewForwardKl, bf16);
KDLIB_INSTANTIATE_LOSS(SkewReverseKl, bf16);
KDLIB_INSTANTIATE_LOSS(AdaptiveKl, bf16);

KDLIB_NAMESPACE_END
