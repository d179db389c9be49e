// SPDX-License-Identifier: Apache-2.0
// A Term must hold a row loss.
// expect: each Term of a Sum holds a row loss: an aggregate with entry(row, x) or at_label(point)
#include "kdlib/loss/losses.hpp"

struct NoLoss {
  float temperature = 1;
#ifdef KDLIB_CORRECTED
  kdlib::Dual at_label(const kdlib::LabelPoint& point) const { return -point.log_prob; }
#endif
};
const auto loss = kdlib::Sum{kdlib::Term{1, NoLoss{}}};
