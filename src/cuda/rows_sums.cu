// SPDX-License-Identifier: Apache-2.0
// The CUDA row engine for common sums, bf16 logits. A loss of your own needs one such line in a .cu file of yours.
#include "kdlib/backend/cuda/rows.cuh"
#include "kdlib/loss/losses.hpp"

KDLIB_NAMESPACE_BEGIN

using ForwardKlAndLabels = Sum<ForwardKl, CrossEntropy>;
using ReverseKlAndLabels = Sum<ReverseKl, CrossEntropy>;
using JensenShannonAndLabels = Sum<JensenShannon, CrossEntropy>;
using ThreeTerms = Sum<ForwardKl, ReverseKl, CrossEntropy>;

KDLIB_INSTANTIATE_LOSS(ForwardKlAndLabels, bf16);
KDLIB_INSTANTIATE_LOSS(ReverseKlAndLabels, bf16);
KDLIB_INSTANTIATE_LOSS(JensenShannonAndLabels, bf16);
KDLIB_INSTANTIATE_LOSS(ThreeTerms, bf16);

KDLIB_NAMESPACE_END
