// SPDX-License-Identifier: Apache-2.0
// A policy gradient needs the teacher's log-probability of the token that was drawn.
// expect: this loss reads the teacher's log-probability of the label: give SampledTargets, LogitTargets or
// HiddenTargets, not NoTargets
#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/losses.hpp"

kdlib::HeadLossResult f(kdlib::View<float, kdlib::Cpu> logits) {
#ifdef KDLIB_CORRECTED
  return kdlib::row_loss(kdlib::PolicyGradient{}, logits, kdlib::SampledTargets{}, {}, 1.0, logits);
#else
  return kdlib::row_loss(kdlib::PolicyGradient{}, logits, kdlib::NoTargets{}, {}, 1.0, logits);
#endif
}
