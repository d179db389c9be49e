// SPDX-License-Identifier: Apache-2.0
// What the members of losses may be (jensen_shannon.hpp, policy_gradient.hpp, top_k.hpp).
#ifndef KDLIB_LOSS_LOSS_CHECKS_INL_HPP
#define KDLIB_LOSS_LOSS_CHECKS_INL_HPP

#include "kdlib/core/error.hpp"
#include "kdlib/loss/jensen_shannon.hpp"
#include "kdlib/loss/policy_gradient.hpp"
#include "kdlib/loss/top_k.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC void PolicyGradient::validate() const {
  require<ConfigError>(ratio_limit >= 0 && advantage_limit >= 0, "[PolicyGradient] ratio_limit is ", ratio_limit,
                       " and advantage_limit ", advantage_limit, "; both must be >= 0 (0: no limit)");
}

KDLIB_FUNC void PolicyGradient::check_inputs(const RowInputs& rows) const {
  require<ConfigError>(
      !importance_ratio || !rows.behaviour_log_probs.empty(),
      "[PolicyGradient] importance_ratio is on and the rows carry no behaviour log-probs; keep those of the sampler, "
      "or say "
      ".importance_ratio = false if the tokens were drawn from the full distribution of the current student");
}

KDLIB_FUNC void JensenShannon::validate() const {
  require<ConfigError>(beta >= 0 && beta <= 1 && (beta == 0 || beta >= 1e-30), "[JensenShannon] beta is ", beta,
                       "; it must lie in [0, 1], and be 0 where it is below 1e-30");
}

namespace detail {

KDLIB_FUNC void refuse_renormalised_one(TopKMass mass, std::int64_t size) {
  require<ConfigError>(mass != TopKMass::renormalised || size != 1,
                       "[top-k] K = 1 with renormalised mass is always 0 and teaches nothing; use TopKMass::tail");
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
