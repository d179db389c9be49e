// SPDX-License-Identifier: Apache-2.0
// Includes every loss, sums of losses, and the fused pass.
#ifndef KDLIB_LOSS_LOSSES_HPP
#define KDLIB_LOSS_LOSSES_HPP

#include "kdlib/loss/adaptive_kl.hpp"
#include "kdlib/loss/cross_entropy.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/loss/head_loss.hpp"
#include "kdlib/loss/jensen_shannon.hpp"
#include "kdlib/loss/policy_gradient.hpp"
#include "kdlib/loss/regularisers.hpp"
#include "kdlib/loss/reverse_kl.hpp"
#include "kdlib/loss/skew_kl.hpp"
#include "kdlib/loss/sum.hpp"
#include "kdlib/loss/top_k.hpp"
#include "kdlib/loss/total_variation.hpp"

#endif
