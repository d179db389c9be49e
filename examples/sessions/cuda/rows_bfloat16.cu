// SPDX-License-Identifier: Apache-2.0
// Loss rows of sessions on CUDA in bfloat16: sums whose terms are known at run time only. Lone divergences are in
// src/cuda.
#include "kdlib/backend/cuda/rows.cuh"
#include "kdlib/loss/any_sum.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_INSTANTIATE_LOSS(AnySum<LossNeeds::labels>, bf16);
KDLIB_INSTANTIATE_LOSS(AnySum<LossNeeds::sampled_tokens>, bf16);
KDLIB_INSTANTIATE_LOSS(AnySum<LossNeeds::vocabulary>, bf16);
KDLIB_INSTANTIATE_LOSS(AnySum<LossNeeds::top_k>, bf16);

KDLIB_NAMESPACE_END
