// SPDX-License-Identifier: Apache-2.0
// A divergence reads the teacher's whole distribution; labels alone do not have it.
// expect: this loss reads the teacher's whole distribution: give LogitTargets or HiddenTargets, not NoTargets,
// SampledTargets or TopKTargets
#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/losses.hpp"

kdlib::HeadLossResult f(kdlib::View<float, kdlib::Cpu> logits) {
#ifdef KDLIB_CORRECTED
  return kdlib::row_loss(kdlib::ForwardKl{}, logits, kdlib::LogitTargets<float, kdlib::Cpu>{logits}, {}, 1.0, logits);
#else
  return kdlib::row_loss(kdlib::ForwardKl{}, logits, kdlib::NoTargets{}, {}, 1.0, logits);
#endif
}
