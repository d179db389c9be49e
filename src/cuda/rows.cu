// SPDX-License-Identifier: Apache-2.0
// The CUDA row engine for the built-in losses and common sums, float and bf16 logits. A loss of your own needs one such line in a .cu file of yours.
#include "kdlib/backend/cuda/rows.cuh"
#include "kdlib/loss/losses.hpp"

KDLIB_NAMESPACE_BEGIN

using ForwardKlAndLabels = Sum<ForwardKl, CrossEntropy>;
using ReverseKlAndLabels = Sum<ReverseKl, CrossEntropy>;
using JensenShannonAndLabels = Sum<JensenShannon, CrossEntropy>;
using ThreeTerms = Sum<ForwardKl, ReverseKl, CrossEntropy>;

#define KDLIB_BOTH_TYPES(Loss)          \
  KDLIB_INSTANTIATE_LOSS(Loss, float);  \
  KDLIB_INSTANTIATE_LOSS(Loss, bf16)

KDLIB_BOTH_TYPES(CrossEntropy);
KDLIB_BOTH_TYPES(ForwardKl);
KDLIB_BOTH_TYPES(ReverseKl);
KDLIB_BOTH_TYPES(JensenShannon);
KDLIB_BOTH_TYPES(PolicyGradient);
KDLIB_BOTH_TYPES(ForwardKlAndLabels);
KDLIB_BOTH_TYPES(ReverseKlAndLabels);
KDLIB_BOTH_TYPES(JensenShannonAndLabels);
KDLIB_BOTH_TYPES(ThreeTerms);

#undef KDLIB_BOTH_TYPES

KDLIB_NAMESPACE_END
