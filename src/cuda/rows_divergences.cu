// SPDX-License-Identifier: Apache-2.0
// The CUDA row engine for divergences of the whole distributions, bf16 logits. A loss of your own needs one such line
// in a .cu file of yours.
#include "kdlib/backend/cuda/rows.cuh"
#include "kdlib/loss/losses.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_INSTANTIATE_LOSS(ForwardKl, bf16);
KDLIB_INSTANTIATE_LOSS(ReverseKl, bf16);
KDLIB_INSTANTIATE_LOSS(JensenShannon, bf16);
KDLIB_INSTANTIATE_LOSS(TotalVariation, bf16);

KDLIB_NAMESPACE_END
