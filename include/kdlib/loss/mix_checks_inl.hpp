// SPDX-License-Identifier: Apache-2.0
// Checks of mixes.hpp.
#ifndef KDLIB_LOSS_MIX_CHECKS_INL_HPP
#define KDLIB_LOSS_MIX_CHECKS_INL_HPP

#include "kdlib/core/error.hpp"
#include "kdlib/loss/mixes.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_FUNC void LabelMix::validate() const {
  policy_loss.validate();
  baseline_loss.validate();
  adaptive_loss.validate();
  jensen_loss.validate();
  skew_forward_loss.validate();
  skew_reverse_loss.validate();
}

KDLIB_FUNC void LabelMix::check_inputs(const RowInputs& rows) const {
  if (policy != 0) policy_loss.check_inputs(rows);
  if (baseline != 0) baseline_loss.check_inputs(rows);
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
